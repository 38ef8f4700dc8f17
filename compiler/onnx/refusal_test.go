package onnx

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// Every kind of problem has a rank: one that is forgotten would pass for the most decisive.
func TestRanks(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			kinds++
			kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if _, ok := ranks[Kind(kind)]; err != nil || !ok {
				t.Errorf("%s has no rank (%v)", spec.Names[0].Name, err)
			}
		}
		return true
	})
	if kinds != len(ranks) {
		t.Errorf("%d kinds, %d ranks", kinds, len(ranks))
	}
}
