package traffic

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// open is a contract with every choice of the packets view.
func open() Contract {
	c, _ := Named("nepco-bytes")
	c.Name = "open"
	c.FirstLayer, c.HeaderBytes, c.BytesPerPacket = LayerEthernet, 60, 100
	c.Blank = []Blank{BlankMAC, BlankTTL, BlankIPID, BlankTCPSeq, BlankTLSSNI}
	c.PacketTokens = []PacketToken{TokenLength, TokenDirection}
	c.ValueOffset = 0
	for b := range 256 {
		c.ByteIDs = append(c.ByteIDs, 3+b/16)
	}
	return c
}

// TestOpenRefusals: each refusal names field, line, and what to write.
func TestOpenRefusals(t *testing.T) {
	c := open()
	good := string(c.Canonical())
	ids := good[strings.Index(good, "byte_ids:"):]
	stream, _ := Named("nepco-stream")
	stream.FarTTL = FarTTLDrop // version 3
	for _, tc := range []struct{ name, from, old, new, want string }{
		{"layer", good, "first_layer: ethernet", "first_layer: link", `c.yaml:2: traffic contract: first_layer: "link" is none of ethernet, ip, payload`},
		{"old version", good, "nepco_traffic: 3", "nepco_traffic: 1", "c.yaml:2: traffic contract: first_layer: ethernet came with nepco_traffic: 3, the file says 1: write that version"},
		{"old version's words", string(mustYAML("nepco")), "[addresses,", "[ttl, addresses,", "c.yaml:5: traffic contract: blank: ttl came with nepco_traffic: 3, the file says 1: write that version"},
		{"mac over ip", good, "first_layer: ethernet", "first_layer: ip", "c.yaml:5: traffic contract: blank: mac has no meaning with first_layer: ip: leave it out, or write first_layer: ethernet"},
		{"headers of payload", good, "first_layer: ethernet", "first_layer: payload", "has no meaning with first_layer: payload"},
		{"header_bytes", good, "header_bytes: 60", "header_bytes: 100", "header_bytes: 100 leaves nothing of bytes_per_packet, 100, for payload: write less, or 0"},
		{"negative", good, "header_bytes: 60", "header_bytes: -1", "header_bytes: -1 is not within 0..99"},
		{"fact", good, "[length, direction]", "[size]", `packet_tokens: no such fact: "size" (direction, length)`},
		{"fact twice", good, "[length, direction]", "[length, length]", "length is listed twice"},
		{"facts as scalar", good, "[length, direction]", "length", "packet_tokens: must be a list"},
		{"ids: few", good, "byte_ids: [3, 3,", "byte_ids: [3,", "byte_ids: 255 ids: write one for each of the 256 byte values, or none"},
		{"ids: word", good, "byte_ids: [3, 3,", "byte_ids: [3, x,", "byte_ids: that of byte 1 must be a whole number"},
		{"ids: negative", good, "byte_ids: [3, 3,", "byte_ids: [3, -3,", "byte_ids: that of byte 1, -3, is not within 0..131072"},
		{"ids: scalar", good, ids, "byte_ids: 7\n", "byte_ids: must be none, or a list of 256 ids"},
		{"ids and offset", good, "value_offset: 0", "value_offset: 5", "byte_ids: stand in place of value_offset + value: write none, or value_offset: 0"},
		{"ids of two bytes", good, "token_bytes: 1", "token_bytes: 2", "byte_ids: are ids of single bytes"},
		{"ids are cls", good, "cls: 2", "cls: 3", "cls: id 3 is also the id of a byte value (byte_ids)"},
		{"cls is a fact", good, "cls: 2", "cls: 22", "cls: id 22 is also the id of a fact (19..40"},
		{"pad is a fact", good, "pad: 0", "pad: 19", "pad: id 19 is also the id of a fact"},
		{"no room for facts", good, "length: 256", "length: 3", "length: 3 leaves no room: 4 tokens are needed"},
		{"stream: layer", string(stream.Canonical()), "first_layer: ip", "first_layer: payload", "first_layer: payload has no meaning in the stream view, which holds payload only: write ip"},
		{"stream: headers", string(stream.Canonical()), "blank: []", "blank: [tls_sni, ttl]", "blank: ttl has no meaning in the stream view, which has no headers: write [], or of tls_random, tls_sni"},
		{"stream: facts", string(stream.Canonical()), "packet_tokens: []", "packet_tokens: [length]", "packet_tokens: has no meaning in the stream view"},
		{"stream: shares", string(stream.Canonical()), "header_bytes: 0", "header_bytes: 9", "header_bytes: has no meaning in the stream view, which has no headers: write 0"},
	} {
		if !strings.Contains(tc.from, tc.old) {
			t.Fatalf("%s: %q is not in\n%s", tc.name, tc.old, tc.from)
		}
		_, err := Parse("c.yaml", []byte(strings.Replace(tc.from, tc.old, tc.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	b, _ := Named("byte")
	b.PacketTokens = []PacketToken{TokenLength}
	if err := b.Validate(); err == nil || !strings.Contains(err.Error(), "packet_tokens: ids of facts are no bytes: write [], or encoding: token") {
		t.Error(err)
	}
}

func mustYAML(name string) []byte {
	c, err := Named(name)
	if err != nil {
		panic(err)
	}
	return c.Canonical()
}

// TestOpenContract: it survives being written, knows its ids, and says how much of a packet it needs.
func TestOpenContract(t *testing.T) {
	c := open()
	back, err := Parse("c.yaml", c.YAML())
	if err != nil {
		t.Fatal(err)
	}
	if back.Hash() != c.Hash() || !slices.Equal(back.ByteIDs, c.ByteIDs) || !slices.Equal(back.PacketTokens, c.PacketTokens) {
		t.Errorf("read back as %+v", back)
	}
	if v := c.Vocab(); v != 3+16+numFacts {
		t.Errorf("vocabulary %d", v)
	}
	if err := c.MatchModel(256, c.Vocab()-1, 0); err == nil {
		t.Error("a model that lacks the last id is taken")
	}
	for _, tc := range []struct {
		layer         string
		header, bytes int
		want          int
	}{
		{LayerIP, 0, 128, 128}, {LayerEthernet, 0, 128, 114}, {LayerEthernet, 0, 10, 1}, {LayerPayload, 0, 128, 248},
		{LayerIP, 80, 320, 360}, {LayerEthernet, 200, 300, 286},
	} {
		c := Contract{FirstLayer: tc.layer, HeaderBytes: tc.header, BytesPerPacket: tc.bytes}
		if got := c.PacketBytes(); got != tc.want {
			t.Errorf("%s, %d of %d bytes: %d bytes of a packet are needed, want %d", tc.layer, tc.header, tc.bytes, got, tc.want)
		}
	}
}

// TestOpenTokens holds one packet under several contracts to what a person would write down.
func TestOpenTokens(t *testing.T) {
	// IPv4, TTL 64, TCP with a timestamp option, 3 bytes of payload.
	ip := []byte{
		0x45, 0x11, 0, 55, 0xab, 0xcd, 0, 0, 64, 6, 0xc1, 0xc2, 10, 0, 0, 1, 10, 0, 0, 2,
		0x30, 0x39, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x18, 0xf1, 0xf2, 0xc3, 0xc4, 0, 0,
		1, 1, 8, 10, 0x71, 0x72, 0x73, 0x74, 0x81, 0x82, 0x83, 0x84,
		'G', 'E', 'T',
	}
	mac := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	p := Packet{IP: ip, L4: 20, Payload: 52, Proto: 6, Side: Server, MAC: mac, Size: 3}
	of := func(change func(c *Contract)) string {
		c, _ := Named("nepco-bytes")
		c.UseCLS, c.CLS, c.UseSEP, c.SEP, c.ValueOffset, c.Pad, c.Blank, c.Packets = false, 0, false, 0, 0, 999, nil, 1
		change(&c)
		e, err := NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		var st State
		buf := make([]byte, e.BufferSize())
		e.Append(&st, buf, &p)
		dst := make([]int32, c.Length)
		var s []string
		for _, id := range dst[:e.Tokens(dst, st, buf)] {
			s = append(s, fmt.Sprintf("%x", id))
		}
		return strings.Join(s, " ")
	}
	hex := func(b []byte) string { return strings.Join(strings.Fields(fmt.Sprintf("% x", b)), " ") }
	zeroed := func(spans ...int) string {
		b := bytes.Clone(ip)
		for i := 0; i < len(spans); i += 2 {
			clear(b[spans[i]:spans[i+1]])
		}
		return trim(hex(b))
	}
	for _, tc := range []struct {
		name   string
		change func(c *Contract)
		want   string
	}{
		{"whole", func(*Contract) {}, zeroed()},
		{"tos", func(c *Contract) { c.Blank = []Blank{BlankTOS} }, zeroed(1, 2)},
		{"ip_id", func(c *Contract) { c.Blank = []Blank{BlankIPID} }, zeroed(4, 6)},
		{"ttl", func(c *Contract) { c.Blank = []Blank{BlankTTL} }, zeroed(8, 9)},
		{"tcp_seq", func(c *Contract) { c.Blank = []Blank{BlankTCPSeq} }, zeroed(24, 32)},
		{"tcp_window", func(c *Contract) { c.Blank = []Blank{BlankTCPWindow} }, zeroed(34, 36)},
		{"tcp_timestamps", func(c *Contract) { c.Blank = []Blank{BlankTCPTimestamps} }, zeroed(44, 52)},
		{"tcp_options", func(c *Contract) { c.Blank = []Blank{BlankTCPOptions} }, zeroed(44, 52)},
		{"flow_label", func(c *Contract) { c.Blank = []Blank{BlankFlowLabel} }, zeroed()},
		{"payload", func(c *Contract) { c.FirstLayer = LayerPayload }, "47 45 54"},
		{"payload, 2 bytes", func(c *Contract) { c.FirstLayer, c.BytesPerPacket = LayerPayload, 2 }, "47 45"},
		{"ethernet", func(c *Contract) { c.FirstLayer, c.BytesPerPacket = LayerEthernet, 15 }, "1 2 3 4 5 6 7 8 9 a b c 8 0 45"},
		{"ethernet without addresses", func(c *Contract) { c.FirstLayer, c.BytesPerPacket, c.Blank = LayerEthernet, 15, []Blank{BlankMAC} }, "0 0 0 0 0 0 0 0 0 0 0 0 8 0 45"},
		{"4 + 2", func(c *Contract) { c.HeaderBytes, c.BytesPerPacket = 4, 6 }, "45 11 0 37 47 45"},
		{"facts", func(c *Contract) {
			c.HeaderBytes, c.BytesPerPacket, c.PacketTokens = 1, 2, []PacketToken{TokenDirection, TokenLength}
		}, "103 106 45 47"},
		{"facts of two bytes", func(c *Contract) {
			c.TokenBytes, c.HeaderBytes, c.BytesPerPacket, c.PacketTokens, c.Pad = 2, 2, 5, []PacketToken{TokenDirection}, 70000
		}, "10003 4511 4745 5400"},
		{"ids", func(c *Contract) {
			c.FirstLayer, c.ByteIDs = LayerPayload, make([]int, 256)
			c.ByteIDs['E'] = 0x77
		}, "0 77 0"},
	} {
		if got := of(tc.change); got != tc.want {
			t.Errorf("%s:\n%s, want\n%s", tc.name, got, tc.want)
		}
	}
}

// trim writes bytes as the ids are written, without leading zeros.
func trim(hex string) string {
	f := strings.Fields(hex)
	for i := range f {
		if len(f[i]) == 2 && f[i][0] == '0' {
			f[i] = f[i][1:]
		}
	}
	return strings.Join(f, " ")
}

func TestOpenNoAllocation(t *testing.T) {
	c := open()
	c.Blank = append(c.Blank, BlankTCPOptions, BlankTLSRandom)
	b, err := NewBuilder(c)
	if err != nil {
		t.Fatal(err)
	}
	p := packet(99)
	if n := testing.AllocsPerRun(100, func() { b.Reset(); b.Add(p, 20, 6); b.Tokens() }); n != 0 {
		t.Errorf("%v allocations per flow", n)
	}
}

// TestRoomEndsInLink: wherever a sequence's room ends, a packet is cut there.
func TestRoomEndsInLink(t *testing.T) {
	ip := packet(40)[:40:40]
	for length := 3; length < 80; length++ {
		c := open()
		c.Length, c.HeaderBytes, c.BytesPerPacket = length+1, 59, 60 // and CLS
		e, err := NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		var st State
		buf := make([]byte, e.BufferSize())
		taken, _ := e.Append(&st, buf, &Packet{IP: ip, L4: 20, Payload: 40, Proto: protoTCP})
		if want := min(length-2, 54); taken != want {
			t.Errorf("room for %d tokens: %d bytes taken, want %d", length, taken, want)
		}
	}
}
