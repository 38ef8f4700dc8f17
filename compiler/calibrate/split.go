package calibrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Parts are a set's different inputs in two parts, by index and in the set's order: what
// ranges are observed on, and what the result is measured on.
type Parts struct {
	Distinct int // different inputs of the set
	Observe  []int
	Measure  []int
	// Same: the inputs are too few to be parted, and both parts are all of them.
	// What is measured then was seen by the calibration.
	Same bool
}

// fewest is the number of different inputs from which on they are parted: a part of fewer
// shows the ranges of nothing.
const fewest = 16

// Split parts the set: at most observe inputs, and at most three quarters, to find ranges on, up to
// measure of the others to measure on. (Half of 32 left values out of their ranges.) Inputs that occur twice count once, so that none stands in both
// parts. The parts depend on the inputs' contents, not on their order: a capture that is
// longer by a flow keeps nearly all of them. (A random draw would need a seed, every
// n-th flow follows whatever repeats in traffic.)
func (s *Set) Split(observe, measure int) Parts {
	type entry struct {
		index int
		key   [sha256.Size]byte
	}
	var entries []entry
	seen := make(map[[sha256.Size]byte]bool)
	for i := range s.Inputs {
		k := s.Inputs[i].key()
		if !seen[k] {
			seen[k] = true
			entries = append(entries, entry{i, k})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
	pick := func(entries []entry) []int {
		index := make([]int, len(entries))
		for i, e := range entries {
			index[i] = e.index
		}
		slices.Sort(index)
		return index
	}
	n := len(entries)
	if n < fewest {
		all := pick(entries)
		return Parts{n, all, all, true}
	}
	observe = min(observe, 3*n/4)
	return Parts{n, pick(entries[:observe]), pick(entries[observe:min(n, observe+measure)]), false}
}

// key is a digest of what a model reads of an input.
func (in *Input) key() [sha256.Size]byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(in.Valid))
	for _, t := range in.Tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	return sha256.Sum256(b)
}

// Pick are the inputs of the given indices.
func (s *Set) Pick(index []int) []Input {
	out := make([]Input, len(index))
	for i, k := range index {
		out[i] = s.Inputs[k]
	}
	return out
}

// alike is the share of tokens in which two inputs may differ and still be of
// one kind: the ids, counters and times of two runs of one exchange.
const alike = 0.1

// Kinds counts the kinds among the inputs of the given indices: inputs of one kind differ from its
// first in few tokens only.
func (s *Set) Kinds(index []int) int {
	var firsts []*Input
	for _, i := range index {
		in := &s.Inputs[i]
		if !slices.ContainsFunc(firsts, in.alike) {
			firsts = append(firsts, in)
		}
	}
	return len(firsts)
}

func (in *Input) alike(other *Input) bool {
	n, differ := max(in.Valid, other.Valid), 0
	for p := range n {
		if in.Tokens[p] != other.Tokens[p] {
			differ++
		}
	}
	return float64(differ) <= alike*float64(n)
}
