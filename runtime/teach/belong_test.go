package teach_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/roc"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/teach"
)

// knowing is a bundle of a task that knows its flows.
func knowing(t *testing.T, pass float64) (*bundle.Bundle, *teach.Report) {
	t.Helper()
	b := encoder(t)
	made, r, err := teach.Teach(b, task(b, "word", 6, 40), teach.Options{Mode: teach.Prototype, KnownPass: pass})
	if err != nil {
		t.Fatal(err)
	}
	data, err := bundle.Encode(made, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if made, err = bundle.Decode(data); err != nil {
		t.Fatal(err)
	}
	return made, r
}

// foreign are flows that are nothing like the examples: text in place of random bytes.
func foreign(b *bundle.Bundle, n int) (out []teach.Example) {
	r := rand.New(rand.NewPCG(8, 8))
	for range n {
		e := teach.Example{Tokens: make([]int32, b.Program.Length)}
		e.Valid = 60 + r.IntN(60)
		for p := range e.Valid {
			e.Tokens[p] = 5 + 'a' + r.Int32N(26)
		}
		out = append(out, e)
	}
	return out
}

func distances(t *testing.T, c *classify.Classifier, examples []teach.Example) (all []int64, unknown int) {
	t.Helper()
	for i := range examples {
		res, err := c.Run(examples[i].Tokens, examples[i].Valid)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, res[0].Distance)
		if res[0].Distance > c.Heads[0].Known.Bound {
			unknown++
			if !res[0].Unknown {
				t.Fatalf("distance %d is above %d, and the verdict is no unknown one", res[0].Distance, c.Heads[0].Known.Bound)
			}
		}
	}
	return all, unknown
}

// Flows of the classes that were not seen pass about as often as was asked for; others don't.
func TestKnow(t *testing.T) {
	if testing.Short() {
		t.Skip("teaches for seconds, under emulation for minutes")
	}
	for _, pass := range []float64{0.8, 0.95} {
		b, r := knowing(t, pass)
		if k := r.Known; k == nil || math.Abs(k.Passed-pass) > 0.01 || k.Classes != 6 || !k.Labelled {
			t.Fatalf("%+v", r.Known)
		}
		x, err := classify.Engine(b)
		if err != nil {
			t.Fatal(err)
		}
		c := classify.New(b, x)
		fresh := examples(b, 6, 50, 99)
		near, unknown := distances(t, c, fresh)
		if got := 1 - float64(unknown)/float64(len(fresh)); math.Abs(got-pass) > 0.12 { // 300 flows and 240: 3.5 points of deviation each time, and random bytes make the subspace a matter of chance
			t.Errorf("asked for %g: %.3f of new flows pass", pass, got)
		}
		far, unknown := distances(t, c, foreign(b, 100))
		if a := roc.AUROC(near, far); a < 0.95 || unknown < 50 {
			t.Errorf("AUROC %.3f, %d of %d foreign flows are unknown", a, unknown, len(far))
		}
	}
}

