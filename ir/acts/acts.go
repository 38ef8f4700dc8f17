// Package acts is the table of activation functions: what each computes on real
// numbers, whether a layer may carry it, and how its integer form is made. The
// operators that name a function (act, and conv and linear by an attribute), the
// interpreter, the passes and the documentation all read it here: a
// function is one entry.
//
// It imports nothing of the project but internal/exact: tables of functions
// reach a bundle, and must be the same bits on every CPU.
package acts

// Params are the parameters of one use of a function, by name.
type Params func(name string) float64

// Param is a parameter and its default, which is ONNX's.
type Param struct {
	Name    string
	Default float64
}

// Func is one entry of the table.
type Func struct {
	Name string
	// Doc is the formula. ONNX is the standard's operator for it, "" where
	// exporters write it in other operators.
	Doc, ONNX string
	Params    []Param
	// SlopeInput says that alpha is no parameter but an input of the node, one
	// for all channels or one per channel.
	SlopeInput bool

	// Float is the function of real numbers.
	Float func(p Params) func(x float64) float64
	// Limits is set where the function only limits its input: its integer form
	// is the limits of a requantisation. The other integer forms are tables.
	Limits func(p Params) (lo, hi float64)
	// Table is tabulated instead of Float where that is no finite number
	// for some inputs.
	Table func(p Params) func(x float64) float64
	// reach is for functions whose results tell how far their inputs go: those
	// a layer may carry, as it rescales its sums to a table's entries.
	reach reach
}

// Fuses says that conv and linear may carry the function.
func (f *Func) Fuses() bool { return f.reach != nil || f.Limits != nil }

// Complete adds the defaults to the parameters that a node has: given is false
// for the others.
func (f *Func) Complete(node func(name string) (x float64, given bool)) Params {
	return func(name string) float64 {
		if x, ok := node(name); ok {
			return x
		}
		for _, p := range f.Params {
			if p.Name == name {
				return p.Default
			}
		}
		panic("BUG: " + f.Name + " has no parameter " + name)
	}
}

// Tabulated is the function as a table holds it: finite for all finite inputs.
func (f *Func) Tabulated(p Params) func(x float64) float64 {
	if f.Table != nil {
		return f.Table(p)
	}
	return f.Float(p)
}

// Reach is the largest magnitude of an input that matters for results in
// [lo,hi]. Only functions that fuse and are no mere limits have one.
func (f *Func) Reach(p Params, lo, hi float64) float64 {
	return f.reach(f.Float(p), p, lo, hi)
}

// Lookup finds a function by name; nil where there is none.
func Lookup(name string) *Func {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}

// Funcs is the table, in its order.
func Funcs() []*Func {
	all := make([]*Func, len(table))
	for i := range table {
		all[i] = &table[i]
	}
	return all
}

// Names lists the functions that suit, in the table's order.
func Names(suits func(*Func) bool) []string {
	var names []string
	for _, f := range Funcs() {
		if suits(f) {
			names = append(names, f.Name)
		}
	}
	return names
}
