// Package dataset makes token sets of captures and labels: what the agent would see of each flow, with its
// label, in files that Python reads with numpy.load alone. Training, lint and teaching all begin with one.
//
// The tokens are the agent's own: runtime/flow makes them by the contract. The package knows nothing of models
// and imports no part of the compiler but labels and npz.
package dataset

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Version is that of the stored form: see Write.
const Version = 1

// Flow is one row of a set.
type Flow struct {
	Tokens []int32 // without padding
	Key    flow.Key
	// First is the time of the first packet, nanoseconds since 1970.
	First          int64
	Packets, Bytes [2]uint64
	Marks          flow.Marks
	// Payload is how many bytes of payload the tokens hold.
	Payload int
	// Label, Group and Split index the lists of the set; Label is -1 where the flow has none.
	Label, Group, Split int
}

// Set is what was read of captures.
type Set struct {
	Contract traffic.Contract
	View     bundle.View
	// Labels are the names of the classes, sorted. Groups are what must not be told apart by luck: the
	// captures, or what a label file's column "capture" says. Splits are the names of the parts.
	Labels, Groups, Splits []string
	Flows                  []Flow
	// Left counts what was left out, by reason.
	Left map[string]int
	// Notes are remarks on the captures.
	Notes []string
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

// Padded are a flow's tokens at the contract's length, as a model reads them.
func (s *Set) Padded(f *Flow) []int32 {
	tokens := make([]int32, s.Contract.Length)
	for p := copy(tokens, f.Tokens); p < len(tokens); p++ {
		tokens[p] = int32(s.Contract.Pad)
	}
	return tokens
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

func (s *Set) String() string {
	return fmt.Sprintf("%d flows of %d groups, %d classes", len(s.Flows), len(s.Groups), len(s.Labels))
}
