// Command unknown says how well a bundle that nepcoc teach makes tells flows of a class that it was not taught: each class is left
// out in turn, of the head and of what is known.
//
//	go run ./examples/foundation/unknown ENCODER.nepco TRAIN.npz TEST.npz [MORE.npz...] [-mode softmax] [-pass 0.99] [-most 100]
//
// Known are the flows of the other classes in TEST.npz, unknown all flows of the class, of every set. It prints rows of a Markdown table, for
// docs/unknown.md: the area under the ROC curve of the distance, of the highest probability, of the highest logit and of the energy
// (the logarithm of the sum of their exponentials), and what --known-pass rejects.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"

	"nepcoc/compiler/dataset"
	"nepcoc/internal/roc"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/teach"
	"nepcoc/runtime/verdict"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "unknown:", err)
		os.Exit(1)
	}
}

// seen are the distances of flows by each way of telling, smaller for known ones.
type seen struct {
	ways     [4][]int64
	rejected int // unknown by its distance
}

var ways = []string{"distance", "probability", "logit", "energy"}

func run() error {
	mode := flag.String("mode", string(teach.Softmax), "how the head is taught: softmax or prototype")
	pass := flag.Float64("pass", 0.99, "share of known traffic that is to pass")
	most := flag.Int("most", 1<<30, "flows of each class at most")
	only := flag.String("class", "", "leave out this class only")
	flag.Parse()
	if flag.NArg() < 3 {
		return fmt.Errorf("want ENCODER.nepco TRAIN.npz TEST.npz [MORE.npz...]")
	}
	data, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		return err
	}
	b, err := bundle.Decode(data)
	if err != nil {
		return err
	}
	var sets []*dataset.Set
	for _, path := range flag.Args()[1:] {
		s, err := dataset.Open(path)
		if err != nil {
			return err
		}
		sets = append(sets, s)
	}
	train, test := sets[0], sets[1]
	fmt.Println("| left out | flows | distance | probability | logit | energy | passes at 95 % | rejected | known rejected |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	var mean [7]float64
	n := 0.0
	for _, class := range train.Labels {
		if *only != "" && class != *only {
			continue
		}
		opt := teach.Options{Mode: teach.Mode(*mode), KnownPass: *pass}
		made, _, err := teach.Teach(b, without(train, class, *most), opt)
		if err != nil {
			return fmt.Errorf("without %s: %w", class, err)
		}
		known, err := look(made, []*dataset.Set{test}, func(label string) bool { return label != class && slices.Contains(train.Labels, label) })
		if err != nil {
			return err
		}
		unknown, err := look(made, sets, func(label string) bool { return label == class })
		if err != nil {
			return err
		}
		var row [7]float64
		for w := range ways {
			row[w] = roc.AUROC(known.ways[w], unknown.ways[w])
		}
		row[4] = roc.FalsePass(known.ways[0], unknown.ways[0], 0.95)
		row[5] = float64(unknown.rejected) / float64(len(unknown.ways[0]))
		row[6] = float64(known.rejected) / float64(len(known.ways[0]))
		printRow(class, len(unknown.ways[0]), row)
		for i := range row {
			mean[i] += row[i]
		}
		n++
	}
	for i := range mean {
		mean[i] /= n
	}
	printRow("mean", int(n), mean)
	return nil
}

func printRow(name string, flows int, r [7]float64) {
	fmt.Printf("| %s | %d | %.4f | %.4f | %.4f | %.4f | %.1f %% | %.1f %% | %.1f %% |\n", name, flows, r[0], r[1], r[2], r[3], 100*r[4], 100*r[5], 100*r[6])
}

// without is the task of all classes but one.
func without(s *dataset.Set, class string, most int) *teach.Task {
	t := &teach.Task{Name: "task"}
	for k, label := range s.Labels {
		if label == class {
			continue
		}
		left := most
		for i := range s.Flows {
			if f := &s.Flows[i]; f.Label == k && left > 0 {
				t.Examples = append(t.Examples, teach.Example{Tokens: s.Padded(f), Valid: len(f.Tokens), Label: len(t.Labels), Group: f.Group, Payload: f.Payload})
				left--
			}
		}
		t.Labels = append(t.Labels, label)
	}
	return t
}

// look runs the flows of some labels.
func look(b *bundle.Bundle, sets []*dataset.Set, of func(label string) bool) (*seen, error) {
	x, err := classify.Engine(b)
	if err != nil {
		return nil, err
	}
	cls := classify.New(b, x)
	r := new(seen)
	scale := b.Program.Outputs[0].Scale / cmp.Or(b.Manifest.Outputs[0].Temperature, 1)
	for _, s := range sets {
		for i := range s.Flows {
			f := &s.Flows[i]
			if f.Label < 0 || !of(s.Labels[f.Label]) {
				continue
			}
			res, err := cls.Run(s.Padded(f), len(f.Tokens))
			if err != nil {
				return nil, err
			}
			rec := verdict.Record{Payload: f.Payload}
			if cls.Fill(&rec, false); rec.Verdicts[0].Insufficient {
				continue
			}
			logits := cls.Logits()[0]
			top, sum := slices.Max(logits), 0.0
			for _, l := range logits {
				sum += math.Exp(float64(l-top) * scale)
			}
			energy := float64(top)*scale + math.Log(sum)
			for w, d := range []int64{res[0].Distance, -int64(res[0].Score), -int64(top), -int64(energy * (1 << 20))} {
				r.ways[w] = append(r.ways[w], d)
			}
			if res[0].Distance > b.Manifest.Outputs[0].Known.Bound {
				r.rejected++
			}
		}
	}
	return r, nil
}
