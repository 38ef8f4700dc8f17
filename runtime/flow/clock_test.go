package flow_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// flowsOf are a capture's flows: endpoints, packets, why they were decided.
func flowsOf(t *testing.T, c traffic.Contract, path string) (list []string) {
	t.Helper()
	flows, _, err := runFile(t, c, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		list = append(list, fmt.Sprintf("%s %d of %d %s", f.key, f.used, f.packets, f.reason))
	}
	slices.Sort(list)
	return list
}

// A clock that is set back, or for one packet, or two that differ, change no flow.
// One that is set forward can't be told from a pause in a file: beyond the idle time flows end.
func TestClockSteps(t *testing.T) {
	dir := testfiles.Path(t, "cases", "16-clock-steps")
	want := flowsOf(t, traffic.Default(), filepath.Join(dir, "none.pcap"))
	for _, tc := range []struct {
		file  string
		flows int // beyond those of none.pcap, where others are
	}{
		{"back1.pcap", 0}, {"back119.pcap", 0}, {"back121.pcap", 0}, {"one-fwd5min.pcap", 0}, {"one-zero.pcap", 0},
		{"two-clocks-125.pcap", 0}, {"two-clocks-3600.pcap", 0}, {"fwd119.pcap", 0}, {"fwd121.pcap", 10}, {"fwd1h.pcap", 10}, {"concat-back500.pcap", 1},
	} {
		got := flowsOf(t, traffic.Default(), filepath.Join(dir, tc.file))
		if tc.flows == 0 && !slices.Equal(got, want) {
			t.Errorf("%s: %d flows, want %d:\n got %q\nwant %q", tc.file, len(got), len(want), got, want)
		}
		if len(got) != len(want)+tc.flows {
			t.Errorf("%s: %d flows, want %d", tc.file, len(got), len(want)+tc.flows)
		}
	}
}

// Timers go on while the clock is set back: an RST's linger ends after its two
// seconds, whatever the clock said meanwhile.
func TestTimersAfterStep(t *testing.T) {
	for _, back := range []time.Duration{s, 30 * s, 60 * s, 119 * s, 121 * s, 3600 * s} {
		var decided []time.Duration
		now := time.Duration(0)
		enc, _ := traffic.NewEncoder(traffic.Default())
		in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 64, Ready: func(f *flow.Flow) {
			if f.Reason == flow.ReasonClosed {
				decided = append(decided, now)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for ; now < 60*s; now += s / 10 {
			p := udp(uint16(1000+now/(s/10)), 1)
			if now == 10*s {
				p = tcp(0, capture.FlagRST)
			}
			when := start + int64(now)
			if now > 10*s {
				when -= int64(back)
			}
			data := p.ethernet()
			in.Frame(&capture.Frame{Data: data, Time: when, Length: len(data), Link: capture.LinkEthernet})
		}
		// A step back hides as much as a packet may be late.
		if len(decided) != 1 || decided[0] < 12*s || decided[0] > 13*s+s/2 {
			t.Errorf("set back by %v: closed at %v, want 12 s", back, decided)
		}
	}
}
