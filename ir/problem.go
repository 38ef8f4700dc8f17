package ir

import (
	"fmt"
	"strings"
)

// Problem is one thing in a model that the compiler can't take: where it is,
// why, and what the user can do. Passes collect all of them before they give
// up, so that a user sees one list and not one error per attempt.
type Problem struct {
	Kind   string // "": an operator, or a form of one, that is not compiled
	Node   string // name of the node in the model
	Op     string
	Types  []Type // the node's inputs
	Reason string
	Way    string // way out
}

// ProblemOf describes node n; a nil (omitted) input has no type.
func ProblemOf(n *Node, reason, way string) Problem {
	p := Problem{Node: n.Origin, Op: n.Op, Reason: reason, Way: way}
	for _, v := range n.Inputs {
		if v != nil {
			p.Types = append(p.Types, v.Type)
		}
	}
	if p.Node == "" && len(n.Outputs) > 0 {
		p.Node = n.Outputs[0].Name
	}
	return p
}

func (p Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %q: %s", p.Node, p.Op)
	if len(p.Types) > 0 {
		names := make([]string, len(p.Types))
		for i, t := range p.Types {
			names[i] = t.String()
		}
		fmt.Fprintf(&b, "(%s)", strings.Join(names, ", "))
	}
	fmt.Fprintf(&b, ": %s", p.Reason)
	if p.Way != "" {
		fmt.Fprintf(&b, "; %s", p.Way)
	}
	return b.String()
}

// Problems is an error that lists all that is wrong with a model.
type Problems []Problem

func (ps Problems) Error() string {
	if len(ps) == 1 {
		return ps[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems:", len(ps))
	for _, p := range ps {
		b.WriteString("\n  ")
		b.WriteString(p.Error())
	}
	return b.String()
}
