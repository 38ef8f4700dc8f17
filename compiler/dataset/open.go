package dataset

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"nepcoc/compiler/npz"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Open reads a stored set, see Set.Write; several files are the shards of one.
func Open(paths ...string) (*Set, error) {
	var s *Set
	var missing map[int]bool
	for _, path := range paths {
		part, err := open(path)
		if err != nil {
			return nil, err
		}
		if s == nil {
			s, missing = part, map[int]bool{}
			for k := range part.shards {
				missing[k+1] = true
			}
		} else if err := s.join(part, files.Show(path), files.Show(paths[0])); err != nil {
			return nil, err
		}
		if part.shards > 0 && !missing[part.shard] {
			return nil, fmt.Errorf("%s: is shard %d of %d, which is given already", files.Show(path), part.shard, part.shards)
		}
		delete(missing, part.shard)
	}
	if n := len(missing); n > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %d of the set's %d shards are not given", files.Show(paths[0]), n, s.shards))
	}
	s.shard, s.shards = 0, 0
	return s, nil
}

// join adds the flows of a shard.
func (s *Set) join(part *Set, path, first string) error {
	if err := part.Fits(path, &Reader{Source: s.Source, Name: first, Args: Args(s.Contract.Name, s.View)}); err != nil {
		return err
	}
	if part.shards != s.shards {
		return fmt.Errorf("%s: is one of %d shards, and %s of %d: they are of two sets", path, part.shards, first, s.shards)
	}
	for _, lists := range []struct {
		what string
		a, b []string
	}{{"classes", part.Labels, s.Labels}, {"parts", part.Splits, s.Splits}, {"groups", part.Groups, s.Groups}} {
		if !slices.Equal(lists.a, lists.b) {
			return fmt.Errorf("%s: is no shard of the set of %s: its %s differ; of several captures make one set (nepcoc tokens CAPTURE CAPTURE)", path, first, lists.what)
		}
	}
	s.Flows = append(s.Flows, part.Flows...)
	return nil
}

// reader reads arrays of n rows and remembers the first thing that is wrong.
type reader struct {
	path string
	f    *npz.File
	n    int
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: not a token set, or damaged: %s: make it with nepcoc tokens", r.path, fmt.Sprintf(format, args...))
	}
}

func (r *reader) names(name string) []string {
	list, err := r.f.Strings(name)
	if err != nil {
		r.fail("%v", err)
	}
	return list
}

// rows is an array of numbers with each numbers a row; n is set by the first.
func rows[T any](r *reader, name string, each int) []T {
	t, err := r.f.Array(name)
	if err != nil {
		r.fail("%v", err)
		return nil
	}
	data, ok := t.Data.([]T)
	if r.n < 0 && len(t.Shape) > 0 {
		r.n = t.Shape[0]
	}
	if !ok || len(t.Shape) == 0 || t.Shape[0] != r.n || len(data) != r.n*each {
		var want T
		r.fail("array %q is of type %s and shape %v, not %T with %d numbers in each of %d rows", name, t.DType, t.Shape, want, each, max(0, r.n))
		return nil
	}
	return data
}

// maxShards bounds what a file can say of others.
const maxShards = 1 << 20

// MetaOf is what a file of arrays says of itself as a token set; nil where it is none. path is for messages.
func MetaOf(path string, f *npz.File) (*Meta, error) {
	if !f.Has("meta") {
		return nil, nil
	}
	r := &reader{path: path, f: f}
	var m Meta
	if text := r.names("meta"); r.err == nil && (len(text) != 1 || json.Unmarshal([]byte(text[0]), &m) != nil || m.Version < 1) {
		r.fail("meta is no JSON of one")
	}
	if r.err == nil && m.Version > Version {
		return nil, fmt.Errorf("%s: a token set of version %d, and this program reads up to %d: update it", path, m.Version, Version)
	}
	if m.Version == 1 {
		m.Interfaces, m.ActiveTimeout = false, 0
	}
	if m.Shards < 0 || m.Shards > maxShards || m.Shards > 0 && (m.Shard < 1 || m.Shard > m.Shards) {
		r.fail("it is shard %d of %d", m.Shard, m.Shards)
	}
	return &m, r.err
}

// Source is by what tokens were made.
func (m *Meta) Source(path string) (s Source, err error) {
	if s.Contract, err = traffic.Parse(path, []byte(m.Contract)); err != nil {
		return s, err
	}
	if s.Contract.Hash() != m.Hash {
		return s, fmt.Errorf("%s: not a token set, or damaged: its contract's hash is %.12s, not %.12s: make it with nepcoc tokens", path, s.Contract.Hash(), m.Hash)
	}
	s.View = bundle.View{Tunnels: m.Tunnels, VLANs: m.VLANs, Interfaces: m.Interfaces, ActiveTimeout: m.ActiveTimeout}
	if err := s.View.Validate(); err != nil {
		return s, fmt.Errorf("%s: not a token set, or damaged: %w: make it with nepcoc tokens", path, err)
	}
	return s, nil
}

