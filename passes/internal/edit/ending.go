package edit

import "nepcoc/ir"

// endingRank orders what may stand between the logits and an output: each may follow
// those of lower rank. Casts may stand anywhere among them.
var endingRank = map[string]int{"softmax": 1, "log_softmax": 1, "sigmoid": 1, "argmax": 2, "cast": 3}

// EndingName is the name of an operator that may end a model, "" for others. Softmax, log_softmax, sigmoid and
// argmax keep the order of the logits, so the program ends before them.
func EndingName(n *ir.Node) string {
	name := n.Op
	if n.Op == "act" {
		name = n.Str("fn", "")
	}
	if endingRank[name] == 0 {
		return ""
	}
	return name
}

// EndingRank is the place of an operator in an ending, 0 where it is none.
func EndingRank(n *ir.Node) int { return endingRank[EndingName(n)] }

// Logits are what an output is made of, and kind is what the model itself made of them:
// "logits" (nothing), or the name of the last operator of its ending but for casts, since a label
// says no probabilities.
func Logits(output *ir.Value) (logits *ir.Value, kind string) {
	logits, kind, _ = ending(output)
	return logits, kind
}

// Endings are the operators that stand between an output and its logits. Others may
// read their results, too.
func Endings(g *ir.Graph) map[*ir.Node]bool {
	all := make(map[*ir.Node]bool)
	for _, v := range g.Outputs {
		_, _, nodes := ending(v)
		for _, n := range nodes {
			all[n] = true
		}
	}
	return all
}

func ending(output *ir.Value) (logits *ir.Value, kind string, nodes []*ir.Node) {
	logits, kind = output, "logits"
	var casts []*ir.Node // of the ending, if it goes on before them
	limit := endingRank["cast"]
	for v := output; v.Def != nil; v = v.Def.Inputs[0] {
		n := v.Def
		rank := EndingRank(n)
		switch {
		case n.Op == "cast":
			casts = append(casts, n)
			continue
		case rank == 0 || rank >= limit:
			return logits, kind, nodes
		case kind == "logits":
			kind = EndingName(n)
		}
		nodes = append(append(nodes, casts...), n)
		logits, limit, casts = n.Inputs[0], rank, nil
	}
	return logits, kind, nodes
}
