// Package traffic is the traffic contract: the one definition of "the bytes
// of a flow" that training data, calibration, verification and the agent
// share.
//
// A Contract is data (a small YAML file beside a model, its canonical bytes in
// the bundle); an Encoder is the same thing prepared for the packet path, which
// turns packets into tokens without allocating. A mismatch between a contract
// and a model is an error, never a guess.
//
// The package is a leaf: it imports nothing of this module, and neither
// capture nor flow, so that the compiler can use it without the packet path.
package traffic

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Encoding says what the model's input tensor holds for a token id. The
// bundle works on ids only; compilers and verifiers need it to feed the model.
type Encoding string

// The encodings.
const (
	EncodingToken   Encoding = "token"    // the id itself
	EncodingByte    Encoding = "byte"     // the raw byte value, 0..255
	EncodingByte255 Encoding = "byte/255" // the raw byte value / 255, as float; see Normalized, too
)

// Where a packet's bytes may begin.
const (
	LayerEthernet = "ethernet" // the Ethernet header: addresses and type, without tags
	LayerIP       = "ip"       // the IP header
	LayerPayload  = "payload"  // what TCP or UDP carry
)

var layers = []string{LayerEthernet, LayerIP, LayerPayload}

// EthernetBytes is the size of the header that first_layer: ethernet puts in front of a packet's IP header: destination,
// source, type. VLAN tags and what else stands before IP are left out, since network cards take them off.
const EthernetBytes = 14

// PacketToken is a fact of a packet that stands as a token in front of its bytes.
type PacketToken string

// The facts.
const (
	TokenDirection PacketToken = "direction" // the client's or the server's
	TokenLength    PacketToken = "length"    // of its payload, as the number of bits of that
)

var packetTokens = []PacketToken{TokenDirection, TokenLength}

// Number is a fact of a packet that stands as a number beside the sequence.
type Number string

// The numbers. Of a packet that has not come they are 0.
const (
	NumberLength    Number = "length"    // bytes of its payload
	NumberDirection Number = "direction" // 1 from the client, 2 from the server
	NumberGap       Number = "gap"       // the time since the packet before it, as the number of bits of its microseconds
)

var numbers = []Number{NumberLength, NumberDirection, NumberGap}

// View is what a sequence is made of.
type View int

// The views.
const (
	ViewPackets View = iota // packets, one after another
	ViewStream              // what each side sent; see stream.go
)

var viewNames = []string{ViewPackets: "packets", ViewStream: "stream"}

// Accept says which packets of a flow enter its sequence.
type Accept int

// What is accepted.
const (
	AcceptAll   Accept = iota // every packet, as it comes
	AcceptHosts               // those that their receiver takes and that carry something new
)

var acceptNames = []string{AcceptAll: "all", AcceptHosts: "hosts"}

// FarTTL says what becomes of packets whose hop limit is far below that of their flow's others,
// or, of datagrams, so small that they may not arrive. Whether they do depends on where one listens: in the
// host's own card, all do.
type FarTTL int

// What becomes of them: the verdict is marked in any case.
const (
	FarTTLMark FarTTL = iota // they count
	FarTTLDrop               // they don't
)

var farTTLNames = []string{FarTTLMark: "mark", FarTTLDrop: "drop"}

// Empty says whether packets without payload enter a sequence of packets.
type Empty int

// What becomes of them.
const (
	EmptyKeep Empty = iota // they enter
	EmptySkip              // they are passed over
)

var emptyNames = []string{EmptyKeep: "keep", EmptySkip: "skip"}

// Limits keep a contract from asking for absurd memory per flow. A bundle's are the same: what
// compiles runs.
const (
	MaxLength         = 1<<16 - 1
	MaxSequenceBytes  = 1<<16 - 1 // packet bytes in a flow's tokens
	MaxPackets        = 255
	MaxBytesPerPacket = 65535
	MaxEnough         = 1 << 20
	MaxTimeout        = 24 * time.Hour
)

