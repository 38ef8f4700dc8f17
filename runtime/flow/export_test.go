package flow

import (
	"fmt"
	"unsafe"
)

// EntrySize is the table's bytes per flow, but for its buffer and bucket.
const EntrySize = int(unsafe.Sizeof(entry{}))

// CheckInvariants walks the whole table: every entry in use is in exactly one
// list and in its bucket, lists are ordered by touch, counts agree.
func (t *Table) CheckInvariants() error {
	inList := make([]bool, t.fresh)
	listed := 0
	undecided := 0
	for l := range t.lists {
		prev := none
		for i := t.lists[l].head; i != none; i = t.entries[i].next {
			e := &t.entries[i]
			switch {
			case inList[i]:
				return fmt.Errorf("entry %d is in two lists, or twice in list %d", i, l)
			case int(e.list) != l:
				return fmt.Errorf("entry %d of list %d says list %d", i, l, e.list)
			case e.prev != prev:
				return fmt.Errorf("entry %d: previous %d, want %d", i, e.prev, prev)
			case prev != none && t.entries[prev].touched > e.touched:
				return fmt.Errorf("list %d is not ordered at entry %d", l, i)
			case t.find(&e.key, e.hash) != i:
				return fmt.Errorf("entry %d is not in its bucket", i)
			}
			if l != listDecided {
				undecided++
			}
			inList[i] = true
			listed++
			prev = i
		}
		if t.lists[l].tail != prev {
			return fmt.Errorf("list %d ends with %d, tail is %d", l, prev, t.lists[l].tail)
		}
	}
	free := 0
	for i := t.free; i != none; i = t.entries[i].chain {
		if free++; inList[i] || free > len(t.entries) {
			return fmt.Errorf("entry %d is free and in use, or the free list is a ring", i)
		}
	}
	if listed != t.open || undecided != t.undec || t.open+free != t.fresh {
		return fmt.Errorf("%d entries in lists, %d undecided, %d free of %d; counted %d and %d", listed, undecided, free, t.fresh, t.open, t.undec)
	}
	return nil
}

// SetSeed fixes the hash seed of an empty table: fuzzing needs one input to
// take one path.
func (t *Table) SetSeed(seed uint64) { t.seed = FixedSeed(seed) }
