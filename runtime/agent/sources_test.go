package agent_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nepcoc/internal/locked"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// stepped is a live source of frames in steps, each of which begins when its gate opens.
type stepped struct {
	steps [][]capture.Frame
	gates []chan struct{} // of each step
	clock int64           // where nothing waits, once all steps are done
	at    int
	last  int64
	n     atomic.Uint64
	done  atomic.Bool // all steps are read, and what waits is found to be nothing
	stop  atomic.Bool
}

func (s *stepped) Next(f *capture.Frame) error {
	if s.stop.Load() {
		return io.EOF
	}
	for len(s.steps) > 0 && s.at == len(s.steps[0]) {
		s.steps, s.gates, s.at = s.steps[1:], s.gates[1:], 0
	}
	if len(s.steps) == 0 {
		s.last = s.clock
		s.done.Store(true)
		return capture.ErrEmpty
	}
	if s.at == 0 {
		select {
		case <-s.gates[0]:
		default:
			return capture.ErrEmpty
		}
	}
	*f = s.steps[0][s.at]
	s.at++
	s.n.Add(1)
	s.last = f.Time
	return nil
}

// Wait comes back late: the thread gets no processor while packets come.
func (s *stepped) Wait(time.Duration) error {
	if len(s.gates) > 0 {
		<-s.gates[0]
	}
	time.Sleep(time.Millisecond)
	return nil
}

func (s *stepped) Crowded() bool                 { return false }
func (s *stepped) Stop()                         { s.stop.Store(true) }
func (s *stepped) Stats() (capture.Stats, error) { return capture.Stats{Received: s.n.Load()}, nil }
func (s *stepped) Clock() int64                  { return s.last }
func (s *stepped) Close() error                  { return nil }

// One of several receive threads is late by longer than any timeout: its flows are not ended by
// what the others' packets and clocks say, and flows of the others end once all have come so far.
func TestThreadsAreLate(t *testing.T) {
	m := testModel(t, 0, "class")
	frame := func(flow uint32, at time.Duration) capture.Frame {
		b := udp(flow, 1)
		return capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet, Time: 1e18 + int64(at)}
	}
	const idle = 120 * time.Second
	open := make(chan struct{})
	close(open)
	for _, workers := range []int{1, 3} {
		held := make(chan struct{})
		var early, late []capture.Frame
		var other [][]capture.Frame
		for i := range uint32(50) {
			early = append(early, frame(i, time.Second))
			late = append(late, frame(i, 2*time.Second))
			// In steps below the idle time, far ahead of the other.
			for at := time.Second; at < 4*idle; at += idle - time.Second {
				other = append(other, []capture.Frame{frame(1000+i, at)})
			}
		}
		slices.SortStableFunc(other, func(a, b []capture.Frame) int { return int(a[0].Time - b[0].Time) })
		end := 1e18 + int64(6*idle)
		slow := &stepped{steps: [][]capture.Frame{early, late}, gates: []chan struct{}{open, held}, clock: end}
		fast := &stepped{steps: [][]capture.Frame{slices.Concat(other...)}, gates: []chan struct{}{open}, clock: end}
		var out locked.Buffer
		ended := make(chan bool)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(ended) // t.Fatal, too, ends it
			runAgent(t, ctx, agent.Options{Sources: []capture.Source{slow, fast}, Model: m, Workers: workers, Sink: &out})
		}()
		for !fast.done.Load() {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(250 * time.Millisecond) // workers are told the time
		close(held)
		for !slow.done.Load() {
			time.Sleep(time.Millisecond)
		}
		wait(t, "all flows end by their timers", func() bool { return strings.Count(out.String(), "\n") >= 100 })
		cancel()
		<-ended
		got := lines(out.String())
		if len(got) != 100 {
			t.Errorf("%d workers: %d flows, want 100", workers, len(got))
		}
		for _, l := range got {
			if !strings.Contains(l, `"reason":"idle"`) && !strings.Contains(l, `"reason":"tokens"`) {
				t.Errorf("%d workers: %s", workers, l)
				break
			}
		}
	}
}
