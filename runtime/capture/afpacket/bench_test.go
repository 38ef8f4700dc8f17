//go:build linux

package afpacket_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testnet"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
)

// processor is the time that the calling thread has had of a processor.
func processor() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// What a packet costs to take out of a ring of frames and one of blocks, in processor time of the reader: rings
// are filled, then read empty, in turns; and what it costs to find one empty and ask the kernel.
func BenchmarkDrain(b *testing.B) {
	n := testnet.New(b)
	send := n.NewSender(b, testnet.Near)
	const packets = 20000
	for _, size := range []int{60, 800} {
		frame := make([]byte, size)
		frame[12] = 8
		ip := frame[14:]
		ip[0], ip[2], ip[3], ip[8], ip[9] = 0x45, byte(len(ip)>>8), byte(len(ip)), 64, capture.ProtoUDP
		ip[24], ip[25] = byte((len(ip)-20)>>8), byte(len(ip)-20)
		forms := []struct {
			name   string
			retire time.Duration
			costs  []float64
			waits  []float64
		}{{name: "blocks", retire: 10 * time.Millisecond}, {name: "frames"}}
		for range 7 {
			for i := range forms {
				f := &forms[i]
				var ring *afpacket.Ring
				n.Do(func() {
					rings, err := afpacket.Open(testnet.Far, 1, afpacket.Options{Promiscuous: true, Retire: f.retire})
					if err != nil {
						b.Fatal(err)
					}
					ring = rings[0]
				})
				for range packets {
					if err := send.Send(frame); err != nil {
						b.Fatal(err)
					}
				}
				time.Sleep(50 * time.Millisecond)
				n.Do(func() { // a thread of its own
					var fr capture.Frame
					var p capture.Packet
					got := 0
					start := processor()
					for ; got < packets && ring.Next(&fr) == nil; got++ {
						capture.Decode(&fr, &p)
					}
					f.costs = append(f.costs, float64(processor()-start)/float64(got))
					if got != packets {
						b.Errorf("%s: %d of %d packets", f.name, got, packets)
					}
					start = processor()
					const waits = 2000
					for range waits {
						if err := ring.Next(&fr); !errors.Is(err, capture.ErrEmpty) {
							b.Error(err)
						}
						ring.Wait(0)
					}
					f.waits = append(f.waits, float64(processor()-start)/waits)
				})
				ring.Close()
			}
		}
		for _, f := range forms {
			slices.Sort(f.costs)
			slices.Sort(f.waits)
			b.ReportMetric(f.costs[len(f.costs)/2], fmt.Sprintf("ns/packet,%s,%d-bytes", f.name, size))
			b.ReportMetric(f.waits[len(f.waits)/2], fmt.Sprintf("ns/wait,%s,%d-bytes", f.name, size))
		}
	}
}
