package evasion

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// What leaves the hosts' view of a flow alone leaves every token of the stream view alone.
func TestStreamViewIsTheHosts(t *testing.T) {
	c, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")}
	if dir := testfiles.Dir(t); dir != "" {
		files = append(files, filepath.Join(dir, "traffic", "test.pcap"))
	}
	for _, file := range files {
		flows, err := Load(file, 12, flow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		classes := make([]int, len(flows))
		for i, f := range flows {
			classes[i] = int(min(f.Key.DstPort, f.Key.SrcPort))
		}
		for _, tr := range Transforms {
			t.Run(filepath.Base(filepath.Dir(file))+"/"+tr.Name, func(t *testing.T) {
				n, bad := 0, 0
				for i := range flows {
					f := &flows[i]
					if !tr.Applies(f) || !f.Whole() {
						continue
					}
					base, err := See(c, f.Packets, f.First)
					if err != nil {
						t.Fatal(err)
					}
					if base.Marks&(flow.MarkOneSided|flow.MarkLost) != 0 {
						continue // marked for it: what its hosts took can't be known
					}
					got, err := See(c, tr.Run(f, Other(flows, classes, i), uint64(i)), f.First)
					if err != nil {
						t.Fatal(err)
					}
					n++
					switch equal := slices.Equal(base.Tokens, got.Tokens); {
					case tr.Depends && (equal || got.Marks != 0 || got.Flows == 0):
					case !equal || tr.Depends:
						if bad++; bad <= 3 {
							t.Errorf("flow %d, %s: marks %v, %d flows\n%v\nbase %v\n%v", i, f.Key, got.Marks.Names(), got.Flows, got.Tokens, base.Marks.Names(), base.Tokens)
						}
					}
				}
				if n == 0 {
					t.Error("applies to no flow")
				}
				t.Logf("%d flows, %d with other tokens", n, bad)
			})
		}
	}
}

// Where a contract drops packets that may not arrive, they change no token of either view; without, the verdict is
// marked. What makes no difference to hosts makes none there either: their own hop limits are not far.
func TestFarTTL(t *testing.T) {
	flows, err := Load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	classes := make([]int, len(flows))
	for i, f := range flows {
		classes[i] = int(min(f.Key.DstPort, f.Key.SrcPort))
	}
	for _, name := range []string{"nepco-stream", "nepco-bytes"} {
		c, err := traffic.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Accept = traffic.AcceptHosts
		drop := c
		drop.FarTTL = traffic.FarTTLDrop
		for _, tr := range Transforms {
			far := strings.HasPrefix(tr.Name, "ttl-1") && tr.Depends
			if !far && tr.Name != "none" && tr.Name != "mirror-ttl" {
				continue
			}
			n, changed := 0, 0
			for i := range flows {
				f := &flows[i]
				if !tr.Applies(f) || !f.Whole() {
					continue
				}
				n++
				var seen [3]Seen
				packets := tr.Run(f, Other(flows, classes, i), uint64(i))
				for k, run := range []struct {
					c traffic.Contract
					p []Packet
				}{{c, f.Packets}, {drop, packets}, {c, packets}} {
					if seen[k], err = See(run.c, run.p, f.First); err != nil {
						t.Fatal(err)
					}
				}
				base, without := seen[0], seen[2]
				if !slices.Equal(seen[1].Tokens, base.Tokens) {
					t.Fatalf("%s, %s, flow %d, %s: marks %v\n%v\n%v", name, tr.Name, i, f.Key, seen[1].Marks.Names(), seen[1].Tokens, base.Tokens)
				}
				if !slices.Equal(without.Tokens, base.Tokens) {
					changed++
					if without.Marks&flow.MarkTTL == 0 {
						t.Fatalf("%s, %s, flow %d, %s: other tokens, marks %v", name, tr.Name, i, f.Key, without.Marks.Names())
					}
				}
			}
			if n == 0 || far && changed == 0 {
				t.Errorf("%s, %s: %d flows, %d changed: the test proves nothing", name, tr.Name, n, changed)
			}
		}
	}
}

// Where a contract passes packets without payload over, acknowledgements of their own between segments, and a
// handshake that is not seen, change no token.
func TestEmptyPackets(t *testing.T) {
	flows, err := Load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keep, err := traffic.Named("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	keep.Accept = traffic.AcceptHosts
	skip := keep
	skip.Empty = traffic.EmptySkip
	n, changed := 0, 0
	for i := range flows {
		f := &flows[i]
		if f.Packets[0].Proto != capture.ProtoTCP || !f.Whole() || f.payload() == 0 {
			continue
		}
		n++
		var acked []Packet
		for _, p := range f.Packets {
			acked = append(acked, p)
			if len(p.Payload) > 0 && p.Flags&capture.FlagSYN == 0 {
				a := answer(&p, nil)
				a.Flags, a.Seq, a.Ack = capture.FlagACK, p.Ack, p.Seq+uint32(len(p.Payload))
				acked = append(acked, a)
			}
		}
		at := slices.IndexFunc(f.Packets, func(p Packet) bool { return len(p.Payload) > 0 })
		var seen [4]Seen
		for k, run := range []struct {
			c traffic.Contract
			p []Packet
		}{{skip, f.Packets}, {skip, acked}, {skip, f.Packets[at:]}, {keep, f.Packets}} {
			if seen[k], err = See(run.c, run.p, f.First); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(seen[0].Tokens, seen[1].Tokens) || !slices.Equal(seen[0].Tokens, seen[2].Tokens) {
			t.Fatalf("flow %d, %s:\n%v\n%v\n%v", i, f.Key, seen[0].Tokens, seen[1].Tokens, seen[2].Tokens)
		}
		if !slices.Equal(seen[0].Tokens, seen[3].Tokens) {
			changed++
		}
	}
	if changed < 100 {
		t.Errorf("%d flows, %d with other tokens: the test proves nothing", n, changed)
	}
}

// headersOnly are changes that a view of packets shows as what they are, in headers alone, and that are a sender's to
// choose or a router's to make: its verdicts carry no mark for them.
var headersOnly = []string{"fragments", "fragments-reversed", "fragments-twice", "fragments-late", "fragments-crowded", "ip-ids", "windows"}

// In the packets view, what leaves the hosts' view of a flow alone leaves its tokens alone, or the verdict says so.
func TestPacketsViewIsTheHostsOrMarked(t *testing.T) {
	c, err := traffic.Named("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	c.Accept = traffic.AcceptHosts
	flows, err := Load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	classes := make([]int, len(flows))
	for i, f := range flows {
		classes[i] = int(min(f.Key.DstPort, f.Key.SrcPort))
	}
	for _, tr := range Transforms {
		if tr.Segmentation || slices.Contains(headersOnly, tr.Name) {
			continue
		}
		t.Run(tr.Name, func(t *testing.T) {
			n, bad, changed := 0, 0, 0
			for i := range flows {
				f := &flows[i]
				if !tr.Applies(f) || !f.Whole() {
					continue
				}
				base, err := See(c, f.Packets, f.First)
				if err != nil {
					t.Fatal(err)
				}
				if base.Marks != 0 {
					continue
				}
				got, err := See(c, tr.Run(f, Other(flows, classes, i), uint64(i)), f.First)
				if err != nil {
					t.Fatal(err)
				}
				n++
				if slices.Equal(base.Tokens, got.Tokens) {
					continue
				}
				changed++
				if got.Marks == 0 {
					if bad++; bad <= 2 {
						t.Errorf("flow %d, %s: no marks, %d flows\n%v\n%v", i, f.Key, got.Flows, got.Tokens, base.Tokens)
					}
				}
			}
			if n == 0 {
				t.Error("applies to no flow")
			}
			t.Logf("%d flows, %d with other tokens, %d of them unmarked", n, changed, bad)
		})
	}
}
