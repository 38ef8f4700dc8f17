package flow_test

import (
	"strings"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// A mirror that shows one direction only is named; one that shows both is not, nor
// are a few hosts that don't answer.
func TestOneSidedNote(t *testing.T) {
	for _, tc := range []struct {
		answered, unanswered int
		want                 bool
	}{{0, 40, true}, {40, 0, false}, {38, 2, false}, {0, 5, false}, {10, 30, true}} {
		var packets []at
		for i := range tc.answered + tc.unanswered {
			p := tcp(0, capture.FlagSYN)
			p.sport = uint16(30000 + i)
			packets = append(packets, at{0, p})
			if i < tc.answered {
				packets = append(packets, at{0, reply(p)})
			}
		}
		_, n, err := runSource(t, traffic.Default(), 0, source(packets...))
		if err != nil {
			t.Fatal(err)
		}
		if s := n.OneSidedNote(); strings.Contains(s, "one side only") != tc.want {
			t.Errorf("%d answered, %d not: %q", tc.answered, tc.unanswered, s)
		}
	}
}
