package load

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"nepcoc/runtime/capture"
)

// fake is a clock and a wire: sending a frame takes a while, and every so many are lost.
type fake struct {
	now    time.Duration
	each   time.Duration
	least  time.Duration // that a sleep takes
	refuse int           // every so many frames
	room   int           // frames taken at once, 0: all
	err    error

	n     int
	times []time.Duration
	ends  []uint32 // instances
}

func (f *fake) Now() time.Duration    { return f.now }
func (f *fake) Sleep(d time.Duration) { f.now += max(d, f.least) }
func (f *fake) Send(frames [][]byte) (taken int, lost []int, err error) {
	for i, b := range frames {
		if f.room > 0 && i == f.room {
			return i, lost, nil
		}
		f.now += f.each
		if f.n++; f.refuse > 0 && f.n%f.refuse == 0 {
			lost = append(lost, i)
		}
		f.times = append(f.times, f.now)
		var p capture.Packet
		capture.Decode(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet}, &p)
		n, _ := Instance(netip.AddrFrom4([4]byte(p.Src())), netip.AddrFrom4([4]byte(p.Dst())))
		f.ends = append(f.ends, n)
	}
	return len(frames), lost, f.err
}

// simple is a script of flows of three packets, 4 ms apart.
func simple(t *testing.T) *Script {
	t.Helper()
	m := new(capture.Memory)
	for i := range byte(5) {
		for k := range int64(3) {
			b := ip4(1, 2+i, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)
			m.Add(&capture.Frame{Data: b, Length: len(b), Time: 1e18 + k*4e6, Link: capture.LinkRaw})
		}
	}
	return script(t, m)
}

// Flows are begun at the rate, each once, with its pauses, and no two frames at once that are not due.
func TestRate(t *testing.T) {
	s := simple(t)
	f := &fake{}
	sent, err := s.Run(context.Background(), Rate{Flows: 1000, Length: 2 * time.Second}, 77, f, f)
	if err != nil || sent.Flows != 2000 || sent.Packets != 6000 || sent.Failed != 0 || sent.Behind != 0 || sent.First != 77 {
		t.Fatalf("%+v, %v", sent, err)
	}
	if d := (sent.Took - 2007*time.Millisecond).Abs(); d > time.Millisecond {
		t.Errorf("took %v", sent.Took)
	}
	count := map[uint32]int{}
	in := map[time.Duration]int{}
	for i, n := range f.ends {
		want := time.Duration(n-77)*time.Millisecond + time.Duration(count[n])*4*time.Millisecond
		if f.times[i] != want {
			t.Fatalf("packet %d of instance %d at %v, want %v", count[n], n, f.times[i], want)
		}
		count[n]++
		in[f.times[i]]++
	}
	if len(count) != 2000 {
		t.Errorf("%d instances", len(count))
	}
	for at, n := range in {
		if n > 3 { // a flow's first packet, another's second and third
			t.Errorf("%d frames at %v", n, at)
		}
	}
}

// Random times have the rate in the mean, and pauses that vary as those of independent events do.
func TestPoisson(t *testing.T) {
	s := simple(t)
	f := &fake{}
	sent, err := s.Run(context.Background(), Rate{Flows: 5000, Poisson: true, Length: 4 * time.Second, Seed: 5}, 0, f, f)
	if err != nil || math.Abs(float64(sent.Flows)-20000) > 4*math.Sqrt(20000) {
		t.Fatalf("%+v, %v", sent, err)
	}
	seen := map[uint32]bool{}
	var last time.Duration
	var sum, square float64
	for i, n := range f.ends {
		if seen[n] {
			continue
		}
		seen[n] = true
		d := float64(f.times[i] - last)
		sum, square, last = sum+d, square+d*d, f.times[i]
	}
	n := float64(len(seen))
	mean := sum / n
	if deviation := math.Sqrt(square/n - mean*mean); deviation < 0.9*mean || deviation > 1.1*mean {
		t.Errorf("pauses of %v, deviation %v", time.Duration(mean), time.Duration(deviation))
	}
}

