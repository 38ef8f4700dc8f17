package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCommittedCaptures holds the captures in the repository to what the README says of them: trimming
// them again changes nothing, the CSV is what the capture gives, and every address is one of the
// testbed's own.
func TestCommittedCaptures(t *testing.T) {
	file, err := os.Open("../ports.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table, err := parsePorts(file)
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("fd77::/16")
	for split, maxBytes := range map[string]int64{"train": 1_500_000, "calib": 400_000, "test": 400_000} {
		t.Run(split, func(t *testing.T) {
			path := filepath.Join("..", split)
			info, err := os.Stat(path + ".pcap")
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() > maxBytes {
				t.Errorf("%d bytes, want at most %d", info.Size(), maxBytes)
			}
			frames, err := readFrames(path+".pcap", 0)
			if err != nil {
				t.Fatal(err)
			}
			result := trim(frames, table, limits{packets: 6, snap: 256, idle: 120 * time.Second})
			if len(result.frames) != len(frames) {
				t.Errorf("trimming again keeps %d of %d packets", len(result.frames), len(frames))
			}
			for _, f := range result.flows {
				for _, a := range []netip.Addr{f.key.src.Addr(), f.key.dst.Addr()} {
					if !v4.Contains(a) && !v6.Contains(a) {
						t.Errorf("address %v is not of the testbed", a)
					}
				}
			}
			var got bytes.Buffer
			if err := writeRows(&got, result.flows, "testbed-"+split); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(path + ".csv")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("CSV (-file +capture):\n%s", diff)
			}
		})
	}
}
