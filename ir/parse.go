package ir

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Parse reads the text that Print writes, with every constant in place.
func Parse(text string) (*Graph, error) { return ParseWith(text, nil) }

// ParseWith is Parse with a store for the constants that are references. It
// checks form, not meaning: what it accepts may still be refused by Check.
// Errors name the line.
func ParseWith(text string, res Resources) (*Graph, error) {
	p := &parser{res: res, values: make(map[string]*Value)}
	g, err := p.graph(text)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", p.line, err)
	}
	return g, nil
}

type parser struct {
	res    Resources
	values map[string]*Value
	line   int
	rest   string // of the current line
}

func (p *parser) graph(text string) (*Graph, error) {
	g := &Graph{}
	const before, inside, after = 0, 1, 2
	state := before
	for line := range strings.Lines(text) {
		p.line++
		p.rest = strings.TrimRight(line, "\r\n")
		p.space()
		if p.rest == "" || strings.HasPrefix(p.rest, "//") {
			continue
		}
		var err error
		switch {
		case state == before:
			state = inside
			err = p.header(g)
		case state == after:
			err = p.fail("nothing after the closing brace")
		case p.rest == "}":
			state = after
		case p.rest[0] == '%':
			err = p.definition(g)
		default:
			err = p.output(g)
		}
		if err != nil {
			return nil, err
		}
	}
	if state != after {
		return nil, fmt.Errorf("the text ends before the graph does")
	}
	return g, nil
}

func (p *parser) header(g *Graph) (err error) {
	if err = p.word("graph"); err != nil {
		return err
	}
	if g.Name, err = p.quoted(); err != nil {
		return err
	}
	if err = p.token("{"); err != nil {
		return err
	}
	return p.end()
}

func (p *parser) output(g *Graph) error {
	if err := p.word("output"); err != nil {
		return err
	}
	v, err := p.use()
	if err != nil {
		return err
	}
	if v == nil {
		return p.fail("a value")
	}
	name := v.Name
	if p.rest != "" {
		if err := p.word("as"); err != nil {
			return err
		}
		if name, err = p.quoted(); err != nil {
			return err
		}
	}
	g.Outputs = append(g.Outputs, v)
	g.OutputNames = append(g.OutputNames, name)
	return p.end()
}

// definition parses the lines that start with a value's name.
func (p *parser) definition(g *Graph) error {
	var outs []*Value
	for {
		name, err := p.name()
		if err != nil {
			return err
		}
		if p.values[name] != nil {
			return fmt.Errorf("%%%s is defined twice", bare(name))
		}
		v := &Value{Name: name}
		p.values[name] = v
		outs = append(outs, v)
		if !p.take(",") {
			break
		}
	}
	if err := p.token("="); err != nil {
		return err
	}
	op, err := p.text()
	if err != nil {
		return err
	}
	switch {
	case op == "input" && len(outs) == 1 && !strings.HasPrefix(p.rest, "("):
		g.Inputs = append(g.Inputs, outs[0])
		if outs[0].Type, err = p.typ(); err != nil {
			return err
		}
		return p.end()
	case op == "const" && len(outs) == 1 && !strings.HasPrefix(p.rest, "("):
		return p.constant(outs[0])
	}
	n := &Node{Op: op, Outputs: outs}
	for _, v := range outs {
		v.Def = n
	}
	g.Nodes = append(g.Nodes, n)
	return p.node(n)
}

func (p *parser) node(n *Node) error {
	if err := p.token("("); err != nil {
		return err
	}
	for !p.take(")") {
		if len(n.Inputs) > 0 {
			if err := p.token(","); err != nil {
				return err
			}
		}
		v, err := p.use()
		if err != nil {
			return err
		}
		if v != nil && v.Def == n {
			return fmt.Errorf("%%%s reads itself", bare(v.Name))
		}
		n.Inputs = append(n.Inputs, v)
	}
	for len(n.Inputs) > 0 && n.Inputs[len(n.Inputs)-1] == nil {
		n.Inputs = n.Inputs[:len(n.Inputs)-1]
	}
	if p.take("{") {
		if err := p.attrs(n); err != nil {
			return err
		}
	}
	if err := p.token(":"); err != nil {
		return err
	}
	for i, v := range n.Outputs {
		if i > 0 {
			if err := p.token(","); err != nil {
				return err
			}
		}
		var err error
		if v.Type, err = p.typ(); err != nil {
			return err
		}
	}
	if p.take("@") {
		var err error
		if n.Origin, err = p.quoted(); err != nil {
			return err
		}
	}
	return p.end()
}

