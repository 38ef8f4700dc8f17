package ir

import (
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
)

// PrintOptions say where large constants go.
type PrintOptions struct {
	// Inline is the largest number of elements printed in place; 0 stands
	// for DefaultInline.
	Inline int
	// Resources stores the data of larger constants. nil: they are printed
	// as references all the same, which only a store that has them resolves.
	Resources Resources
}

// DefaultInline is the largest constant that is printed in place.
const DefaultInline = 64

// Print is the graph as text; constants of more than DefaultInline elements
// are references to their content.
func Print(g *Graph) string {
	var b strings.Builder
	// A strings.Builder doesn't fail, nor does a nil store.
	_ = Fprint(&b, g, PrintOptions{})
	return b.String()
}

// Fprint writes the graph as text. Parse is its inverse for graphs that Check
// accepts.
func Fprint(w io.Writer, g *Graph, opts PrintOptions) error {
	if opts.Inline == 0 {
		opts.Inline = DefaultInline
	}
	p := &printer{opts: opts, seen: make(map[*Value]bool)}
	p.graph(g)
	if p.err != nil {
		return p.err
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

type printer struct {
	b    strings.Builder
	opts PrintOptions
	seen map[*Value]bool // constants that have a line
	err  error
}

func (p *printer) graph(g *Graph) {
	fmt.Fprintf(&p.b, "graph %s {\n", strconv.Quote(g.Name))
	for _, v := range g.Inputs {
		fmt.Fprintf(&p.b, "  %s = input %s\n", ref(v), v.Type)
	}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			p.constant(v)
		}
		p.node(n)
	}
	for i, v := range g.Outputs {
		p.constant(v)
		fmt.Fprintf(&p.b, "  output %s", ref(v))
		if i < len(g.OutputNames) {
			fmt.Fprintf(&p.b, " as %s", strconv.Quote(g.OutputNames[i]))
		}
		p.b.WriteByte('\n')
	}
	p.b.WriteString("}\n")
}

// constant prints the line of a constant before its first use.
func (p *printer) constant(v *Value) {
	if v == nil || v.Const == nil || p.seen[v] {
		return
	}
	p.seen[v] = true
	fmt.Fprintf(&p.b, "  %s = const %s ", ref(v), v.Type)
	if v.Const.Len() <= p.opts.Inline {
		writeData(&p.b, v.Const)
		p.b.WriteByte('\n')
		return
	}
	name := contentRef(v.Const.Bytes())
	if p.opts.Resources != nil {
		var err error
		if name, err = p.opts.Resources.Put(v.Const); err != nil && p.err == nil {
			p.err = fmt.Errorf("constant %%%s: %w", v.Name, err)
		}
	}
	fmt.Fprintf(&p.b, "ref %s\n", strconv.Quote(name))
}

func (p *printer) node(n *Node) {
	p.b.WriteString("  ")
	for i, v := range n.Outputs {
		if i > 0 {
			p.b.WriteString(", ")
		}
		p.b.WriteString(ref(v))
	}
	fmt.Fprintf(&p.b, " = %s(", bare(n.Op))
	for i, v := range n.Inputs {
		if i > 0 {
			p.b.WriteString(", ")
		}
		p.b.WriteString(ref(v))
	}
	p.b.WriteByte(')')
	if len(n.Attrs) > 0 {
		p.b.WriteString(" {")
		keys := make([]string, 0, len(n.Attrs))
		for k := range n.Attrs {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for i, k := range keys {
			if i > 0 {
				p.b.WriteString(", ")
			}
			fmt.Fprintf(&p.b, "%s=%s", bare(k), formatAttr(n.Attrs[k]))
		}
		p.b.WriteByte('}')
	}
	p.b.WriteString(" : ")
	for i, v := range n.Outputs {
		if i > 0 {
			p.b.WriteString(", ")
		}
		if v != nil {
			p.b.WriteString(v.Type.String())
		}
	}
	if n.Origin != "" {
		fmt.Fprintf(&p.b, " @%s", strconv.Quote(n.Origin))
	}
	p.b.WriteByte('\n')
}

// ref is how a value is referred to.
func ref(v *Value) string {
	if v == nil {
		return "_"
	}
	return "%" + bare(v.Name)
}

// bare quotes names that aren't plain words.
func bare(name string) string {
	for i := range len(name) {
		if !wordByte(name[i]) {
			return strconv.Quote(name)
		}
	}
	if name == "" {
		return `""`
	}
	return name
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_./:-", c) >= 0
}

// formatAttr writes floats so that they don't look like integers.
func formatAttr(v any) string {
	switch v := v.(type) {
	case int:
		return strconv.Itoa(v)
	case float64:
		return formatFloat64(v)
	case string:
		return strconv.Quote(v)
	case []int:
		return "[" + joinWith(v, strconv.Itoa) + "]"
	case []float64:
		if len(v) == 0 {
			return "floats[]"
		}
		return "[" + joinWith(v, formatFloat64) + "]"
	}
	return fmt.Sprintf("?%T", v)
}

func joinWith[T any](v []T, f func(T) string) string {
	s := make([]string, len(v))
	for i, x := range v {
		s[i] = f(x)
	}
	return strings.Join(s, ", ")
}

func formatFloat64(v float64) string {
	if v != v {
		return nanName(math.Float64bits(v) == math.Float64bits(math.NaN()), math.Float64bits(v))
	}
	return withPoint(strconv.FormatFloat(v, 'g', -1, 64))
}

func formatFloat32(v float32) string {
	if v != v {
		return nanName(math.Float32bits(v) == math.Float32bits(float32(math.NaN())), uint64(math.Float32bits(v)))
	}
	return strconv.FormatFloat(float64(v), 'g', -1, 32)
}

// nanName keeps the bits of an unusual NaN.
func nanName(usual bool, bits uint64) string {
	if usual {
		return "NaN"
	}
	return fmt.Sprintf("NaN:%x", bits)
}

func withPoint(s string) string {
	if strings.ContainsAny(s, ".eIN") {
		return s
	}
	return s + ".0"
}

func writeData(b *strings.Builder, t *Tensor) {
	b.WriteByte('[')
	switch d := t.Data.(type) {
	case []float32:
		b.WriteString(joinWith(d, formatFloat32))
	case []float64:
		b.WriteString(joinWith(d, formatFloat64))
	case []bool:
		b.WriteString(joinWith(d, strconv.FormatBool))
	default:
		v, _ := t.Ints()
		b.WriteString(joinWith(v, strconv.Itoa))
	}
	b.WriteByte(']')
}
