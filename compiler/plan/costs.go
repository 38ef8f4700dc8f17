package plan

import (
	"fmt"
	"time"

	"nepcoc/backends"
	"nepcoc/internal/cli"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/load"
)

// Cost is what one thing takes of a core, in nanoseconds, with what it may be at least and at most, and where it comes from.
type Cost struct {
	NS   float64 `json:"ns"`
	Low  float64 `json:"low_ns"`
	High float64 `json:"high_ns"`
	// Source is measured, estimated or scaled, Why says how.
	Source string `json:"source"`
	Why    string `json:"why"`
}

// Costs are those of a target's core.
type Costs struct {
	// Kernel is the system's work on a packet until it lies in the agent's ring, Receive the agent's until its flow's worker has it, Packet to join it
	// to its flow; Flow is what a flow costs beside its packets and the model: its place in the table, tokens, event. Inference is the model on a flow.
	Kernel    Cost `json:"kernel_per_packet"`
	Receive   Cost `json:"receive_per_packet"`
	Packet    Cost `json:"table_per_packet"`
	Flow      Cost `json:"per_flow"`
	Inference Cost `json:"inference_per_flow"`
	// Kernels is the kernel path that inference is of.
	Kernels string `json:"kernels"`
	// Model compares the cost model with this machine: what it says of inference here, and what was measured.
	Model *ModelCheck `json:"cost_model_here,omitempty"`
	Notes []string    `json:"notes,omitempty"`
}

// ModelCheck is the cost model on this machine.
type ModelCheck struct {
	Kernels   string  `json:"kernels"`
	Estimated float64 `json:"estimated_us"`
	Measured  float64 `json:"measured_us"`
}

// The sources of a cost.
const (
	Measured  = "measured"  // here, now
	Estimated = "estimated" // by the cost model: cycles per unit of work, and a published clock
	Scaled    = "scaled"    // measured here, times what the cost model says that the target's cores are slower
)

// How wrong a cost may be, as factors. The machine's own are judged by the spread of rounds, of which more is never told than this least; those of
// other machines by what the cost model leaves out: caches, contention, a driver. docs/plan.md says what they stand on.
const (
	leastSpread = 0.08
	leastLow    = 0.1 // whatever rounds on a busy machine spread by: no cost is below nothing
	estLow      = 0.8 // of an inference estimated from cycles
	estHigh     = 1.5
	scaleLow    = 0.6 // of what was measured on another machine
	scaleHigh   = 1.8
)

// around is a cost with a spread.
func around(ns, low, high float64, source, why string, args ...any) Cost {
	return Cost{NS: ns, Low: ns * low, High: ns * high, Source: source, Why: fmt.Sprintf(why, args...)}
}

// CostsOf finds out the costs of a target's core for a profile: those of target host are measured here, others' inference is estimated by the cost
// model, and their packet path scaled from this machine's. open gives the capture whose flows are measured on; nil where there is only the profile.
func CostsOf(b *bundle.Bundle, t *backends.Target, p *Profile, open func() (capture.Source, error), progress *cli.Progress) (*Costs, error) {
	src := synthetic(p)
	what := "the capture's flows"
	if open != nil {
		var err error
		if src, err = open(); err != nil {
			return nil, err
		}
		defer src.Close()
	} else {
		what = "datagrams of the profile's sizes"
	}
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	script, err := load.ReadScript(src, load.Options{Gap: 10 * time.Millisecond, Idle: opt.Encoder.Contract().Idle, Tunnels: b.Manifest.View.Tunnels, Progress: func(n int) { progress.Update("reading packets", n, 0) }})
	if err != nil {
		return nil, err
	}
	m, err := measure(b, script, int(p.BytesPerPacket), func(stage string) { progress.Update(stage, 0, 0) })
	if err != nil {
		return nil, err
	}
	return costsFrom(b, t, p, m, what)
}

func costsFrom(b *bundle.Bundle, t *backends.Target, p *Profile, m *measured, what string) (*Costs, error) {
	spread := max(m.spread, leastSpread)
	c := &Costs{Kernels: m.kernels}
	here := func(ns, more float64, why string, args ...any) Cost {
		return around(ns, max(leastLow, 1-spread-more), 1+spread+more, Measured, why, args...)
	}
	c.Packet = here(m.packet, 0.1, "a packet joined to its flow, processor time of datagrams in long flows")
	c.Flow = here(m.flow, 0.1, "%s, beside their packets and the model: place in the table, tokens, event and its writing", what)
	if m.ring != nil {
		c.Receive = here(m.ring.take, 0.1, "out of a ring that the loopback of a network namespace filled, decoded, handed over")
		c.Kernel = Cost{(m.ring.copying + m.ring.whole) / 2, m.ring.copying, m.ring.whole, Measured, "between the copy into the ring and all that a packet takes over the loopback; a network card's driver is not in it"}
	} else {
		c.Receive = Cost{m.receive * 1.5, m.receive, m.receive * 3, Measured, "decoded and handed over, from memory; the ring was not measured"}
		c.Kernel = Cost{m.receive * 6, m.receive * 2, m.receive * 15, Estimated, "not measured: a guess from what decoding takes"}
		c.Notes = append(c.Notes, m.wrong.Error())
	}
	tokens := p.Tokens
	if t.Name == "host" {
		// The model was measured on these flows; a profile's may have other lengths.
		share := 1.0
		if m.tokens > 0 && tokens > 0 {
			share = estimate(b, t, tokens) / estimate(b, t, m.tokens)
		}
		c.Inference = here(m.inference*share, 0, "the model on %s, %.0f tokens in the mean, kernels %s", what, tokens, m.kernels)
		return c, nil
	}
	host, err := backends.LookupTarget("host")
	if err != nil {
		return nil, err
	}
	c.Kernels = t.Kernel
	c.Inference = around(1e3*estimate(b, t, tokens), estLow, estHigh, Estimated, "cycles of docs/arm-cycles.md's kind per unit of work, at the published clock of %.1f GHz; %.0f tokens in the mean", t.GHz, tokens)
	// What Go code between kernels takes: that of a step, which is no kernel.
	slower := t.Cost.Step / t.GHz / (host.Cost.Step / host.GHz)
	for _, k := range []*Cost{&c.Kernel, &c.Receive, &c.Packet, &c.Flow} {
		*k = Cost{k.NS * slower, k.Low * slower * scaleLow, k.High * slower * scaleHigh, Scaled, fmt.Sprintf("%.2f times this machine's (cycles per step, published clocks): %s", slower, k.Why)}
	}
	n := max(1, min(int(tokens), b.Program.Length))
	us, err := modelCheck(b, host.Kernel, n)
	if err != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("the cost model could not be compared with this machine: %v", err))
		return c, nil
	}
	c.Model = &ModelCheck{host.Kernel, estimate(b, host, float64(n)), us}
	// A model that is further off here than the bounds say is not trusted more elsewhere.
	off := c.Model.Measured / c.Model.Estimated
	c.Inference.Low, c.Inference.High = min(c.Inference.Low, c.Inference.NS*off), max(c.Inference.High, c.Inference.NS*off)
	return c, nil
}

// estimate is the cost model's time of an inference, in us.
func estimate(b *bundle.Bundle, t *backends.Target, tokens float64) (us float64) {
	for _, s := range backends.Estimate(b.Program.Judged(), t, max(1, min(int(tokens+0.5), b.Program.Length))) {
		us += s.Microseconds
	}
	return us
}
