package agent_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

// Kept flows take no more room than they may: the latest files, each within its size and a capture of whole flows. What
// was there from an earlier run becomes the next older file. Without unknown flows nothing is.
func TestKeepUnknown(t *testing.T) {
	b := must(testbundle.EveryKind(0))
	m := must(agent.NewModel(b))
	part, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	all := new(capture.Memory)
	var f capture.Frame
	for i := range 4 {
		for part.Rewind(); part.Next(&f) == nil; all.Add(&f) {
			f.Time += int64(i) * 7200e9
		}
	}
	dir := t.TempDir()
	keep := agent.KeepConfig{To: filepath.Join(dir, "unknown.pcap"), Size: 128 << 10, Files: 3}
	run := func(unknown float64) string {
		all.Rewind()
		a := must(agent.New(agent.Options{Sources: []capture.Source{all}, Model: m, Sink: io.Discard, Lossless: true, Unknown: &unknown, Keep: &keep}))
		if _, err := a.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		families := must(a.Registry().Gather())
		for _, f := range families {
			text.WriteString(f.String() + "\n")
		}
		return text.String()
	}
	names := func() (list []string) {
		for _, e := range must(os.ReadDir(dir)) {
			list = append(list, e.Name())
		}
		return list
	}
	if metrics := run(1); !strings.Contains(metrics, "nepcod_unknown_flows_kept_total") {
		t.Error("no metric of what was kept")
	}
	if got := strings.Join(names(), " "); got != "unknown.1.pcap unknown.2.pcap unknown.pcap" {
		t.Fatal(got)
	}
	flows := 0
	for _, name := range names() {
		path := filepath.Join(dir, name)
		info := must(os.Stat(path))
		if info.Size() > keep.Size || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, mode %v", name, info.Size(), info.Mode())
		}
		src := must(capture.Open(path))
		got, n, err := flow.CollectAll(src, must(classify.FlowOptions(b)))
		if err != nil || n.Malformed()+n.Ignored() > 0 || len(src.Notes()) > 0 {
			t.Errorf("%s: %v %v %v", name, err, n, src.Notes())
		}
		flows += len(got)
	}
	if flows < 400 {
		t.Errorf("%d flows kept", flows)
	}
	before := must(os.Stat(keep.To))
	if run(0); must(os.Stat(keep.To)).Size() != before.Size() || len(names()) != 3 {
		t.Error("without unknown flows files change")
	}
	// What is there and no file is left alone.
	keep.To = filepath.Join(dir, "folder")
	if err := os.Mkdir(keep.To, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.New(agent.Options{Sources: []capture.Source{all}, Model: m, Sink: io.Discard, Keep: &keep}); err == nil {
		t.Error("a folder is replaced")
	}
	for field, c := range map[string]agent.KeepConfig{"size": {To: "x", Files: 1}, "files": {To: "x", Size: 1 << 20}} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
