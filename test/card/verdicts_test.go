//go:build linux

package card

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testcard"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
)

// asSent writes a capture of what Replay sends of another: frames are as long as what is sent of them, each is there once more for each time.
func asSent(t *testing.T, path string) (sent string, frames int) {
	t.Helper()
	src, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	le := binary.LittleEndian
	out := le.AppendUint32(nil, 0xa1b2c3d4)
	out = le.AppendUint32(out, 4<<16|2) // version 2.4
	out = append(out, make([]byte, 8)...)
	out = le.AppendUint32(out, 1<<16)
	out = le.AppendUint32(out, 1) // Ethernet
	var f capture.Frame
	for ; ; frames++ {
		if err := src.Next(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		out = le.AppendUint32(out, uint32(f.Time/1e9))
		out = le.AppendUint32(out, uint32(f.Time%1e9/1e3))
		out = le.AppendUint32(out, uint32(len(f.Data)))
		out = le.AppendUint32(out, uint32(len(f.Data)))
		out = append(out, f.Data...)
	}
	sent = filepath.Join(t.TempDir(), "sent.pcap")
	if err := os.WriteFile(sent, out, 0o644); err != nil {
		t.Fatal(err)
	}
	return sent, frames
}

// verdicts are lines of verdicts, sorted, without what depends on when packets came: times, and which timer was the first.
func verdicts(t *testing.T, lines string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(lines) {
		var v map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, name := range []string{"time", "last", "reason"} {
			delete(v, name)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	slices.Sort(out)
	return out
}

// A capture that is replayed into the card's port gets the verdicts there that nepcoc run gives here, line for line and
// digit for digit.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	c := installed(t)
	// In the form that nepcoc run prints.
	c.Run(t, `sed 's|^  format: eve|  format: json|' /etc/nepcod/nepcod.yaml > /root/yaml && cp -p /etc/nepcod/nepcod.yaml /root/yaml.before && cat /root/yaml > /etc/nepcod/nepcod.yaml && systemctl restart nepcod`)
	t.Cleanup(func() { c.Do("cat /root/yaml.before > /etc/nepcod/nepcod.yaml; systemctl restart nepcod", nil) })
	within(t, time.Minute, "the service is up", func() error { return runs(c, digest(t, demo(t, "demo"))) })

	sent, frames := asSent(t, filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	received := func() error { return count(c, "nepcod_kernel_packets_total", frames) }
	if err := c.P0.Replay(t.Context(), sent, 0); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Minute, "all frames are received", received)
	c.Run(t, "systemctl stop nepcod") // all flows get their verdicts
	want, err := here(t, nepcoc(t), "run", demo(t, "demo"), sent, "--json")
	if err != nil {
		t.Fatal(err)
	}
	g, w := verdicts(t, string(c.Get(t, eve))), verdicts(t, want)
	same := 0
	for _, line := range g {
		if _, found := slices.BinarySearch(w, line); found {
			same++
		} else if len(g)-same < 4 {
			t.Logf("only on the card: %s", line)
		}
	}
	if !slices.Equal(g, w) || len(w) < 400 {
		t.Errorf("%d verdicts on the card, %d of nepcoc run, %d the same", len(g), len(w), same)
	}
	t.Logf("%d frames; %d of %d verdicts equal", frames, same, len(w))
}

// count says whether a metric, the sum of all that have its name, has come to n.
func count(c *testcard.Card, name string, n int) error {
	m, err := metrics(c)
	if err != nil {
		return err
	}
	if sum := total(m, name); sum < float64(n) {
		return fmt.Errorf("%s is %g, not %d", name, sum, n)
	}
	return nil
}

// total is the sum of the metrics of a name.
func total(m map[string]string, name string) (sum float64) {
	for n, v := range m {
		if n == name || strings.HasPrefix(n, name+"{") {
			f, _ := strconv.ParseFloat(v, 64)
			sum += f
		}
	}
	return sum
}
