package drift

import (
	"math/rand/v2"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// BenchmarkAdd is what a flow costs the agent, looks at windows included; compare with a flow's inference (nepcoc bench).
func BenchmarkAdd(b *testing.B) {
	made, err := testbundle.New(0, "class")
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	list := make([]*verdict.Record, 1000)
	for i := range list {
		list[i] = record(r, false)
	}
	if made.Manifest.Traffic, err = Describe(made, len(list), func(i int) (*verdict.Record, error) { return list[i], nil }); err != nil {
		b.Fatal(err)
	}
	m, err := New(made, classify.Labels(made), Defaults)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.Add(list[i%len(list)])
		i++
	}
}
