package ir

import (
	"errors"
	"fmt"
	"strings"
)

// CheckError lists everything that Check found wrong, in the graph's order.
type CheckError struct {
	Graph    string
	Problems []string
}

func (e *CheckError) Error() string {
	return fmt.Sprintf("graph %q is not valid:\n\t%s", e.Graph, strings.Join(e.Problems, "\n\t"))
}

// Check verifies the invariants that hold between passes: every value is
// defined before it is read, names are unique, types are valid, each operator
// is in the table with inputs and attributes that it takes, and each declared
// type is what the shape rule says. It reports all problems at once, as a
// *CheckError.
func Check(g *Graph) error {
	c := checker{defined: make(map[*Value]bool), names: make(map[string]*Value)}
	for i, v := range g.Inputs {
		where := fmt.Sprintf("input %d", i)
		if v == nil {
			c.report(where, "is nil")
			continue
		}
		if v.Def != nil || v.Const != nil {
			c.report(where, "%%%s is defined elsewhere too", v.Name)
		}
		c.define(where, v)
	}
	for i, n := range g.Nodes {
		if n == nil {
			c.report(fmt.Sprintf("node %d", i), "is nil")
			continue
		}
		c.node(i, n)
	}
	c.outputs(g)
	if len(c.problems) > 0 {
		return &CheckError{g.Name, c.problems}
	}
	return nil
}

type checker struct {
	defined  map[*Value]bool
	names    map[string]*Value
	problems []string
}

func (c *checker) report(where, format string, a ...any) {
	c.problems = append(c.problems, where+": "+fmt.Sprintf(format, a...))
}

// define registers a value where it comes into being.
func (c *checker) define(where string, v *Value) {
	if c.defined[v] {
		c.report(where, "%%%s is defined twice", v.Name)
		return
	}
	c.defined[v] = true
	if other := c.names[v.Name]; other != nil {
		c.report(where, "the name %%%s is taken", v.Name)
	}
	c.names[v.Name] = v
	if err := v.Type.Validate(); err != nil {
		c.report(where, "%%%s: %v", v.Name, err)
	}
}

// use checks a value where it is read; constants come into being there.
func (c *checker) use(where string, v *Value) {
	if v.Const == nil {
		if !c.defined[v] {
			c.report(where, "%%%s is read before it is defined", v.Name)
		}
		return
	}
	if c.defined[v] {
		return
	}
	c.define(where, v)
	if v.Def != nil {
		c.report(where, "constant %%%s is also the output of a node", v.Name)
	}
	if !v.Type.Equal(v.Const.Type) {
		c.report(where, "constant %%%s is declared %s, holds %s", v.Name, v.Type, v.Const.Type)
	}
	if err := v.Const.Validate(); err != nil {
		c.report(where, "constant %%%s: %v", v.Name, err)
	}
}

func (c *checker) node(i int, n *Node) {
	where := n.describe(i)
	for _, v := range n.Inputs {
		if v != nil {
			c.use(where, v)
		}
	}
	for _, v := range n.Outputs {
		if v == nil {
			c.report(where, "has a nil output")
			return
		}
		if v.Def != n || v.Const != nil {
			c.report(where, "output %%%s doesn't point back to it", v.Name)
		}
		c.define(where, v)
	}
	types, err := Infer(n)
	switch {
	case errors.Is(err, ErrNotConst):
	case err != nil:
		c.report(where, "%v", err)
	default:
		for j, t := range types {
			if v := n.Outputs[j]; !v.Type.Equal(t) {
				c.report(where, "%%%s is declared %s, %s gives %s", v.Name, v.Type, n.Op, t)
			}
		}
	}
}

// describe is how messages name a node.
func (n *Node) describe(i int) string {
	s := fmt.Sprintf("node %d", i)
	if len(n.Outputs) > 0 && n.Outputs[0] != nil {
		s += " %" + n.Outputs[0].Name
	}
	s += " = " + n.Op
	if n.Origin != "" {
		s += fmt.Sprintf(" (%q)", n.Origin)
	}
	return s
}

func (c *checker) outputs(g *Graph) {
	if len(g.OutputNames) != len(g.Outputs) {
		c.report("outputs", "there are %d, with %d names", len(g.Outputs), len(g.OutputNames))
	}
	seen := make(map[string]bool)
	for i, v := range g.Outputs {
		where := fmt.Sprintf("output %d", i)
		if v == nil {
			c.report(where, "is nil")
			continue
		}
		c.use(where, v)
		if i < len(g.OutputNames) {
			if name := g.OutputNames[i]; seen[name] {
				c.report(where, "the name %q is taken", name)
			} else {
				seen[name] = true
			}
		}
	}
}
