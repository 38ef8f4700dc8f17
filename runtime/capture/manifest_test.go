package capture_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
)

func TestManifestPackets(t *testing.T) {
	data, err := os.ReadFile(testfiles.Path(t, "captures", "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var files []struct {
		File    string
		Packets int `json:"readable_packets"`
		Expect  string
	}
	if err := json.Unmarshal(data, &files); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(f.File, func(t *testing.T) {
			n, note, err := count(testfiles.Path(t, "captures", f.File))
			t.Logf("%s: %d packets, note %q, error %v", f.Expect, n, note, err)
			if n != f.Packets {
				t.Errorf("%d packets, want %d (%s)", n, f.Packets, f.Expect)
			}
			wantErr := map[string]bool{"empty.pcap": true, "rec_claims_4gb.pcap": true, "ng_block_len_4gb.pcapng": true}[f.File]
			if (err != nil) != wantErr {
				t.Errorf("error %v (%s)", err, f.Expect)
			}
			if (note != "") != (f.File == "rec_body_trunc.pcap") {
				t.Errorf("note %q (%s)", note, f.Expect)
			}
		})
	}
}

func count(path string) (n int, note string, err error) {
	f, err := capture.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	var frame capture.Frame
	for {
		if err := f.Next(&frame); err == io.EOF {
			return f.Packets(), strings.Join(f.Notes(), "; "), nil
		} else if err != nil {
			return f.Packets(), strings.Join(f.Notes(), "; "), err
		}
	}
}
