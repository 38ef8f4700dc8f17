package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
)

// halves writes a capture's frames to two files, some flows to both.
func halves(t *testing.T, from string) (paths [2]string) {
	t.Helper()
	mem := new(capture.Memory)
	src, err := capture.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := mem.ReadAll(src); err != nil {
		t.Fatal(err)
	}
	var f capture.Frame
	for i := range paths {
		paths[i] = filepath.Join(t.TempDir(), "half.pcap")
		out, err := os.Create(paths[i])
		if err != nil {
			t.Fatal(err)
		}
		w := pcapgo.NewWriterNanos(out)
		if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
			t.Fatal(err)
		}
		for n := mem.Len() / 2; (n > 0 || i > 0) && mem.Next(&f) == nil; n-- {
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, f.Time), CaptureLength: len(f.Data), Length: f.Length}, f.Data); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// A capture in two files compiles to the program that it compiles to in one, and verifies the same.
func TestSeveralCaptures(t *testing.T) {
	root := testfiles.Root(t)
	model, testbed := filepath.Join(root, "examples/model/demo.onnx"), filepath.Join(root, "examples/testbed")
	calib, test := halves(t, filepath.Join(testbed, "calib.pcap")), halves(t, filepath.Join(testbed, "test.pcap"))
	compile := func(calib ...string) *bundle.Bundle {
		out := filepath.Join(t.TempDir(), "demo.nepco")
		args := []string{"compile", model, "-o", out}
		for _, c := range calib {
			args = append(args, "--calib", c)
		}
		runs(t, "nepcoc", args...)
		b, err := bundle.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, two := compile(filepath.Join(testbed, "calib.pcap")), compile(calib[0], calib[1])
	a, b := one.Manifest.Calibration, two.Manifest.Calibration
	if a.SourceSHA256 == b.SourceSHA256 {
		t.Error("one file and two have the same sum")
	}
	if b.SourceSHA256 = a.SourceSHA256; a != b {
		t.Errorf("calibration %+v, of two files %+v", a, b)
	}
	if !reflect.DeepEqual(one.Program, two.Program) {
		t.Error("another program")
	}
	file := demoFile(t)
	want, _ := runs(t, "nepcoc", "verify", file, "--model", model, "--pcap", filepath.Join(testbed, "test.pcap"), "--labels", filepath.Join(testbed, "test.csv"), "--random", "8")
	got, _ := runs(t, "nepcoc", "verify", file, "--model", model, "--pcap", test[0], "--pcap", test[1], "--labels", filepath.Join(testbed, "test.csv"), "--random", "8")
	if got != want {
		t.Errorf("%s", firstLine(got, want))
	}
	// What is wrong with any of them is said at once.
	out, code := exitOf(t, "nepcoc", "verify", file, "--model", model, "--pcap", "absent1.pcap", "--pcap", "absent2.pcap")
	if code != 1 || !strings.Contains(out, "absent1.pcap") || !strings.Contains(out, "absent2.pcap") {
		t.Errorf("exit %d: %s", code, out)
	}
}
