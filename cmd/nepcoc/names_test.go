package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"nepcoc/internal/testfiles"
)

// Whatever is in the name of a file, what is printed holds no control character, and no line of it is the name's: a name can't speak to
// a terminal, nor make up messages.
func TestControlCharactersInNames(t *testing.T) {
	const evil = "a\x1b]0;x\x07\nnepcoc: all is well\r\u009b31m"
	dir := t.TempDir()
	at := func(ending string) string { return filepath.Join(dir, evil+ending) }
	link := func(from, to string) {
		t.Helper()
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	root := testfiles.Root(t)
	testbed := filepath.Join(root, "examples", "testbed")
	link(filepath.Join(root, "examples", "model", "demo.onnx"), at(".onnx"))
	link(filepath.Join(testbed, "test.pcap"), at(".pcap"))
	link(demoFile(t), at(".nepco"))
	for name, text := range map[string]string{".txt": "a\nb\n", ".yaml": "nepco_traffic: 9\n", ".csv": "x\n", ".ir": "x\n", ".npz": "x\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		"check MODEL", "check MODEL --contract CONTRACT", "check MODEL --labels NAMES", "check NONE.onnx", "check NONE.onnx --json", "check BUNDLE",
		"check MODEL --contract NONE", "check MODEL --labels NONE",
		"inspect BUNDLE", "inspect NONE", "inspect CAPTURE", "bench NONE", "bench MODEL",
		"run BUNDLE CAPTURE", "run BUNDLE NONE", "run NONE CAPTURE", "run CAPTURE CAPTURE", "run BUNDLE MODEL", "run BUNDLE ARRAYS",
		"verify BUNDLE --pcap CAPTURE", "verify NONE", "verify BUNDLE --pcap NONE", "verify BUNDLE --pcap MODEL", "verify BUNDLE --model NONE", "verify BUNDLE --model CAPTURE",
		"verify BUNDLE --pcap CAPTURE --labels LABELS", "verify BUNDLE --pcap CAPTURE --labels NONE",
		"compile MODEL --calib NONE -o OUT", "compile MODEL --calib MODEL -o OUT", "compile MODEL --calib CAPTURE -o NONE/x",
		"compile MODEL --calib CAPTURE -o OUT --sign NONE", "compile MODEL --calib CAPTURE -o MODEL",
		"compile MODEL --calib CAPTURE -o OUT --method minmax", "compile MODEL --calib CAPTURE -o OUT --dump-ir OUT", "compile MODEL --calib CAPTURE -o OUT --method NONE", "compile MODEL --calib CAPTURE -o OUT --target NONE",
		"opt --passes=fuse GRAPH", "opt --passes=fuse NONE", "opt --passes=NONE GRAPH", "ship NONE root@host", "ship BUNDLE NONE", "ship MODEL root@host", "NONE", "run --NONE",
	} {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.NewReplacer("MODEL", at(".onnx"), "BUNDLE", at(".nepco"), "CAPTURE", at(".pcap"), "NONE", at("none"), "NAMES", at(".txt"), "CONTRACT", at(".yaml"),
				"LABELS", at(".csv"), "GRAPH", at(".ir"), "ARRAYS", at(".npz"), "OUT", at(".out")).Replace(args[i])
		}
		var out, errs bytes.Buffer
		doMain(args, &out, &errs)
		for name, text := range map[string]string{"output": out.String(), "errors": errs.String()} {
			for l := range strings.Lines(text) {
				l = strings.TrimSuffix(l, "\n")
				if strings.HasPrefix(l, "nepcoc: all is well") || strings.IndexFunc(l, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) >= 0 {
					t.Errorf("%s: %s: %.200q", line, name, l)
				}
			}
		}
	}
}