func open(path string) (*Set, error) {
	f, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	path = files.Show(path)
	meta, err := MetaOf(path, f)
	if err != nil {
		return nil, err
	}
	r := &reader{path: path, f: f, n: -1}
	if meta == nil {
		r.fail("it has no array meta")
		return nil, r.err
	}
	source, err := meta.Source(path)
	if err != nil {
		return nil, err
	}
	contract := source.Contract
	s := &Set{Source: source, Labels: r.names("labels"), Groups: r.names("groups"), Splits: r.names("splits"), Left: meta.Left, shard: meta.Shard, shards: meta.Shards}
	for k, name := range s.Labels {
		if err := bundle.CheckName(name); err != nil {
			r.fail("the name of its class %d, %v", k, err)
		} else if name == "" || slices.Contains(s.Labels[:k], name) {
			r.fail("its class %d is called %q, as no other may be", k, name)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	length := contract.Length
	var ids []int32
	if meta.Vocab > 1<<16 {
		ids = rows[int32](r, "tokens", length)
	} else {
		narrow := rows[uint16](r, "tokens", length)
		ids = make([]int32, len(narrow))
		for i, t := range narrow {
			ids[i] = int32(t)
		}
	}
	mask := rows[uint8](r, "mask", length)
	label, group, part := rows[int32](r, "label", 1), rows[int32](r, "group", 1), rows[uint8](r, "split", 1)
	time, proto := rows[int64](r, "time", 1), rows[uint8](r, "proto", 1)
	address, port := rows[uint8](r, "address", 32), rows[uint16](r, "port", 2)
	packets, bytes := rows[int64](r, "packets", 2), rows[int64](r, "bytes", 2)
	payload, marks := rows[uint16](r, "payload", 1), rows[uint16](r, "marks", 1)
	count := contract.NumberCount()
	var numbers []uint16
	if count > 0 {
		numbers = rows[uint16](r, "numbers", count)
	}
	var largest []uint16
	var repeats []uint8
	if f.Has("largest") { // sets that were made before have neither
		largest, repeats = rows[uint16](r, "largest", 1), rows[uint8](r, "repeats", 1)
	}
	if r.err != nil {
		return nil, r.err
	}
	s.Flows = make([]Flow, r.n)
	for i := range s.Flows {
		f := &s.Flows[i]
		row := mask[i*length : (i+1)*length]
		valid := 0
		for valid < length && row[valid] == 1 {
			valid++
		}
		if valid == 0 || slices.ContainsFunc(row[valid:], func(b uint8) bool { return b != 0 }) {
			r.fail("row %d: the mask is not 1 of the first tokens, one at least, and 0 of the others: it departs at position %d", i, valid)
			return nil, r.err
		}
		f.Tokens = ids[i*length : i*length+valid]
		for k := range count {
			f.Numbers = append(f.Numbers, int32(numbers[i*count+k]))
		}
		f.Label, f.Group, f.Split = int(label[i]), int(group[i]), int(part[i])
		if f.Label < -1 || f.Label >= len(s.Labels) || f.Group < 0 || f.Group >= len(s.Groups) || f.Split >= len(s.Splits) {
			r.fail("row %d: label %d, group %d or split %d is of no name", i, f.Label, f.Group, f.Split)
			return nil, r.err
		}
		for _, t := range f.Tokens {
			if t < 0 || int(t) >= contract.Vocab() {
				r.fail("row %d: token %d is not in 0..%d", i, t, contract.Vocab()-1)
				return nil, r.err
			}
		}
		end := func(k int) netip.AddrPort {
			a := netip.AddrFrom16([16]byte(address[32*i+16*k : 32*i+16*k+16]))
			return netip.AddrPortFrom(a.Unmap(), port[2*i+k])
		}
		if f.Key, err = flow.MakeKey(proto[i], end(0), end(1)); err != nil {
			r.fail("row %d: %v", i, err)
			return nil, r.err
		}
		f.First, f.Payload, f.Marks = time[i], int(payload[i]), flow.Marks(marks[i])
		f.Packets = [2]uint64{uint64(packets[2*i]), uint64(packets[2*i+1])}
		f.Bytes = [2]uint64{uint64(bytes[2*i]), uint64(bytes[2*i+1])}
		if largest != nil {
			f.Largest, f.Repeats = largest[i], repeats[i]
		}
	}
	return s, nil
}
