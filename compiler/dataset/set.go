// Package dataset makes token sets of captures and labels: what the agent would see of each flow, with its
// label, in files that Python reads with numpy.load alone. Training, lint and teaching all begin with one.
//
// The tokens are the agent's own: runtime/flow makes them by the contract. The package knows nothing of models
// and imports no part of the compiler but labels and npz.
package dataset

import (
	"fmt"
	"maps"
	"slices"

	"nepcoc/internal/plural"
	"nepcoc/runtime/flow"
)

// Version is that of the stored form: see Write. Version 1 said of the view whether tunnels and VLANs count, and nothing
// of interfaces and of the active timeout: its sets are taken for sets without them.
const Version = 2

// Flow is one row of a set.
type Flow struct {
	Tokens []int32 // without padding
	// Numbers stand beside the tokens, where the contract has any.
	Numbers []int32
	Key     flow.Key
	// First is the time of the first packet, nanoseconds since 1970.
	First          int64
	Packets, Bytes [2]uint64
	Marks          flow.Marks
	// Payload is how many bytes of payload the tokens hold.
	Payload int
	// Largest and Repeats are flow.Flow's, 0 in stored sets that were made before there were any.
	Largest uint16
	Repeats uint8
	// Label, Group and Split index the lists of the set; Label is -1 where the flow has none.
	Label, Group, Split int
}

// Set is what was read of captures.
type Set struct {
	Source
	// Labels are the names of the classes, sorted. Groups are what must not be told apart by luck: the
	// captures, or what a label file's column "capture" says. Splits are the names of the parts.
	Labels, Groups, Splits []string
	Flows                  []Flow
	// Left counts what was left out, by reason.
	Left map[string]int
	// Notes are remarks on the captures.
	Notes []string

	shard, shards int // which part of a set was opened, and of how many
}

// Classes counts the flows of each label; the last number is of those without one.
func (s *Set) Classes() []int {
	n := make([]int, len(s.Labels)+1)
	for i := range s.Flows {
		if l := s.Flows[i].Label; l >= 0 {
			n[l]++
		} else {
			n[len(s.Labels)]++
		}
	}
	return n
}

// Padded are a flow's tokens at the contract's length, and behind them the numbers beside the sequence, as a model reads them.
func (s *Set) Padded(f *Flow) []int32 {
	tokens := make([]int32, s.Contract.Length)
	for p := copy(tokens, f.Tokens); p < len(tokens); p++ {
		tokens[p] = int32(s.Contract.Pad)
	}
	return append(tokens, f.Numbers...)
}

// leave counts flows that are left out.
func (s *Set) leave(why string, n int) {
	if n == 0 {
		return
	}
	if s.Left == nil {
		s.Left = map[string]int{}
	}
	s.Left[why] += n
}

// Remarks are what was left out and the notes, as lines for people.
func (s *Set) Remarks() []string {
	var lines []string
	for _, why := range slices.Sorted(maps.Keys(s.Left)) {
		lines = append(lines, fmt.Sprintf("%s left out: %s", plural.Of(s.Left[why], "flow"), why))
	}
	return append(lines, s.Notes...)
}
