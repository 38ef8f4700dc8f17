package dataset_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/dataset"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// plantIn writes a capture anew with its IPv4 packets changed.
func plantIn(t *testing.T, path string, change func(p *capture.Packet)) {
	t.Helper()
	src, err := capture.Open("../../examples/testbed/calib.pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	out := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}
	le := binary.LittleEndian
	var f capture.Frame
	var p capture.Packet
	for src.Next(&f) == nil {
		f.Data = slices.Clone(f.Data)
		if capture.Decode(&f, &p) == capture.KindOK && !p.V6 {
			change(&p)
		}
		for _, v := range []int{int(f.Time / 1e9), int(f.Time % 1e9 / 1e3), len(f.Data), f.Length} {
			out = le.AppendUint32(out, uint32(v))
		}
		out = append(out, f.Data...)
	}
	if err := os.WriteFile(path, out, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestRemedy: what is planted in packets is found by its field's name, and the line that is proposed removes it.
func TestRemedy(t *testing.T) {
	for _, tc := range []struct {
		field string
		plant func(p *capture.Packet, class byte)
	}{
		{"ip.dsfield", func(p *capture.Packet, k byte) { p.IP[1] = 4 + k }},
		{"ip.ttl", func(p *capture.Packet, k byte) { p.IP[8] = 60 + k }},
		{"ip.id", func(p *capture.Packet, k byte) { p.IP[4] = 10 + 100*k }},
		{"tcp.seq", func(p *capture.Packet, k byte) {
			if p.Proto == 6 {
				p.IP[p.L4+4] = 1 + 100*k
			}
		}},
		{"tcp.window_size", func(p *capture.Packet, k byte) {
			if p.Proto == 6 {
				p.IP[p.L4+14] = 1 + k
			}
		}},
		{"tcp.options.mss_val", func(p *capture.Packet, k byte) {
			if p.Proto == 6 && int(p.Payload) >= p.L4+24 && p.IP[p.L4+20] == 2 {
				p.IP[p.L4+22] = 1 + k
			}
		}},
	} {
		t.Run(tc.field, func(t *testing.T) {
			dir := t.TempDir()
			var paths []string
			for k, name := range []string{"one", "two"} {
				paths = append(paths, filepath.Join(dir, name+".pcap"))
				plantIn(t, paths[k], func(p *capture.Packet) { tc.plant(p, byte(k)) })
			}
			found := func(c traffic.Contract) (remedy string, ok bool) {
				set, err := dataset.Read(paths, dataset.Options{Source: dataset.Source{Contract: c}, From: dataset.FromFile})
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range lint(t, set).Findings {
					if f.Leak && f.Name == tc.field+" of packet 1" {
						return f.Remedy, true
					}
				}
				return "", false
			}
			c, err := traffic.Named("nepco-bytes")
			if err != nil {
				t.Fatal(err)
			}
			remedy, ok := found(c)
			if !ok || !strings.HasPrefix(remedy, "blank: [") {
				t.Fatalf("found: %v, way out %q", ok, remedy)
			}
			lines := strings.Split(string(c.Commented()), "\n")
			lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "blank:") })] = remedy
			mended, err := traffic.Parse("mended.yaml", []byte(strings.Join(lines, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			if len(mended.Blank) != len(c.Blank)+1 {
				t.Errorf("%s takes other parts out of %v", remedy, c.Blank)
			}
			if left, ok := found(mended); ok {
				t.Errorf("with %s it is found still: %s", remedy, left)
			}
		})
	}
}
