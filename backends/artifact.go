package backends

import (
	"crypto/ed25519"

	"nepcoc/runtime/bundle"
)

// Artifact is a kind of thing that a compiled model is written as. Each is a package of its own below
// this one, which exports its Artifact and knows no other; compiler.Artifacts is the table of all.
type Artifact struct {
	Name string // also the package's, and what --emit takes
	Doc  string // one line
	// Folder: what is built are the files of a folder; else it is one file, whose name the user chooses.
	Folder bool
	// Build makes the artifact of a validated program and what is known of it. The same bundle and options
	// give the same bytes on every machine. What it can't make it refuses with the reason.
	Build func(b *bundle.Bundle, o ArtifactOptions) ([]File, error)
}

// File is one file of an artifact.
type File struct {
	Name string
	Data []byte
}

// ArtifactOptions are what an artifact may be asked for.
type ArtifactOptions struct {
	// Key signs the artifact, where it is set; a kind that can't be signed refuses it.
	Key ed25519.PrivateKey
	// Statement is what the signature says besides.
	Statement bundle.Statement
	// Symbol is part of the names in code; empty: the bundle's name.
	Symbol string
	// TablesInSource puts large tables into the source, too, in kinds that write them to a file of their own.
	TablesInSource bool
	// Flows, of kinds that make tokens of packets themselves, are what such an artifact proves that by. compiler.Artifacts fills them in.
	Flows []FlowVector
}

// FlowVector is a flow from its packets on, with what the specification makes of it by a bundle.
type FlowVector struct {
	Packets []FlowPacket
	// Tokens are the sequence with its padding, behind it the numbers beside it; Valid, how many are the flow's own.
	Tokens []int32
	Valid  int
	// Marks are flow.Marks, Payload the bytes of payload in the tokens. ClientSecond: the first packet is the server's.
	Marks        uint32
	Payload      int
	ClientSecond bool
	// Logits are those of each output of the judged program, Words the verdict of each of the program's own.
	Logits [][]int32
	Words  []Word
}

// FlowPacket is a packet of a flow, from its IP header on. Reverse: it goes against the first one. Time is in nanoseconds.
type FlowPacket struct {
	IP      []byte
	Reverse bool
	Time    uint64
}

// Word is what one output says: of classes and of two the label by number, in 1/2^24 score and margin; of labels those that are given.
type Word struct {
	Label         int
	Score, Margin int32
	Unknown       bool
	Given         []int
	Scores        []int32
}
