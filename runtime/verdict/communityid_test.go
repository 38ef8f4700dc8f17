package verdict

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// The specification's own examples (baseline, seed 0).
func TestCommunityID(t *testing.T) {
	for _, tc := range []struct {
		proto    uint8
		src, dst string
		want     string
	}{
		{6, "128.232.110.120:34855", "66.35.250.204:80", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
		{17, "192.168.1.52:54585", "8.8.8.8:53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	} {
		k := key(t, tc.proto, tc.src, tc.dst)
		for _, k := range []flow.Key{k, k.Reverse()} {
			if got := CommunityID(k); got != tc.want {
				t.Errorf("%s: %s, want %s", k, got, tc.want)
			}
		}
	}
}

// Every flow of every capture has tshark's Community ID, packet for packet.
func TestCommunityIDAgainstTshark(t *testing.T) {
	tshark := testfiles.Tool(t, "tshark")
	files := []string{testfiles.Path(t, "traffic", "test.pcap")}
	if !testing.Short() { // tshark takes a second to start
		files = append(files, testfiles.Glob(t, "captures/*.pcap*")...)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			src, err := capture.Open(path)
			if err != nil {
				return // nobody can read it
			}
			defer src.Close()
			var stderr bytes.Buffer
			cmd := exec.Command(tshark, "-n", "-r", path, "--enable-protocol", "communityid", "-T", "fields", "-e", "communityid", "-E", "occurrence=f")
			cmd.Stderr = &stderr
			out, failed := cmd.Output() // not an error where a file is damaged
			want := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			var f capture.Frame
			var p capture.Packet
			equal, n := 0, 0
			for ; ; n++ {
				if err = src.Next(&f); err != nil {
					break
				}
				if capture.Decode(&f, &p) != capture.KindOK {
					continue
				}
				if n >= len(want) || want[n] == "" {
					if failed == nil {
						t.Fatalf("packet %d has no ID in tshark's list", n+1)
					}
					break // we read one that was cut short
				}
				got := CommunityID(flow.KeyOf(&p))
				if p.Fragment {
					// Only the first one has ports; to tshark, only the last one.
					if p.FragOffset == 0 && !slices.Contains(want, got) {
						t.Errorf("fragments from packet %d on, %s: %s, tshark says %s", n+1, flow.KeyOf(&p), got, want)
					}
					continue
				}
				if got != want[n] {
					t.Fatalf("packet %d, %s: %s, tshark says %s", n+1, flow.KeyOf(&p), got, want[n])
				}
				equal++
			}
			if failed == nil && err != io.EOF {
				t.Error(err)
			}
			t.Logf("%d of %d packets equal; %v %s", equal, n, err, stderr.String())
		})
	}
}
