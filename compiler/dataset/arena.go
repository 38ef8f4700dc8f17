package dataset

import (
	"fmt"
	"unsafe"

	"nepcoc/internal/files"
)

// inMemory is how many bytes of tokens a set keeps in memory before the others go to a file.
const inMemory = 64 << 20

// arena keeps tokens: the first in memory, the others in a temporary file that is mapped.
type arena struct {
	kept, most int // sequences, and how many there may be
	held       int
	file       files.Scratch
	free       []int32 // what is left of the last chunk
	err        error   // why nothing is kept any more
}

// chunk is how much is added to the file at once, in bytes: more than a sequence can have.
const chunk = 16 << 20

// keep returns a copy. It lives as long as the program: what was mapped stays so.
func (a *arena) keep(tokens []int32) []int32 {
	if a.kept++; a.kept > a.most && a.err == nil {
		a.err = fmt.Errorf("more than %d flows, of which a set keeps addresses, times and labels in memory: make several sets, of some of the captures each", a.most)
	}
	if a.held += 4 * len(tokens); a.held <= inMemory && a.err == nil {
		return append([]int32(nil), tokens...)
	}
	if len(tokens) > len(a.free) && a.err == nil {
		a.err = a.grow()
	}
	if a.err != nil {
		return nil
	}
	n := len(tokens)
	kept := a.free[:n:n]
	a.free = a.free[n:]
	copy(kept, tokens)
	return kept
}

func (a *arena) grow() error {
	data, err := a.file.Grow(chunk)
	if err != nil {
		return fmt.Errorf("tokens don't fit memory: %w", err)
	}
	a.free = unsafe.Slice((*int32)(unsafe.Pointer(&data[0])), chunk/4)
	return nil
}
