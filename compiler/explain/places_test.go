package explain_test

import (
	"slices"
	"testing"

	why "nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Every token of bytes has its place, and the bytes at that place, as the packets were kept, are what the token stands for, in the
// packets view and in streams.
func TestPlaces(t *testing.T) {
	mem := source(t)
	for name, c := range contracts(t) {
		plain := c // whose tokens show what the contract blanks
		plain.Blank = nil
		mem.Rewind()
		raw, _, err := flow.Collect(mem, plain)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		trail := why.NewTrail(enc, true)
		lean := why.NewTrail(enc, false)
		tokens, facts, packets := 0, 0, map[uint64]bool{}
		in, err := flow.NewInput(flow.Options{Encoder: enc, Took: func(k flow.Taken) { trail.Took(k); lean.Took(k) }, Ready: func(f *flow.Flow) {
			defer trail.Drop(f.Seq)
			defer lean.Drop(f.Seq)
			if f.Seq%4 != 0 {
				return
			}
			list, weights := trail.Packets(f), make([]float64, f.Valid)
			for _, p := range list {
				at := 0
				for _, field := range p.Fields {
					if field.From != at || field.To <= at {
						t.Fatalf("%s, %s: field %s of %d to %d follows %d", name, f.Key, field.Name, field.From, field.To, at)
					}
					at = field.To
				}
				if at != len(p.Bytes) {
					t.Fatalf("%s, %s: %d of %d bytes have a name", name, f.Key, at, len(p.Bytes))
				}
			}
			for i := range f.Valid {
				weights[i] = 1
				ranges := trail.Ranges(f, weights, 1)
				again := lean.Ranges(f, weights, 1)
				weights[i] = 0
				if !slices.EqualFunc(ranges, again, func(a, b why.Range) bool {
					return a.Packet == b.Packet && a.Offset == b.Offset && a.Length == b.Length && a.Side == b.Side && a.Stream == b.Stream && a.Fact == b.Fact
				}) {
					t.Fatalf("%s, %s, token %d: %+v with packets kept, %+v without", name, f.Key, i, ranges, again)
				}
				special := c.UseCLS && i == 0 || c.UseSEP && i == f.Valid-1 && f.Tokens[i] == int32(c.SEP)
				if len(ranges) == 0 {
					if !special {
						t.Fatalf("%s, %s: token %d of %d comes from nowhere", name, f.Key, i, f.Valid)
					}
					continue
				}
				r := &ranges[0]
				if r.Fact != "" {
					facts++
					continue
				}
				tokens++
				packets[r.Packet] = true
				found := false
				for k := range list {
					from, to, ok := r.In(&list[k])
					if !ok {
						continue
					}
					found = true
					value := 0
					for _, b := range append(slices.Clone(list[k].Bytes[from:to]), 0, 0)[:c.TokenBytes] {
						value = value<<8 | int(b)
					}
					if want := int(raw[f.Seq].Tokens[i]) - c.ValueOffset; to-from != r.Length || value != want {
						t.Fatalf("%s, %s, token %d: packet %d, %d to %d holds %#x, the token %#x", name, f.Key, i, r.Packet, from, to, value, want)
					}
				}
				if !found || r.Packet == 0 {
					t.Fatalf("%s, %s, token %d: no packet for %+v", name, f.Key, i, *r)
				}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		mem.Rewind()
		if err := in.Run(mem); err != nil {
			t.Fatal(err)
		}
		if tokens < 1000 || len(packets) < 4 || (c.View == traffic.ViewStream || len(c.PacketTokens) > 0) != (facts > 0) {
			t.Errorf("%s: %d tokens of %d packets, %d facts", name, tokens, len(packets), facts)
		}
	}
}
