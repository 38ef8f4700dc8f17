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
	for p, share := range shares.Parts {
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
			if p == 0 || lack > most {
				best, most = p, lack
			}
		}
		for _, i := range kept[name] {
			s.Flows[i].Split = best
			missing[best][class(i)]--
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

// bands is into how many pieces sequences are cut to find near ones: those that differ in a few tokens agree in whole
// pieces. candidates bounds how many with a piece in common are compared.
const (
	bands      = 16
	candidates = 64
)

// DropDuplicates leaves out flows of later parts whose tokens are, or nearly are, those of a flow of an earlier part:
// a model would be praised for what it has seen. Near ones are looked for among flows that have whole pieces in
// common, at most 64 for each, so a few can be missed.
func (s *Set) DropDuplicates() error {
	if len(s.Splits) < 2 {
		return errors.New("duplicates are looked for between parts: give --split")
	}
	seed := maphash.MakeSeed()
	exact := map[uint64][]int{}
	pieces := map[uint64][]int{}
	var buf []byte
	hash := func(tokens []int32, at int) uint64 {
		buf = binary.LittleEndian.AppendUint32(buf[:0], uint32(at))
		for _, t := range tokens {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(t))
		}
		return maphash.Bytes(seed, buf)
	}
	piece := func(t []int32, b int) uint64 {
		return hash(t[b*len(t)/bands:(b+1)*len(t)/bands], b+bands*len(t))
	}
	keep := make([]bool, len(s.Flows))
	for part := range s.Splits {
		for i := range s.Flows {
			f := &s.Flows[i]
			if f.Split != part {
				continue
			}
			keep[i] = true
			same := func(j int) bool { return slices.Equal(s.Flows[j].Tokens, f.Tokens) }
			near := func(j int) bool { return differ(s.Flows[j].Tokens, f.Tokens) <= nearShare }
			if part > 0 {
				if slices.ContainsFunc(exact[hash(f.Tokens, -1)], same) {
					keep[i] = false
					s.leave(LeftSame, 1)
					continue
				}
				for b := 0; b < bands && keep[i]; b++ {
					if len(f.Tokens) >= bands && slices.ContainsFunc(pieces[piece(f.Tokens, b)], near) {
						keep[i] = false
						s.leave(LeftNear, 1)
					}
				}
			}
		}
		for i := range s.Flows { // what later parts are compared with
			f := &s.Flows[i]
			if f.Split != part || !keep[i] || part == len(s.Splits)-1 {
				continue
			}
			add := func(m map[uint64][]int, h uint64) {
				if len(m[h]) < candidates {
					m[h] = append(m[h], i)
				}
			}
			add(exact, hash(f.Tokens, -1))
			for b := 0; b < bands && len(f.Tokens) >= bands; b++ {
				add(pieces, piece(f.Tokens, b))
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

// differ is the share of tokens in which two sequences differ; 1 if one is longer.
func differ(a, b []int32) float64 {
	if len(a) != len(b) || len(a) == 0 {
		return 1
	}
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return float64(n) / float64(len(a))
}
