package flow

import (
	"fmt"
	"unsafe"
)

// EntrySize is the table's bytes per flow, what it remembers of evicted ones included, but for its buffer and bucket.
const EntrySize = int(unsafe.Sizeof(entry{})) + 2*goneBits/8

// CheckInvariants walks the whole table: every entry in use is in exactly one
// list and in its bucket, lists are ordered by touch, counts agree.
func (t *Table) CheckInvariants() error {
	inList := make([]bool, t.fresh)
	listed := 0
	undecided := 0
	var held [NumClasses]int
	for n := range numLists * int(NumClasses) {
		l, class := n/int(NumClasses), Class(n%int(NumClasses))
		prev := none
		for i := t.lists[l][class].head; i != none; i = t.entries[i].next {
			e := &t.entries[i]
			switch {
			case inList[i]:
				return fmt.Errorf("entry %d is in two lists, or twice in list %d", i, l)
			case int(e.list) != l || e.class != class:
				return fmt.Errorf("entry %d of list %d, %s says list %d, %s", i, l, class, e.list, e.class)
			case e.touched+t.timeout[l] < t.wake && prev == none:
				return fmt.Errorf("entry %d of list %d is due before the table looks at it", i, l)
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
			held[class]++
			listed++
			prev = i
		}
		if tail := t.lists[l][class].tail; tail != prev {
			return fmt.Errorf("list %d ends with %d, tail is %d", l, prev, tail)
		}
	}
	free := 0
	for i := t.free; i != none; i = t.entries[i].chain {
		if free++; inList[i] || free > len(t.entries) {
			return fmt.Errorf("entry %d is free and in use, or the free list is a ring", i)
		}
	}
	if held != t.held || listed != t.open || undecided != t.undec || t.open+free != t.fresh {
		return fmt.Errorf("%d entries in lists, %d undecided, %d free of %d; counted %d and %d", listed, undecided, free, t.fresh, t.open, t.undec)
	}
	return nil
}

// Chains are the numbers of entries in the fullest bucket, and of those that looking each entry
// up goes through, on average.
func (t *Table) Chains() (longest int, mean float64) {
	sum := 0
	for _, b := range t.buckets {
		n := 0
		for i := b - 1; i != none; i = t.entries[i].chain {
			n++
			sum += n
		}
		longest = max(longest, n)
	}
	return longest, float64(sum) / float64(max(t.open, 1))
}

// FragmentSet is where a table of fragments keeps those of an IPv4 datagram.
func FragmentSet(src, dst [4]byte, id uint32, proto uint8, seed Seed) uint64 {
	d := datagram{id: id, proto: proto}
	copy(d.src[:], src[:])
	copy(d.dst[:], dst[:])
	return d.hash(seed) % fragSets
}

// SetSeed fixes the hash seed of an empty table: fuzzing needs one input to
// take one path.
func (t *Table) SetSeed(seed uint64) { t.seed = FixedSeed(seed) }
