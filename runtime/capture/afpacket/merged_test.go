//go:build linux

package afpacket_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testnet"
	"nepcoc/runtime/capture"
	ours "nepcoc/runtime/capture/afpacket"
)

// segmentFrame is a TCP packet over IPv4 with n bytes of payload.
func segmentFrame(n int) []byte {
	b := make([]byte, 14+40+n)
	b[0], b[6], b[12] = 2, 2, 8
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, capture.ProtoTCP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2, 4, 0, 0, 80})
	ip[32], ip[33] = 5<<4, capture.FlagACK
	for i := range ip[40:] {
		ip[40+i] = byte(i % 251)
	}
	return b
}

// A packet that the system has merged is read as those that it was made of, and
// counted as them; a checksum that is left to the card is not held against a packet.
func TestMerged(t *testing.T) { both(t, testMerged) }

func testMerged(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	if err := unix.SetsockoptInt(send.FD(), unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		t.Skip(err)
	}
	r := open(t, n, 1, ours.Options{Retire: form, Promiscuous: true})[0]
	const packets, payload, size = 20, 30000, 1000
	for i := range packets {
		head := make([]byte, 10)
		body := segmentFrame(64)
		if i%2 == 1 {
			body = segmentFrame(payload)
			head[0], head[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_TCPV4
			binary.NativeEndian.PutUint16(head[2:], 54)
			binary.NativeEndian.PutUint16(head[4:], size)
			binary.NativeEndian.PutUint16(head[6:], 34)
			binary.NativeEndian.PutUint16(head[8:], 16)
		}
		if err := send.Send(append(head, body...)); err != nil {
			if errors.Is(err, unix.EINVAL) {
				t.Skip("this kernel does not send merged packets so")
			}
			t.Fatal(err)
		}
	}
	arrive(t, packets, r)
	got, whole := 0, 0
	bytes := 0
	read := drain(t, r, func(f *capture.Frame) {
		got++
		want := capture.TrustChecked
		if f.Length == 14+40+64 {
			want = capture.TrustWire
		} else {
			if f.Length != 14+40+size {
				t.Fatalf("%d bytes on the wire", f.Length)
			}
			bytes += size
			if len(f.Data) == f.Length {
				whole++
			}
		}
		if f.Trust != want {
			t.Errorf("%d bytes: trust %v, want %v", f.Length, f.Trust, want)
		}
	})
	s, err := r.Stats()
	if err != nil || s.Merged != packets/2 || s.Unsplit != 0 || s.Received != read || got != packets/2*(1+payload/size) {
		t.Errorf("%d packets, %+v (%v)", got, s, err)
	}
	if whole < packets/2*10 { // the first of each
		t.Errorf("%d are whole", whole)
	}
}

// A reader that is late is not told a time that its packets have not reached.
func TestClockWaits(t *testing.T) { both(t, testClockWaits) }

func testClockWaits(t *testing.T, form time.Duration) {
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	r := open(t, n, 1, ours.Options{Retire: form, Promiscuous: true})[0]
	const sent = 20
	for i := range sent {
		if err := send.Send(frame(i, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	var f capture.Frame
	for i := range sent {
		for r.Next(&f) == capture.ErrEmpty {
			if err := r.Wait(time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if i > 0 && f.Time < r.Clock() || r.Clock() > f.Time {
			t.Fatalf("packet %d: the clock is %v ahead", i, time.Duration(r.Clock()-f.Time))
		}
	}
	time.Sleep(100 * time.Millisecond)
	if r.Next(&f) != capture.ErrEmpty || r.Clock() < f.Time+int64(50*time.Millisecond) {
		t.Errorf("the clock stands still where no packet comes: %v", time.Duration(r.Clock()-f.Time))
	}
}
