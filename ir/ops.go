package ir

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// OpGroup says at which stage of compilation an operator exists.
type OpGroup string

// The groups, in the order a model passes through them.
const (
	GroupONNX      OpGroup = "onnx"      // as imported
	GroupCanonical OpGroup = "canonical" // time-major, after passes/canonical
	GroupFused     OpGroup = "fused"     // made by passes/fuse
	GroupInteger   OpGroup = "integer"   // mirrors of the bundle's steps, made by passes/quantize
)

// AttrKind is the dynamic type an attribute must have.
type AttrKind string

// The kinds of attributes. AttrNumber is an int or a float64.
const (
	AttrInt    AttrKind = "int"
	AttrFloat  AttrKind = "float"
	AttrString AttrKind = "string"
	AttrInts   AttrKind = "ints"
	AttrFloats AttrKind = "floats"
	AttrNumber AttrKind = "number"
)

// Attr describes one allowed attribute of an operator.
type Attr struct {
	Name     string
	Kind     AttrKind
	Required bool
	// Enum lists the allowed values of a string attribute; nil allows any.
	Enum []string
	// Lo and Hi bound an int or each of ints; both 0: as far as shape rules can compute.
	Lo, Hi int
	Doc    string
}

// Many as MaxIn or MaxOut stands for "any number".
const Many = -1

// Op is one line of the table of operators: everything that the importer, the
// checker, the interpreter and the documentation must agree on.
type Op struct {
	Name  string
	Group OpGroup
	// Inputs beyond MinIn may be omitted, and those in Optional. MaxIn and
	// MaxOut may be Many.
	MinIn, MaxIn   int
	MinOut, MaxOut int
	Optional       []int
	// In names the inputs, for messages and documentation.
	In    []string
	Attrs []Attr
	// Doc is one line; Limits says, in the user's words, what of the
	// standard's operator is not taken ("" : all of it).
	Doc    string
	Limits string
	// MinOpset and MaxOpset are the ONNX opsets from which the operator is
	// taken; 0 outside GroupONNX.
	MinOpset, MaxOpset int
	// Pointwise says that an element of the result is computed of the elements in
	// its place, broadcast, alone. Picks says that the result's elements are
	// elements of the inputs, or lie between them, so that integers keep their
	// scale.
	Pointwise, Picks bool
	// Integer is the integer form of a canonical or fused operator; where there is
	// none, Until says which pass leaves none of it, and what becomes of it.
	Integer *IntegerForm
	Until   string

	infer func(*Node) ([]Type, error)
}

// IntegerForm is what passes/quantize makes of an operator.
type IntegerForm struct {
	// Steps says which steps of a program stand for it.
	Steps string
	// Constants is the first input that must be constant; those before it
	// must be computed. Many: none may be constant; OneOf: one of the two may.
	Constants int
}

// OneOf as IntegerForm.Constants stands for operators of two operands.
const OneOf = -2

// The opsets that the importer takes.
const (
	MinOpset = 7
	MaxOpset = 21
)

var (
	// ErrDeclared is returned by Infer for integer steps without a declared result: its element
	// type, which inputs don't imply, is the quantize pass's choice.
	ErrDeclared = errors.New("result type must be declared")
	// ErrNotConst is returned (wrapped) by Infer where the shape of the
	// result depends on an input that is not a constant of the graph.
	ErrNotConst = errors.New("not known at compile time")
)

// opTable is filled by init, as the rules in it look operators up.
var opTable map[string]*Op

func init() { opTable = buildOpTable(onnxOps(), canonicalOps(), fusedOps(), integerOps()) }

func buildOpTable(groups ...[]Op) map[string]*Op {
	table := make(map[string]*Op)
	for _, ops := range groups {
		for i := range ops {
			op := &ops[i]
			if _, dup := table[op.Name]; dup || op.infer == nil {
				panic("BUG: operator table: " + op.Name)
			}
			table[op.Name] = op
		}
	}
	return table
}

// LookupOp finds an operator by name; nil where there is none.
func LookupOp(name string) *Op { return opTable[name] }

// Ops lists the operators of a group, by name.
func Ops(group OpGroup) []*Op {
	var ops []*Op
	for _, op := range opTable {
		if op.Group == group {
			ops = append(ops, op)
		}
	}
	sort.Slice(ops, func(i, j int) bool { return ops[i].Name < ops[j].Name })
	return ops
}

