//go:build linux

package agent_test

import (
	"slices"
	"testing"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// A capture replayed faster than it can be read gives the flows of one that is read
// as fast as it can be: while packets wait, timers don't run ahead of them.
func TestReplayBacklog(t *testing.T) {
	m := testModel(t, 0, "class")
	mem := new(capture.Memory)
	const between, fillers = 100e9, 20000 // less than the idle time
	add := func(flow uint32, at int64) {
		b := udp(flow, 1)
		mem.Add(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet, Time: 1e18 + at})
	}
	for i := range int64(fillers) {
		if i%2000 == 0 { // flows of which a packet comes, and another much later
			add(uint32(i), i*between/fillers)
		}
		add(7, i*between/fillers)
	}
	for i := 0; i < fillers; i += 2000 {
		add(uint32(i), int64(between+i))
	}
	want := expected(t, m.Bundle, mem)
	for _, speed := range []float64{1e6, 1e9} {
		mem.Rewind()
		got, _ := runAgent(t, t.Context(), agent.Options{Sources: []capture.Source{capture.NewReplay(mem, speed)}, Model: m, Lossless: true})
		if !slices.Equal(sorted(got), sorted(want)) {
			t.Errorf("at %g: %d flows, want %d", speed, len(got), len(want))
		}
	}
}

func sorted(l []string) []string { return slices.Sorted(slices.Values(l)) }
