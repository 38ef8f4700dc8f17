package bundle

import "fmt"

// Inputs is the number of ids that an executor takes: the tokens, and behind them those beside the sequence.
func (p *Program) Inputs() int { return p.Length + p.Sides }

// CheckInput tells whether an executor can run p on these tokens: the full
// length, token ids within the vocabulary, and at least one valid token. Behind them stand the ids beside the sequence.
func (p *Program) CheckInput(tokens []int32, valid int) error {
	if n := len(tokens) - p.Length; p.Sides > 0 && n != p.Sides {
		return fmt.Errorf("input has %d numbers beside %d tokens, the program takes %d", n, p.Length, p.Sides)
	}
	if len(tokens) != p.Inputs() {
		return fmt.Errorf("input has %d tokens, the program takes %d (pad short flows)", len(tokens), p.Length)
	}
	if valid < 1 || valid > p.Length {
		return fmt.Errorf("%d valid tokens, want 1 to %d", valid, p.Length)
	}
	for i, id := range tokens[p.Length:] {
		if uint32(id) >= SideIDs {
			return fmt.Errorf("number %d beside the sequence is %d, ids are 0 to %d", i, id, SideIDs-1)
		}
	}
	for i, t := range tokens[:p.Length] {
		if uint32(t) >= uint32(p.Vocab) {
			return fmt.Errorf("token %d is %d, the vocabulary has ids 0 to %d", i, t, p.Vocab-1)
		}
	}
	return nil
}
