package agent_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/traffic"
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

// swapping is a source that calls a function behind some frames.
type swapping struct {
	*capture.Memory
	left int
	swap func()
}

func (s *swapping) Next(f *capture.Frame) error {
	if s.left--; s.left == 0 {
		s.swap()
	}
	return s.Memory.Next(f)
}

// While a model with another contract, takes over and explanations and drift are on, each record, with what it stands on, is that
// which one of the models would have given alone.
func TestExplainThroughSwaps(t *testing.T) {
	first := must(testbundle.New(0, "a"))
	second := bundleOf(t, testProgram(t, 1), func() traffic.Contract {
		other := must(traffic.Named("byte"))
		other.Length, other.BytesPerPacket, other.Packets = testProgram(t, 1).Length, 77, 2
		return other
	}(), "b")
	path := filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap")
	many := func() (*capture.Memory, int) { // long enough for batches of both models
		part, _ := load(path)
		all, n := new(capture.Memory), 0
		var f capture.Frame
		for i := range 8 {
			for part.Rewind(); part.Next(&f) == nil; n++ {
				f.Time += int64(i) * 7200e9
				all.Add(&f)
			}
		}
		return all, n
	}
	want := map[string]bool{}
	var models []*agent.Model
	for _, b := range []*bundle.Bundle{first, second} {
		models = append(models, must(agent.NewModel(b)))
		x := must(explain.New(b, must(classify.FlowOptions(b)).Encoder))
		mem, _ := many()
		if _, err := classify.Explained(b, x).Flows(b, mem, false, func(r *verdict.Record) error {
			want[string(r.AppendJSON(nil))] = true
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[byte]int{} // verdicts by model
	for _, part := range []int{2, 3} {
		mem, n := many()
		at := n * part / 4
		src := &swapping{Memory: mem, left: at}
		a := must(agent.New(agent.Options{Sources: []capture.Source{src}, Model: models[0], Lossless: true, Workers: 2, Queue: 4, Explain: true,
			Drift: &drift.Defaults, Format: agent.Formats["json"], Sink: sinkFunc(func(b []byte) (int, error) {
				for l := range strings.Lines(string(b)) {
					seen[between(l, `"label":"`, `"`)[0]]++
					if !want[strings.TrimSuffix(l, "\n")] {
						t.Errorf("swapped at frame %d: neither model says %s", at, l)
					}
				}
				return len(b), nil
			})}))
		by := 0
		src.swap = func() { by++; a.Swap(models[1]) }
		r, err := a.Run(t.Context())
		if err != nil || by != 1 || r.Swaps != 1 || r.Failed != 0 || r.Written != r.Flow.Flows {
			t.Errorf("swapped at frame %d: %v, %s", at, err, r)
		}
	}
	if seen['a'] < 20 || seen['b'] < 20 {
		t.Errorf("verdicts by model: %v", seen)
	}
}