// Attr finds the description of an attribute; nil where it is not allowed.
func (op *Op) Attr(name string) *Attr {
	for i := range op.Attrs {
		if op.Attrs[i].Name == name {
			return &op.Attrs[i]
		}
	}
	return nil
}

// inputName is "input 1 (shape)" or "input 7".
func (op *Op) inputName(i int) string {
	if i < len(op.In) {
		return fmt.Sprintf("input %d (%s)", i, op.In[i])
	}
	return fmt.Sprintf("input %d", i)
}

// form lists what is wrong with a node's arity and attributes, apart from types.
func (op *Op) form(n *Node) []string {
	var bad []string
	report := func(format string, a ...any) { bad = append(bad, fmt.Sprintf(format, a...)) }
	if len(n.Inputs) < op.MinIn || (op.MaxIn != Many && len(n.Inputs) > op.MaxIn) {
		report("has %d inputs, takes %s", len(n.Inputs), arity(op.MinIn, op.MaxIn))
	}
	for i, v := range n.Inputs {
		switch {
		case v != nil:
		case op.Required(i):
			report("%s is required", op.inputName(i))
		case i == len(n.Inputs)-1:
			report("the last input is an omitted one")
		}
	}
	if len(n.Outputs) < op.MinOut || (op.MaxOut != Many && len(n.Outputs) > op.MaxOut) {
		report("has %d outputs, gives %s", len(n.Outputs), arity(op.MinOut, op.MaxOut))
	}
	keys := make([]string, 0, len(n.Attrs))
	for k := range n.Attrs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		a := op.Attr(k)
		if a == nil {
			report("attribute %q is not known here", k)
			continue
		}
		if why := a.accept(n.Attrs[k]); why != "" {
			report("attribute %s: %s", k, why)
		}
	}
	for _, a := range op.Attrs {
		if _, ok := n.Attrs[a.Name]; a.Required && !ok {
			report("attribute %s is required", a.Name)
		}
	}
	return bad
}

// Required says whether input i may not be omitted.
func (op *Op) Required(i int) bool {
	return (i < op.MinIn || op.MaxIn == Many) && !slices.Contains(op.Optional, i)
}

func arity(lo, hi int) string {
	switch {
	case hi == Many:
		return fmt.Sprintf("%d or more", lo)
	case lo == hi:
		return fmt.Sprint(lo)
	}
	return fmt.Sprintf("%d to %d", lo, hi)
}

// accept says why a value doesn't suit the attribute, "" where it does.
func (a *Attr) accept(v any) string {
	var ok bool
	switch a.Kind {
	case AttrInt:
		i, isInt := v.(int)
		if isInt && !a.inRange(i) {
			return fmt.Sprintf("%d is out of range", i)
		}
		ok = isInt
	case AttrInts:
		l, isInts := v.([]int)
		for _, i := range l {
			if !a.inRange(i) {
				return fmt.Sprintf("%d is out of range", i)
			}
		}
		ok = isInts
	case AttrFloat:
		_, ok = v.(float64)
	case AttrFloats:
		_, ok = v.([]float64)
	case AttrNumber:
		_, isInt := v.(int)
		_, isFloat := v.(float64)
		ok = isInt || isFloat
	case AttrString:
		s, isString := v.(string)
		if isString && a.Enum != nil && !slices.Contains(a.Enum, s) {
			return fmt.Sprintf("%q is not one of %s", s, strings.Join(a.Enum, ", "))
		}
		ok = isString
	}
	if !ok {
		return fmt.Sprintf("wants %s, has %T", a.Kind, v)
	}
	return ""
}

// inRange bounds integers, by default so that shape rules can add and multiply two of them without
// overflow.
func (a *Attr) inRange(i int) bool {
	if a.Lo == 0 && a.Hi == 0 {
		return smallInt(i)
	}
	return i >= a.Lo && i <= a.Hi
}

func smallInt(i int) bool { return i >= -MaxElements && i <= MaxElements }

func attr(name string, kind AttrKind, doc string) Attr {
	return Attr{Name: name, Kind: kind, Doc: doc}
}

func required(a Attr) Attr { a.Required = true; return a }

func enum(name, doc string, values ...string) Attr {
	return Attr{Name: name, Kind: AttrString, Enum: values, Doc: doc}
}
