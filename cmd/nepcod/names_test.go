package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// Whatever is in the name of a file, what is printed holds no control character, and no line of it is the name's; a
// configuration with such a name is refused.
func TestControlCharactersInNames(t *testing.T) {
	const evil = "a\x1b]0;x\x07\nnepcod: all is well\r\u009b31m"
	dir := t.TempDir()
	at := func(ending string) string { return filepath.Join(dir, evil+ending) }
	b, err := testbundle.New(1, "class")
	if err != nil {
		t.Fatal(err)
	}
	if err := testbundle.Write(at(".nepco"), b, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), at(".pcap")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".yaml": "interface: lo\noutput: {to: /dev/null}\nbundle: \"a\\nb\\e\"\n", ".good": "output: {to: /dev/null}\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		"selftest BUNDLE", "selftest NONE", "selftest CAPTURE", "selftest BUNDLE --json", "selftest BUNDLE --config CONFIG", "selftest BUNDLE --trusted-key NONE",
		"check-config CONFIG", "check-config GOOD", "check-config NONE", "check-config BUNDLE", "run --bundle BUNDLE --pcap CAPTURE --output OUT", "run --bundle BUNDLE --pcap NONE --output OUT",
		"run --bundle NONE --pcap CAPTURE", "run --bundle=NONE --pcap=CAPTURE", "run --bundle BUNDLE --iface NONE", "run --bundle BUNDLE --pcap CAPTURE --output NONE/x", "run --bundle BUNDLE --pcap CAPTURE --output unix:NONE",
		"run --bundle BUNDLE --pcap CAPTURE --output CAPTURE", "run --bundle BUNDLE --pcap BUNDLE", "run --config CONFIG", "NONE", "run NONE", "run --NONE", "run --bundle BUNDLE --pcap CAPTURE --format NONE",
	} {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.NewReplacer("BUNDLE", at(".nepco"), "CAPTURE", at(".pcap"), "NONE", at("none"), "CONFIG", at(".yaml"), "GOOD", at(".good"), "OUT", at(".out")).Replace(args[i])
		}
		var out, errs bytes.Buffer
		code := doMain(args, &out, &errs)
		if line == "check-config CONFIG" && (code != 1 || !strings.Contains(errs.String(), `bundle: "a\nb\x1b" holds a control character`)) {
			t.Errorf("%s: exit code %d: %s", line, code, errs.String())
		}
		for name, text := range map[string]string{"output": out.String(), "errors": errs.String()} {
			for l := range strings.Lines(text) {
				l = strings.TrimSuffix(l, "\n")
				if strings.HasPrefix(l, "nepcod: all is well") || strings.IndexFunc(l, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) >= 0 {
					t.Errorf("%s: %s: %.200q", line, name, l)
				}
			}
		}
	}
}
