package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

// Files of class names: a refusal that names file and line, or a bundle that opens
// and says these names.
func init() {
	compile := func(file string, exit int, want []string, after func(t *testing.T, tmp, output string)) {
		caseRows = append(caseRows, caseRow{file: "10-prometheus-labels/" + file, exit: exit, want: want, after: after,
			args: []string{"compile", "$MODEL/demo.onnx", "--calib", "$TESTBED/calib.pcap", "--method", "minmax", "-o", "$TMP/x.nepco", "--labels", "$F"}})
	}
	compile("cut-utf8.txt", 1, []string{`cut-utf8.txt, line 3: .*not UTF-8: save the file as UTF-8 \(iconv`}, nothingLeft)
	compile("dup.txt", 1, []string{`dup.txt, line 22: "TLS" stands on line 3 already`}, nothingLeft)
	compile("empty-line.txt", 1, []string{`empty-line.txt, line 3: empty`}, nothingLeft)
	compile("tabs.txt", 1, []string{`tabs.txt, line 3: "a\\tb\\x01c\\x7f" holds characters that can't be printed`}, nothingLeft)
	compile("unknown.txt", 1, []string{`unknown.txt, line 3: .*"unknown" is what the agent says where it names no class: name the class otherwise`}, nothingLeft)
	compile("quote.txt", 0, nil, says(`a"b\c{x="1"}`))
	compile("utf16.txt", 0, nil, says("HTTP"))
	caseRows = append(caseRows, caseRow{file: "10-prometheus-labels/c2.yaml", after: says("für uns"),
		args: []string{"compile", "$MODEL/demo.onnx", "--calib", "$TESTBED/calib.pcap", "--method", "minmax", "-o", "$TMP/x.nepco", "--contract", "$F"}})
}

// says: the bundle that was written opens and has this text in its manifest.
func says(want string) func(t *testing.T, tmp, output string) {
	return func(t *testing.T, tmp, _ string) {
		o := nepcoc(t, "inspect", filepath.Join(tmp, "x.nepco"), "--json")
		var r struct{ Manifest json.RawMessage }
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
			t.Fatalf("%v: %s", err, o.stderr)
		}
		quoted, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(quoted[1 : len(quoted)-1]); !strings.Contains(string(r.Manifest), text) {
			t.Errorf("the manifest has no %s", text)
		}
	}
}

// Class names in other encodings, the way out walked; and a model whose own name is no text.
func TestNames(t *testing.T) {
	root, dir := testfiles.Root(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	text, err := os.ReadFile(filepath.Join(root, "examples", "model", "demo.labels.txt"))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(text))
	compile := func(model, labels string) outcome {
		os.Remove(at("x.nepco"))
		return nepcoc(t, "compile", model, "--calib", filepath.Join(root, "examples", "testbed", "calib.pcap"), "--method", "minmax", "-o", at("x.nepco"), "--labels", labels)
	}
	model := filepath.Join(root, "examples", "model", "demo.onnx")
	with := func(first string) []byte {
		return []byte(strings.Join(append([]string{first}, names[1:]...), "\n") + "\n")
	}
	labelsOf := func() []string {
		t.Helper()
		var r struct {
			Manifest struct{ Outputs []struct{ Labels []string } }
		}
		if err := json.Unmarshal([]byte(nepcoc(t, "inspect", at("x.nepco"), "--json").stdout), &r); err != nil || len(r.Manifest.Outputs) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		return r.Manifest.Outputs[0].Labels
	}
	writeFile(t, at("latin1.txt"), with("caf\xe9"))
	compile(model, at("latin1.txt")).says(t, 1, at("latin1.txt")+", line 1: ", "is not UTF-8", "iconv -f LATIN1 -t UTF-8")
	writeFile(t, at("utf8.txt"), []byte(printedBy(t, "iconv", "-f", "LATIN1", "-t", "UTF-8", at("latin1.txt"))))
	compile(model, at("utf8.txt")).says(t, 0)
	if l := labelsOf(); l[0] != "café" {
		t.Errorf("%q", l)
	}
	for name, data := range map[string][]byte{
		"mark.txt": append([]byte("\xef\xbb\xbf"), text...), "crlf.txt": []byte(strings.ReplaceAll(string(text), "\n", "\r\n")), "end.txt": append(text, "\n \n"...),
	} {
		writeFile(t, at(name), data)
		compile(model, at(name)).says(t, 0)
		if l := labelsOf(); !slices.Equal(l, names) {
			t.Errorf("%s: %q", name, l)
		}
	}
	data, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"caf\xe9.onnx", "a\tb.onnx", `a\b.onnx`} {
		writeFile(t, at(name), data)
		compile(at(name), at("mark.txt")).says(t, 0)
		nepcoc(t, "verify", at("x.nepco"), "--random", "1").says(t, 0)
	}
}

func printedBy(t *testing.T, name string, args ...string) string {
	return string(printed(t, nil, testfiles.Tool(t, name), args...))
}
