package teach_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/teach"
)

// encoder is the bundle of the repository's encoder.
func encoder(t testing.TB) *bundle.Bundle {
	t.Helper()
	data, err := os.ReadFile("../../examples/foundation/encoder.nepco")
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// examples are flows of n classes that differ in a few bytes among random ones, of three groups each.
func examples(b *bundle.Bundle, classes, each int, seed uint64) (out []teach.Example) {
	r := rand.New(rand.NewPCG(seed, 5))
	for i := range classes * each {
		e := teach.Example{Tokens: make([]int32, b.Program.Length), Label: i % classes, Group: i % 7, Payload: 60}
		e.Valid = 60 + r.IntN(60)
		for p := range e.Valid {
			e.Tokens[p] = 5 + r.Int32N(256)
		}
		at := 4 + r.IntN(20)
		for k := range 8 { // the class's own word
			e.Tokens[at+k] = int32(5 + (17*e.Label+29*k)%256)
		}
		out = append(out, e)
	}
	return out
}

func task(b *bundle.Bundle, name string, classes, each int) *teach.Task {
	t := &teach.Task{Name: name, Examples: examples(b, classes, each, uint64(len(name)))}
	for k := range classes {
		t.Labels = append(t.Labels, fmt.Sprintf("%s %d", name, k))
	}
	return t
}

// What is taught is told: flows that were not seen get the right class, from the engine and the reference alike.
func TestTeach(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	b := encoder(t)
	for _, c := range []struct {
		mode teach.Mode
		each int
		want float64
	}{{teach.Softmax, 40, 0.85}, {teach.Prototype, 5, 0.4}} {
		made, r, err := teach.Teach(b, task(b, "word", 6, c.each), teach.Options{Mode: c.mode})
		if err != nil {
			t.Fatal(err)
		}
		if r.Accuracy < c.want || !r.ByGroup || r.Agreement < 0.99 {
			t.Errorf("%s: %+v", c.mode, r)
		}
		data, err := bundle.Encode(made, bundle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if made, err = bundle.Decode(data); err != nil {
			t.Fatal(err)
		}
		e, err := engine.Bind(made.Program, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x, err := refexec.New(made.Program)
		if err != nil {
			t.Fatal(err)
		}
		right := 0
		fresh := examples(b, 6, 20, 99)
		ctx, out := e.NewContext(), e.NewOutput()
		for i := range fresh {
			if err := ctx.Run(fresh[i].Tokens, fresh[i].Valid, out); err != nil {
				t.Fatal(err)
			}
			if i < 12 {
				want, err := x.Run(fresh[i].Tokens, fresh[i].Valid)
				if err != nil || !slices.Equal(want[0], out[0]) {
					t.Fatalf("engine %v, reference %v (%v)", out[0], want, err)
				}
			}
			if slices.Index(out[0], slices.Max(out[0])) == fresh[i].Label {
				right++
			}
		}
		if got := float64(right) / float64(len(fresh)); got < c.want {
			t.Errorf("%s: %.2f of new flows are right, and cross-validation says %.2f", c.mode, got, r.Accuracy)
		}
	}
}

// Flows that are all told apart, however they are held back, don't say how sure scores may be: those stay the head's own, which is said.
func TestNoErrors(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	b := encoder(t)
	of := task(b, "plain", 2, 30)
	for i := range of.Examples {
		e := &of.Examples[i]
		for p := range e.Valid { // one class of low bytes, one of high ones
			e.Tokens[p] = 5 + e.Tokens[p]%32 + int32(192*e.Label)
		}
	}
	made, r, err := teach.Teach(b, of, teach.Options{Mode: teach.Softmax})
	if err != nil {
		t.Fatal(err)
	}
	said := slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "nothing tells how sure a score may be") })
	if got := made.Manifest.Outputs[len(made.Manifest.Outputs)-1].Temperature; r.Accuracy != 1 || r.Temperature != 1 || got != 1 || !said {
		t.Errorf("accuracy %g, temperature %g (%g), notes %q", r.Accuracy, r.Temperature, got, r.Notes)
	}
}

