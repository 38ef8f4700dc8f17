package bundle

import "slices"

// tensors are the places of a step that name tensors; -1 stands for none there.
func (s *Step) tensors() (refs []*int) {
	add := func(r ...*int) { refs = append(refs, r...) }
	if t := s.TokenTable; t != nil {
		add(&t.Table)
	}
	if g := s.GatedConv; g != nil {
		add(&g.ChanH, &g.ChanG, &g.TapsH, &g.TapsG, &g.BiasH, &g.BiasG, &g.PadIn, &g.Base, &g.Slope)
		if n := g.Norm; n != nil {
			add(&n.Rho, &n.Cst, &n.Flip)
		}
	}
	if k := s.Conv; k != nil {
		add(&k.W, &k.Bias, &k.Pad, &k.Requant.Mult, &k.Requant.Table)
	}
	if l := s.Lut; l != nil {
		add(&l.Table)
	}
	if l := s.LayerNorm; l != nil {
		add(&l.Gamma, &l.Beta)
	}
	if g := s.Gather; g != nil {
		add(&g.Index, &g.Pad)
	}
	if k := s.Constant; k != nil {
		add(&k.Data)
	}
	if k := s.Softmax; k != nil {
		add(&k.Exp)
	}
	if k := s.Side; k != nil {
		add(&k.Zero, &k.Mult)
	}
	return refs
}

// copied is a step whose parameters can be changed without changing s.
func (s Step) copied() Step {
	copyOf(&s.TokenTable)
	copyOf(&s.GatedConv)
	if s.GatedConv != nil {
		copyOf(&s.GatedConv.Norm)
	}
	copyOf(&s.Conv)
	copyOf(&s.Lut)
	copyOf(&s.LayerNorm)
	copyOf(&s.Gather)
	copyOf(&s.Constant)
	copyOf(&s.Softmax)
	copyOf(&s.Side)
	s.In = slices.Clone(s.In)
	return s
}

func copyOf[T any](p **T) {
	if *p != nil {
		c := **p
		*p = &c
	}
}

// Prune is the part of a valid program that its outputs and what belongs to them need: steps, values and tensors, numbered anew. p stays as it is.
func (p *Program) Prune() *Program {
	needed := make([]bool, len(p.Values))
	for _, o := range p.Outputs {
		needed[o.Value] = true
	}
	for i := range p.Belonging {
		needed[p.Belonging[i].Value] = true
	}
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if s := &p.Steps[i]; needed[s.Out] {
			for _, v := range s.In {
				needed[v] = true
			}
		}
	}
	out := *p
	out.Values, out.Tensors, out.Steps, out.Outputs = nil, nil, nil, slices.Clone(p.Outputs)
	out.Belonging = slices.Clone(p.Belonging)
	value := make([]int, len(p.Values))
	for v := range p.Values {
		if needed[v] {
			value[v] = len(out.Values)
			out.Values = append(out.Values, p.Values[v])
		}
	}
	used := make([]bool, len(p.Tensors))
	mark := func(refs []*int) {
		for _, r := range refs {
			if *r >= 0 {
				used[*r] = true
			}
		}
	}
	for i := range p.Steps {
		if !needed[p.Steps[i].Out] {
			continue
		}
		s := p.Steps[i].copied()
		s.Out = value[s.Out]
		for k, v := range s.In {
			s.In[k] = value[v]
		}
		mark(s.tensors())
		out.Steps = append(out.Steps, s)
	}
	for i := range out.Outputs {
		out.Outputs[i].Value = value[out.Outputs[i].Value]
		mark([]*int{&out.Outputs[i].Exp})
	}
	for i := range out.Belonging {
		out.Belonging[i].Value = value[out.Belonging[i].Value]
		mark(out.Belonging[i].tensors())
	}
	tensor := make([]int, len(p.Tensors))
	for t := range p.Tensors {
		if used[t] {
			tensor[t] = len(out.Tensors)
			out.Tensors = append(out.Tensors, p.Tensors[t])
		}
	}
	move := func(refs []*int) {
		for _, r := range refs {
			if *r >= 0 {
				*r = tensor[*r]
			}
		}
	}
	for i := range out.Steps {
		move(out.Steps[i].tensors())
	}
	for i := range out.Outputs {
		move([]*int{&out.Outputs[i].Exp})
	}
	for i := range out.Belonging {
		move(out.Belonging[i].tensors())
	}
	return &out
}
