package traffic

import (
	"slices"
	"strings"
	"testing"
)

// beside is a contract with numbers beside the sequence.
func beside() Contract {
	c, _ := Named("nepco-bytes")
	c.Name, c.Packets, c.Length = "beside", 4, 10
	c.Numbers = []Number{NumberLength, NumberDirection, NumberGap}
	return c
}

// TestNumbers holds a flow's numbers to what a person would write down: all lengths, all directions, all gaps, 0 where no packet came. They
// go on where the tokens have no room left.
func TestNumbers(t *testing.T) {
	e, err := NewEncoder(beside())
	if err != nil {
		t.Fatal(err)
	}
	var st State
	buf, dst := make([]byte, e.BufferSize()), slices.Repeat([]int32{-1}, 12)
	add := func(side uint8, size int, time int64) {
		ip := packet(60)
		e.Append(&st, buf, &Packet{IP: ip, L4: 20, Payload: 40, Proto: 6, Side: side, Size: size, Time: time})
	}
	const start = 1_700_000_000_000_000_000
	add(Client, 20, start)
	add(Server, 1460, start+999) // nanoseconds: less than a microsecond
	if e.Full(st) || e.TokensFull(st) || int(st.Bytes) < e.c.Length-1 {
		t.Fatalf("full after two of four packets, with %d bytes", st.Bytes)
	}
	add(Server, 70000, start+999+4_000)
	e.Numbers(dst, st, buf)
	want := []int32{20, 1460, 65535, 0, 1, 2, 2, 0, 0, 0, 3, 0}
	if !slices.Equal(dst, want) {
		t.Errorf("three packets: %v, want %v", dst, want)
	}
	add(Client, 0, start) // an earlier time
	e.Numbers(dst, st, buf)
	want[7] = 1
	if !slices.Equal(dst, want) || !e.Full(st) || e.TokensFull(st) {
		t.Errorf("four packets: %v, want %v", dst, want)
	}
	add(Client, 9, start)
	if e.Numbers(dst, st, buf); !slices.Equal(dst, want) {
		t.Errorf("a fifth packet changes the numbers to %v", dst)
	}
	if n := testing.AllocsPerRun(100, func() { e.Numbers(dst, st, buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGapBits(t *testing.T) {
	for ns, want := range map[int64]uint8{0: 0, 999: 0, 1000: 1, 1999: 1, 2000: 2, 3999: 2, 4000: 3, 1e6: 10, 1e9: 20, 120e9: 27, 24 * 3600e9: 37} {
		if got := GapBits(ns); got != want {
			t.Errorf("%d ns: %d bits, want %d", ns, got, want)
		}
	}
}

// TestNumbersRefusals: each names field, line, and what to write.
func TestNumbersRefusals(t *testing.T) {
	c := beside()
	good := string(c.Canonical())
	if _, err := Parse("c.yaml", []byte(good)); err != nil || !strings.HasPrefix(good, "nepco_traffic: 4\n") || c.Hash() == func() string { c := c; c.Numbers = nil; return c.Hash() }() {
		t.Fatal(err, good)
	}
	for _, tc := range []struct{ old, new, want string }{
		{"[length, direction, gap]", "[size]", `numbers: no such number: "size" (length, direction, gap)`},
		{"[length, direction, gap]", "[gap, gap]", "numbers: gap is listed twice"},
		{"numbers: [length, direction, gap]", "numbers: gap", "numbers: must be a list, like [length, direction, gap]"},
		{"nepco_traffic: 4", "nepco_traffic: 3", "numbers came with nepco_traffic: 4, the file says 3"},
		{"numbers: [length, direction, gap]\n", "", "numbers is missing"},
	} {
		if _, err := Parse("c.yaml", []byte(strings.Replace(good, tc.old, tc.new, 1))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.new, err, tc.want)
		}
	}
	s, _ := Named("nepco-stream")
	s.Numbers = c.Numbers
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "numbers: has no meaning in the stream view, which has no packets: write []") {
		t.Error(err)
	}
	for _, tc := range []struct {
		beside int
		want   string
	}{
		{0, "reads no numbers beside its tokens, traffic contract beside gives 12: write numbers: []"},
		{10, "reads 10 numbers beside its tokens, traffic contract beside gives 12, 3 of each of 4 packets: write other numbers or packets"},
		{12, ""},
	} {
		if err := c.MatchModel(10, 300, tc.beside); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%d numbers: %v, want %s", tc.beside, err, tc.want)
		}
	}
	d := Default()
	if err := d.MatchModel(128, 1<<17, 6); err == nil || !strings.Contains(err.Error(), "reads 6 numbers beside its tokens, traffic contract nepco gives none: write which facts") {
		t.Error(err)
	}
}
