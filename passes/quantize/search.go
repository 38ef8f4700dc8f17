package quantize

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"nepcoc/internal/exact"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
)

// The search tries plans in stages, each from the best plan so far, and has
// one objective: among the plans that keep the bound on changed verdicts, the least error.
// A stage yields plans until it has no more or the best is good enough.
var stages = []func(*search) error{
	(*search).methods, // how ranges are found
	(*search).rows,    // token tables that are not made small
	(*search).widen,   // which values keep 16 bits
	(*search).widest,  // all of them, by each method: where nothing else keeps the bound
}

// search is the state of one search for a plan.
type search struct {
	ctx  *passes.Context
	g    *ir.Graph
	obs  *Observations
	best *tried
	// closest has the least error so far, whether or not it keeps the bound;
	// widen starts from it.
	closest *tried
	wideOf  string   // method that widen started from
	fit     []string // values that 16 bits fit, the one that gains most first
}

// tried is a plan that was carried out and measured.
type tried struct {
	Options
	graph *ir.Graph
	fid   passes.Fidelity
}

// Unfit is the error of a plan that can't be carried out on this graph, though others
// may: the search goes on without it. Every other error ends the search.
type Unfit struct{ Value, Reason string }

func (u *Unfit) Error() string { return fmt.Sprintf("value %q: %s", u.Value, u.Reason) }

// Missed is the error of a search that found no plan within the bound: the best
// that it found, and what the bound would have allowed.
type Missed struct {
	Method   string
	Wide     []string // values that kept 16 bits
	Fidelity passes.Fidelity
	Allowed  int // verdicts that may change
	Plans    int // tried
}

func (m *Missed) Error() string {
	return fmt.Sprintf("no plan keeps the bound: the best of %d (%s, %d values of 16 bits) changes %d of %d verdicts, where %d may change, with an error of %.4g of the logits' spread",
		m.Plans, m.Method, len(m.Wide), m.Fidelity.Changed, m.Fidelity.Samples, m.Allowed, m.Fidelity.RelError)
}

// find returns the integer graph of the best plan.
func find(ctx *passes.Context, g *ir.Graph, obs *Observations) (*ir.Graph, error) {
	s := &search{ctx: ctx, g: g, obs: obs}
	for _, stage := range stages {
		if err := stage(s); err != nil {
			return nil, err
		}
	}
	r, b := &ctx.Report.Quantize, s.best
	r.Method, r.Fidelity, r.Wide, r.Tolerated = b.Method, b.fid, sortedKeys(b.Wide), s.rank(b.fid) == tolerated
	if b.TableStep > ctx.Options.TableStep {
		ctx.Report.Note("the token table keeps all 8 bits of its rows: stored smaller, it changed too many verdicts")
	}
	if s.rank(b.fid) == missed {
		return nil, &Missed{Method: r.Method, Wide: r.Wide, Fidelity: b.fid, Allowed: allowed(ctx.Options.MaxDisagreement, b.fid.Samples), Plans: len(r.Tried)}
	}
	return b.graph, nil
}

// try carries out a plan, measures it, and keeps it where it is the best so far. It
// returns nil for a plan that does not fit.
func (s *search) try(o Options) (*tried, error) {
	g, err := Run(s.g, s.obs, o)
	var unfit *Unfit
	if errors.As(err, &unfit) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t := &tried{Options: o, graph: g}
	if s.ctx.Measure != nil {
		if t.fid, err = s.ctx.Measure(g); err != nil {
			return nil, err
		}
		if math.IsNaN(t.fid.RelError) {
			t.fid.RelError = math.Inf(1) // the worst, not the unordered
		}
	}
	q := &s.ctx.Report.Quantize
	q.Tried = append(q.Tried, passes.Tried{Method: o.Method, Wide: len(o.Wide), Fidelity: t.fid})
	if s.best == nil || s.better(t, s.best) {
		s.best = t
	}
	if s.closest == nil || t.error(s.closest) < 0 {
		s.closest = t
	}
	return t, nil
}

// better is the objective: the bound first, then the error. Of plans that miss the
// bound, the one that changes fewer verdicts. The earlier, cheaper plan stays
// where two are equal.
func (s *search) better(a, b *tried) bool { return s.compare(a, b) < 0 }

func (s *search) compare(a, b *tried) int {
	ra, rb := s.rank(a.fid), s.rank(b.fid)
	if ra == missed && rb == missed {
		return cmp.Or(cmp.Compare(a.fid.Changed, b.fid.Changed), a.error(b))
	}
	return cmp.Or(cmp.Compare(ra, rb), a.error(b))
}

// error compares two plans by error; a model that ends in labels shows none, and
// its verdicts have to do.
func (a *tried) error(b *tried) int {
	return cmp.Or(cmp.Compare(a.fid.RelError, b.fid.RelError), cmp.Compare(a.fid.Changed, b.fid.Changed))
}

// How a plan stands to the bound on changed verdicts.
const (
	kept      = iota
	tolerated // one verdict more, of few: see allowed
	missed
)