// Contract defines how a flow becomes a token sequence and when that sequence
// is ready. The zero value is invalid; start from Default or Named.
type Contract struct {
	// Name is for people. It is not part of Canonical and Hash: two files
	// that define the same sequence agree whatever they are called.
	Name string

	FirstLayer     string // where a packet's bytes begin: LayerIP, ...
	Packets        int    // packets of a flow that enter
	BytesPerPacket int    // bytes of a packet that enter, from its first layer on
	Blank          []Blank

	Encoding    Encoding
	TokenBytes  int // bytes per token, 1 or 2 (big endian)
	Length      int // tokens of the sequence, with CLS, SEP and PAD
	ValueOffset int // id = ValueOffset + value
	Pad         int // id that fills the sequence up
	UseCLS      bool
	CLS         int // id of the first token, with UseCLS
	UseSEP      bool
	SEP         int // id after the last packet where there is room, with UseSEP

	// View is what the sequence is made of, Accept which packets enter.
	View   View
	Accept Accept
	// With AcceptHosts: whether packets with a far hop limit count, and, in the packets view, those
	// without payload.
	FarTTL FarTTL
	Empty  Empty
	// In the packets view: how many of BytesPerPacket are for headers at most, so that the others are payload's however long
	// the headers are; 0 where bytes enter as they come. And the facts that stand in front of each packet's bytes, in this order.
	HeaderBytes  int
	PacketTokens []PacketToken
	// ByteIDs, where it is not nil, are the ids of the 256 byte values, in place of ValueOffset + value.
	ByteIDs []int
	// Numbers, in the packets view, are the facts of each of the Packets that stand beside the sequence: all packets' first one, all packets' second one,
	// and so on. A flow with such waits for its packets, also where its tokens are full.
	Numbers []Number
	// In the stream view: how many bytes of each side enter; how many of one side's are
	// enough, so that the other's are no longer waited for; and how long the flow is
	// quiet before it is ready, once both sides have spoken. Packets, BytesPerPacket and Blank
	// have no meaning there, and are 0.
	ClientBytes, ServerBytes, EnoughBytes int
	Quiet                                 time.Duration

	// A flow is ready when its tokens are full, when Packets have come, when
	// it was quiet for CloseLinger after a FIN or RST, when it was quiet for
	// Idle, when it is evicted, and at the end of input.
	CloseLinger time.Duration
	Idle        time.Duration
}

// The built-in contracts. nepco reproduces the published configuration with
// the flaws of its preprocessing removed; nepco-bytes is the same traffic with
// one-byte tokens; the byte contracts feed models that take raw byte values.
var builtin = []Contract{
	nepco("nepco", 2, 128),
	nepco("nepco-bytes", 1, 256),
	stream("nepco-stream", 128, 120, 256),
	raw("byte", EncodingByte, 128),
	raw("byte-255", EncodingByte255, 128),
}

func nepco(name string, tokenBytes, length int) Contract {
	return Contract{
		Name: name, FirstLayer: "ip", Packets: 5, BytesPerPacket: 128,
		Blank:    []Blank{BlankAddresses, BlankChecksums, BlankPorts},
		Encoding: EncodingToken, TokenBytes: tokenBytes, Length: length,
		ValueOffset: 5, Pad: 0, UseSEP: true, SEP: 1, UseCLS: true, CLS: 2,
		CloseLinger: 2 * time.Second, Idle: 120 * time.Second,
	}
}

// stream is the contract that a sender can't play with: what the hosts see.
func stream(name string, client, server, length int) Contract {
	c := nepco(name, 1, length)
	c.View, c.Accept, c.ClientBytes, c.ServerBytes = ViewStream, AcceptHosts, client, server
	c.Packets, c.BytesPerPacket, c.Blank = 0, 0, nil
	c.EnoughBytes, c.Quiet = 4096, 500*time.Millisecond
	return c
}

