package dataset

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"io"
	"slices"
	"strconv"
	"strings"
)

// By says what a split keeps together.
type By string

// What can be kept together.
const (
	ByCapture By = "capture" // all flows of a group, see Set.Groups
	ByTime    By = "time"    // each part is a span of time, in the order of the parts
	ByHost    By = "host"    // all flows of a client's address
	ByFlow    By = "flow"    // nothing: near flows of one recording come into different parts
)

// Ways are what can be kept together.
var Ways = []By{ByCapture, ByTime, ByHost, ByFlow}

// Shares are how much of a set each part gets.
type Shares struct {
	Names []string
	Parts []float64 // sum to 1
}

// ParseShares reads 70:10:20 (train, valid, test) or 80:20 (train, test).
func ParseShares(text string) (Shares, error) {
	fields := strings.Split(text, ":")
	s := Shares{Names: []string{"train", "valid", "test"}}
	if len(fields) == 2 {
		s.Names = []string{"train", "test"}
	} else if len(fields) != 3 {
		return s, fmt.Errorf("%q: want two or three shares, such as 80:20 or 70:10:20", text)
	}
	var sum float64
	for _, f := range fields {
		x, err := strconv.ParseFloat(f, 64)
		if err != nil || !(x > 0 && x <= 1e6) {
			return s, fmt.Errorf("%q: %q is not a share above 0", text, f)
		}
		s.Parts = append(s.Parts, x)
		sum += x
	}
	for i := range s.Parts {
		s.Parts[i] /= sum
	}
	return s, nil
}

// Split parts the set so that what by names stays together and each class comes as near to the shares as that
// allows. The same set is parted alike every time.
func (s *Set) Split(shares Shares, by By) error {
	s.Splits = shares.Names
	if by == ByTime {
		order := make([]int, len(s.Flows))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.Flows[a].First, s.Flows[b].First) })
		part, upTo := 0, shares.Parts[0]
		for n, i := range order {
			for part < len(shares.Parts)-1 && float64(n) >= upTo*float64(len(order)) {
				part++
				upTo += shares.Parts[part]
			}
			s.Flows[i].Split = part
		}
		return s.everyPart()
	}
	kept := map[string][]int{}
	for i := range s.Flows {
		f := &s.Flows[i]
		name := ""
		switch by {
		case ByCapture:
			name = s.Groups[f.Group]
		case ByHost:
			name = f.Key.SrcAddr().Addr().String()
		case ByFlow:
			name = strconv.Itoa(i)
		default:
			return fmt.Errorf("%q is no way to split: want capture, time, host or flow", by)
		}
		kept[name] = append(kept[name], i)
	}
	names := make([]string, 0, len(kept))
	for name := range kept {
		names = append(names, name)
	}
	if len(names) < len(shares.Parts) {
		return fmt.Errorf("%d parts, but the flows are of %d %ss only: split by another thing, or add captures", len(shares.Parts), len(names), by)
	}
	// The largest first, so that the small ones even out; those of one size in an order that says nothing of them.
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(-cmp.Compare(len(kept[a]), len(kept[b])), cmp.Compare(mix(a), mix(b)), cmp.Compare(a, b))
	})
	total := s.Classes()
	missing := make([][]float64, len(shares.Parts)) // flows of each class that a part lacks
	flows := make([]float64, len(shares.Parts))     // and of all
	for p, share := range shares.Parts {
		flows[p] = share * float64(len(s.Flows))
		for _, n := range total {
			missing[p] = append(missing[p], share*float64(n))
		}
	}
	class := func(i int) int {
		if l := s.Flows[i].Label; l >= 0 {
			return l
		}
		return len(s.Labels)
	}
	for _, name := range names {
		best, most := 0, 0.0
		for p := range shares.Parts {
			var lack float64
			for _, i := range kept[name] {
				lack += missing[p][class(i)] / float64(total[class(i)]) / shares.Parts[p]
			}
			// Of classes that all parts lack alike, such as those of one host, the part gets them that lacks most flows.
			alike := 1e-9 * float64(len(kept[name]))
			if gap := lack - most; p == 0 || gap > alike || gap >= -alike && flows[p]/shares.Parts[p] > flows[best]/shares.Parts[best] {
				best, most = p, lack
			}
		}
		for _, i := range kept[name] {
			s.Flows[i].Split = best
			missing[best][class(i)]--
			flows[best]--
		}
	}
	return s.everyPart()
}

// mix is a number that depends on every byte of a name, the same everywhere (FNV-1a).
func mix(name string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, name)
	return h.Sum64()
}

