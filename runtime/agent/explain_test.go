package agent_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/verdict"
)

var whyField = regexp.MustCompile(`,"why":\[[^]]*\]`)

// With explanations, records are what they are without, and why: for each output that makes verdicts, and the same that nepcoc run prints.
// In events, too; also where a model with another contract takes over.
func TestExplain(t *testing.T) {
	b := must(testbundle.EveryKind(0))
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap")
	lines := func(o agent.Options) []string {
		mem, _ := load(path)
		o.Sources, o.Model, o.Lossless, o.Workers = []capture.Source{mem}, m, true, 2
		got, _ := runAgent(t, t.Context(), o)
		slices.Sort(got)
		return got
	}
	off, on := lines(agent.Options{}), lines(agent.Options{Explain: true})
	why := 0
	for i := range on {
		why += len(whyField.FindAllString(on[i], -1))
		on[i] = whyField.ReplaceAllString(on[i], "")
	}
	slices.Sort(on)
	if !slices.Equal(on, off) {
		t.Error("verdicts are others with explanations")
	}
	if why < len(off)/2 || whyField.MatchString(off[0]) {
		t.Errorf("%d explanations of %d flows", why, len(off))
	}

	opt := must(classify.FlowOptions(b))
	x := must(explain.New(b, opt.Encoder))
	mem, _ := load(path)
	var want []string
	if _, err := classify.Explained(b, x).Flows(b, mem, false, func(r *verdict.Record) error {
		want = append(want, string(r.AppendJSON(nil)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if on = lines(agent.Options{Explain: true}); !slices.Equal(on, want) {
		t.Error("the agent explains otherwise than a classifier")
	}
	events := lines(agent.Options{Explain: true, Format: agent.Formats["eve"]})
	if n := len(slices.DeleteFunc(events, func(l string) bool { return !whyField.MatchString(l) })); n < len(off)/2 {
		t.Errorf("%d events say why", n)
	}
}
