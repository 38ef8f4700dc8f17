package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

func init() {
	caseElsewhere["32-snaplen/c*.yaml"] = "configurations of nepcod: TestSnapLengthCases there"
	caseRows = append(caseRows, caseRow{
		file: "outputs/i_longbyte.onnx", after: func(t *testing.T, tmp, _ string) { taken(t, filepath.Join(tmp, "x.nepco"), "") },
		args: []string{"compile", "$F", "--calib", "$TESTBED/calib.pcap", "--max-disagreement", "1", "-o", "$TMP/x.nepco"},
	})
}

// taken: every command takes a bundle that compile made. Packets are refused only where nobody knows which bytes
// of them the model sees, or no output gives a verdict, and then by all.
func taken(t *testing.T, file, arrays string) {
	t.Helper()
	nepcod, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	capture := firstPackets(t, filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), 200)
	packets := true
	if o := nepcoc(t, "run", file, capture); o.code != 0 {
		packets = false
		if !strings.Contains(o.stderr, "no traffic contract") && !strings.Contains(o.stderr, "gives values") && !strings.Contains(o.stderr, "reads features") {
			t.Errorf("run: %s", o.stderr)
		}
	}
	commands := [][]string{{"inspect", file}, {"inspect", file, "--json"}, {"bench", file, "--seconds", "0.01"}, {"verify", file, "--random", "4"}}
	if packets {
		commands = append(commands, []string{"run", file, capture, "--json", "--executor", "ref"}, []string{"verify", file, "--pcap", capture, "--random", "1"})
	}
	if arrays != "" {
		commands = append(commands, []string{"run", file, arrays}, []string{"verify", file, "--tensors", arrays, "--random", "1", "--min-agreement", "0.9"})
	}
	for _, args := range commands {
		if o := nepcoc(t, args...); o.code != 0 {
			t.Errorf("nepcoc %s: exit code %d: %s%s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
		}
	}
	for _, args := range [][]string{{"selftest", file}, {"run", "--bundle", file, "--pcap", capture}} {
		out, code := exitOf(t, nepcod, args...)
		if (code == 0) != packets || strings.Contains(out, "BUG") {
			t.Errorf("nepcod %s: exit code %d: %s", strings.Join(args, " "), code, out)
		}
	}
}

// firstPackets writes the beginning of a little-endian pcap file to one of its own.
func firstPackets(t *testing.T, path string, n int) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := 24
	for range n {
		end += 16 + int(binary.LittleEndian.Uint32(data[end+8:])) // what was captured of it
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	writeFile(t, out, data[:end])
	return out
}

// Whatever of the zoo compiles, every command takes.
func TestBundlesAreTaken(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles 24 models")
	}
	for _, model := range testfiles.Glob(t, "zoo/*/model.onnx") {
		dir := filepath.Dir(model)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.nepco")
			o := nepcoc(t, "compile", model, "--calib", filepath.Join(dir, "calib.npz"), "--method", "minmax", "--max-disagreement", "1", "-o", file)
			if o.code != 0 {
				t.Fatal(o.stderr)
			}
			if _, err := os.Stat(file); err != nil {
				t.Fatal(err)
			}
			taken(t, file, filepath.Join(dir, "eval.npz"))
		})
	}
}