// A sender that can't keep up says so, and makes up for nothing: it goes on at the rate.
func TestBehind(t *testing.T) {
	s := simple(t)
	f := &fake{each: time.Millisecond} // 3000 packets/s want three times as long
	sent, err := s.Run(context.Background(), Rate{Flows: 1000, Length: time.Second}, 0, f, f)
	if err != nil || sent.Flows != 1000 || sent.Took < 2900*time.Millisecond || sent.Behind < 1800*time.Millisecond {
		t.Errorf("%+v, %v", sent, err)
	}
	// One pause of the machine: it is behind for that long, and no burst follows.
	g := &stalled{fake: fake{}, at: 500 * time.Millisecond, length: 300 * time.Millisecond}
	sent, err = s.Run(context.Background(), Rate{Flows: 1000, Length: time.Second}, 0, g, g)
	if err != nil || sent.Flows != 1000 || (sent.Behind-300*time.Millisecond).Abs() > 5*time.Millisecond {
		t.Errorf("%+v, %v", sent, err)
	}
	for i := 9; i < len(g.times); i++ {
		if g.times[i]-g.times[i-9] < time.Millisecond {
			t.Fatalf("ten packets at once at %v", g.times[i])
		}
	}
}

// stalled is a machine that does something else for a while.
type stalled struct {
	fake
	at, length time.Duration
	done       bool
}

func (s *stalled) Sleep(d time.Duration) {
	if s.fake.Sleep(d); s.now > s.at && !s.done {
		s.now, s.done = s.now+s.length, true
	}
}

// What the system refuses is counted, with its flows; a full queue is waited for; an error ends it; so does the context.
func TestRefused(t *testing.T) {
	s := simple(t)
	f := &fake{refuse: 10, room: 1}
	sent, err := s.Run(context.Background(), Rate{Flows: 1000, Length: time.Second}, 0, f, f)
	if err != nil || sent.Packets+sent.Failed != 3000 || sent.Failed != 300 || len(sent.FailedFlows) == 0 || len(sent.FailedFlows) > 300 {
		t.Errorf("%d sent, %d failed of %d flows, %v", sent.Packets, sent.Failed, len(sent.FailedFlows), err)
	}
	for i := range f.ends {
		if i%10 == 9 && !sent.FailedFlows[int(f.ends[i])] {
			t.Fatalf("packet %d was of flow %d, which is not among the failed", i, f.ends[i])
		}
	}
	gone := errors.New("interface is gone")
	if _, err := s.Run(context.Background(), Rate{Flows: 1000, Length: time.Second}, 0, f, &fake{err: gone}); !errors.Is(err, gone) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if sent, err := s.Run(ctx, Rate{Flows: 1000, Length: time.Second}, 0, f, f); err != nil || sent.Packets > 0 {
		t.Errorf("%+v, %v", sent, err)
	}
}

// The search finds the bound from both sides, and says when it was the sender's.
func TestFind(t *testing.T) {
	for _, tc := range []struct {
		low, high, holds, offers float64
		want                     float64
		limited                  bool
	}{
		{1000, 1e6, 37000, 1e9, 37000, false},
		{1000, 1e6, 130, 1e9, 130, false},
		{1000, 1e6, 1e9, 52000, 52000, true},
		{1000, 9000, 1e9, 1e9, 9000, false},
		{1000, 1e6, 0, 1e9, 0, false},
	} {
		tries := 0
		got, limited, err := Find(tc.low, tc.high, 0.02, func(rate float64) (bool, bool, error) {
			tries++
			return rate <= tc.holds, rate <= tc.offers, nil
		})
		if err != nil || got > tc.want || got < tc.want*0.97 || limited != tc.limited || tries > 30 {
			t.Errorf("%+v: %g, %v after %d tries, %v", tc, got, limited, tries, err)
		}
	}
	bad := errors.New("no")
	if _, _, err := Find(1, 2, 0.1, func(float64) (bool, bool, error) { return false, false, bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
}