func raw(name string, enc Encoding, length int) Contract {
	c := nepco(name, 1, length)
	c.Encoding, c.ValueOffset = enc, 0
	c.UseSEP, c.SEP, c.UseCLS, c.CLS = false, 0, false, 0
	return c
}

// Default is the contract "nepco".
func Default() Contract { c, _ := Named("nepco"); return c }

// Named returns a built-in contract.
func Named(name string) (Contract, error) {
	for _, c := range builtin {
		if c.Name == name {
			c.Blank = slices.Clone(c.Blank)
			return c, nil
		}
	}
	return Contract{}, fmt.Errorf("no built-in traffic contract %q: use one of %s, or a contract file", name, strings.Join(Names(), ", "))
}

// Names lists the built-in contracts, the default first.
func Names() []string {
	var names []string
	for _, c := range builtin {
		names = append(names, c.Name)
	}
	return names
}

// Vocab is the number of token ids, one more than the largest.
func (c *Contract) Vocab() int {
	values := c.firstFact()
	if c.hasFacts() {
		values += numFacts
	}
	return max(values, c.Pad+1, c.CLS+1, c.SEP+1)
}

// firstFact is the id behind those of byte values, where facts of flows and packets have theirs.
func (c *Contract) firstFact() int {
	if c.ByteIDs != nil {
		return slices.Max(c.ByteIDs) + 1
	}
	return c.ValueOffset + 1<<(8*c.TokenBytes)
}

// FirstFact is the id behind those of byte values, which the first fact of flows and packets has; see stream.go.
func (c *Contract) FirstFact() int { return c.firstFact() }

// hasFacts tells that some tokens are no bytes.
func (c *Contract) hasFacts() bool { return c.View == ViewStream || len(c.PacketTokens) > 0 }

// isByte tells that an id is that of a byte value.
func (c *Contract) isByte(id int) bool {
	if c.ByteIDs != nil {
		return slices.Contains(c.ByteIDs, id)
	}
	return id >= c.ValueOffset && id < c.firstFact()
}

// isFact tells that an id is that of a fact.
func (c *Contract) isFact(id int) bool {
	return c.hasFacts() && id >= c.firstFact() && id < c.firstFact()+numFacts
}

// Blanks reports whether a group of fields is blanked.
func (c *Contract) Blanks(b Blank) bool {
	for _, x := range c.Blank {
		if x == b {
			return true
		}
	}
	return false
}

// fieldError is a contract error that belongs to one field; Parse adds the
// line that the field stands on.
type fieldError struct{ field, msg string }

func (e *fieldError) Error() string { return e.field + ": " + e.msg }

func bad(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...)}
}

// Validate checks every field and the way they fit together.
func (c *Contract) Validate() error {
	if err := c.check(); err != nil {
		return fmt.Errorf("traffic contract: %w", err)
	}
	return nil
}

