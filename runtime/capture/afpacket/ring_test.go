//go:build linux

package afpacket_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/afpacket"

	"nepcoc/internal/testnet"
	"nepcoc/runtime/capture"
	ours "nepcoc/runtime/capture/afpacket"
)

// frame is the n-th test frame: an Ethernet header and n in its bytes.
func frame(n, size int) []byte {
	b := make([]byte, max(size, 60))
	b[0], b[6] = 2, 2
	b[12], b[13] = 0x88, 0xb5 // for local experiments
	b[14], b[15], b[16], b[17] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	for i := 18; i < len(b); i++ {
		b[i] = byte(n + i)
	}
	return b
}

func open(t testing.TB, n *testnet.Net, threads int, o ours.Options) (rings []*ours.Ring) {
	t.Helper()
	n.Do(func() {
		var err error
		if rings, err = ours.Open(testnet.Far, threads, o); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		for _, r := range rings {
			r.Close()
		}
	})
	return rings
}

// retire is the time of a ring of blocks.
const retire = 10 * time.Millisecond

// both runs a test for both forms of a ring.
func both(t *testing.T, test func(*testing.T, time.Duration)) {
	t.Run("frames", func(t *testing.T) { test(t, 0) })
	t.Run("blocks", func(t *testing.T) { test(t, retire) })
}

// arrive waits until the kernel has so many packets, in all rings together: on a busy machine it carries them some time after they were sent, and a ring that is
// stopped before never sees them.
func arrive(t testing.TB, packets uint64, rings ...*ours.Ring) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n := uint64(0)
		for _, r := range rings {
			s, err := r.Stats()
			if err != nil {
				t.Fatal(err)
			}
			n += s.Received
		}
		if n >= packets {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d packets came within a minute", n, packets)
		}
	}
}

// drain stops a ring and reads what is left.
func drain(t testing.TB, r *ours.Ring, each func(*capture.Frame)) (n uint64) {
	var f capture.Frame
	r.Stop()
	for {
		switch err := r.Next(&f); {
		case err == io.EOF:
			return n
		case errors.Is(err, capture.ErrEmpty):
			if err := r.Wait(time.Second); err != nil {
				t.Error(err)
			}
		case err != nil:
			t.Error(err)
			return n
		default:
			n++
			if each != nil {
				each(&f)
			}
		}
	}
}

// Frames of every size arrive once, whole and in order, and gopacket's package
// sees the same.
func TestFrames(t *testing.T) { both(t, testFrames) }

func testFrames(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	r := open(t, n, 1, ours.Options{Retire: form, BlockSize: 1 << 17, Blocks: 256, SnapLen: 9100, Promiscuous: true})[0]
	var other *afpacket.TPacket
	n.Do(func() {
		var err error
		if other, err = afpacket.NewTPacket(afpacket.OptInterface(testnet.Far), afpacket.SocketRaw, afpacket.TPacketVersion3, afpacket.OptPollTimeout(time.Minute)); err != nil {
			t.Fatal(err)
		}
	})
	defer other.Close()
	before := time.Now()
	var sent [][]byte
	for i := range 2000 {
		f := frame(i, 60+i*7%8900)
		if i%5 == 0 { // tagged: the kernel takes the tag out of the frame
			f = append(f[:12:12], append([]byte{0x81, 0, 0, 7}, f[12:]...)...)
		}
		sent = append(sent, f)
		if err := send.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	arrive(t, uint64(len(sent)), r)
	got := 0
	drain(t, r, func(f *capture.Frame) {
		want := sent[got]
		if got%5 == 0 {
			want = append(append([]byte{}, want[:12]...), want[16:]...)
		}
		if !bytes.Equal(f.Data, want) || f.Length != len(want) || f.Link != capture.LinkEthernet {
			t.Fatalf("frame %d: %d bytes of %d, want %d", got, len(f.Data), f.Length, len(want))
		}
		if at := time.Unix(0, f.Time); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("frame %d: time %v", got, at)
		}
		theirs, ci, err := other.ZeroCopyReadPacketData()
		if err != nil || !bytes.Equal(theirs, f.Data) || ci.Length != f.Length {
			t.Fatalf("frame %d: gopacket's afpacket sees %d bytes of %d (%v)", got, len(theirs), ci.Length, err)
		}
		got++
	})
	s, err := r.Stats()
	if err != nil || got != len(sent) || s.Received != uint64(got) || s.Dropped != 0 {
		t.Errorf("%d frames of %d, kernel says %+v (%v)", got, len(sent), s, err)
	}
	if r.Next(new(capture.Frame)) != io.EOF {
		t.Error("frames after the end")
	}
}

