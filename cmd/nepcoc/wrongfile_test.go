package main

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/npzfile"
	"nepcoc/internal/testfiles"
)

// zipped is an archive whose entries are empty.
func zipped(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("content"))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A file of another kind is called what it is, wherever it is given, and where such a file
// goes or what makes the right one of it.
func TestOtherKindsOfFiles(t *testing.T) {
	dir, root := t.TempDir(), testfiles.Root(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	bundle, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(root, "examples", "model", "demo.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	capture := filepath.Join(root, "examples", "testbed", "test.pcap")
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	gz.Write(model)
	gz.Close()
	npzfile.Write(t, at("x.npz"), map[string]npzfile.Array{"src": {Shape: []int{1, 256}, Data: make([]int64, 256)}})
	pcap, err := os.ReadFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	flowLabels, err := os.ReadFile(filepath.Join(root, "examples", "testbed", "test.csv"))
	if err != nil {
		t.Fatal(err)
	}
	const (
		export = "torch.onnx.export("
		goes   = "compile it first: nepcoc compile"
	)
	kinds := []struct {
		file string
		data []byte
		want []string // what it is, and the way out
	}{
		{"model.pt", zipped(t, "model/data.pkl", "model/version"), []string{"PyTorch", export}},
		{"old.pth", []byte("\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), []string{"pickle", export}},
		{"model.safetensors", []byte("\x10\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\":"), []string{"safetensors", export}},
		{"model.tflite", []byte("\x1c\x00\x00\x00TFL3\x14\x00\x20\x00"), []string{"TensorFlow Lite", "tf2onnx.convert --tflite"}},
		{"model.h5", []byte("\x89HDF\r\n\x1a\n\x00\x00\x00\x00"), []string{"HDF5", "model.export("}},
		{"model.keras", zipped(t, "metadata.json", "config.json", "model.weights.h5"), []string{"Keras", "model.export("}},
		{"frozen.pb", []byte("\n\x10\n\x01x\x12\x0bPlaceholder"), []string{"TensorFlow", "tf2onnx.convert"}},
		{"model.onnx.gz", packed.Bytes(), []string{"gzip", "gunzip"}},
		{"pointer.onnx", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"), []string{"Git LFS", "git lfs pull"}},
		{"page.onnx", []byte("<!DOCTYPE html>\n<html><head>"), []string{"web page", "download"}},
		{"demo.nepco", bundle, []string{"bundle"}},
		{"demo.onnx", model, []string{"ONNX model", goes}},
		{"x.npz", nil, []string{"NumPy", "--tensors"}},
		{"x.pcap", pcap[:4000], []string{"capture", "--pcap"}},
		{"flows.csv", flowLabels[:2000], []string{"label", "--calib-labels"}},
		{"archive.zip", zipped(t, "a.txt"), []string{"zip archive", "unpack"}},
		{"image.png", []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), nil},
		{"key.pem", []byte("-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"), []string{"PEM", "--sign"}},
		{"empty", nil, []string{"empty"}},
	}
	for i := range kinds {
		if kinds[i].file != "x.npz" {
			writeFile(t, at(kinds[i].file), kinds[i].data)
		}
	}
	d := at("demo.nepco")
	roles := []struct {
		name string
		not  string // kinds that are right here, that a command reads as well, or unpacks
		args func(file string) []string
	}{
		{"model", "demo.onnx", func(f string) []string { return []string{"check", f} }},
		{"model", "demo.onnx", func(f string) []string { return []string{"compile", f, "--calib", capture, "-o", at("out.nepco")} }},
		{"bundle", "demo.nepco", func(f string) []string { return []string{"inspect", f} }},
		{"bundle", "demo.nepco", func(f string) []string { return []string{"run", f, capture} }},
		{"bundle", "demo.nepco", func(f string) []string { return []string{"verify", f} }},
		{"capture", "x.pcap x.npz model.onnx.gz", func(f string) []string { return []string{"run", d, f} }},
		{"capture", "x.pcap model.onnx.gz", func(f string) []string { return []string{"verify", d, "--pcap", f} }},
		{"capture", "x.pcap x.npz model.onnx.gz", func(f string) []string {
			return []string{"compile", at("demo.onnx"), "--calib", f, "-o", at("out.nepco"), "--contract", "nepco-bytes"}
		}},
		{"arrays", "x.npz", func(f string) []string { return []string{"verify", d, "--tensors", f} }},
		{"labels", "flows.csv", func(f string) []string { return []string{"verify", d, "--pcap", capture, "--labels", f} }},
		{"class names", "", func(f string) []string {
			return []string{"compile", at("demo.onnx"), "--calib", capture, "-o", at("out.nepco"), "--labels", f}
		}},
		{"contract", "", func(f string) []string {
			return []string{"compile", at("demo.onnx"), "--calib", capture, "-o", at("out.nepco"), "--contract", f}
		}},
	}
	for _, r := range roles {
		for _, k := range kinds {
			if strings.Contains(" "+r.not+" ", " "+k.file+" ") {
				continue
			}
			args := r.args(at(k.file))
			t.Run(args[0]+" "+r.name+" "+k.file, func(t *testing.T) {
				o := nepcoc(t, args...)
				o.refused(t, at(k.file))
				o.says(t, 1, k.want...)
				if _, err := os.Stat(at("out.nepco")); err == nil {
					t.Error("a bundle was written")
				}
			})
		}
	}
	// Folders, and one way out walked.
	if err := os.Mkdir(at("saved"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, r := range roles {
		o := nepcoc(t, r.args(at("saved"))...)
		o.refused(t, at("saved"))
		o.says(t, 1, "is a folder")
	}
	writeFile(t, at("saved/saved_model.pb"), nil)
	nepcoc(t, "check", at("saved")).says(t, 1, "is a folder", "TensorFlow SavedModel", "tf2onnx.convert --saved-model")
	if out, err := exec.Command(testfiles.Tool(t, "gunzip"), at("model.onnx.gz")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	nepcoc(t, "check", at("model.onnx")).says(t, 0, "compiles")
}