func (c *Contract) check() error {
	between := func(field string, v, lo, hi int) error {
		if v < lo || v > hi {
			return bad(field, "%d is not within %d..%d", v, lo, hi)
		}
		return nil
	}
	packets, streams := 1, 0 // what has no meaning in a view is 0
	if c.View == ViewStream {
		packets, streams = 0, 1
		switch {
		case c.ClientBytes+c.ServerBytes == 0:
			return bad("client_bytes", "neither side's bytes enter")
		case c.Encoding != EncodingToken:
			return bad("encoding", "the stream view has ids that are no bytes: write token")
		case c.Accept != AcceptHosts:
			return bad("accept", "the stream view is what hosts see: write hosts")
		}
	}
	switch {
	case c.FarTTL != FarTTLMark && c.Accept != AcceptHosts:
		return bad("far_ttl", "accept: all takes every packet as it comes: write mark, or accept: hosts")
	case c.Empty != EmptyKeep && c.Accept != AcceptHosts:
		return bad("empty_packets", "accept: all takes every packet as it comes: write keep, or accept: hosts")
	case c.Empty != EmptyKeep && c.View == ViewStream:
		return bad("empty_packets", "has no meaning in the stream view, which holds payload only: write keep")
	}
	if err := c.checkLayers(); err != nil {
		return err
	}
	if err := c.checkBlank(); err != nil {
		return err
	}
	for _, f := range []struct {
		field     string
		v, lo, hi int
	}{
		{"packets", c.Packets, 1 * packets, MaxPackets * packets},
		{"bytes_per_packet", c.BytesPerPacket, 1 * packets, MaxBytesPerPacket * packets},
		{"header_bytes", c.HeaderBytes, 0, max(0, c.BytesPerPacket-1)},
		{"client_bytes", c.ClientBytes, 0, MaxLength * streams},
		{"server_bytes", c.ServerBytes, 0, MaxLength * streams},
		{"enough_bytes", c.EnoughBytes, max(c.ClientBytes, c.ServerBytes), MaxEnough * streams},
		{"token_bytes", c.TokenBytes, 1, 2},
		{"length", c.Length, 1, MaxLength},
		{"value_offset", c.ValueOffset, 0, 1 << 16},
		{"pad", c.Pad, 0, 1 << 17},
	} {
		if err := between(f.field, f.v, f.lo, f.hi); err != nil {
			return err
		}
	}
	if err := c.checkIDs(); err != nil {
		return err
	}
	special := func(field string, use bool, id int) error {
		if !use {
			if id != 0 {
				return bad(field, "has an id, %d, but is not used", id)
			}
			return nil
		}
		if err := between(field, id, 0, 1<<17); err != nil {
			return err
		}
		switch {
		case c.isByte(id) && c.ByteIDs != nil:
			return bad(field, "id %d is also the id of a byte value (byte_ids)", id)
		case c.isByte(id):
			return bad(field, "id %d is also the id of a byte value (%d..%d)", id, c.ValueOffset, c.firstFact()-1)
		case c.isFact(id):
			return bad(field, "id %d is also the id of a fact (%d..%d, behind those of byte values)", id, c.firstFact(), c.firstFact()+numFacts-1)
		}
		if id == c.Pad {
			return bad(field, "id %d is also the padding", id)
		}
		return nil
	}
	if c.isFact(c.Pad) {
		return bad("pad", "id %d is also the id of a fact (%d..%d, behind those of byte values)", c.Pad, c.firstFact(), c.firstFact()+numFacts-1)
	}
	if err := special("cls", c.UseCLS, c.CLS); err != nil {
		return err
	}
	if err := special("sep", c.UseSEP, c.SEP); err != nil {
		return err
	}
	if c.UseCLS && c.UseSEP && c.CLS == c.SEP {
		return bad("sep", "id %d is also cls", c.SEP)
	}
	switch c.Encoding {
	case EncodingToken:
	default:
		if _, _, ok := c.Encoding.Affine(); !ok {
			return bad("encoding", "%q is none of token, byte, byte/255, (byte-MEAN)/DEVIATION, like (byte-127.5)/127.5 with numbers in their shortest form", c.Encoding)
		}
		if c.TokenBytes != 1 || c.ValueOffset != 0 || c.UseCLS || c.UseSEP || c.Pad > 255 {
			return bad("encoding", "%s takes raw bytes: token_bytes 1, value_offset 0, no cls, no sep, pad below 256", c.Encoding)
		}
	}
	switch n, need := c.PayloadTokens()*c.TokenBytes, c.needs(); {
	case c.Length < need:
		return bad("length", "%d leaves no room: %d tokens are needed at least", c.Length, need)
	case n > MaxSequenceBytes:
		return bad("length", "%d tokens of %d bytes are more than %d bytes of a flow", c.Length, c.TokenBytes, MaxSequenceBytes)
	}
	for _, f := range []struct {
		field string
		v, lo time.Duration
	}{{"close_linger", c.CloseLinger, 0}, {"idle", c.Idle, time.Millisecond}, {"quiet", c.Quiet, time.Duration(streams) * time.Millisecond}} {
		if f.v < f.lo || f.v > MaxTimeout || f.v%time.Millisecond != 0 {
			return bad(f.field, "%v is not a number of whole milliseconds within %v..%v", f.v, f.lo, MaxTimeout)
		}
	}
	switch {
	case c.CloseLinger > c.Idle:
		return bad("close_linger", "%v is longer than idle, %v", c.CloseLinger, c.Idle)
	case c.Quiet > c.Idle:
		return bad("quiet", "%v is longer than idle, %v", c.Quiet, c.Idle)
	case c.View == ViewPackets && c.Quiet != 0:
		return bad("quiet", "has no meaning in the packets view: write 0ms")
	}
	return nil
}

