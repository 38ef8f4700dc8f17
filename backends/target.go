// Package backends describes the machines that bundles are made for and holds
// the cost model. How a graph becomes an artifact is in one folder per kind of
// artifact below this one.
//
// It imports ir and runtime/bundle, never passes or compiler.
package backends

import (
	"fmt"
	"strings"
)

// Target describes a machine: its cores, caches and what its vector units do
// per cycle. The figures feed the tile pass and the cost estimates; they never
// change a result.
type Target struct {
	Name string
	Doc  string
	// Kernel is the kernel path that its cores run, by runtime/cpu's names: memory
	// and state per flow differ by path.
	Kernel string
	GHz    float64
	Cores  int
	L2     int // bytes per core
	L3     int // bytes, shared
	// Cost per core.
	Cost Cost
}

// Cost are cycles per unit of work of a target's kernels, measured where we
// have the machine (host) and from instruction counts and llvm-mca where we
// don't (docs/arm-cycles.md).
type Cost struct {
	Gated     float64 // per output of a gated layer without LayerNorm
	GatedNorm float64 // per output of a gated layer with LayerNorm
	MAC       float64 // per multiply-add of a dense layer
	Element   float64 // per element of any other step
	Lookup    float64 // per element looked up in a token table
	MAC16     float64 // per multiply-add of a dense layer that reads 16 bits
	Step      float64 // per step
}

// Share is the bytes of caches that a core has for itself when all are busy: what the planes of
// its worker should fit.
func (t *Target) Share() int { return t.L2 + t.L3/t.Cores }

var targets = []Target{
	{
		Name: "bf3", Doc: "NVIDIA BlueField-3: 16 Cortex-A78AE cores, dot product", Kernel: "dotprod",
		GHz: 2.5, Cores: 16, L2: 512 << 10, L3: 16 << 20,
		Cost: Cost{Gated: 0.79, GatedNorm: 1.21, MAC: 0.06, MAC16: 0.29, Element: 0.5, Lookup: 0.24, Step: 200},
	},
	{
		Name: "bf2", Doc: "NVIDIA BlueField-2: 8 Cortex-A72 cores, no dot product", Kernel: "neon",
		GHz: 2.5, Cores: 8, L2: 512 << 10, L3: 6 << 20,
		Cost: Cost{Gated: 2.2, GatedNorm: 3.0, MAC: 0.25, MAC16: 0.3, Element: 1, Lookup: 0.3, Step: 300},
	},
	{
		Name: "host", Doc: "a server or laptop: x86-64 with AVX2, or any machine that Go runs on", Kernel: "avx2",
		GHz: 2.6, Cores: 1, L2: 1 << 20, L3: 32 << 20,
		Cost: Cost{Gated: 0.35, GatedNorm: 0.58, MAC: 0.075, MAC16: 0.075, Element: 0.4, Lookup: 0.22, Step: 150},
	},
}

// Targets lists the known targets.
func Targets() []Target { return targets }

// LookupTarget finds a target by name.
func LookupTarget(name string) (*Target, error) {
	var names []string
	for i := range targets {
		if targets[i].Name == name {
			return &targets[i], nil
		}
		names = append(names, targets[i].Name)
	}
	return nil, fmt.Errorf("unknown target %q: want one of %s", name, strings.Join(names, ", "))
}