func (s *Set) everyPart() error {
	n := make([]int, len(s.Splits))
	for i := range s.Flows {
		n[s.Flows[i].Split]++
	}
	for p, n := range n {
		if n == 0 {
			return fmt.Errorf("no flow comes into the part %s: split by another thing, or add captures", s.Splits[p])
		}
	}
	return nil
}

// Why a flow of a later part is left out.
const (
	LeftSame = "same tokens as a flow of an earlier part"
	LeftNear = "nearly the tokens of a flow of an earlier part"
)

// nearShare is the share of tokens in which two sequences of one length may differ and be near: what counters, ids and
// times of a repeated exchange make.
const nearShare = 0.05

// DropDuplicates leaves out flows of later parts whose tokens are, or nearly are, those of a flow of an earlier part: a
// model would be praised for what it has seen. Near is of the same length and different in 5 % of the tokens at most; a
// flow that has a token more or less somewhere is not. All near ones are found: see seen.
func (s *Set) DropDuplicates() error {
	if len(s.Splits) < 2 {
		return errors.New("duplicates are looked for between parts: give --split")
	}
	before := newSeen(s)
	keep := make([]bool, len(s.Flows))
	for part := range s.Splits {
		for i := range s.Flows {
			if s.Flows[i].Split != part {
				continue
			}
			keep[i] = true
			if same, near := before.find(i); same || near {
				keep[i] = false
				s.leave(map[bool]string{true: LeftSame, false: LeftNear}[same], 1)
			}
		}
		for i := range s.Flows { // what later parts are compared with
			if s.Flows[i].Split == part && keep[i] && part < len(s.Splits)-1 {
				before.add(i)
			}
		}
	}
	kept := s.Flows[:0]
	for i, f := range s.Flows {
		if keep[i] {
			kept = append(kept, f)
		}
	}
	s.Flows = kept
	return s.everyPart()
}

// seen finds flows by their tokens. A sequence that may differ in d tokens from another is cut into d+1 pieces: one
// of them at least has no difference, so whoever is near has a piece in common. Of flows with the same tokens one is kept.
type seen struct {
	flows    []Flow
	seed     maphash.Seed
	exact    map[uint64][]int32
	pieces   map[uint64][]int32
	compared []int32 // by flow: the last one that it was compared with, from 1 on
	buf      []byte
}

func newSeen(s *Set) *seen {
	return &seen{flows: s.Flows, seed: maphash.MakeSeed(), exact: map[uint64][]int32{}, pieces: map[uint64][]int32{}, compared: make([]int32, len(s.Flows))}
}

// mayDiffer is in how many tokens two sequences of a length may differ and be near.
func mayDiffer(length int) int { return int(nearShare * float64(length)) }

func (s *seen) hash(tokens []int32, at int) uint64 {
	s.buf = binary.LittleEndian.AppendUint32(s.buf[:0], uint32(at))
	for _, t := range tokens {
		s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(t))
	}
	return maphash.Bytes(s.seed, s.buf)
}

// piece is the hash of piece p of n of a sequence: of its place and of the sequence's length, too.
func (s *seen) piece(t []int32, p, n int) uint64 {
	return s.hash(t[p*len(t)/n:(p+1)*len(t)/n], p+n*len(t))
}

// has says whether a flow with these tokens was added.
func (s *seen) has(t []int32) bool {
	return slices.ContainsFunc(s.exact[s.hash(t, -1)], func(j int32) bool { return slices.Equal(s.flows[j].Tokens, t) })
}

// find says whether a flow that was added has the same tokens as flow i, or else nearly the same.
func (s *seen) find(i int) (same, near bool) {
	t := s.flows[i].Tokens
	if s.has(t) {
		return true, false
	}
	d := mayDiffer(len(t))
	for p := 0; p <= d && d > 0; p++ {
		for _, j := range s.pieces[s.piece(t, p, d+1)] {
			if s.compared[j] != int32(i+1) {
				s.compared[j] = int32(i + 1)
				if within(s.flows[j].Tokens, t, d) {
					return false, true
				}
			}
		}
	}
	return false, false
}

// add makes flow i one that find finds.
func (s *seen) add(i int) {
	t := s.flows[i].Tokens
	if s.has(t) {
		return
	}
	h := s.hash(t, -1)
	s.exact[h] = append(s.exact[h], int32(i))
	d := mayDiffer(len(t))
	for p := 0; p <= d && d > 0; p++ {
		h := s.piece(t, p, d+1)
		s.pieces[h] = append(s.pieces[h], int32(i))
	}
}

// within says whether two sequences are of one length and differ in d tokens at most.
func within(a, b []int32, d int) bool {
	if len(a) != len(b) {
		return false
	}
	for i, x := range a {
		if x != b[i] {
			if d--; d < 0 {
				return false
			}
		}
	}
	return true
}