// checkLayers checks where a packet's bytes begin and how they are shared out.
func (c *Contract) checkLayers() error {
	switch {
	case !slices.Contains(layers, c.FirstLayer):
		return bad("first_layer", "%q is none of %s", c.FirstLayer, strings.Join(layers, ", "))
	case c.View == ViewStream && c.FirstLayer != LayerIP:
		return bad("first_layer", "%s has no meaning in the stream view, which holds payload only: write ip", c.FirstLayer)
	case c.HeaderBytes == 0:
	case c.View == ViewStream:
		return bad("header_bytes", "has no meaning in the stream view, which has no headers: write 0")
	case c.FirstLayer == LayerPayload:
		return bad("header_bytes", "has no meaning with first_layer: payload, which has no headers: write 0")
	case c.HeaderBytes >= c.BytesPerPacket:
		return bad("header_bytes", "%d leaves nothing of bytes_per_packet, %d, for payload: write less, or 0 for bytes as they come", c.HeaderBytes, c.BytesPerPacket)
	}
	return nil
}

// checkIDs checks which ids bytes and facts of packets have.
func (c *Contract) checkIDs() error {
	for i, t := range c.PacketTokens {
		switch {
		case !slices.Contains(packetTokens, t):
			return bad("packet_tokens", "no such fact: %q (%s, %s)", t, TokenDirection, TokenLength)
		case slices.Contains(c.PacketTokens[:i], t):
			return bad("packet_tokens", "%s is listed twice", t)
		case c.View == ViewStream:
			return bad("packet_tokens", "has no meaning in the stream view, which has no packets: write []")
		case c.Encoding != EncodingToken:
			return bad("packet_tokens", "ids of facts are no bytes: write [], or encoding: token")
		}
	}
	for i, n := range c.Numbers {
		switch {
		case !slices.Contains(numbers, n):
			return bad("numbers", "no such number: %q (%s, %s, %s)", n, NumberLength, NumberDirection, NumberGap)
		case slices.Contains(c.Numbers[:i], n):
			return bad("numbers", "%s is listed twice", n)
		case c.View == ViewStream:
			return bad("numbers", "has no meaning in the stream view, which has no packets: write []")
		}
	}
	switch {
	case c.ByteIDs == nil:
		return nil
	case len(c.ByteIDs) != 256:
		return bad("byte_ids", "%d ids: write one for each of the 256 byte values, or none", len(c.ByteIDs))
	case c.TokenBytes != 1:
		return bad("byte_ids", "are ids of single bytes: write none, or token_bytes: 1")
	case c.ValueOffset != 0:
		return bad("byte_ids", "stand in place of value_offset + value: write none, or value_offset: 0")
	case c.Encoding != EncodingToken:
		return bad("byte_ids", "encoding: %s feeds the byte itself: write none, or encoding: token", c.Encoding)
	}
	for b, id := range c.ByteIDs {
		if id < 0 || id > 1<<17 {
			return bad("byte_ids", "that of byte %d, %d, is not within 0..%d", b, id, 1<<17)
		}
	}
	return nil
}

