package onnx

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// Files made to be slow or greedy, near every limit. They take well under a
// second each; the bounds are wide, for emulators and loaded machines, and
// still tell work that grows with the square of the file.
func TestStress(t *testing.T) {
	f16 := func(name string) []byte {
		b := tensorHead(name, 10, 0)
		return b
	}
	cases := map[string]func() *testModel{
		"bad types": func() *testModel {
			m := newModel(17).input("x", 1, 1, 4).output("y", 1)
			var names []string
			for i := range 60000 {
				m.init(f16(fmt.Sprint("w", i)))
				if i < 15000 {
					names = append(names, fmt.Sprint("w", i))
				}
			}
			for i := 0; i < len(names); i += 1000 {
				m.node("Concat", names[i:i+1000], in(fmt.Sprint("c", i)), aInt("axis", 0))
			}
			return m.node("Relu", in("x"), in("y"))
		},
		"initializers and inputs": func() *testModel {
			m := newModel(17).output("y", 1)
			for i := range maxPorts {
				m.input(fmt.Sprint("x", i), 1, 1, 4)
			}
			for i := range 60000 {
				m.init(floats32(fmt.Sprint("w", i), []int64{1}, 1))
			}
			return m.node("Relu", in("x0"), in("y"))
		},
		"chain": func() *testModel {
			m := newModel(17).input("x", 1, 1, 4).output("y", 1)
			last := "x"
			for i := range maxNodes - 1 {
				next := fmt.Sprint("v", i)
				m.node("Relu", in(last), in(next))
				last = next
			}
			return m.node("Relu", in(last), in("y"))
		},
		"reversed chain": func() *testModel {
			m := newModel(17).input("x", 1, 1, 4).output("y", 1).node("Relu", in("v0"), in("y"))
			for i := range maxNodes - 2 {
				m.node("Relu", in(fmt.Sprint("v", i+1)), in(fmt.Sprint("v", i)))
			}
			return m.node("Relu", in("x"), in(fmt.Sprint("v", maxNodes-2)))
		},
		"folding": func() *testModel {
			m := newModel(17).input("x", 1, 1, 4).output("y", 1).init(ints64("n", 60000)).init(ints64("one", 1))
			for i := range 15000 {
				m.node("Expand", in("one", "n"), in(fmt.Sprint("e", i)))
			}
			return m.node("Relu", in("x"), in("y"))
		},
		"unknown operators": func() *testModel {
			m := newModel(17).input("x", 1, 1, 4).output("y", 1)
			for i := range 15000 {
				m.node("Gahter", in("x"), in(fmt.Sprint("e", i)))
			}
			return m.node("Relu", in("x"), in("y"))
		},
		"foreign domains": func() *testModel {
			m := newModel(17).input("x", 1, 1, 4).output("y", 1)
			for i := range 15000 {
				m.nodeIn(fmt.Sprint("d", i), "Op", in("x"), in(fmt.Sprint("e", i)))
			}
			return m.node("Relu", in("x"), in("y"))
		},
	}
	for name, build := range cases {
		t.Run(name, func(t *testing.T) {
			data := build().bytes()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, _, err := Import("stress.onnx", data)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			mem := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes: %v, %d MiB, error: %t", len(data), took.Round(time.Millisecond), mem>>20, err != nil)
			if mem > 300<<20 { // what else is quadratic shows in the time, which is the machine's, too
				t.Errorf("%d bytes took %d MiB", len(data), mem>>20)
			}
		})
	}
}
