package flow

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"nepcoc/runtime/capture"
)

// Connections as a line per segment: side, flags, sequence number and
// acknowledgement relative to 1000 and 5000, payload bytes, window; what follows the
// arrow is what its receiver makes of it.
var connections = []struct {
	name, text string
}{
	{"an ordinary one", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 0 > new
c A 1 1 100 > new
s A 1 101 0 > new
s A 1 101 50 > new
c A 101 51 0 > new
c FA 101 51 0 > new
s FA 51 102 0 > new
c A 102 52 0 > new`},
	{"SYN sent again, and late", `
c S 0 - 0 > new
c S 0 - 0 > repeat
s SA 0 1 0 > new
s SA 0 1 0 > repeat
c A 1 1 0 > new
c S 0 - 0 > repeat`},
	{"SYN overtaken by its answer", `
s SA 0 1 0 > new
c S 0 - 0 > new
c A 1 1 0 > new`},
	{"both open at the same time", `
c S 0 - 0 > new
s S 0 - 0 > new
c SA 0 1 0 > new
s SA 0 1 0 > new
c A 1 1 10 > new`},
	{"another connection behind FIN", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 0 > new
c FA 1 1 0 > new
c S 9000 - 0 > other`},
	{"another connection behind RST", `
c S 0 - 0 > new
s RA 0 1 0 > new
c S 77 - 0 > other`},
	{"a SYN that its receiver knows better than", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 10 > new
c S 7777 - 0 > outside
s A 1 11 0 > new`},
	{"a connection forgotten by its server", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 10 > new
c S 7777 - 0 > outside
s SA 4000 7778 0 > other`},
	{"a connection forgotten by its client", `
c S 0 - 0 > new
s A 4000 90 30 > outside
c R 90 - 0 > outside
c S 0 - 0 > repeat
s SA 0 1 0 > new
c A 1 1 10 > new
s A 1 11 10 > new`},
	{"the same from the middle: who acknowledges is no longer waiting for an answer", `
c S 0 - 0 > new
c A 1 1 10 > new
s A 1 11 10 > new`},
	{"segments before the connection", `
c A 400 1 40 > new
c A 440 1 40 > new
c S 0 - 0 > other`},
	{"a refusal must answer the SYN", `
c S 0 - 0 > new
s RA 0 9 0 > outside
s R 0 - 0 > outside
s RA 0 1 0 > new`},
	{"RST in the window, but not at its edge", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 10 > new
c R 40 - 0 > outside
c R 11 - 0 > new`},
	{"RST with the number that was acknowledged", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 10 > new
s A 1 11 5 > new
c R 11 - 0 > new`},
	{"retransmissions and keep-alives", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 0 > new
c A 1 1 0 > repeat
c A 1 1 100 > new
c A 1 1 100 > repeat
c A 1 1 60 > repeat
c A 51 1 100 > new
c A 150 1 1 > repeat
c A 150 1 0 > repeat
s A 1 151 0 > new
s A 1 151 0 > repeat`},
	{"out of order", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 0 > new
c A 201 1 100 > new
c A 201 1 100 > repeat
c A 101 1 100 > new
c A 101 1 200 > repeat
c A 1 1 100 > new
c A 1 1 300 > repeat
c A 301 1 10 > new`},
	{"beyond the window", `
c S 0 - 0 > new
s SA 0 1 0 w1000 > new
c A 1 1 0 > new
c A 1002 1 10 > outside
c A 900 1 10 > new
c A 70000 1 10 > outside`},
	{"what was not seen, but acknowledged", `
c S 0 - 0 > new
s SA 0 1 0 > new
c A 1 1 0 > new
s A 1 501 0 > new
c A 1 1 100 > repeat
c A 501 1 100 > new`},
	{"no ACK, SYN with RST, and acknowledging what can't have been sent", `
c S 0 - 0 > new
c SR 0 - 0 > outside
s SA 0 1 0 > new
c - 1 - 10 > outside
c A 1 1 10 > new
c A 11 1073900000 10 > outside`},
	{"an answer to another SYN", `
c S 0 - 0 > new
s SA 0 50 0 > outside
s SA 0 1 0 > new
s SA 300 1 0 > outside`},
	{"behind the end", `
c S 0 - 0 > new
s SA 0 1 0 > new
c FA 1 1 10 > new
c A 12 1 10 > outside
s A 1 12 20 > new`},
	{"from the middle", `
c A 700 900 10 > new
s A 900 710 10 > new
s A 900 710 10 > repeat
c A 710 910 0 > new`},
}

func TestConnections(t *testing.T) {
	verdicts := map[judgement]string{segNew: "new", segRepeat: "repeat", segOutside: "outside", segOther: "other"}
	for _, test := range connections {
		t.Run(test.name, func(t *testing.T) {
			var c conn
			for i, line := range strings.Split(strings.TrimSpace(test.text), "\n") {
				side, seg, want := parseSegment(t, line)
				if got := verdicts[c.judge(side, &seg, false)]; got != want {
					t.Fatalf("segment %d, %s: %s", i+1, line, got)
				}
			}
		})
	}
}

func parseSegment(t *testing.T, line string) (side int, s segment, want string) {
	head, want, _ := strings.Cut(line, " > ")
	f := strings.Fields(head)
	base, other := uint32(1000), uint32(5000)
	if f[0] == "s" {
		side, base, other = 1, other, base
	}
	for _, r := range f[1] {
		s.flags |= map[rune]uint8{'S': capture.FlagSYN, 'A': capture.FlagACK, 'F': capture.FlagFIN, 'R': capture.FlagRST, '-': 0}[r]
	}
	number := func(text string, base uint32) (n uint32) {
		if text == "-" {
			return 0
		}
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(line, err)
		}
		return base + n
	}
	s.seq, s.ack, s.size = number(f[2], base), number(f[3], other), number(f[4], 0)
	s.window, s.shift = 60000, noScale
	if len(f) > 5 {
		s.window = number(f[5][1:], 0)
	}
	return side, s, want
}

// Sequence numbers wrap around: a connection is judged alike wherever its
// numbers begin.
func TestConnectionsWrap(t *testing.T) {
	for _, test := range connections {
		for range 50 {
			a, b := rand.Uint32(), rand.Uint32()
			if rand.IntN(2) == 0 {
				a, b = -rand.Uint32N(2000), -rand.Uint32N(2000)
			}
			var plain, moved conn
			for i, line := range strings.Split(strings.TrimSpace(test.text), "\n") {
				side, s, _ := parseSegment(t, line)
				m := s
				if side == 0 {
					m.seq, m.ack = s.seq+a, s.ack+b
				} else {
					m.seq, m.ack = s.seq+b, s.ack+a
				}
				if x, y := plain.judge(side, &s, false), moved.judge(side, &m, false); x != y {
					t.Fatalf("%s, segment %d, %s, numbers moved by %d and %d: %d, not %d", test.name, i+1, line, a, b, y, x)
				}
			}
		}
	}
}
