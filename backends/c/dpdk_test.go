package c_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nepcoc/internal/testfiles"
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

// Every field of every flow is the agent's, whatever worker has it: the demo model on packets as they come, and on streams.
func TestDPDK(t *testing.T) {
	needDPDK(t)
	bin, root := programs(t), testfiles.Root(t)
	testbed, model := filepath.Join(root, "examples", "testbed"), filepath.Join(root, "examples", "model")
	captures := []string{filepath.Join(testbed, "train.pcap")}
	if dir := testfiles.Dir(t); dir != "" {
		captures = append(captures, filepath.Join(dir, "traffic", "test.pcap"))
	}
	names := []string{"demo", "stream"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		bundle := filepath.Join(t.TempDir(), name+".nepco")
		output(t, root, filepath.Join(bin, "nepcoc"), "compile", filepath.Join(model, name+".onnx"), "--contract", filepath.Join(model, name+".contract.yaml"),
			"--calib", filepath.Join(testbed, "calib.pcap"), "-o", bundle)
		dir := dpdkExample(t, bin, bundle)
		for i, capture := range captures {
			compareDPDK(t, bin, dir, bundle, capture, []string{"(0-3)@0", "(0-1)@0"}[i])
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
