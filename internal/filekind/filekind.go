// Package filekind tells what a file is by its first bytes, for messages: a user
// who gives a file of another kind learns what it is, and where it goes or what
// makes the right one of it.
//
// It judges nothing: readers decide what they take, and ask only once they can't.
package filekind

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Head is the number of bytes that are enough to tell.
const Head = 512

// Kind is a kind of file.
type Kind struct {
	ID   string
	What string // with its article
	// WayOut is where such a file goes, or what makes of it what is read here.
	WayOut string

	is func(name string, head []byte) bool
}

// The kinds that readers ask for by name.
const (
	ONNX     = "onnx"
	Bundle   = "bundle"
	Capture  = "capture"
	Arrays   = "arrays"
	Labels   = "labels"
	Contract = "contract"
	Text     = "text"
)

const export = `export the model as ONNX: torch.onnx.export(model, example_inputs, "model.onnx", opset_version=17)`

const rewrite = "write it anew with Wireshark: editcap -F pcapng FILE FILE.pcapng"

// kinds are in the order in which they are tried: the surest first.
var kinds = []Kind{
	{Bundle, "a bundle, made by nepcoc compile", "give it to run, verify, inspect or the agent; the model is the .onnx that it was compiled from", magic("\x89NEPCO")},
	{Capture, "a packet capture", "it goes to --calib of compile, to --pcap of verify and teach, behind the bundle of run, or to tokens and lint without arrays beside it",
		magic("\xa1\xb2\xc3\xd4", "\xd4\xc3\xb2\xa1", "\xa1\xb2\x3c\x4d", "\x4d\x3c\xb2\xa1", "\xa1\xb2\xcd\x34", "\x34\xcd\xb2\xa1", "\n\r\r\n")},
	{"snoop", "a capture of Solaris' snoop", rewrite, magic("snoop\x00\x00\x00")},
	{"btsnoop", "a Bluetooth capture", "it holds no IP packets", magic("btsnoop\x00")},
	{"netmon", "a capture of Microsoft Network Monitor", rewrite, magic("GMBU", "RTSS")},
	{"sniffer", "a capture of NetXRay or Sniffer", rewrite, magic("XCP\x00", "TRSNIFF data    \x1a")},
	{"iptrace", "a capture of AIX's iptrace", rewrite, magic("iptrace 1.0", "iptrace 2.0")},
	{"ixia", "a capture of Ixia's lcap", rewrite, magic("\xac\x01\x00\x1c", "\xab\x01\x00\x1c", "\x1c\x00\x01\xac", "\x1c\x00\x01\xab")},
	{"visual", "a capture of Visual Networks", rewrite, magic("\x05VNF")},
	{"erf", "a capture of Endace cards (ERF)", rewrite, erf},
	{Arrays, "a file of NumPy arrays", "it goes to --calib of compile, to --tensors of verify, or behind the bundle of run; a token set to teach and lint, too, without captures beside it", arrays},
	{"pytorch", "a PyTorch file (.pt, .pth)", export, entry("/data.pkl", "/version", "/byteorder", "/.format_version")},
	{"keras", "a Keras model (.keras)", `export it as ONNX: model.export("model.onnx", format="onnx")`, entry("config.json", "model.weights.h5", "metadata.json")},
	{"hdf5", "an HDF5 file (.h5: a Keras model or data)", `export the model as ONNX: model.export("model.onnx", format="onnx")`, magic("\x89HDF\r\n\x1a\n")},
	{"zip", "a zip archive", "unpack it first (unzip)", magic("PK\x03\x04", "PK\x05\x06")},
	{"tflite", "a TensorFlow Lite model", "convert it: python -m tf2onnx.convert --tflite FILE --output model.onnx", func(_ string, b []byte) bool { return len(b) >= 8 && string(b[4:8]) == "TFL3" }},
	{"safetensors", "a safetensors file: weights without their model", "load them into the PyTorch model and " + export, safetensors},
	{"gguf", "a GGUF file: weights of a language model", "such models are not taken; docs/SUPPORTED_OPS.md lists what is", magic("GGUF")},
	{"gzip", "compressed with gzip", "decompress it first (gunzip)", magic("\x1f\x8b")},
	{"zstd", "compressed with zstd", "decompress it first (unzstd)", magic("\x28\xb5\x2f\xfd")},
	{"xz", "compressed with xz", "decompress it first (unxz)", magic("\xfd7zXZ\x00")},
	{"lz4", "compressed with lz4", "decompress it first (unlz4)", magic("\x04\x22\x4d\x18")},
	{"bzip2", "compressed with bzip2", "decompress it first (bunzip2)", magic("BZh")},
	{"pickle", "a Python pickle (.pkl, or a .pt or .pth of an old PyTorch)", "load it in Python and " + export, pickle},
	{"lfs", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull", magic("version https://git-lfs")},
	{"html", "a web page", "the download went wrong: download the file itself", html},
	{"key", "a PEM or OpenSSH file (a key or a certificate)", "private keys go to --sign, public ones to --trusted-key", magic("ssh-", "-----BEGIN ", "ecdsa-sha2-")},
	{"tensorflow", "a TensorFlow graph (.pb)", "convert it: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx (--graphdef for a frozen graph)", graphdef},
	{ONNX, "an ONNX model", "compile it first: nepcoc compile MODEL.onnx --calib CAPTURE -o MODEL.nepco", onnx},
	{Contract, "a traffic contract", "it goes to --contract", line("nepco_traffic:")},
	{Labels, "a label file of flows", "it goes to --labels of verify, tokens, lint and teach, or --calib-labels of compile", labels},
	{Text, "text", "", text},
}

// Of is what a file is, nil where that is not known. name tells where bytes don't.
func Of(name string, head []byte) *Kind {
	for i := range kinds {
		if kinds[i].is(name, head) {
			return &kinds[i]
		}
	}
	return nil
}

// Hint is a clause for a message that says what a file is not: "; it is ...: way
// out". Empty where there is nothing to say. not are the kinds that say nothing new.
func Hint(name string, head []byte, not ...string) string {
	if len(head) == 0 {
		return "; the file is empty"
	}
	k := Of(name, head)
	if k == nil {
		return ""
	}
	for _, id := range not {
		if k.ID == id {
			return ""
		}
	}
	if k.WayOut == "" {
		return "; it is " + k.What
	}
	return "; it is " + k.What + ": " + k.WayOut
}

// Folder is a hint for a folder that was given as a model.
func Folder(path string) string {
	has := func(pattern string) string {
		m, _ := filepath.Glob(filepath.Join(path, pattern))
		if len(m) == 0 {
			return ""
		}
		return m[0]
	}
	if has("saved_model.pb") != "" {
		return "; it is a TensorFlow SavedModel: convert it: python -m tf2onnx.convert --saved-model " + path + " --output model.onnx"
	}
	if m := has("*.onnx"); m != "" {
		return " (" + m + "?)"
	}
	for _, weights := range []string{"*.safetensors", "pytorch_model.bin", "data.pkl"} {
		if has(weights) != "" {
			return "; it holds a PyTorch model: " + export
		}
	}
	return ""
}

// erf tells ERF, which has no magic: by its name, or by two records, each with a time in little endian,
// type and length, of which the second is later by less than an hour.
func erf(name string, b []byte) bool {
	record := func(b []byte) (size int, seconds uint32) {
		if len(b) < 16 || b[8]&0x7f == 0 || b[8]&0x7f > 48 {
			return 0, 0
		}
		return int(binary.BigEndian.Uint16(b[10:])), binary.LittleEndian.Uint32(b[4:])
	}
	n, first := record(b)
	if strings.HasSuffix(strings.ToLower(name), ".erf") {
		return n >= 16
	}
	if n < 16 || n > len(b) {
		return false
	}
	m, second := record(b[n:])
	return m >= 16 && second-first < 3600
}

func magic(prefixes ...string) func(string, []byte) bool {
	return func(_ string, b []byte) bool {
		for _, p := range prefixes {
			if bytes.HasPrefix(b, []byte(p)) {
				return true
			}
		}
		return false
	}
}

// entryName is the name of a zip archive's first entry.
func entryName(b []byte) string {
	if len(b) < 30 || string(b[:4]) != "PK\x03\x04" {
		return ""
	}
	n := int(binary.LittleEndian.Uint16(b[26:]))
	return string(b[30:min(30+n, len(b))])
}

func entry(suffixes ...string) func(string, []byte) bool {
	return func(_ string, b []byte) bool {
		name := entryName(b)
		for _, s := range suffixes {
			if strings.HasSuffix(name, s) {
				return true
			}
		}
		return false
	}
}

func arrays(_ string, b []byte) bool {
	return bytes.HasPrefix(b, []byte("\x93NUMPY")) || strings.HasSuffix(entryName(b), ".npy")
}

// safetensors begin with the length of a JSON object.
func safetensors(_ string, b []byte) bool {
	return len(b) >= 10 && b[8] == '{' && b[9] == '"' && binary.LittleEndian.Uint64(b) < 1<<32
}

// pickle of protocol 2 to 5: what Python writes by default, and old PyTorch.
func pickle(_ string, b []byte) bool {
	return len(b) >= 3 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5
}

func html(_ string, b []byte) bool {
	b = bytes.ToLower(bytes.TrimSpace(b))
	return bytes.HasPrefix(b, []byte("<!doctype html")) || bytes.HasPrefix(b, []byte("<html"))
}

// graphdef: protobuf has no magic; a GraphDef or SavedModel is told by its name.
func graphdef(name string, _ []byte) bool {
	return strings.EqualFold(filepath.Ext(name), ".pb")
}

// onnx: a ModelProto begins with its IR version, a small number, and one of its first
// fields. torch.onnx and the onnx package both write them in order.
func onnx(_ string, b []byte) bool {
	return len(b) > 3 && b[0] == 0x08 && b[1] > 0 && b[1] < 64 && bytes.IndexByte([]byte{0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42}, b[2]) >= 0
}

// line finds a line that begins with a word.
func line(word string) func(string, []byte) bool {
	return func(_ string, b []byte) bool {
		return bytes.HasPrefix(b, []byte(word)) || bytes.Contains(b, []byte("\n"+word))
	}
}

// labels: a line of column names with those of a 5-tuple.
func labels(_ string, b []byte) bool {
	first, _, _ := strings.Cut(strings.ToLower(string(b)), "\n")
	return strings.Contains(first, "proto") && strings.Contains(first, "src") && strings.Contains(first, "dst") && strings.ContainsAny(first, ",;\t")
}

func text(_ string, b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 && len(b) >= utf8.UTFMax || r != utf8.RuneError && !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return false
		}
		b = b[n:]
	}
	return true
}
