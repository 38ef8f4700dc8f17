//go:build linux

package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/plural"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/flow"
)

// maxFlows bounds what is remembered of the traffic.
const maxFlows = 1 << 16

// traffic opens a ring as the agent does and looks at what comes.
func traffic(f *findings, c *agent.Config, listen time.Duration) {
	size := int64(c.Receive.BlockSize) * int64(c.Receive.Blocks) * int64(c.Receive.Threads)
	free := available()
	locked := "unlimited"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Cur != math.MaxUint64 {
		locked = fmt.Sprintf("%d KiB", limit.Cur>>10)
	}
	seen := fmt.Sprintf("%d MiB in %s, %d MiB of memory are free; the limit of locked memory (%s) does not count them", size>>20, plural.Of(c.Receive.Threads, "ring"), free>>20, locked)
	const wayOut = "fewer or smaller receive.blocks"
	if free > 0 && size > free {
		f.add("ring memory", Fail, wayOut, "%s", seen)
		return
	}
	one := *c
	one.Receive.Threads = 1
	rings, err := one.Rings()
	if err != nil {
		f.add("ring memory", Fail, wayOut+"; capturing needs CAP_NET_RAW", "%v", err)
		return
	}
	r := rings[0]
	defer r.Close()
	status := OK
	if free > 0 && size > free/2 {
		status = Warn
	}
	f.add("ring memory", status, wayOut, "%s", seen)
	if listen > 0 {
		look(f, r, listen)
	}
}

// available is the memory that is free, in bytes; 0 where nobody says.
func available() int64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// look takes packets for so long.
func look(f *findings, r *afpacket.Ring, listen time.Duration) {
	type seen struct {
		packets int
		ways    [2]bool
	}
	flows := map[flow.Key]*seen{}
	packets, decoded := 0, 0
	offset := capture.WallOffset()
	var frame capture.Frame
	var p capture.Packet
	for end := time.Now().Add(listen); time.Now().Before(end); {
		err := r.Next(&frame)
		if errors.Is(err, capture.ErrEmpty) {
			err = r.Wait(50 * time.Millisecond)
			if err == nil {
				continue
			}
		}
		if err != nil {
			f.add("traffic", Fail, "", "%v", err)
			return
		}
		packets++
		if capture.Decode(&frame, &p) != capture.KindOK {
			continue
		}
		decoded++
		key, swapped := flow.KeyOf(&p).Canonical()
		s := flows[key]
		if s == nil {
			if len(flows) == maxFlows {
				continue
			}
			s = &seen{}
			flows[key] = s
		}
		s.packets++
		way := 0
		if swapped {
			way = 1
		}
		s.ways[way] = true
	}
	step := time.Duration(capture.WallOffset() - offset).Abs()
	if step > 5*time.Millisecond {
		f.add("clock steps", Warn, "events before and after a step have times of different clocks; chrony slews instead", "the clock was moved by %v within %v", step, listen)
	} else {
		f.add("clock steps", OK, "", "none within %v", listen)
	}
	several, both := 0, 0
	for _, s := range flows {
		if s.packets > 1 {
			several++
			if s.ways[0] && s.ways[1] {
				both++
			}
		}
	}
	status, wayOut := OK, ""
	if decoded == 0 {
		status, wayOut = Warn, "see "+manual+"/bluefield.md, prepare the card: flows that are offloaded to the switch must be mirrored; --listen 30s looks for longer"
	}
	f.add("traffic", status, wayOut, "%s within %v, %d of them TCP or UDP, in %s", plural.Of(packets, "packet"), listen, decoded, plural.Of(len(flows), "flow"))
	switch {
	case several == 0:
		f.add("both directions", Warn, "--listen 30s looks for longer", "no flow had two packets")
	case 2*both < several:
		f.add("both directions", Warn, "mirror both (select-src-port and select-dst-port), or receive.outgoing: true where this machine sends the other one", "%d of %s seen both ways", both, plural.Of(several, "flow"))
	default:
		f.add("both directions", OK, "", "%d of %s seen both ways", both, plural.Of(several, "flow"))
	}
	if s, err := r.Stats(); err == nil && s.Merged+s.Unsplit > 0 {
		f.add("merged packets", Warn, "`ethtool -K INTERFACE gro off lro off`, and tso, gso and gro off at the other end of a virtual cable", "%d were put apart again, %d could not be", s.Merged, s.Unsplit)
	}
}
