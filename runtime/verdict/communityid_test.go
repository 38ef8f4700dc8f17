package verdict

import (
	"bytes"
	"io"
	"os/exec"
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

func TestCommunityIDAgainstTshark(t *testing.T) {
	tshark := testfiles.Tool(t, "tshark")
	for _, name := range []string{"traffic/test.pcap", "captures/ipv6_ext.pcap", "captures/ng_multi_if.pcapng"} {
		t.Run(name, func(t *testing.T) {
			path := testfiles.Path(t, name)
			var stderr bytes.Buffer
			cmd := exec.Command(tshark, "-n", "-r", path, "--enable-protocol", "communityid", "-T", "fields", "-e", "communityid", "-E", "occurrence=f")
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			want := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			src, err := capture.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			var f capture.Frame
			var p capture.Packet
			equal := 0
			for n := 0; ; n++ {
				if err := src.Next(&f); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if capture.Decode(&f, &p) != capture.KindOK || n >= len(want) {
					continue
				}
				if got := CommunityID(flow.KeyOf(&p)); got != want[n] {
					t.Fatalf("packet %d, %s: %s, tshark says %s", n+1, flow.KeyOf(&p), got, want[n])
				}
				equal++
			}
			if equal != len(want) {
				t.Errorf("%d of %d packets compared", equal, len(want))
			}
			t.Logf("%d packets equal", equal)
		})
	}
}
