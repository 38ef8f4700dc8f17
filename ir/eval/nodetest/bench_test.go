package nodetest

import (
	"strings"
	"testing"

	"nepcoc/compiler/onnx"
	"nepcoc/internal/testfiles"
	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// BenchmarkModels is the time of one flow, by model, as imported.
func BenchmarkModels(b *testing.B) {
	for _, name := range []string{"models/nepco.onnx", "models/nepco-small.onnx", "zoo/textcnn/model.onnx"} {
		b.Run(strings.TrimSuffix(strings.ReplaceAll(name, "/", "_"), ".onnx"), func(b *testing.B) {
			g, _, err := onnx.ImportFile(testfiles.Path(b, strings.Split(name, "/")...), onnx.Options{})
			if err != nil {
				b.Fatal(err)
			}
			m, err := eval.New(g)
			if err != nil {
				b.Fatal(err)
			}
			in := make(map[string]*ir.Tensor)
			for _, v := range g.Inputs {
				in[v.Name] = ir.NewTensor(v.Type)
				if d, ok := in[v.Name].Data.([]int64); ok {
					for i := range d {
						d[i] = 1
					}
				}
			}
			for b.Loop() {
				if _, err := m.Run(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
