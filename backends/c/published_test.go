package c_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

// The published model on all flows of real traffic, from packets on: tokens, marks, logits, label, score and margin in C are the engine's.
func TestPublishedLogits(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the published model: 10 s")
	}
	testfiles.Tool(t, "gcc")
	frames := readFrames(t, testfiles.Path(t, "traffic", "test.pcap"))
	b, err := bundle.ReadFile(published(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := classify.Contract(b)
	if err != nil {
		t.Fatal(err)
	}
	executor, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	classifier := classify.New(b, executor)
	verdict := func(f *flow.Flow) string {
		results, err := classifier.Run(f.Tokens, f.Valid)
		if err != nil {
			t.Fatal(err)
		}
		var s strings.Builder
		s.WriteString(" logits")
		for _, l := range classifier.Logits() {
			for _, x := range l {
				fmt.Fprintf(&s, " %d", x)
			}
		}
		for h, r := range results {
			unknown := 0
			if r.Unknown {
				unknown = 1
			}
			fmt.Fprintf(&s, " %s %d %d %d", classifier.Heads[h].Labels[r.Class], r.Score, r.Margin, unknown)
		}
		return s.String()
	}
	dir := t.TempDir()
	emitInto(t, dir, b, emit.Options{Name: "it"})
	driver := compileDriver(t, dir, c, []string{"gcc", "-O2", "-DLOGITS"})
	w := feedAnd(t, c, capture.TrustForm, frames, verdict)
	if len(w.flows) < 700 {
		t.Errorf("%d flows", len(w.flows))
	}
	w.compare(t, driver, filepath.Join(dir, "nepco_it.bin"))
}
