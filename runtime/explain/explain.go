// Package explain says which bytes of a flow a verdict stands on.
//
// The margin of a verdict is the distance of its logit from the next one's. A maximum over positions takes each channel from one
// position, its winner, and that position sees the tokens of its receptive field alone. So, of a model whose outputs depend on
// tokens through such maxima only, Quick finds out what the winners of each part of the flow contribute to the margin: it computes
// the steps behind the maxima again with the channels of those winners as they are in a flow of blanked bytes. That is exact for any
// head, with hidden layers and without, and costs less than the verdict did. It tells bytes apart no further than
// a receptive field does.
//
// Exact blanks the bytes of one token after the other, among those that winners have seen, and runs the model again: bytes become 0, as
// those that contracts blank. So a byte that is 0 is never named, whatever it tells. Of models without maxima, Quick blanks a few parts of the flow, Exact all tokens.
// So it is of models that read numbers beside their tokens, whose maxima are not all that decides; the numbers are blanked behind the tokens, each by itself.
//
// Everything is computed by the engine's integers, so that what is said is the same on every CPU.
package explain

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/traffic"
)

// Tokens are named whose weight is at least this share of the largest of their flow: among the weights of Exact, and among those of Quick,
// which tell them apart less.
const (
	Threshold      = 0.25
	QuickThreshold = 0.5
)

// Explainer is a bundle's program prepared for explanations. It is immutable, and may be shared by goroutines.
type Explainer struct {
	p      *bundle.Program
	enc    *traffic.Encoder
	zero   int32 // the token of blanked bytes
	engine *engine.Engine
	pools  []pooled // nil: the outputs depend on tokens otherwise than through maxima
	head   *head
}

// pooled is a maximum over positions.
type pooled struct {
	value int
	rows  int // the value that it is the maximum of
	reach reach
	blank []int32 // what it finds in a flow whose bytes are blanked
}

// New prepares a bundle, whose contract enc is made from.
func New(b *bundle.Bundle, enc *traffic.Encoder) (*Explainer, error) {
	x := &Explainer{p: b.Program, enc: enc, zero: enc.Blank()}
	var err error
	if x.engine, err = engine.Bind(b.Program.Judged(), engine.Options{Winners: true}); err != nil {
		return nil, err
	}
	if b.Program.Sides > 0 {
		return x, nil
	}
	if x.head = newHead(b.Program); x.head == nil {
		return x, nil
	}
	x.pools = x.head.pools
	tokens := x.blankFlow()
	c, out := x.engine.NewContext(), x.engine.NewOutput()
	if err := c.Run(tokens, len(tokens), out); err != nil {
		return nil, fmt.Errorf("a flow of blanked bytes: %w", err)
	}
	for i := range x.pools {
		x.pools[i].blank = append([]int32(nil), c.Maximum(x.pools[i].value).Top...)
	}
	return x, nil
}

// blankFlow is a flow of nothing but bytes of 0, with the tokens in front that every flow has.
func (x *Explainer) blankFlow() []int32 {
	c := x.enc.Contract()
	tokens := make([]int32, x.p.Length)
	for i := range tokens {
		tokens[i] = x.zero
	}
	if c.UseCLS {
		tokens[0] = int32(c.CLS)
	}
	return tokens
}

// Engine computes the program, with the same bits as an engine that explains nothing.
func (x *Explainer) Engine() *engine.Engine { return x.engine }

// Cost is by how many times Quick's explanations make verdicts take longer, at most: the head's part as docs/explain.md measures it, or the runs of
// flows that are blanked part by part, for each output.
func (x *Explainer) Cost() int {
	if x.head != nil {
		return 2
	}
	return 1 + len(x.p.Outputs)*(min(groups, x.p.Length)+min(groups, x.p.Sides))
}

// Pools tells that the outputs depend on tokens through maxima over positions only.
func (x *Explainer) Pools() bool { return x.head != nil }

// Verdict is what of an output is explained: the distance of logit Up from logit Down. -1 stands for Place: the logit of a threshold.
type Verdict struct {
	Up, Down int
	Place    int64
}

