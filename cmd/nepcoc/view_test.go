package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// rewrite writes a capture's frames as change makes them: what was captured and the length on the
// wire.
func rewrite(t *testing.T, from, to string, change func(data []byte) ([]byte, int)) {
	t.Helper()
	src, err := capture.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := pcapgo.NewWriterNanos(out)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	var f capture.Frame
	for src.Next(&f) == nil {
		data, length := change(f.Data)
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, f.Time), CaptureLength: len(data), Length: length}, data); err != nil {
			t.Fatal(err)
		}
	}
}

// inVXLAN puts a frame into a tunnel: outer Ethernet, IPv4, UDP, VXLAN.
func inVXLAN(data []byte) ([]byte, int) {
	outer := make([]byte, 14+20+8+8, 50+len(data))
	outer[12] = 8
	ip := outer[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, capture.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(36+len(data)))
	copy(ip[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(ip[20:], 50000+uint16(len(data)&7)) // a few flows, by what is inside
	binary.BigEndian.PutUint16(ip[22:], 4789)
	binary.BigEndian.PutUint16(ip[24:], uint16(16+len(data)))
	ip[28] = 8
	outer = append(outer, data...)
	return outer, len(outer)
}

func demoFile(t *testing.T) string {
	t.Helper()
	data, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "demo.nepco")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// A bundle remembers whether it was made for what tunnels carry. Whatever reads packets for it
// follows; who reads otherwise is told. A capture that is all tunnel is never taken for a few flows in silence.
func TestTunnelsAreOfTheBundle(t *testing.T) {
	nepcod, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	testbed, model, dir := filepath.Join(testfiles.Root(t), "examples", "testbed"), filepath.Join(testfiles.Root(t), "examples", "model"), t.TempDir()
	for _, f := range []string{"calib.pcap", "test.pcap"} {
		rewrite(t, filepath.Join(testbed, f), filepath.Join(dir, f), inVXLAN)
	}
	calib, test := filepath.Join(dir, "calib.pcap"), filepath.Join(dir, "test.pcap")
	plain, closed, opened := demoFile(t), filepath.Join(dir, "closed.nepco"), filepath.Join(dir, "opened.nepco")

	all := regexp.MustCompile(`\d+ of \d+ packets carry another packet in a tunnel .*--tunnels`)
	out, _ := runs(t, "nepcoc", "compile", filepath.Join(model, "demo.onnx"), "--calib", calib, "-o", closed)
	if !all.MatchString(out) {
		t.Errorf("compile says nothing of the tunnels:\n%s", out)
	}
	out, _ = runs(t, "nepcoc", "compile", filepath.Join(model, "demo.onnx"), "--calib", calib, "-o", opened, "--tunnels")
	if all.MatchString(out) {
		t.Errorf("compile --tunnels:\n%s", out)
	}

	// The same flows, so the same program and the same lines; only the view differs.
	a, err := bundle.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.ReadFile(opened)
	if err != nil {
		t.Fatal(err)
	}
	if a.Manifest.View != (bundle.View{}) || b.Manifest.View != (bundle.View{Tunnels: true}) {
		t.Errorf("views: %+v, %+v", a.Manifest.View, b.Manifest.View)
	}
	digest := regexp.MustCompile(`"digest":"[0-9a-f]+"|"tunnel":\{"id":0,"level":1\},`) // the view is part of a bundle
	want, _ := runs(t, "nepcoc", "run", plain, filepath.Join(testbed, "test.pcap"), "--json")
	want = digest.ReplaceAllString(want, "")
	if got, errs := runs(t, "nepcoc", "run", opened, test, "--json"); digest.ReplaceAllString(got, "") != want || strings.Contains(errs, "note") || !strings.Contains(errs, "2095 packets = 2095 decoded") {
		t.Errorf("run does not follow the bundle: %s\n%s", firstLine(got, want), errs)
	}
	if got, errs := runs(t, nepcod, "run", "--bundle", opened, "--pcap", test, "--format", "json"); digest.ReplaceAllString(got, "") != want || strings.Contains(errs, "note") {
		t.Errorf("nepcod does not follow the bundle: %s\n%s", firstLine(got, want), errs)
	}
	flows := strings.Count(want, "\n")
	if out, _ := runs(t, "nepcoc", "verify", opened, "--pcap", test, "--min-agreement", "0"); !regexp.MustCompile(`reference = engine, flows +` + strconv.Itoa(flows) + ` cases`).MatchString(out) {
		t.Errorf("verify does not follow the bundle:\n%s", out)
	}
	// Otherwise than the bundle says, and said.
	differs := "the bundle was made for what tunnels carry, and the tunnels' own packets are read here"
	if _, errs := runs(t, "nepcoc", "run", opened, test, "--tunnels=false"); !strings.Contains(errs, differs) || !all.MatchString(errs) {
		t.Errorf("run --tunnels=false:\n%s", errs)
	}
	if _, errs := runs(t, nepcod, "run", "--bundle", opened, "--pcap", test, "--tunnels=false", "--format", "json"); !strings.Contains(errs, differs) || !all.MatchString(errs) {
		t.Errorf("nepcod run --tunnels=false:\n%s", errs)
	}
	if got, _ := runs(t, "nepcoc", "run", plain, test, "--tunnels", "--json"); digest.ReplaceAllString(got, "") != want {
		t.Errorf("run --tunnels: %s", firstLine(got, want))
	}
	if _, errs := runs(t, "nepcoc", "run", plain, test); !all.MatchString(errs) {
		t.Errorf("run says nothing of the tunnels:\n%s", errs)
	}
}

// A capture that holds less of its packets than the contract takes is never read in silence.
func TestCutCaptures(t *testing.T) {
	nepcod, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	from, file, dir := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), demoFile(t), t.TempDir()
	for _, snap := range []int{40, 64, 141, 146} { // the contract takes 128 bytes behind Ethernet's 14, some packets have a tag of 4
		path := filepath.Join(dir, "cut.pcap")
		rewrite(t, from, path, func(data []byte) ([]byte, int) { return data[:min(len(data), snap)], len(data) })
		for _, args := range [][]string{
			{"nepcoc", "run", file, path}, {"nepcoc", "verify", file, "--pcap", path, "--random", "1", "--min-agreement", "0"},
			{nepcod, "run", "--bundle", file, "--pcap", path},
		} {
			out, errs := runs(t, args[0], args[1:]...)
			cut := regexp.MustCompile(`\d+ of \d+ packets were captured cut below the 128 bytes .* 142 bytes of each`).MatchString(out + errs)
			headers := regexp.MustCompile(`\d+ of 2095 packets were captured cut within their headers`).MatchString(out + errs)
			if cut != (snap < 146) || headers != (snap < 64) { // behind ports, a cut header is taken as far as it is known
				t.Errorf("cut at %d: %s: said %v, %v:\n%s", snap, filepath.Base(strings.Join(args[:2], " ")), cut, headers, errs)
			}
		}
	}
}
