// Package bundle is the .nepco file: everything that an agent needs to turn
// tokens into verdicts, in one deterministic file that is checked completely
// before a bit of it is used.
//
// # Format
//
// All numbers are little endian. A file is a header of 64 bytes, a table of 48
// bytes per section, and the sections.
//
//	header  magic "\x89NEPCO\r\n" · version u32 · sections u32 · length u64 ·
//	        digest [32] · zero [8]
//	section kind u32 · encoding u32 · offset u64 · stored u64 · raw u64 · crc u32 · zero [12]
//
// length is that of the whole file. digest is SHA-256 over the whole file,
// with the digest itself and the bytes of the signature section taken as zero.
// crc is CRC-32C of the stored bytes; it only serves to name the damaged
// section when the digest disagrees (0 for the signature).
//
// The sections stand in the order of their kinds, each at the next multiple of
// 64 bytes, with zeros between; a file has exactly one layout:
//
//	1 manifest   JSON, see Manifest
//	2 program    JSON, see Program
//	3 weights    the data of the program's tensors in order, each at a
//	             multiple of 64 bytes, zeros between
//	4 golden     token sequences and the logits they must give
//	5 signature  optional: Ed25519 public key [32] and signature [64] over
//	             "nepco bundle signature v1\n" and the digest; or, of a
//	             signature with a statement, over "nepco bundle signature
//	             v2\n", the digest and the statement, which follows: serial
//	             u64 · not-before u64 · expiry u64, seconds since 1970, 0: none
//
// A section is stored raw (encoding 0), as one zstd frame (1), or raw at a
// multiple of 64 KiB, so that it can be mapped even where pages are that large
// (2). JSON is canonical: what encoding/json writes for the struct, byte for
// byte. That refuses unknown, repeated and differently cased fields at once.
//
// # Versions
//
// Every version from 1 on is read, the newest is written. A file is of one version
// throughout: its JSON is the canonical form of that version's structs, so that
// a field is refused in files older than itself. What it says is then
// read to Manifest and Program, where a field that the file's version does not have is zero. So a
// new field's zero value must mean what files without it mean; write it with omitempty.
// What changes otherwise, and what a new version takes, is said at formats.
//
//	1 the first
//	2 new: name, model.version, view; the outputs' kind, thresholds and first_alert_id.
//	  sizes.parameters, notes.error, target.requires and the values' scale, which no
//	  compiler ever set, are gone; so are the plan's arena and offsets, which no engine followed, while
//	  it now follows the tile; model.features, the ranges of a model that reads no bytes, came;
//	  accuracy is called measured; transpose, regroup, gather, constant and softmax are new steps,
//	  rms is a new field of layer_norm; program.sides, model.sides and the step side are numbers beside the sequence, whose
//	  ids stand behind the tokens of golden vectors; min_payload, belonging and the outputs' known came
//
// # Trust
//
// Decode trusts nothing, the compiler included: every length, index, shape and
// attribute is checked, and so are the range proofs on which the executors'
// narrow arithmetic rests (see Program.Validate). What a file can make the
// decoder allocate is bounded by a multiple of the file's size. The executors
// then trust what they are handed.
//
// Of the runtime the package imports traffic, for the bounds of an input, and arith, for grids and roundings. A zstd codec
// is all that comes from elsewhere.
package bundle