// Margin is the distance, as integers.
func (v Verdict) Margin(logits []int32) int64 {
	at := func(k int) int64 {
		if k < 0 {
			return v.Place
		}
		return int64(logits[k])
	}
	return at(v.Up) - at(v.Down)
}

// Runner runs flows and explains them. It is for one goroutine.
type Runner struct {
	x         *Explainer
	contract  traffic.Contract
	ctx       *engine.Context
	out       [][]int32 // of runs with blanked tokens
	tokens    []int32   // for those
	current   []int32   // the flow without what was named
	weights   []float64
	at        []float64 // by position of what a maximum is taken of
	inWindow  []bool
	head      *headRun // nil without maxima
	part      []int    // of the flow, by position of what a maximum is taken of; -1: sees no token
	winners   []winner // of the last run, once the head has run
	away      [groups]float64
	last      []int32 // tokens of the last run
	lastValid int
}

// NewRunner makes the memory of a worker.
func (x *Explainer) NewRunner() *Runner {
	n := x.p.Inputs()
	r := &Runner{
		x: x, contract: x.enc.Contract(), ctx: x.engine.NewContext(), out: x.engine.NewOutput(), tokens: make([]int32, n), current: make([]int32, n),
		weights: make([]float64, n), inWindow: make([]bool, n),
	}
	if x.head != nil {
		r.head = x.head.run()
	}
	for i := range x.pools {
		rows := x.p.Values[x.pools[i].rows].Rows
		r.at, r.part = make([]float64, max(len(r.at), rows)), make([]int, max(len(r.part), rows))
	}
	return r
}

// Run computes a flow's logits, as engine.Context.Run does, and remembers the winners for Quick and Exact. tokens must stay as
// they are until then.
func (r *Runner) Run(tokens []int32, valid int, out [][]int32) error {
	if err := r.ctx.Run(tokens, valid, out); err != nil {
		return err
	}
	r.last, r.lastValid = tokens, valid
	if r.head != nil {
		r.head.set = false
	}
	return nil
}

// drop is by how much the margin of the last flow, which was base, falls with the tokens that are in r.tokens.
func (r *Runner) drop(output int, v Verdict, base int64) (float64, error) {
	if err := r.ctx.Run(r.tokens, r.lastValid, r.out); err != nil {
		return 0, err
	}
	return float64(base - v.Margin(r.out[output])), nil
}

// extent is how many ids of the last flow have weights: those of its tokens or, where there are numbers beside the sequence, of the whole input.
func (r *Runner) extent() int {
	if r.x.p.Sides > 0 {
		return r.x.p.Inputs()
	}
	return r.lastValid
}

// blank is what id i becomes: a byte of 0, or the number 0, as of a packet that did not come.
func (r *Runner) blank(i int) int32 {
	if i >= r.x.p.Length {
		return 0
	}
	return r.x.zero
}

// special tells that a token is neither bytes nor a fact: CLS or SEP, which no flow is without.
func (x *Explainer) special(token int32, c *traffic.Contract) bool {
	return c.UseCLS && token == int32(c.CLS) || c.UseSEP && token == int32(c.SEP)
}

// Named are the tokens of at least threshold of the largest weight.
func Named(weights []float64, threshold float64) (tokens []int) {
	top := 0.0
	for _, w := range weights {
		top = max(top, w)
	}
	for i, w := range weights {
		if w > 0 && w >= threshold*top {
			tokens = append(tokens, i)
		}
	}
	return tokens
}

// Nameable are the ids of the last Run's flow that an explanation can name, since blanking changes them: bytes and facts among its tokens and, from
// traffic.Contract.Length on, the numbers beside them.
func (r *Runner) Nameable() (ids []int) {
	for i, t := range r.last[:r.lastValid] {
		if t != r.x.zero && !r.x.special(t, &r.contract) {
			ids = append(ids, i)
		}
	}
	for i := r.x.p.Length; i < r.extent(); i++ {
		if r.last[i] != 0 {
			ids = append(ids, i)
		}
	}
	return ids
}