// needs is the least length that leaves room for something.
func (c *Contract) needs() int {
	n := 1 + len(c.PacketTokens)
	if c.View == ViewStream {
		n = c.streamTokens()
	}
	return n + c.Length - c.PayloadTokens()
}

// PacketBytes is how many bytes of a packet, from its IP header on, are needed for what enters.
func (c *Contract) PacketBytes() int {
	switch {
	case c.View == ViewStream:
		return maxHeaders + max(c.ClientBytes, c.ServerBytes)
	case c.FirstLayer == LayerPayload:
		return maxHeaders + c.BytesPerPacket
	case c.HeaderBytes > 0:
		return max(maxHeaders, c.HeaderBytes-c.linkBytes()) + c.BytesPerPacket - c.HeaderBytes
	}
	return max(1, c.BytesPerPacket-c.linkBytes())
}

// linkBytes is what stands in front of the IP header.
func (c *Contract) linkBytes() int {
	if c.FirstLayer == LayerEthernet {
		return EthernetBytes
	}
	return 0
}

// maxHeaders are the bytes of IP and TCP headers in front of payload: the longest
// over IPv4, and over IPv6 with 20 bytes of extensions.
const maxHeaders = 120

// PayloadTokens is the number of tokens that packet bytes can fill.
func (c *Contract) PayloadTokens() int {
	if c.UseCLS {
		return c.Length - 1
	}
	return c.Length
}

// NumberCount is how many numbers stand beside a sequence.
func (c *Contract) NumberCount() int { return len(c.Numbers) * c.Packets }

// MatchModel says why a model whose input takes length tokens out of vocab ids, and so many numbers beside them,
// cannot be fed by this contract; nil if it can. A vocabulary larger than the
// contract's is fine (models reserve ids), a smaller one is not.
func (c *Contract) MatchModel(length, vocab, beside int) error {
	if length != c.Length {
		return fmt.Errorf("the model takes %d tokens, traffic contract %s gives %d: use the contract the model was trained with (built-in: %s)",
			length, c.title(), c.Length, strings.Join(Names(), ", "))
	}
	if vocab < c.Vocab() {
		return fmt.Errorf("the model knows %d token ids, traffic contract %s gives ids up to %d: use the contract the model was trained with (built-in: %s)",
			vocab, c.title(), c.Vocab()-1, strings.Join(Names(), ", "))
	}
	switch n := c.NumberCount(); {
	case n == beside:
	case beside == 0:
		return fmt.Errorf("the model reads no numbers beside its tokens, traffic contract %s gives %d: write numbers: [] (nepcoc contract init)", c.title(), n)
	case n == 0:
		return fmt.Errorf("the model reads %d numbers beside its tokens, traffic contract %s gives none: write which facts of how many packets they are (nepcoc contract init; numbers: [length, direction, gap]), or compile for arrays only, without a contract", beside, c.title())
	default:
		return fmt.Errorf("the model reads %d numbers beside its tokens, traffic contract %s gives %d, %d of each of %d packets: write other numbers or packets", beside, c.title(), n, len(c.Numbers), c.Packets)
	}
	return nil
}

// title is what messages call a contract: its name, but not where that is a built-in one's and the contract
// is another, as files are that were made from it.
func (c *Contract) title() string {
	hash := c.Hash()
	if c.Name == "" {
		return hash[:12]
	}
	if b, err := Named(c.Name); err == nil && b.Hash() != hash {
		return hash[:12] + " (which calls itself " + strconv.Quote(c.Name) + ", but is not the built-in one)"
	}
	return c.Name
}

// Hash is the SHA-256 of Canonical, in hex: equal exactly for contracts that
// define the same sequences.
func (c *Contract) Hash() string {
	sum := sha256.Sum256(c.Canonical())
	return hex.EncodeToString(sum[:])
}
