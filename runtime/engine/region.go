package engine

import (
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/internal/kernels/gated"
	"nepcoc/runtime/internal/kernels/lookup"
	"nepcoc/runtime/internal/kernels/plane"
)

// The steps of the local region that work on planes: the token table, gated
// layers and the reduction over positions. They compute rows [done, need) of
// their output, so that streams can go on where the last chunk ended.

func bindTokenTable(e *Engine, s *bundle.Step) (func(*Context), error) {
	v, t := s.Out, &e.p.Tensors[s.TokenTable.Table]
	cols := e.p.Values[v].Cols
	if t.DType == bundle.I16 {
		table := shorts(t)
		return func(c *Context) {
			for i, tok := range c.tokens[:c.need[v]] {
				copy(c.i16[v][i*cols:][:cols], table[int(tok)*cols:])
			}
		}, nil
	}
	table, err := lookup.New(bytesOf(t), cols, e.planes)
	if err != nil {
		return nil, err
	}
	inRows, inPlane := e.lay.place[rowForm][v] != nil, e.lay.place[planeForm][v] != nil
	return func(c *Context) {
		from, tokens := c.done[v], c.tokens[c.done[v]:c.need[v]]
		if inPlane {
			table.Load(&c.planes[v], from, tokens)
		}
		switch rows := c.i8[v]; {
		case inRows && cols == 1:
			data, dst := bytesOf(t), rows[from:][:len(tokens)]
			for i, tok := range tokens {
				dst[i] = data[tok]
			}
		case inRows:
			for i, tok := range tokens {
				copy(rows[(from+i)*cols:][:cols], table.Row(tok))
			}
		}
	}, nil
}

func bindGated(e *Engine, s *bundle.Step) (func(*Context), error) {
	params, err := gated.FromStep(e.p, s)
	if err != nil {
		return nil, err
	}
	if params.Norm != nil && params.Norm.Shift == 0 {
		params.Norm.Shift = 1 // not used where the output is int16, but checked
	}
	layer, err := gated.New(params, e.planes)
	if err != nil {
		return nil, err
	}
	if params.Norm != nil {
		e.gatedChannels = max(e.gatedChannels, params.C)
	}
	in, out, rows := s.In[0], s.Out, e.p.Values[s.In[0]].Rows
	// padded is the input with padding where the wanted rows reach it.
	padded := func(c *Context) *plane.Plane {
		src := &c.planes[in]
		layer.Pad(src, rows, c.done[out], c.need[out]-c.done[out])
		return src
	}
	// residual is nil where there is none.
	residual := func(*Context) *plane.Plane { return nil }
	if len(s.In) == 2 {
		residual = func(c *Context) *plane.Plane { return &c.planes[s.In[1]] }
	}
	switch {
	case params.Norm == nil:
		return alsoRows(e, out, func(c *Context) {
			layer.Plain(&c.planes[out], padded(c), c.done[out], c.need[out]-c.done[out])
		}), nil
	case e.pooled[out]:
		return func(c *Context) {
			from, to := c.done[out], c.need[out]
			if from == 0 {
				c.acc[out].Reset()
			}
			layer.NormPool(c.acc[out], padded(c), residual(c), from, to-from, c.norm)
		}, nil
	case e.p.Values[out].DType == bundle.I8:
		return alsoRows(e, out, func(c *Context) {
			layer.Norm(&c.planes[out], padded(c), residual(c), c.done[out], c.need[out]-c.done[out], c.norm)
		}), nil
	}
	return func(c *Context) {
		layer.NormWide(c.i16[out], padded(c), residual(c), c.need[out], c.norm)
	}, nil
}