// Labels that say nothing are not learnt, and the report says so.
func TestNothingToLearn(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	b := encoder(t)
	k := task(b, "noise", 4, 30)
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(k.Examples), func(i, j int) {
		k.Examples[i].Label, k.Examples[j].Label = k.Examples[j].Label, k.Examples[i].Label
	})
	_, report, err := teach.Teach(b, k, teach.Options{Mode: teach.Softmax})
	if err != nil {
		t.Fatal(err)
	}
	if report.Accuracy > 0.45 { // chance is 0.25
		t.Errorf("accuracy %.2f of shuffled labels", report.Accuracy)
	}
}

// noisy is a task of which some flows have another's label.
func noisy(b *bundle.Bundle, classes, each int) *teach.Task {
	k := task(b, "noisy", classes, each)
	r := rand.New(rand.NewPCG(2, 2))
	for i := range k.Examples {
		if r.IntN(4) == 0 {
			k.Examples[i].Label = r.IntN(classes)
		}
	}
	return k
}

// Verdicts below the threshold that is written are more often wrong than right, the bundle has it, and who wants another
// gets that.
func TestThreshold(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	b := encoder(t)
	k := noisy(b, 5, 24)
	for _, mode := range []teach.Mode{teach.Softmax, teach.Prototype} {
		made, r, err := teach.Teach(b, k, teach.Options{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		all, known := r.Accuracy*float64(r.Flows), r.KnownAccuracy*float64(r.Flows-r.Unknown)
		if mode == teach.Softmax && (r.Threshold <= 0 || r.Unknown == 0 || r.KnownAccuracy <= r.Accuracy) || 2*(all-known) > float64(r.Unknown)+0.1 {
			t.Errorf("%s: threshold %g, %d of %d unknown, accuracy %g, of the others %g", mode, r.Threshold, r.Unknown, r.Flows, r.Accuracy, r.KnownAccuracy)
		}
		data, err := bundle.Encode(made, bundle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if made, err = bundle.Decode(data); err != nil {
			t.Fatal(err)
		}
		if u := made.Manifest.Outputs[0].UnknownThreshold; (u == nil) != (r.Threshold == 0) || u != nil && *u != r.Threshold {
			t.Errorf("%s: the bundle has the threshold %v, not %g", mode, u, r.Threshold)
		}
		// The program's own scores: of flows that it was taught with, so fewer are unknown, but some are.
		exec, err := classify.Engine(made)
		if err != nil {
			t.Fatal(err)
		}
		c := classify.New(made, exec)
		for i := range k.Examples {
			res, err := c.Run(k.Examples[i].Tokens, k.Examples[i].Valid)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := res[0].Unknown, res[0].Score < bundle.Probability(r.Threshold); got != want {
				t.Fatalf("%s: flow %d with the score %d is unknown: %v", mode, i, res[0].Score, got)
			}
		}
	}
	for _, want := range []float64{0, 0.75} {
		made, r, err := teach.Teach(b, k, teach.Options{Mode: teach.Prototype, Unknown: &want})
		if err != nil {
			t.Fatal(err)
		}
		if u := made.Manifest.Outputs[0].UnknownThreshold; r.Threshold != want || (u == nil) != (want == 0) || u != nil && *u != want {
			t.Errorf("asked for %g: %g in the report, %v in the bundle", want, r.Threshold, u)
		}
	}
}

// Several tasks share one encoder: what one says does not depend on the others, and the encoder is there once.
func TestAdd(t *testing.T) {
	b := encoder(t)
	one, _, err := teach.Teach(b, task(b, "first", 5, 12), teach.Options{Mode: teach.Softmax})
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := teach.Teach(one, task(b, "second", 3, 12), teach.Options{Mode: teach.Softmax, Add: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(two.Program.Outputs); n != 2 || len(two.Manifest.Outputs) != 2 || two.Manifest.Outputs[0].Labels[0] != "first 0" || two.Manifest.Outputs[1].Name != "second" {
		t.Fatalf("%d outputs: %+v", n, two.Manifest.Outputs)
	}
	if got, want := len(two.Program.Steps), len(one.Program.Steps)+1; got != want {
		t.Errorf("%d steps with two tasks, %d with one", got, want-1)
	}
	run := func(b *bundle.Bundle, e *teach.Example) [][]int32 {
		x, err := refexec.New(b.Program)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x.Run(e.Tokens, e.Valid)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, e := range examples(b, 5, 2, 3) {
		if a, c := run(one, &e), run(two, &e); !slices.Equal(a[0], c[0]) {
			t.Fatal("the first task's logits changed")
		}
	}
	// The same name again: in its place, and only there.
	again, _, err := teach.Teach(two, task(b, "second", 4, 12), teach.Options{Mode: teach.Softmax, Add: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Program.Outputs) != 2 || len(again.Program.Steps) != len(two.Program.Steps) || len(again.Program.Tensors) != len(two.Program.Tensors) {
		t.Errorf("taught anew: %d outputs, %d steps, %d tensors", len(again.Program.Outputs), len(again.Program.Steps), len(again.Program.Tensors))
	}
	// With flows of some of its classes alone, the others are gone, and it is said.
	fewer := task(b, "second", 3, 12)
	_, r, err := teach.Teach(again, fewer, teach.Options{Mode: teach.Prototype, Add: true})
	if err != nil {
		t.Fatal(err)
	}
	gone := slices.DeleteFunc(slices.Clone(task(b, "second", 4, 1).Labels), func(l string) bool { return slices.Contains(fewer.Labels, l) })
	if len(gone) != 1 || !slices.ContainsFunc(r.Notes, func(n string) bool {
		return strings.Contains(n, "1 class that task second had is gone") && strings.Contains(n, gone[0])
	}) {
		t.Errorf("gone: %q; notes %q", gone, r.Notes)
	}
	if _, _, err := teach.Teach(two, task(b, "third", 2, 9), teach.Options{Mode: teach.Softmax}); err == nil || !strings.Contains(err.Error(), "--add") {
		t.Errorf("without --add: %v", err)
	}
}

func TestRefused(t *testing.T) {
	b := encoder(t)
	one := task(b, "one", 2, 10)
	for i := range one.Examples {
		one.Examples[i].Label = 0
	}
	empty := task(b, "empty", 2, 10)
	empty.Labels = append(empty.Labels, "nobody")
	same := task(b, "same", 2, 10)
	for i := range same.Examples {
		same.Examples[i].Tokens, same.Examples[i].Valid = same.Examples[0].Tokens, same.Examples[0].Valid
	}
	for _, c := range []struct {
		task *teach.Task
		want string
	}{
		{one, "two classes"}, {empty, `"nobody" has no flow`}, {same, "look the same"}, {task(b, "a\nname", 2, 10), "task name"}, {task(b, "", 2, 10), "task name: a task has a name"},
	} {
		if _, _, err := teach.Teach(b, c.task, teach.Options{Mode: teach.Softmax}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: want %q", err, c.want)
		}
	}
}

// A program whose outputs read different vectors has no one encoder to teach: it is refused, and so is one whose output is no
// layer on a vector.
func TestOneVector(t *testing.T) {
	b := encoder(t)
	two := *b
	p := *b.Program
	two.Program = &p
	p.Values, p.Steps, p.Outputs = slices.Clone(p.Values), slices.Clone(p.Steps), slices.Clone(p.Outputs)
	last := &p.Steps[len(p.Steps)-1]
	if last.Op != bundle.OpConv || last.Out != p.Outputs[0].Value {
		t.Fatalf("the encoder ends in %s", last.Op)
	}
	// A second output, of the same layer on another vector of the same width.
	vector := p.Values[last.In[0]]
	vector.Name = "other"
	result := p.Values[last.Out]
	result.Name = "second"
	p.Values = append(p.Values, vector, result)
	made := p.Steps[len(p.Steps)-2]
	made.Out = len(p.Values) - 2
	second := *last
	second.In, second.Out = []int{made.Out}, len(p.Values)-1
	p.Steps = append(p.Steps, made, second)
	o := p.Outputs[0]
	o.Name, o.Value = "second", second.Out
	p.Outputs = append(p.Outputs, o)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	_, _, err := teach.Teach(&two, task(b, "one", 2, 10), teach.Options{Mode: teach.Prototype, Add: true})
	if err == nil || !strings.Contains(err.Error(), "the outputs read different vectors") {
		t.Errorf("%v", err)
	}
}

// teachBytes is what TestSameEverywhere compares; it is also what the test binary prints when it is told to.
func teachBytes(t *testing.T) []byte {
	b := encoder(t)
	made, _, err := teach.Teach(b, noisy(b, 4, 12), teach.Options{Mode: teach.Softmax, KnownPass: 0.9})
	if err != nil {
		t.Fatal(err)
	}
	if made.Manifest.Outputs[0].UnknownThreshold == nil {
		t.Fatal("no threshold to compare")
	}
	data, err := bundle.Encode(made, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The same flows give the same bytes, with one core or several, on amd64 and on arm64.
func TestSameEverywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	if out := os.Getenv("TEACH_OUT"); out != "" {
		if err := os.WriteFile(out, teachBytes(t), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := teachBytes(t)
	old := runtime.GOMAXPROCS(1)
	got := teachBytes(t)
	runtime.GOMAXPROCS(old)
	if !bytes.Equal(got, want) {
		t.Error("one core gives another bundle than several")
	}
	if runtime.GOARCH != "amd64" {
		return
	}
	qemu := testfiles.Tool(t, "qemu-aarch64")
	dir := t.TempDir()
	binary := filepath.Join(dir, "teach.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := exec.Command(qemu, "-cpu", "cortex-a76", binary, "-test.run", "TestSameEverywhere")
	run.Env = append(os.Environ(), "TEACH_OUT="+filepath.Join(dir, "out.nepco"))
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out.nepco")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("arm64 gives another bundle than amd64 (%v)", err)
	}
}

// Flows a second of teaching: 2,000 flows of 22 classes.
func BenchmarkTeach(b *testing.B) {
	e := encoder(b)
	t := task(e, "word", 22, 90)
	for b.Loop() {
		if _, _, err := teach.Teach(e, t, teach.Options{Mode: teach.Softmax}); err != nil {
			b.Fatal(err)
		}
	}
}

// What more tasks cost a flow of the contract's length: one and three heads of 20 classes on one encoder, in turns, as a ratio.
func BenchmarkTasks(b *testing.B) {
	one := encoder(b)
	var bundles []*bundle.Bundle
	for k, name := range []string{"first", "second", "third"} {
		made, _, err := teach.Teach(one, task(one, name, 20, 5), teach.Options{Mode: teach.Prototype, Add: k > 0})
		if err != nil {
			b.Fatal(err)
		}
		one = made
		if k != 1 {
			bundles = append(bundles, made)
		}
	}
	flows := examples(one, 20, 2, 1)
	for i := range flows {
		for p := flows[i].Valid; p < len(flows[i].Tokens); p++ {
			flows[i].Tokens[p] = 5
		}
		flows[i].Valid = len(flows[i].Tokens)
	}
	var took [2]time.Duration
	var run [2]func()
	for k, made := range bundles {
		e, err := engine.Bind(made.Program, engine.Options{})
		if err != nil {
			b.Fatal(err)
		}
		ctx, out := e.NewContext(), e.NewOutput()
		run[k] = func() {
			at := time.Now()
			for i := range flows {
				if err := ctx.Run(flows[i].Tokens, flows[i].Valid, out); err != nil {
					b.Fatal(err)
				}
			}
			took[k] += time.Since(at)
		}
	}
	for b.Loop() {
		run[0]()
		run[1]()
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "three/one")
}

// Flows that are mostly the same: features that hardly vary must not take the bits of the others.
func TestAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	b := encoder(t)
	const classes = 12
	alike := task(b, "alike", classes, 25)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range alike.Examples {
		e := &alike.Examples[i]
		e.Valid = 90
		for p := range e.Tokens {
			e.Tokens[p] = 0
			if p < e.Valid {
				e.Tokens[p] = int32(5 + 31*p%256)
			}
		}
		e.Tokens[40] = int32(5 + 3*e.Label)
		e.Tokens[r.IntN(e.Valid)] = 5 + r.Int32N(256)
		if i%3 == 0 {
			e.Label = r.IntN(classes) // can only be learnt by what hardly varies
		}
	}
	_, report, err := teach.Teach(b, alike, teach.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Agreement < 0.97 {
		t.Errorf("integers and real numbers name the same class of %.3f of the flows, want at least 0.97", report.Agreement)
	}
	t.Logf("%+v", report)
}