// What does not fit the ring is counted, to the frame.
func TestDrops(t *testing.T) { both(t, testDrops) }

func testDrops(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	r := open(t, n, 1, ours.Options{Retire: form, BlockSize: 1 << 16, Blocks: 2, Promiscuous: true})[0]
	const sent = 5000
	for i := range sent {
		if err := send.Send(frame(i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	arrive(t, sent, r)
	got := drain(t, r, nil)
	s, err := r.Stats()
	if err != nil || s.Received != sent || s.Dropped == 0 || got != s.Received-s.Dropped {
		t.Errorf("%d sent, %d read, kernel says %+v (%v)", sent, got, s, err)
	}
}

// With the defaults, a reader may pause for seconds on a quiet link, too, where
// every packet uses up a block.
func TestPause(t *testing.T) { both(t, testPause) }

func testPause(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	r := open(t, n, 1, ours.Options{Retire: form, Promiscuous: true})[0]
	const sent = 150
	for i := range sent {
		if err := send.Send(frame(i, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retire)
	}
	arrive(t, sent, r)
	if r.Crowded() {
		t.Error("crowded")
	}
	got := drain(t, r, nil)
	if s, err := r.Stats(); err != nil || got != sent || s.Dropped != 0 {
		t.Errorf("%d sent, %d read, kernel says %+v (%v)", sent, got, s, err)
	}
}

// A ring says that it is crowded before it loses packets.
func TestCrowded(t *testing.T) { both(t, testCrowded) }

func testCrowded(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	r := open(t, n, 1, ours.Options{Retire: form, BlockSize: 1 << 16, Blocks: 16, Promiscuous: true})[0]
	sent := uint64(0)
	for ; !r.Crowded(); sent++ {
		if sent == 1<<16 {
			t.Fatal("never crowded")
		}
		if sent%64 == 0 {
			arrive(t, sent, r) // no more are on their way than the other half takes
		}
		if err := send.Send(frame(int(sent), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	arrive(t, sent, r)
	got := drain(t, r, nil)
	if s, err := r.Stats(); err != nil || got != sent || s.Dropped != 0 {
		t.Errorf("%d sent, %d read, kernel says %+v (%v)", sent, got, s, err)
	}
	if r.Crowded() {
		t.Error("crowded when empty")
	}
}

// Several rings share the packets, each packet in one of them.
func TestFanout(t *testing.T) { both(t, testFanout) }

func testFanout(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	rings := open(t, n, 3, ours.Options{Retire: form, BlockSize: 1 << 17, Blocks: 16, Promiscuous: true})
	const sent = 3000
	for i := range sent {
		f := frame(i, 100)
		f[12], f[13] = 8, 0 // IPv4, UDP: hashed by addresses and ports
		copy(f[14:], []byte{0x45, 0, 0, 86, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, byte(i >> 8), byte(i), 10, 1, 0, 1, 4, 0, 1, 187, 0, 66, 0, 0})
		if i%2 == 1 { // the answer to the frame before: same ring
			copy(f[26:], []byte{10, 1, 0, 1, 10, 0, byte((i - 1) >> 8), byte(i - 1), 1, 187, 4, 0})
		}
		if err := send.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	arrive(t, sent, rings...)
	var wg sync.WaitGroup
	seen := make([]map[[2]byte]int, len(rings))
	for i, r := range rings {
		seen[i] = map[[2]byte]int{}
		wg.Go(func() {
			drain(t, r, func(f *capture.Frame) {
				host := f.Data[26:30]
				if host[1] == 1 {
					host = f.Data[30:34]
				}
				seen[i][[2]byte(host[2:4])]++
			})
		})
	}
	wg.Wait()
	total, used := 0, 0
	for i := range seen {
		if len(seen[i]) > 0 {
			used++
		}
		for host, n := range seen[i] {
			total += n
			if n != 2 {
				t.Errorf("ring %d has %d of the 2 packets of flow %v", i, n, host)
			}
		}
	}
	if total != sent || used < 2 {
		t.Errorf("%d of %d packets, in %d rings", total, sent, used)
	}
}

// Our own packets are not seen, unless asked for.
func TestOutgoing(t *testing.T) { both(t, testOutgoing) }

func testOutgoing(t *testing.T, form time.Duration) {
	for _, outgoing := range []bool{false, true} {
		n := testnet.New(t)
		send := n.NewSender(t, testnet.Far)
		r := open(t, n, 1, ours.Options{Retire: form, Outgoing: outgoing})[0]
		for i := range 10 {
			if err := send.Send(frame(i, 100)); err != nil {
				t.Fatal(err)
			}
		}
		want := uint64(0)
		if outgoing {
			want = 10
		}
		arrive(t, want, r)
		if got := drain(t, r, nil); got != want {
			t.Errorf("outgoing %v: %d packets", outgoing, got)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		threads int
		o       ours.Options
		want    string
	}{
		{"nosuch0", 1, ours.Options{}, "ip link"},
		{"lo", 0, ours.Options{}, "receive threads"},
		{"lo", 1, ours.Options{BlockSize: 5000}, "page size"},
		{"lo", 1, ours.Options{Blocks: 1}, "blocks: 1"},
		{"lo", 1, ours.Options{BlockSize: 1 << 30, Blocks: 5}, "4 GiB"},
		{"lo", 1, ours.Options{Retire: time.Microsecond}, "retire"},
		{"lo", 1, ours.Options{SnapLen: 3}, "snaplen"},
	} {
		_, err := ours.Open(tc.name, tc.threads, tc.o)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.name) {
			t.Errorf("%s, %+v: %v, want %q", tc.name, tc.o, err, tc.want)
		}
	}
}

// An interface that is removed ends the capture with an error that says so.
func TestRemoved(t *testing.T) {
	n := testnet.New(t)
	r := open(t, n, 1, ours.Options{})[0]
	n.Do(func() { n.Remove(t) })
	var err error
	for end := time.Now().Add(time.Minute); err == nil && time.Now().Before(end); {
		n.Do(func() { err = r.Wait(100 * time.Millisecond) })
	}
	if err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("%v", err)
	}
}

// The first frame after a loss says so; those after it don't, once it is over.
func TestLossy(t *testing.T) { both(t, testLossy) }

func testLossy(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	all := open(t, n, 1, ours.Options{Promiscuous: true})[0] // tells when all have come: to ask the small one would have it forget that it lost some
	r := open(t, n, 1, ours.Options{Retire: form, BlockSize: 1 << 16, Blocks: 2, Promiscuous: true})[0]
	sent := uint64(0)
	// round sends frames and reads those that come, at least so many.
	round := func(frames, least int) (read, lossy int) {
		t.Helper()
		for i := range frames {
			if err := send.Send(frame(i, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		sent += uint64(frames)
		arrive(t, sent, all)
		var f capture.Frame
		const more = 100 * time.Millisecond // for those beyond
		for end, late := time.Now().Add(more), time.Now().Add(time.Minute); time.Now().Before(end) || read < least && time.Now().Before(late); {
			switch err := r.Next(&f); {
			case errors.Is(err, capture.ErrEmpty):
				if err := r.Wait(10 * time.Millisecond); err != nil {
					t.Fatal(err)
				}
			case err != nil:
				t.Fatal(err)
			default:
				read++
				end = time.Now().Add(more)
				if f.Lossy {
					lossy++
				}
			}
		}
		return read, lossy
	}
	if read, lossy := round(10, 10); read != 10 || lossy != 0 {
		t.Errorf("before: %d read, %d say that some were lost", read, lossy)
	}
	if read, _ := round(1000, 1); read == 1000 {
		t.Fatal("nothing was lost")
	}
	if read, lossy := round(10, 10); read != 10 || lossy == 0 {
		t.Errorf("after a loss: %d read, none says so", read)
	}
	if read, lossy := round(10, 10); read != 10 || lossy != 0 {
		t.Errorf("later: %d read, %d say that some were lost", read, lossy)
	}
	// Who asks for the counts has the kernel forget that it lost some, but not the ring.
	if read, _ := round(1000, 1); read == 1000 {
		t.Fatal("nothing was lost")
	}
	if _, err := r.Stats(); err != nil {
		t.Fatal(err)
	}
	if read, lossy := round(10, 10); read != 10 || lossy != 1 {
		t.Errorf("after a loss that was counted: %d read, %d say so", read, lossy)
	}
}