func (p *parser) attrs(n *Node) error {
	n.Attrs = make(Attrs)
	for !p.take("}") {
		if len(n.Attrs) > 0 {
			if err := p.token(","); err != nil {
				return err
			}
		}
		key, err := p.text()
		if err != nil {
			return err
		}
		if _, dup := n.Attrs[key]; dup {
			return fmt.Errorf("attribute %s is given twice", bare(key))
		}
		if err := p.token("="); err != nil {
			return err
		}
		if n.Attrs[key], err = p.attr(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) attr() (any, error) {
	switch {
	case strings.HasPrefix(p.rest, `"`):
		return p.quoted()
	case p.take("floats[]"):
		return []float64{}, nil
	case p.take("["):
		words, err := p.list()
		if err != nil {
			return nil, err
		}
		ints, err := eachWord(words, strconv.Atoi)
		if err == nil {
			return ints, nil
		}
		return eachWord(words, parseFloat64)
	}
	word := p.number()
	if i, err := strconv.Atoi(word); err == nil {
		return i, nil
	}
	f, err := parseFloat64(word)
	return f, err
}

func eachWord[T any](words []string, parse func(string) (T, error)) ([]T, error) {
	v := make([]T, len(words))
	var err error
	for i, w := range words {
		if v[i], err = parse(w); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func parseFloat64(s string) (float64, error) {
	if bits, ok := strings.CutPrefix(s, "NaN:"); ok {
		u, err := strconv.ParseUint(bits, 16, 64)
		if f := math.Float64frombits(u); err == nil && f != f {
			return f, nil
		}
		return 0, fmt.Errorf("%q is not a NaN", s)
	}
	if strings.ContainsAny(s, "_xX") {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return strconv.ParseFloat(s, 64)
}

func parseFloat32(s string) (float32, error) {
	if bits, ok := strings.CutPrefix(s, "NaN:"); ok {
		u, err := strconv.ParseUint(bits, 16, 32)
		if f := math.Float32frombits(uint32(u)); err == nil && f != f {
			return f, nil
		}
		return 0, fmt.Errorf("%q is not a NaN", s)
	}
	if strings.ContainsAny(s, "_xX") {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	f, err := strconv.ParseFloat(s, 32)
	return float32(f), err
}

func parseSigned[T int64 | int32 | int16 | int8](bits int) func(string) (T, error) {
	return func(s string) (T, error) {
		v, err := strconv.ParseInt(s, 10, bits)
		return T(v), err
	}
}

func parseUnsigned[T uint8 | uint16](bits int) func(string) (T, error) {
	return func(s string) (T, error) {
		v, err := strconv.ParseUint(s, 10, bits)
		return T(v), err
	}
}

func parseBool(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return s == "true", nil
}

func (p *parser) constant(v *Value) error {
	var err error
	if v.Type, err = p.typ(); err != nil {
		return err
	}
	if p.take("[") {
		words, err := p.list()
		if err != nil {
			return err
		}
		if v.Const, err = inlineTensor(v.Type, words); err != nil {
			return err
		}
		return p.end()
	}
	if err := p.word("ref"); err != nil {
		return err
	}
	name, err := p.quoted()
	if err != nil {
		return err
	}
	if p.res == nil {
		return fmt.Errorf("%%%s refers to %q, but there is no store of constants to look in", bare(v.Name), name)
	}
	data, err := p.res.Get(name)
	if err != nil {
		return err
	}
	if v.Const, err = TensorFromBytes(v.Type, data); err != nil {
		return err
	}
	return p.end()
}

// inlineTensor compares the count before anything is allocated: the type may
// promise more than the text holds.
func inlineTensor(t Type, words []string) (*Tensor, error) {
	if t.Len() != len(words) {
		return nil, fmt.Errorf("%s with %d elements", t, len(words))
	}
	var data any
	var err error
	switch t.DType {
	case F32:
		data, err = eachWord(words, parseFloat32)
	case F64:
		data, err = eachWord(words, parseFloat64)
	case I64:
		data, err = eachWord(words, parseSigned[int64](64))
	case I32:
		data, err = eachWord(words, parseSigned[int32](32))
	case I16:
		data, err = eachWord(words, parseSigned[int16](16))
	case I8:
		data, err = eachWord(words, parseSigned[int8](8))
	case U8:
		data, err = eachWord(words, parseUnsigned[uint8](8))
	case U16:
		data, err = eachWord(words, parseUnsigned[uint16](16))
	case Bool:
		data, err = eachWord(words, parseBool)
	}
	return &Tensor{Type{t.DType, slices.Clone(t.Shape)}, data}, err
}

// use is a reference to a defined value, or _ for nil.
func (p *parser) use() (*Value, error) {
	if strings.HasPrefix(p.rest, "_") {
		p.take("_")
		return nil, nil
	}
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	v := p.values[name]
	if v == nil {
		return nil, fmt.Errorf("%%%s is not defined above", bare(name))
	}
	return v, nil
}

func (p *parser) typ() (Type, error) {
	word := p.number()
	d, ok := ParseDType(word)
	if !ok {
		return Type{}, fmt.Errorf("%q is not an element type", word)
	}
	if err := p.token("["); err != nil {
		return Type{}, err
	}
	words, err := p.list()
	if err != nil {
		return Type{}, err
	}
	shape, err := eachWord(words, strconv.Atoi)
	if err != nil {
		return Type{}, err
	}
	t := Type{d, shape}
	return t, t.Validate()
}

// list reads words up to the closing bracket.
func (p *parser) list() ([]string, error) {
	body, rest, found := strings.Cut(p.rest, "]")
	if !found {
		return nil, p.fail("]")
	}
	p.rest = rest
	p.space()
	if strings.TrimSpace(body) == "" {
		return nil, nil
	}
	words := strings.Split(body, ",")
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
	}
	return words, nil
}

// name reads %word or %"quoted".
func (p *parser) name() (string, error) {
	if !strings.HasPrefix(p.rest, "%") {
		return "", p.fail("a value")
	}
	p.rest = p.rest[1:]
	return p.text()
}

// text reads a word or a quoted string.
func (p *parser) text() (string, error) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	n := 0
	for n < len(p.rest) && wordByte(p.rest[n]) {
		n++
	}
	if n == 0 {
		return "", p.fail("a name")
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	p.space()
	return word, nil
}

func (p *parser) quoted() (string, error) {
	prefix, err := strconv.QuotedPrefix(p.rest)
	if err != nil || prefix[0] != '"' {
		return "", p.fail("a quoted string")
	}
	s, err := strconv.Unquote(prefix)
	if err != nil {
		return "", err
	}
	p.rest = p.rest[len(prefix):]
	p.space()
	return s, nil
}

// number reads up to a delimiter; the caller parses what it gets.
func (p *parser) number() string {
	n := strings.IndexAny(p.rest, " \t,}[]")
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	p.space()
	return word
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *parser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
		p.space()
	}
	return ok
}

func (p *parser) token(token string) error {
	if !p.take(token) {
		return p.fail(token)
	}
	return nil
}

func (p *parser) word(want string) error {
	if got, err := p.text(); err != nil || got != want {
		return fmt.Errorf("%q expected", want)
	}
	return nil
}

func (p *parser) end() error {
	if p.rest != "" && !strings.HasPrefix(p.rest, "//") {
		return p.fail("end of line")
	}
	return nil
}

func (p *parser) fail(want string) error {
	return fmt.Errorf("%s expected, found %.40q", want, p.rest)
}
