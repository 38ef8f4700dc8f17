package traffic

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuiltins(t *testing.T) {
	vocab := map[string]int{"nepco": 65541, "nepco-bytes": 261, "nepco-stream": 283, "byte": 256, "byte-255": 256}
	hashes := map[string]string{}
	for _, name := range Names() {
		c, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.Vocab() != vocab[name] {
			t.Errorf("%s: vocabulary %d, want %d", name, c.Vocab(), vocab[name])
		}
		if other := hashes[c.Hash()]; other != "" {
			t.Errorf("%s and %s hash alike", name, other)
		}
		hashes[c.Hash()] = name
		for _, text := range [][]byte{c.YAML(), c.Canonical()} {
			back, err := Parse("x.yaml", text)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if back.Hash() != c.Hash() {
				t.Errorf("%s: changed by a round trip:\n%s", name, text)
			}
		}
		back, _ := Parse("x.yaml", c.YAML())
		if d := cmp.Diff(c, back); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, err := Named("npco"); err == nil || !strings.Contains(err.Error(), "nepco-bytes") {
		t.Errorf("unknown name: %v", err)
	}
}

// The hash is stored in bundles: it must not change by accident.
func TestHashIsPinned(t *testing.T) {
	c := Default()
	const want = "80e5f2909ff55d2e37bbc131400f79c2e5a9f04e2e0a7c40ae75f4b18819bc3a"
	if got := c.Hash(); got != want {
		t.Errorf("hash of the default contract is %s, was %s\n%s", got, want, c.Canonical())
	}
	renamed := c
	renamed.Name = "other"
	renamed.Blank = []Blank{BlankPorts, BlankChecksums, BlankAddresses}
	if renamed.Hash() != want {
		t.Error("name or order of the blank list changed the hash")
	}
}

func TestParseErrors(t *testing.T) {
	c := Default()
	good := string(c.Canonical())
	edit := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in\n%s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"list", "- 1\n", "mapping"},
		{"binary", "\x00\x01", "not YAML"},
		{"two documents", good + "---\na: 1\n", "more than one"},
		{"unknown key", good + "packtes: 5\n", "c.yaml:15: traffic contract: unknown field \"packtes\""},
		{"twice", good + "packets: 5\n", "c.yaml:15: traffic contract: packets: given twice, first on line 3"},
		{"no version", edit("nepco_traffic: 1\n", ""), "nepco_traffic is missing"},
		{"newer", edit("nepco_traffic: 1", "nepco_traffic: 9"), "c.yaml:1: traffic contract: written for a newer program (nepco_traffic: 9; this program reads 1"},
		{"version 0", edit("nepco_traffic: 1", "nepco_traffic: 0"), "c.yaml:1: traffic contract: nepco_traffic: version 0 does not exist"},
		{"missing", edit("idle: 120000ms\n", ""), "idle is missing"},
		{"text for number", edit("packets: 5", "packets: five"), "c.yaml:3: traffic contract: packets: must be a whole number"},
		{"quoted number", edit("packets: 5", `packets: "5"`), "packets: must be a whole number"},
		{"huge", edit("packets: 5", "packets: 99999999999999999999"), "packets: "},
		{"range", edit("packets: 5", "packets: 0"), "c.yaml:3: traffic contract: packets: 0 is not within 1..255"},
		{"layer", edit("first_layer: ip", "first_layer: ethernet"), "c.yaml:2: traffic contract: first_layer"},
		{"blank", edit("addresses,", "adresses,"), `no such fields: "adresses"`},
		{"blank twice", edit("[addresses,", "[ports, addresses,"), "ports is listed twice"},
		{"blank scalar", edit("[addresses, checksums, ports]", "addresses"), "must be a list"},
		{"token width", edit("token_bytes: 2", "token_bytes: 3"), "token_bytes: 3"},
		{"id collision", edit("cls: 2", "cls: 5"), "cls: id 5 is also the id of a byte value"},
		{"pad is cls", edit("cls: 2", "cls: 0"), "also the padding"},
		{"sep is cls", edit("cls: 2", "cls: 1"), "also cls"},
		{"no room", edit("length: 128", "length: 1"), "no room"},
		{"encoding", edit("encoding: token", "encoding: float"), "none of token"},
		{"byte encoding", edit("encoding: token", "encoding: byte"), "takes raw bytes"},
		{"duration", edit("120000ms", "120"), "not a duration"},
		{"odd duration", edit("120000ms", "1ns"), "whole milliseconds"},
		{"linger", edit("close_linger: 2000ms", "close_linger: 10m"), "longer than idle"},
		{"alias", "a: &x 5\n" + edit("packets: 5", "packets: *x"), "unknown field"},
		{"long", strings.Repeat("# ", maxFile), "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("c.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want it to contain %q", err, tc.want)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "c.yaml:") {
				t.Errorf("error %q does not begin with the file", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	c, _ := Named("nepco-bytes")
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, append([]byte("# a comment\n"), c.YAML()...), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, arg := range []string{"nepco-bytes", path} {
		got, err := Load(arg)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, got); d != "" {
			t.Error(d)
		}
	}
	for arg, want := range map[string]string{"nosuch": "no built-in", "no/such.yaml": "no such file", t.TempDir(): "is a folder"} {
		if _, err := Load(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestMatchModel(t *testing.T) {
	c := Default()
	if err := c.MatchModel(128, 65541, 0); err != nil {
		t.Error(err)
	}
	if err := c.MatchModel(256, 65541, 0); err == nil || !strings.Contains(err.Error(), "256 tokens") {
		t.Error(err)
	}
	if err := c.MatchModel(128, 261, 0); err == nil || !strings.Contains(err.Error(), "261 token ids") {
		t.Error(err)
	}
}

// packet is a minimal IPv4 UDP packet of n bytes in all, every byte non-zero.
func packet(n int) []byte {
	p := bytes.Repeat([]byte{0xff}, n)
	p[0] = 0x45
	return p
}

func TestBuilder(t *testing.T) {
	b, err := NewBuilder(Default())
	if err != nil {
		t.Fatal(err)
	}
	p := packet(29)
	orig := bytes.Clone(p)
	b.Add(p, 20, 17)
	if !bytes.Equal(p, orig) {
		t.Fatal("the packet was changed")
	}
	tokens, valid := b.Tokens()
	want := []int32{2,
		5 + 0x45ff, 5 + 0xffff, 5 + 0xffff, 5 + 0xffff, 5 + 0xffff, // up to the checksum
		5, 5, 5, 5, 5, // IPv4 checksum, addresses
		5, 5, 5 + 0xffff, 5, // UDP: ports, length, checksum
		5 + 0xff00, // the odd byte, padded
		1, 0}
	if valid != 17 || cmp.Diff(want, append([]int32(nil), tokens[:len(want)]...)) != "" {
		t.Errorf("valid %d, tokens %v, want %v", valid, tokens[:20], want)
	}
	if b.Stable() != 16 {
		t.Errorf("stable %d", b.Stable())
	}
	b.Add(packet(200), 20, 6)
	if b.Full() {
		t.Error("full after 30+128 of 254 bytes")
	}
	b.Add(packet(200), 0, 17)
	if !b.Full() || b.BytesUsed() != 254 || b.Packets() != 3 {
		t.Errorf("full %v, %d bytes, %d packets", b.Full(), b.BytesUsed(), b.Packets())
	}
	tokens, valid = b.Tokens()
	if valid != 128 || tokens[127] != 5+0xffff {
		t.Errorf("valid %d, last token %d", valid, tokens[127])
	}
	before := append([]int32(nil), tokens...)
	b.Add(packet(50), 20, 17)
	if tokens, _ = b.Tokens(); cmp.Diff(before, tokens) != "" {
		t.Error("a full sequence changed")
	}
	for pos, want := range map[int]Origin{
		1: {0, 0, 2, 0}, 15: {0, 28, 1, 0}, 16: {1, 0, 2, 0}, 79: {1, 126, 2, 0}, 80: {2, 0, 2, 0}, 127: {2, 94, 2, 0},
	} {
		if got, ok := b.Origin(pos); !ok || got != want {
			t.Errorf("position %d comes from %+v, %v, want %+v", pos, got, ok, want)
		}
	}
	if _, ok := b.Origin(0); ok {
		t.Error("CLS has an origin")
	}
	b.Reset()
	if tokens, valid := b.Tokens(); valid != 2 || tokens[1] != 1 {
		t.Errorf("after Reset: %d valid, %v", valid, tokens[:4])
	}
}

func TestByteContract(t *testing.T) {
	c, _ := Named("byte")
	b, _ := NewBuilder(c)
	for range 5 {
		b.Add(packet(21), 20, 17)
	}
	tokens, valid := b.Tokens()
	if valid != 105 || tokens[0] != 0x45 || tokens[20] != 0 || tokens[21] != 0x45 || tokens[105] != 0 || !b.Full() {
		t.Errorf("valid %d, full %v, %v", valid, b.Full(), tokens)
	}
}

// TestIncremental: the tokens called stable after each packet stay.
func TestIncremental(t *testing.T) {
	for _, name := range Names() {
		c, _ := Named(name)
		for size := 20; size < 140; size += 7 {
			b, _ := NewBuilder(c)
			var stable []int32
			for !b.Full() {
				b.Add(packet(size), 20, 6)
				tokens, valid := b.Tokens()
				if d := cmp.Diff(stable, append([]int32(nil), tokens[:len(stable)]...)); len(stable) > 0 && d != "" {
					t.Fatalf("%s: %s", name, d)
				}
				if b.Stable() > valid {
					t.Fatalf("%s: %d stable, %d valid", name, b.Stable(), valid)
				}
				stable = append([]int32(nil), tokens[:b.Stable()]...)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	b, _ := NewBuilder(Default())
	p := packet(99)
	if n := testing.AllocsPerRun(100, func() { b.Reset(); b.Add(p, 20, 6); b.Tokens() }); n != 0 {
		t.Errorf("%v allocations per flow", n)
	}
}

func FuzzContract(f *testing.F) {
	for _, name := range Names() {
		c, _ := Named(name)
		f.Add(c.YAML())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data)
		if err != nil {
			return
		}
		for _, text := range [][]byte{c.Canonical(), c.YAML()} {
			back, err := Parse("g.yaml", text)
			if err != nil || back.Hash() != c.Hash() {
				t.Fatalf("round trip: %v\n%s", err, text)
			}
		}
		b, err := NewBuilder(c)
		if err != nil {
			t.Fatalf("parsed, but: %v", err)
		}
		for range 3 {
			b.Add(packet(20+len(data)%200), 20, 17)
		}
		tokens, valid := b.Tokens()
		for i, id := range tokens {
			if id < 0 || int(id) >= c.Vocab() {
				t.Fatalf("token %d of %d is %d, vocabulary %d", i, valid, id, c.Vocab())
			}
		}
	})
}
