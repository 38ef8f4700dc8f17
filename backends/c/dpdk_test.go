package c_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nepcoc/internal/evasion"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// eveFlows are the events of EVE lines, each as JSON with sorted keys and without the latency, which is not the model's.
func eveFlows(t *testing.T, lines []byte) (all []string) {
	t.Helper()
	for line := range bytes.Lines(lines) {
		var event map[string]any
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&event); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		delete(event["nepco"].(map[string]any), "latency_us")
		b, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	sort.Strings(all)
	return all
}

func output(t *testing.T, dir, name string, args ...string) (stdout []byte, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%.3000s\n%.3000s", name, args, err, out.String(), errs.String())
	}
	return out.Bytes(), errs.String()
}

// needDPDK skips the test where the library is missing.
func needDPDK(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"cc", "make", "pkg-config"} {
		testfiles.Tool(t, tool)
	}
	if err := exec.Command("pkg-config", "--exists", "libdpdk").Run(); err != nil {
		testfiles.Missing(t, "needs DPDK: apt-get install dpdk libdpdk-dev")
	}
}

// kept is a folder for what several tests use; TestMain removes it.
var kept string

func TestMain(m *testing.M) {
	var err error
	if kept, err = os.MkdirTemp("", "nepcoc-c"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(kept)
	os.Exit(code)
}

// programs are the compiler and the agent, built once.
func programs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(kept, "bin")
	if _, err := os.Stat(dir); err != nil {
		output(t, testfiles.Root(t), "go", "build", "-o", dir+"/", "./cmd/...")
	}
	return dir
}

// published is the published model's bundle, compiled once.
func published(t *testing.T) string {
	t.Helper()
	model, calib := testfiles.Path(t, "models", "nepco.onnx"), testfiles.Path(t, "traffic", "calib.pcap")
	path := filepath.Join(kept, "published.nepco")
	if _, err := os.Stat(path); err != nil {
		output(t, ".", filepath.Join(programs(t), "nepcoc"), "compile", model, "--calib", calib, "-o", path)
	}
	return path
}

