package filekind

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

// Every kind is told by bytes that such files begin with, and by nothing that
// another begins with.
func TestKinds(t *testing.T) {
	zip := func(name string) string {
		return "PK\x03\x04" + strings.Repeat("\x00", 22) + string(rune(len(name))) + "\x00\x00\x00" + name + "content"
	}
	for _, tc := range []struct{ id, name, head string }{
		{Bundle, "x", "\x89NEPCO\r\n\x01"}, {Capture, "x", "\xd4\xc3\xb2\xa1\x02\x00"}, {Capture, "x", "\xa1\xb2\x3c\x4d"}, {Capture, "x", "\n\r\r\n\x1c"},
		{Arrays, "x", "\x93NUMPY\x01"}, {Arrays, "x", zip("src.npy")},
		{"pytorch", "x", zip("model/data.pkl")}, {"keras", "x", zip("metadata.json")}, {"zip", "x", zip("a.txt")}, {"zip", "x", "PK\x05\x06"},
		{"hdf5", "x", "\x89HDF\r\n\x1a\n"}, {"tflite", "x", "\x1c\x00\x00\x00TFL3"}, {"safetensors", "x", "\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":{}}"},
		{"gguf", "x", "GGUF\x03"}, {"gzip", "x", "\x1f\x8b\x08"}, {"zstd", "x", "\x28\xb5\x2f\xfd"}, {"xz", "x", "\xfd7zXZ\x00"}, {"bzip2", "x", "BZh9"},
		{"pickle", "x", "\x80\x04\x95"}, {"lfs", "x", "version https://git-lfs.github.com/spec/v1\n"}, {"html", "x", "\n <!doctype HTML>"},
		{"key", "x", "-----BEGIN PRIVATE KEY-----\n"}, {"key", "x", "ssh-ed25519 AAAA"}, {"tensorflow", "a/x.pb", "\n\x10"},
		{ONNX, "x.onnx", "\x08\x08\x12\x07pytorch"}, {ONNX, "x", "\x08\x0a:\x05"}, {Contract, "x", "# mine\nnepco_traffic: 1\n"},
		{Labels, "x", "proto,src,sport,dst,dport,label\n"}, {Labels, "x", "Flow ID;Src IP;Dst IP;Protocol\n"}, {Text, "x", "DNS\nFTP\n"}, {Text, "x", "f\xc3\xbc"}, {Text, "x", "cut f\xc3"},
		{"", "x", "\x89PNG\r\n\x1a\n"}, {"", "x", "\x00\x01\x02"}, {"", "x", "caf\xe9 au lait"},
	} {
		got := ""
		if k := Of(tc.name, []byte(tc.head)); k != nil {
			got = k.ID
		}
		if got != tc.id {
			t.Errorf("%q is %q, want %q", tc.head, got, tc.id)
		}
	}
	seen := make(map[string]bool)
	for _, k := range kinds {
		if seen[k.ID] || k.What == "" || k.is == nil || k.WayOut == "" && k.ID != Text {
			t.Errorf("%+v", k)
		}
		seen[k.ID] = true
	}
	if h := Hint("x", nil); h != "; the file is empty" {
		t.Error(h)
	}
	if h := Hint("x", []byte("GIF89a\x00")) + Hint("x", []byte("hello"), Text); h != "" {
		t.Error(h)
	}
}

func TestRealFiles(t *testing.T) {
	root := testfiles.Root(t)
	for file, want := range map[string]string{"examples/model/demo.onnx": ONNX, "examples/testbed/test.pcap": Capture, "examples/testbed/test.csv": Labels,
		"examples/model/demo.labels.txt": Text, "examples/model/demo.contract.yaml": Contract} {
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if k := Of(file, b[:min(len(b), Head)]); k == nil || k.ID != want {
			t.Errorf("%s is %+v", file, k)
		}
	}
	for _, f := range append(testfiles.Glob(t, "zoo/*/*"), testfiles.Glob(t, "refuse/*/model.onnx")...) {
		want := map[string]string{".onnx": ONNX, ".npz": Arrays, ".json": Text}[filepath.Ext(f)]
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if k := Of(f, b[:min(len(b), Head)]); k == nil || k.ID != want {
			t.Errorf("%s is %+v", f, k)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("x", []byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, name string, head []byte) { Of(name, head); Hint(name, head) })
}
