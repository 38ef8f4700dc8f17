package dataset

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"nepcoc/compiler/npz"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Open reads a stored set, see Set.Write; several files are the shards of one.
func Open(paths ...string) (*Set, error) {
	var s *Set
	for _, path := range paths {
		part, err := open(path)
		if err != nil {
			return nil, err
		}
		if s == nil {
			s = part
			continue
		}
		if err := s.join(part, path, paths[0]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// join adds the flows of a shard.
func (s *Set) join(part *Set, path, first string) error {
	if part.Contract.Hash() != s.Contract.Hash() {
		return fmt.Errorf("%s: made by another traffic contract (%s) than %s (%s): make both anew with nepcoc tokens", path, part.Contract.Name, first, s.Contract.Name)
	}
	for _, lists := range [][2][]string{{part.Labels, s.Labels}, {part.Splits, s.Splits}, {part.Groups, s.Groups}} {
		if fmt.Sprint(lists[0]) != fmt.Sprint(lists[1]) {
			return fmt.Errorf("%s: is no shard of the set of %s: its classes, groups or parts differ", path, first)
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
		r.fail("array %q is of type %s and shape %v", name, t.DType, t.Shape)
		return nil
	}
	return data
}

func open(path string) (*Set, error) {
	f, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	r := &reader{path: path, f: f, n: -1}
	var meta Meta
	if text := r.names("meta"); r.err == nil && (len(text) != 1 || json.Unmarshal([]byte(text[0]), &meta) != nil) {
		r.fail("meta is no JSON")
	}
	if r.err != nil {
		return nil, r.err
	}
	if meta.Version > Version {
		return nil, fmt.Errorf("%s: a token set of version %d, and this program reads up to %d: update it", path, meta.Version, Version)
	}
	contract, err := traffic.Parse(path, []byte(meta.Contract))
	if err != nil {
		return nil, err
	}
	if contract.Hash() != meta.Hash {
		r.fail("its contract's hash is %.12s, not %.12s", contract.Hash(), meta.Hash)
	}
	s := &Set{Contract: contract, Labels: r.names("labels"), Groups: r.names("groups"), Splits: r.names("splits"), Left: meta.Left}
	s.View.Tunnels, s.View.VLANs = meta.Tunnels, meta.VLANs
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
	if r.err != nil {
		return nil, r.err
	}
	s.Flows = make([]Flow, r.n)
	for i := range s.Flows {
		f := &s.Flows[i]
		valid := 0
		for valid < length && mask[i*length+valid] == 1 {
			valid++
		}
		f.Tokens = ids[i*length : i*length+valid]
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
	}
	return s, nil
}
