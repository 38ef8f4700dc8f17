package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// streamReport compares the wait for the verdict after a flow's last chunk of
// tokens with the time of the whole flow at once.
type streamReport struct {
	Chunk      int     `json:"chunk"`
	Flows      int     `json:"flows"`
	LastP50    float64 `json:"last_p50_us"`
	OneGoP50   float64 `json:"one_go_p50_us"`
	Ratio      float64 `json:"ratio"`
	StateBytes int     `json:"state_bytes"`
}

// benchStream runs flows in chunks and at once, in turns in one context, so that
// both meet the same clock rate and neighbours, and neither finds its own rows or
// planes in the caches. Appending the chunks before the last one is not timed:
// it happens while the flow still arrives.
func benchStream(e *engine.Engine, p *bundle.Program, length, chunk int, d time.Duration) (*streamReport, error) {
	ctx, out, in, s := e.NewContext(), e.NewOutput(), benchTokens(p, 1, length), e.NewStream()
	last := (length - 1) / chunk * chunk // where the last chunk begins
	var chunked, whole []time.Duration
	for i, end := 0, time.Now().Add(d); len(whole) == 0 || time.Now().Before(end); i++ {
		s.Begin()
		tokens := in[i%benchInputs]
		for at := 0; at < last; at += chunk {
			if err := ctx.Append(s, tokens[at:at+chunk]); err != nil {
				return nil, err
			}
		}
		start := time.Now()
		if err := ctx.Run(in[(i+benchInputs/2)%benchInputs], length, out); err != nil {
			return nil, err
		}
		middle := time.Now()
		if err := ctx.Append(s, tokens[last:length]); err != nil {
			return nil, err
		}
		if err := ctx.Finish(s, 0, in[0][p.Length:], out); err != nil {
			return nil, err
		}
		done := time.Now()
		if i >= benchInputs { // the first round warms up
			whole, chunked = append(whole, middle.Sub(start)), append(chunked, done.Sub(middle))
		}
	}
	median := func(t []time.Duration) float64 {
		slices.Sort(t)
		return float64(t[len(t)/2]) / 1e3
	}
	r := &streamReport{Chunk: chunk, Flows: len(whole), LastP50: median(chunked), OneGoP50: median(whole), StateBytes: e.StateBytes()}
	r.Ratio = r.LastP50 / r.OneGoP50
	return r, nil
}

func (r *streamReport) print(w io.Writer) {
	fmt.Fprintf(w, "  in chunks of %s: last chunk to verdict p50 %.1f us, at once p50 %.1f us (%.1f %%), %s in turns, %s of state per flow\n",
		plural.Of(r.Chunk, "token"), r.LastP50, r.OneGoP50, 100*r.Ratio, plural.Of(r.Flows, "flow"), plural.Of(r.StateBytes, "byte"))
}