// dpdkExample builds examples/dpdk with a bundle in a folder of its own.
func dpdkExample(t *testing.T, bin, bundle string) string {
	t.Helper()
	dir := t.TempDir()
	var sources []string
	for _, pattern := range []string{"*.[ch]", "Makefile"} {
		names, err := filepath.Glob(filepath.Join(testfiles.Root(t), "examples", "dpdk", pattern))
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		sources = append(sources, names...)
	}
	for _, name := range sources {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	output(t, dir, "make", "NEPCOC="+filepath.Join(bin, "nepcoc"), "BUNDLE="+bundle, "CFLAGS=-O1 -Werror")
	return dir
}

// packetsReceived is the last line, which accounts for all packets.
var packetsReceived = regexp.MustCompile(`(?m)^(\d+) packets received: (\d+) of flows, (\d+) fragments, (\d+) refused, (\d+) broken, (\d+) other, (\d+) dropped; 0 flows evicted, 0 verdicts failed$`)

// compareDPDK replays a capture through the example, with some number of workers, and through the agent.
func compareDPDK(t *testing.T, bin, dir, bundle, capture, cores string, args ...string) {
	t.Helper()
	all := []string{"--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "-m", "256", "--lcores", cores, "--vdev", "net_pcap0,rx_pcap=" + capture}
	got, log := output(t, dir, "./nepco-dpdk", append(append(all, "--"), args...)...)
	want, _ := output(t, dir, filepath.Join(bin, "nepcod"), "run", "--bundle", bundle, "--pcap", capture)
	w := eveFlows(t, want)
	if len(w) == 0 {
		t.Fatal("the agent has no verdicts")
	}
	if diff := cmp.Diff(w, eveFlows(t, got)); diff != "" {
		t.Errorf("%s on cores %s: - agent, + example\n%.3000s", filepath.Base(capture), cores, diff)
	}
	m := packetsReceived.FindStringSubmatch(log)
	if m == nil || !strings.Contains(log, "packets/s, ") {
		t.Fatalf("the end is not told:\n%s", log)
	}
	sum, n := 0, 0
	for i, s := range m[1:] {
		fmt.Sscan(s, &n)
		if i > 0 {
			n = -n
		}
		sum += n
	}
	if sum != 0 {
		t.Errorf("%d packets are not accounted for: %s", sum, m[0])
	}
}

// writeCapture writes frames as a capture of one link type, in microseconds.
func writeCapture(t *testing.T, link capture.LinkType, frames []capture.Frame) string {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint32(append(b, make([]byte, 8)...), 262144), uint32(link))
	for i := range frames {
		f := &frames[i]
		b = le.AppendUint32(le.AppendUint32(b, uint32(f.Time/1e9)), uint32(f.Time%1e9/1e3))
		b = append(le.AppendUint32(le.AppendUint32(b, uint32(len(f.Data))), uint32(f.Length)), f.Data...)
	}
	path := filepath.Join(t.TempDir(), fmt.Sprintf("link%d.pcap", link))
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// wrapped are changed flows, many of them in fragments, behind a VLAN tag, VXLAN over IPv4 or GRE over IPv6 by their hosts; and those without a tag as raw IP.
func wrapped(t *testing.T) (ethernet, raw []capture.Frame) {
	t.Helper()
	flows, err := evasion.Load("../../examples/testbed/test.pcap", 60, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := changed(t, rand.New(rand.NewPCG(3, 4)), flows, 250)
	fragments, kinds := 0, [3]int{}
	for i := range all {
		f := all[i]
		ip := f.Data[14:]
		if len(f.Data) != f.Length || f.Link != capture.LinkEthernet || len(ip) < 20 || ip[0]>>4 != 4 || len(ip) > 1400 {
			continue
		}
		if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			fragments++
		}
		var head []byte
		kind := (ip[14] + ip[18]) / 2 % 3 // the same for both directions
		kinds[kind]++
		switch kind {
		case 0:
			head = append(slices.Clone(f.Data[:12]), 0x81, 0, 0, 7, 8, 0)
		case 1: // outer Ethernet, IPv4, UDP, VXLAN, inner Ethernet
			head = append(make([]byte, 12), 8, 0, 0x45, 0)
			head = binary.BigEndian.AppendUint16(head, uint16(len(f.Data)+36))
			head = append(head, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0, 0x12, 0xb5)
			head = binary.BigEndian.AppendUint16(head, uint16(len(f.Data)+16))
			head = append(append(head, 0, 0, 8, 0, 0, 0, 0, 0, 5, 0), f.Data[:14]...)
			sum := uint32(0)
			for k := 14; k < 34; k += 2 {
				sum += uint32(binary.BigEndian.Uint16(head[k:]))
			}
			binary.BigEndian.PutUint16(head[24:], ^uint16(sum+sum>>16))
		case 2: // outer Ethernet, IPv6, GRE without a key
			head = append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0)
			head = append(binary.BigEndian.AppendUint16(head, uint16(len(ip)+4)), 47, 64)
			head = append(append(head, make([]byte, 31)...), 1, 0, 0, 8, 0)
		}
		f.Data = append(head, ip...)
		f.Length = len(f.Data)
		ethernet = append(ethernet, f)
		if binary.BigEndian.Uint16(f.Data[12:]) != 0x8100 {
			f.Data, f.Length = f.Data[14:], f.Length-14
			raw = append(raw, f)
		}
	}
	if fragments < 50 || min(kinds[0], kinds[1], kinds[2]) < 100 {
		t.Fatalf("%d fragments, %d frames by wrapping", fragments, kinds)
	}
	return ethernet, raw
}

// Every field of every flow is the agent's, whatever worker has it: the demo model on packets as they come, and on streams of a view that opens tunnels and tells VLANs apart. One capture
// holds fragments, tunnels and tags, one raw IP.
func TestDPDK(t *testing.T) {
	needDPDK(t)
	bin, root := programs(t), testfiles.Root(t)
	testbed, model := filepath.Join(root, "examples", "testbed"), filepath.Join(root, "examples", "model")
	captures := []string{filepath.Join(testbed, "train.pcap")}
	if dir := testfiles.Dir(t); dir != "" {
		captures = append(captures, filepath.Join(dir, "traffic", "test.pcap"))
	}
	ethernet, raw := wrapped(t)
	captures = append(captures, writeCapture(t, capture.LinkEthernet, ethernet), writeCapture(t, capture.LinkRaw, raw))
	names := []string{"stream", "demo"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		bundle := filepath.Join(t.TempDir(), name+".nepco")
		args := []string{"compile", filepath.Join(model, name+".onnx"), "--contract", filepath.Join(model, name+".contract.yaml"), "--calib", filepath.Join(testbed, "calib.pcap"), "-o", bundle}
		if name == "stream" {
			args = append(args, "--tunnels", "--vlans")
		}
		output(t, root, filepath.Join(bin, "nepcoc"), args...)
		dir := dpdkExample(t, bin, bundle)
		for i, path := range captures {
			compareDPDK(t, bin, dir, bundle, path, []string{"(0-3)@0", "(0-1)@0"}[i%2])
		}
	}
}

// The published model, whose tables lie in a file.
func TestDPDKPublished(t *testing.T) {
	needDPDK(t)
	if testing.Short() {
		t.Skip("compiles the published model: 10 s")
	}
	capture := testfiles.Path(t, "traffic", "test.pcap")
	bundle, bin := published(t), programs(t)
	dir := dpdkExample(t, bin, bundle)
	compareDPDK(t, bin, dir, bundle, capture, "(0-2)@0")

	// The tables are named, and others are refused.
	tables := filepath.Join(dir, "model", "nepco_model.bin")
	compareDPDK(t, bin, dir, bundle, capture, "(0-1)@0", "--tables", tables)
	data, err := os.ReadFile(tables)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(tables, data, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./nepco-dpdk", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "-m", "256", "--lcores", "(0-1)@0", "--vdev", "net_pcap0,rx_pcap="+capture)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "of another one") {
		t.Errorf("wrong tables: %v\n%s", err, out)
	}
}
