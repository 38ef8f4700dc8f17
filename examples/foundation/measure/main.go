// Command measure says what nepcoc teach reaches on a labelled set: with so many flows a class, drawn several times; and
// what a class costs and brings that is added with few flows.
//
//	go run ./examples/foundation/measure [-counts 5,20,100] [-draws 5] ENCODER.nepco TRAIN.npz TEST.npz
//	go run ./examples/foundation/measure -add CLASS [-flows 20] [-most 60] [-draws 5] ENCODER.nepco TRAIN.npz TEST.npz
//
// All flows of a set count, whatever its parts. It prints rows of a Markdown table, for docs/EVALUATION.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"nepcoc/compiler/dataset"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/teach"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run() error {
	counts := flag.String("counts", "5,20,100", "flows of each class")
	draws := flag.Int("draws", 5, "draws of flows")
	add := flag.String("add", "", "class to add with few flows, to a task that all flows of the others taught")
	few := flag.Int("flows", 20, "flows of that class")
	most := flag.Int("most", 1<<30, "flows of each other class at most")
	flag.Parse()
	if flag.NArg() != 3 || *draws < 1 {
		return errors.New("want [FLAGS] ENCODER.nepco TRAIN.npz TEST.npz, and one draw at least")
	}
	b, err := files.Read(flag.Arg(0), bundle.Read)
	if err != nil {
		return err
	}
	contract, err := classify.Contract(b)
	if err != nil {
		return fmt.Errorf("%s: %w", flag.Arg(0), err)
	}
	train, err := dataset.Open(flag.Arg(1))
	if err != nil {
		return err
	}
	test, err := dataset.Open(flag.Arg(2))
	if err != nil {
		return err
	}
	for i, set := range []*dataset.Set{train, test} {
		if err := set.Fits(flag.Arg(1+i), dataset.ForBundle(flag.Arg(0), contract, b.Manifest.View)); err != nil {
			return err
		}
		if *add != "" && !slices.Contains(set.Labels, *add) {
			return fmt.Errorf("%s: has no class %q", flag.Arg(1+i), *add)
		}
	}
	if *add != "" {
		return added(b, train, test, *add, *few, *most, *draws)
	}
	for _, text := range strings.Split(*counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-counts %s: want numbers of flows, such as 5,20,100", *counts)
		}
		for _, mode := range []teach.Mode{teach.Softmax, teach.Prototype} {
			var acc, f1 []float64
			for d := range *draws {
				t := draw(train, uint64(d), func(string) int { return n })
				a, f, _, err := score(b, t, test, mode)
				if err != nil {
					return err
				}
				acc, f1 = append(acc, a), append(f1, f)
			}
			fmt.Printf("| %s | %d a class | %s | %s |\n", mode, n, spread(acc), spread(f1))
		}
	}
	return nil
}

// added compares a task without a class and with it.
func added(b *bundle.Bundle, train, test *dataset.Set, class string, few, most, draws int) error {
	without := *test
	without.Flows = slices.DeleteFunc(slices.Clone(test.Flows), func(f dataset.Flow) bool { return f.Label >= 0 && test.Labels[f.Label] == class })
	base := draw(train, 0, func(l string) int {
		if l == class {
			return 0
		}
		return most
	})
	before, _, _, err := score(b, base, &without, teach.Softmax)
	if err != nil {
		return err
	}
	for d := range draws {
		t := draw(train, uint64(d), func(l string) int {
			if l == class {
				return few
			}
			return most
		})
		_, _, recall, err := score(b, t, test, teach.Softmax)
		if err != nil {
			return err
		}
		after, _, _, err := score(b, t, &without, teach.Softmax)
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %d | %.1f | %.2f | %.2f |\n", class, few, 100*recall[class], 100*before, 100*after)
	}
	return nil
}

// draw takes at most n(label) flows of each class; classes without a flow are left out.
func draw(s *dataset.Set, seed uint64, n func(label string) int) *teach.Task {
	r := rand.New(rand.NewPCG(seed, 12))
	t := &teach.Task{Name: "task"}
	for k, label := range s.Labels {
		var at []int
		for i := range s.Flows {
			if s.Flows[i].Label == k {
				at = append(at, i)
			}
		}
		r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
		at = at[:min(len(at), n(label))]
		if len(at) == 0 {
			continue
		}
		for _, i := range at {
			f := &s.Flows[i]
			t.Examples = append(t.Examples, teach.Example{Tokens: s.Padded(f), Valid: len(f.Tokens), Label: len(t.Labels), Group: f.Group})
		}
		t.Labels = append(t.Labels, label)
	}
	return t
}

// score teaches a task and says how right its bundle is on a set: accuracy, macro-F1 over classes that the set has, and
// each class's recall.
func score(b *bundle.Bundle, t *teach.Task, test *dataset.Set, mode teach.Mode) (accuracy, macro float64, recall map[string]float64, err error) {
	made, _, err := teach.Teach(b, t, teach.Options{Mode: mode})
	if err != nil {
		return 0, 0, nil, err
	}
	e, err := engine.Bind(made.Program, engine.Options{})
	if err != nil {
		return 0, 0, nil, err
	}
	ctx, out := e.NewContext(), e.NewOutput()
	hit, named, count := map[string]int{}, map[string]int{}, map[string]int{}
	right, n := 0, 0
	for i := range test.Flows {
		f := &test.Flows[i]
		if f.Label < 0 {
			continue
		}
		if err := ctx.Run(test.Padded(f), len(f.Tokens), out); err != nil {
			return 0, 0, nil, err
		}
		got, want := t.Labels[slices.Index(out[0], slices.Max(out[0]))], test.Labels[f.Label]
		n++
		count[want]++
		named[got]++
		if got == want {
			right++
			hit[want]++
		}
	}
	recall = map[string]float64{}
	for label, c := range count {
		recall[label] = float64(hit[label]) / float64(c)
		macro += 2 * float64(hit[label]) / float64(c+named[label])
	}
	return float64(right) / float64(n), macro / float64(len(count)), recall, nil
}

// spread is mean ± standard deviation, in per cent.
func spread(x []float64) string {
	mean, square := 0.0, 0.0
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / float64(len(x))
	}
	return fmt.Sprintf("%.1f ± %.1f", 100*mean, 100*math.Sqrt(square))
}