// rank says how a plan stands to the user's bound. A blind one has not kept it.
func (s *search) rank(f passes.Fidelity) int {
	share := s.ctx.Options.MaxDisagreement
	switch {
	case s.ctx.Measure == nil || share >= 1:
		return kept
	case f.Changed > allowed(share, f.Samples), f.Blind, math.IsInf(f.RelError, 1):
		return missed
	case f.Changed > count(share, f.Samples):
		return tolerated
	}
	return kept
}

// count is a share of n, in whole verdicts: at 1 % of 100 one may change, of 250 two.
func count(share float64, n int) int { return int(float64(share*float64(n)) + 1e-9) }

// chance is the probability above which one changed verdict may be bad luck.
const chance = 0.1

// allowed is the number of n verdicts that may change before a compile fails. A share of
// few is no figure, so that one may where the share allows none, as long as a program that keeps
// the share in the long run would change one of so few at least one time in ten: at
// 1 % of 11, but not of 10. The search spends bits to do without.
func allowed(share float64, n int) int {
	k := count(share, n)
	if k == 0 && 1-exact.Pow(1-share, float64(n)) >= chance {
		return 1
	}
	return k
}

// enough says that more bits would be wasted on a plan.
func (s *search) enough(t *tried) bool {
	return s.ctx.Measure == nil || s.rank(t.fid) == kept && t.fid.RelError <= s.ctx.Options.MaxRelError
}

// methods tries the calibration methods; of a model that was quantised already, its own
// ranges first, which stay where they keep the bound.
func (s *search) methods() error {
	for _, m := range s.names() {
		t, err := s.try(Options{Method: m, TableStep: s.ctx.Options.TableStep})
		if err != nil {
			return err
		}
		if m == given && t != nil && s.rank(t.fid) == kept {
			break // what its maker chose, and it does
		}
	}
	return nil
}

// rows gives token tables all of their 8 bits, if making them small costs verdicts.
func (s *search) rows() error {
	if s.rank(s.best.fid) == kept || s.ctx.Options.TableStep != 0 || !slices.ContainsFunc(s.g.Nodes, madeSmall) {
		return nil
	}
	o := s.closest.Options
	o.TableStep = 1
	_, err := s.try(o)
	return err
}

// madeSmall says that n is a token table that is stored narrow or coarse unless a step
// is asked for.
func madeSmall(n *ir.Node) bool {
	return n.Op == "embed" && (n.Input(2) != nil || n.Inputs[1].Type.Len() > largeTable)
}

// widen gives 16 bits to the values that gain most by it, one after the other in the
// order of their gain when widened alone, until the plan is good enough. It starts
// from the method of the least error, even if that misses the bound: bits mend that.
func (s *search) widen() error {
	if s.enough(s.closest) {
		return nil
	}
	base := s.closest.Options
	s.wideOf = base.Method
	var alone []*tried
	for _, v := range s.candidates() {
		t, err := s.try(base.widened([]string{v}))
		if err != nil {
			return err
		}
		if t != nil {
			alone = append(alone, t)
		}
	}
	slices.SortStableFunc(alone, s.compare)
	for i, t := range alone {
		s.fit = append(s.fit, sortedKeys(t.Wide)...)
		if i > 0 { // the first is measured already
			var err error
			if t, err = s.try(base.widened(s.fit)); err != nil {
				return err
			}
		}
		if t != nil && s.enough(t) {
			return nil
		}
	}
	return nil
}

// widest tries the other methods with 16 bits wherever they fit.
func (s *search) widest() error {
	if s.rank(s.best.fid) == kept || len(s.fit) == 0 {
		return nil
	}
	for _, m := range s.names() {
		if m == s.wideOf {
			continue // where widen ended
		}
		o := s.closest.widened(s.fit)
		o.Method = m
		if _, err := s.try(o); err != nil {
			return err
		}
	}
	return nil
}

// names are the calibration methods to choose from: all, or the one asked for.
func (s *search) names() []string {
	if m := s.ctx.Options.Method; m != "" {
		return []string{m}
	}
	if len(s.obs.Given) > 0 {
		return append([]string{given}, Methods()...)
	}
	return Methods()
}

// widened is o with 16 bits for the given values alone.
func (o Options) widened(values []string) Options {
	o.Wide = make(map[string]bool)
	for _, v := range values {
		o.Wide[v] = true
	}
	return o
}

// candidates are the values that 16 bits could help.
func (s *search) candidates() []string {
	q := &quantizer{src: s.g, uses: s.g.Consumers(), endings: edit.Endings(s.g), opts: Options{WideAll: true}}
	var names []string
	for _, n := range s.g.Nodes {
		switch n.Op {
		case "embed", "conv", "linear", "affine", "act", "add", "sub", "mul", "layer_norm", "pool":
			if v := n.Out(); q.wide(v) && !q.isLogits(v) && !q.lastHidden(v) {
				names = append(names, v.Name)
			}
		}
	}
	return names
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
