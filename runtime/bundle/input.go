package bundle

import "fmt"

// CheckInput tells whether an executor can run p on these tokens: the full
// length, token ids within the vocabulary, and at least one valid token.
func (p *Program) CheckInput(tokens []int32, valid int) error {
	if len(tokens) != p.Length {
		return fmt.Errorf("input has %d tokens, the program takes %d (pad short flows)", len(tokens), p.Length)
	}
	if valid < 1 || valid > p.Length {
		return fmt.Errorf("%d valid tokens, want 1 to %d", valid, p.Length)
	}
	for i, t := range tokens {
		if uint32(t) >= uint32(p.Vocab) {
			return fmt.Errorf("token %d is %d, the vocabulary has ids 0 to %d", i, t, p.Vocab-1)
		}
	}
	return nil
}
