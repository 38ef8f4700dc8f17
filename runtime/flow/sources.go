package flow

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Sources estimates which source prefixes flows come from, /24 of IPv4 and /48 of
// IPv6, in bounded memory: the space-saving algorithm (Metwally, Agrawal, El Abbadi: Efficient computation
// of frequent and top-k elements in data streams, 2005) in sets of four counters. A keyed hash
// chooses the set, so that nobody can aim at one. Counts are halved every
// 10 s of the table's clock: they are those of the last half minute or so.
//
// A flow's source is the sender of its first packet, which may be forged.
type Sources struct {
	seed  Seed
	sets  [sourceSets]sourceSet
	total SourceCount
	now   int64 // of the clock, in units of sourceHalf: how often total has been halved
}

// sourceSet is halved when it is looked at.
type sourceSet struct {
	cells  [sourceWays]sourceCell
	halved int64
}

// SourceCount are a source's flows, and those of its flows that were evicted.
type SourceCount struct{ Flows, Evicted uint64 }

const (
	sourceBits, sourceWays = 6, 4
	sourceSets             = 1 << sourceBits
	sourceHalf             = int64(10e9)
)

// sourceCell counts for one prefix. What was counted before the prefix took the cell is
// not its own: the count that it may have at least is without it.
type sourceCell struct {
	prefix uint64
	used   bool
	SourceCount
	before SourceCount
}

// weight is what cells are compared by.
func (c *SourceCount) weight() uint64 { return c.Flows + c.Evicted }

func (s *Sources) begin(key *Key, swapped bool, now int64) {
	s.cell(key, swapped, now).Flows++
	s.total.Flows++
}

func (s *Sources) evict(key *Key, swapped bool, now int64) {
	s.cell(key, swapped, now).Evicted++
	s.total.Evicted++
}

// cell is the counter of a flow's source, which is the second address of a canonical key
// that is swapped.
func (s *Sources) cell(key *Key, swapped bool, now int64) *SourceCount {
	if now /= sourceHalf; now != s.now {
		s.total.halve(now - s.now)
		s.now = now
	}
	src := &key.Src
	if swapped {
		src = &key.Dst
	}
	// IPv4 takes 24 bits and IPv6 48, above one that tells them apart.
	prefix := binary.BigEndian.Uint64(src[:]) >> 40 << 1
	if key.V6 {
		prefix = binary.BigEndian.Uint64(src[:])>>16<<1 | 1
	}
	// A product with a secret odd number spreads any prefixes for who can't see the result
	// (Dietzfelbinger and others: A reliable randomized algorithm for the closest-pair problem, 1997).
	set := &s.sets[prefix*(s.seed.k0|1)>>(64-sourceBits)]
	set.halve(s.now)
	least := &set.cells[0]
	for i := range set.cells {
		c := &set.cells[i]
		if c.used && c.prefix == prefix {
			return &c.SourceCount
		}
		if c.weight() < least.weight() {
			least = c
		}
	}
	least.prefix, least.used, least.before = prefix, true, least.SourceCount
	return &least.SourceCount
}

func (c *SourceCount) halve(times int64) {
	shift := min(times, 63)
	c.Flows >>= shift
	c.Evicted >>= shift
}

func (s *sourceSet) halve(now int64) {
	if s.halved == now {
		return
	}
	for i := range s.cells {
		c := &s.cells[i]
		c.SourceCount.halve(now - s.halved)
		c.before.halve(now - s.halved)
	}
	s.halved = now
}

// Source is a source prefix with its counts: at least so many.
type Source struct {
	Prefix netip.Prefix
	SourceCount
}

// Top lists the up to n prefixes that flows came from most, and all flows together, of several tables.
func Top(n int, all ...*Sources) (top []Source, total SourceCount) {
	sum := map[netip.Prefix]*Source{}
	for _, s := range all {
		total.Flows += s.total.Flows
		total.Evicted += s.total.Evicted
		for i := range s.sets {
			set := s.sets[i]
			set.halve(s.now)
			for j := range set.cells {
				c := &set.cells[j]
				if !c.used {
					continue
				}
				p := c.name()
				if sum[p] == nil {
					sum[p] = &Source{Prefix: p}
				}
				sum[p].Flows += c.Flows - c.before.Flows
				sum[p].Evicted += c.Evicted - c.before.Evicted
			}
		}
	}
	for _, s := range sum {
		top = append(top, *s)
	}
	slices.SortFunc(top, func(a, b Source) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), a.Prefix.Compare(b.Prefix))
	})
	return top[:min(n, len(top))], total
}

func (c *sourceCell) name() netip.Prefix {
	var b [16]byte
	if c.prefix&1 != 0 {
		binary.BigEndian.PutUint64(b[:], c.prefix>>1<<16)
		return netip.PrefixFrom(netip.AddrFrom16(b), 48)
	}
	binary.BigEndian.PutUint64(b[:], c.prefix>>1<<40)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 24)
}

// Sources is what the table knows of its flows' sources.
func (t *Table) Sources() *Sources { return &t.sources }