// Engine and reference say what the formulas of bundle.Belonging say.
func TestDistance(t *testing.T) {
	b, _ := knowing(t, 0.9)
	p, g := b.Program, &b.Program.Belonging[0]
	i32 := func(n int) (v []int64) {
		for d := p.Tensors[n].Data; len(d) > 0; d = d[4:] {
			v = append(v, int64(int32(binary.LittleEndian.Uint32(d))))
		}
		return v
	}
	mean, scale, bias, mult := i32(g.Mean), i32(g.Scale), i32(g.Bias), i32(g.Mult)
	want := func(x []int32) int64 {
		y := make([]int64, len(x))
		for c := range x {
			y[c] = int64(arith.Clamp(arith.RoundShift((int64(x[c])+mean[c])*scale[c], g.ScaleShift), -128, 127))
		}
		z := make([]int64, len(bias))
		for d := range z {
			acc := bias[d]
			for c, v := range y {
				acc += int64(int8(p.Tensors[g.W].Data[d*len(y)+c])) * v
			}
			z[d] = int64(arith.Clamp(arith.RoundShift(acc*mult[d], g.Shift), -32768, 32767))
		}
		least := int64(math.MaxInt64)
		for proto := p.Tensors[g.Prototypes].Data; len(proto) > 0; proto = proto[2*len(z):] {
			sum := int64(0)
			for d := range z {
				v := z[d] - int64(int16(binary.LittleEndian.Uint16(proto[2*d:])))
				sum += v * v
			}
			least = min(least, sum)
		}
		return least
	}
	ref, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	var features []int32
	ref.Trace = func(v int, x []int32) {
		if v == g.Value {
			features = slices.Clone(x)
		}
	}
	engine, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := classify.Reference(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(examples(b, 6, 2, 5), foreign(b, 6)...) {
		if _, err := ref.Run(e.Tokens, e.Valid); err != nil {
			t.Fatal(err)
		}
		for name, x := range map[string]classify.Executor{"engine": engine, "reference": reference} {
			if got, _ := distances(t, classify.New(b, x), []teach.Example{e}); got[0] != want(features) {
				t.Errorf("%s: %d, want %d", name, got[0], want(features))
			}
		}
	}
}

// What one task knows stays when another comes, and goes when it is taught anew without.
func TestKnowAdd(t *testing.T) {
	one, _ := knowing(t, 0.9)
	two, _, err := teach.Teach(one, task(one, "other", 3, 12), teach.Options{Mode: teach.Prototype, Add: true, KnownPass: 0.9})
	if err != nil {
		t.Fatal(err)
	}
	if len(two.Program.Belonging) != 2 || two.Manifest.Outputs[0].Known == nil || two.Manifest.Outputs[1].Known == nil {
		t.Fatalf("%+v", two.Program.Belonging)
	}
	d := func(b *bundle.Bundle) []int64 {
		x, err := classify.Engine(b)
		if err != nil {
			t.Fatal(err)
		}
		all, _ := distances(t, classify.New(b, x), examples(b, 6, 2, 5))
		return all
	}
	if !slices.Equal(d(one), d(two)) {
		t.Error("the first task's distances changed")
	}
	again, _, err := teach.Teach(two, task(one, "word", 4, 12), teach.Options{Mode: teach.Prototype, Add: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Program.Belonging) != 1 || again.Manifest.Outputs[again.Program.Belonging[0].Output].Name != "other" {
		t.Errorf("%+v", again.Program.Belonging)
	}
	if _, err := bundle.Encode(again, bundle.Options{}); err != nil {
		t.Error(err)
	}
}

// What can't be known is refused, and flows without payload have no part in it.
func TestKnowRefused(t *testing.T) {
	b := encoder(t)
	made, _, err := teach.Teach(b, task(b, "word", 2, 20), teach.Options{Mode: teach.Prototype})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(must(bundle.Encode(made, bundle.Options{}))), "belonging") || made.Program.Belonging != nil {
		t.Error("a bundle that was not asked to know anything does")
	}
	few := examples(b, 2, 9, 1)
	empty := examples(b, 2, 30, 1)
	for i := range empty {
		empty[i].Payload = 0
	}
	for _, c := range []struct {
		b        *bundle.Bundle
		examples []teach.Example
		pass     float64
		want     string
	}{
		{made, few, 0.9, "too few"}, {made, empty, 0.9, "0 flows with payload"}, {made, examples(b, 2, 30, 1), 1.1, "at most 1"},
		{b, few, 0.9, "gives values"},
	} {
		if _, err := teach.Know(c.b, 0, c.examples, teach.KnownOptions{Pass: c.pass}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What belonging costs a verdict: the same bundle without it, and with it.
func BenchmarkBelonging(b *testing.B) {
	e := encoder(b)
	for _, pass := range []float64{0, 0.99} {
		made, _, err := teach.Teach(e, task(e, "word", 22, 90), teach.Options{Mode: teach.Prototype, KnownPass: pass})
		if err != nil {
			b.Fatal(err)
		}
		x, err := classify.Engine(made)
		if err != nil {
			b.Fatal(err)
		}
		c, flow := classify.New(made, x), examples(e, 1, 1, 1)[0]
		b.Run(map[bool]string{false: "without", true: "with"}[pass > 0], func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Run(flow.Tokens, flow.Valid); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
