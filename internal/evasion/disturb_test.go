package evasion

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Disturbances change what they say, the same way for the same seed, and leave the flow they are given alone.
func TestDisturbances(t *testing.T) {
	flows, err := Load(filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap"), 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Disturbances {
		t.Run(d.Name, func(t *testing.T) {
			packets, changed := 0, 0
			for i := range flows {
				f := &flows[i]
				if !f.Whole() {
					continue
				}
				before := slices.Clone(f.Packets)
				got := d.Run(f, f, uint64(i))
				if !reflect.DeepEqual(before, f.Packets) {
					t.Fatalf("flow %d was changed itself", i)
				}
				if again := d.Run(f, f, uint64(i)); !reflect.DeepEqual(got, again) {
					t.Fatalf("flow %d: the same seed changes it otherwise", i)
				}
				if len(got) == 0 {
					t.Fatalf("flow %d: no packet is left", i)
				}
				packets += len(f.Packets)
				switch d.Name {
				case "padded":
					for k := range got {
						more := len(got[k].Payload) - len(f.Packets[k].Payload)
						if (more > 0) != (len(f.Packets[k].Payload) > 0) || more > maxPad {
							t.Fatalf("flow %d, packet %d: %d bytes more of %d", i, k, more, len(f.Packets[k].Payload))
						}
						if more > 0 {
							changed++
						}
					}
					follow(t, f.Packets, got)
				case "dropped":
					changed += len(f.Packets) - len(got)
				case "duplicated":
					changed += len(got) - len(f.Packets)
				case "reordered":
					for k := range got {
						if !reflect.DeepEqual(got[k].Payload, f.Packets[k].Payload) || got[k].Flags != f.Packets[k].Flags {
							changed++
							break
						}
					}
				}
				if d.Name != "padded" && d.Name != "duplicated" {
					continue
				}
				// What hosts see: padding is more of the same stream, without a gap; copies are nothing.
				base, err := See(stream, f.Packets, f.First)
				if err != nil {
					t.Fatal(err)
				}
				seen, err := See(stream, got, f.First)
				if err != nil {
					t.Fatal(err)
				}
				if base.Marks&(flow.MarkLost|flow.MarkOneSided) != 0 {
					continue
				}
				if more := seen.Marks &^ base.Marks & (flow.MarkLost | flow.MarkOverlap | flow.MarkOutside); more != 0 {
					t.Errorf("flow %d, %s: %v", i, f.Key, more.Names())
				}
				if d.Name == "duplicated" && !slices.Equal(base.Tokens, seen.Tokens) {
					t.Errorf("flow %d, %s: copies change the stream", i, f.Key)
				}
			}
			if d.Name != "padded" && (changed < packets/40 || changed > packets/5) || changed == 0 {
				t.Errorf("%d of %d packets changed", changed, packets)
			}
		})
	}
}

// follow fails where a segment followed its side's last one, and no longer does.
func follow(t *testing.T, before, after []Packet) {
	t.Helper()
	var last [2]int
	for i := range before {
		b, a := &before[i], &after[i]
		if k := last[b.Dir] - 1; k >= 0 && b.Proto == capture.ProtoTCP {
			next := func(p *Packet) uint32 {
				n := p.Seq + uint32(len(p.Payload))
				if p.Flags&(capture.FlagSYN|capture.FlagFIN) != 0 {
					n++
				}
				return n
			}
			if b.Seq == next(&before[k]) && a.Seq != next(&after[k]) {
				t.Fatalf("%v > %v, packet %d: sequence number %d behind %d", b.Src, b.Dst, i, a.Seq, next(&after[k]))
			}
		}
		last[b.Dir] = i + 1
	}
}
