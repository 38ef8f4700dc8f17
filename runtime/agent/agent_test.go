package agent_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
)

// The agent gives the verdicts of nepcoc run, to the byte, and in its order
// where one worker sees all; several workers give the same lines.
func TestFiles(t *testing.T) {
	m := testModel(t, 0, "class")
	for _, path := range captures(t) {
		mem, ok := load(path)
		if !ok {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			want := expected(t, m.Bundle, mem)
			for _, workers := range []int{1, 3} {
				mem.Rewind()
				got, r := runAgent(t, t.Context(), agent.Options{
					Sources: []capture.Source{mem}, Model: m, Workers: workers, Lossless: true, Queue: 2, Chunks: 2,
				})
				if r.Read != uint64(mem.Len()) || r.Flow.Flows != uint64(len(want)) {
					t.Errorf("%d workers: %d packets, %d flows; want %d, %d", workers, r.Read, r.Flow.Flows, mem.Len(), len(want))
				}
				if workers > 1 {
					slices.Sort(got)
					slices.Sort(want)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d workers: lines differ: %s", workers, difference(got, want))
				}
			}
		})
	}
}

func difference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return "\n got " + got[i] + "\nwant " + want[i]
		}
	}
	return "one has more lines"
}

// A stopped agent gives every flow that it has seen its verdict.
func TestStop(t *testing.T) {
	m := testModel(t, 0, "class")
	ctx, cancel := context.WithCancel(t.Context())
	src := generate(func(n uint64, f *capture.Frame) error {
		if n == 5000 {
			cancel()
		}
		f.Data, f.Time = udp(uint32(n%3000), 16), int64(n)*1000
		return nil
	})
	got, r := runAgent(t, ctx, agent.Options{Sources: []capture.Source{src}, Model: m, Workers: 2, Lossless: true})
	if r.Read < 5000 || len(got) != 3000 || r.Flow.Flows != 3000 {
		t.Errorf("%d packets, %d flows, %d lines", r.Read, r.Flow.Flows, len(got))
	}
}

// The flows in a tunnel get the verdicts that they would get outside.
func TestTunnels(t *testing.T) {
	m := testModel(t, 0, "class")
	mem, _ := load(captures(t)[0])
	want := expected(t, m.Bundle, mem)
	mem.Rewind()
	wrapped := new(capture.Memory)
	var f capture.Frame
	for i := 0; mem.Next(&f) == nil; i++ {
		// Outer Ethernet, IPv4, UDP to VXLAN's port, VXLAN.
		outer := udp(uint32(i), 8)[:14+20+8]
		binary.BigEndian.PutUint16(outer[14+2:], uint16(20+8+8+len(f.Data)))
		binary.BigEndian.PutUint16(outer[14+20+2:], 4789)
		f.Data = slices.Concat(outer, []byte{8, 0, 0, 0, 0, 0, 1, 0}, f.Data)
		wrapped.Add(&f)
	}
	got, _ := runAgent(t, t.Context(), agent.Options{Sources: []capture.Source{wrapped}, Model: m, View: bundle.ViewOverride{Tunnels: new(true)}, Lossless: true})
	const where = `,"tunnel":{"id":1,"level":1}`
	for i, line := range got {
		if got[i] = strings.Replace(line, where, "", 1); got[i] == line {
			t.Errorf("no tunnel in %s", line)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines differ: %s", difference(got, want))
	}
}

// Flows whose timers ran out before the capture's last packet were idle, not at its end, whoever
// reads it.
func TestTimersAtEnd(t *testing.T) {
	m := testModel(t, 0, "class")
	mem := new(capture.Memory)
	for i := range 10 {
		mem.Add(&capture.Frame{Data: udp(uint32(i), 16), Time: int64(i), Link: capture.LinkEthernet})
	}
	mem.Add(&capture.Frame{Data: udp(10, 16), Time: 200e9, Link: capture.LinkEthernet})
	want := expected(t, m.Bundle, mem)
	mem.Rewind()
	got, _ := runAgent(t, t.Context(), agent.Options{Sources: []capture.Source{mem}, Model: m, Lossless: true})
	if !slices.Equal(got, want) {
		t.Errorf("lines differ: %s", difference(got, want))
	}
}
