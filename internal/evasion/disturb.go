package evasion

import (
	"math/rand/v2"
	"slices"
)

// Rate is the share of a flow's packets that a disturbance changes.
const Rate = 0.1

// maxPad is how many bytes a padded packet's payload grows by at most.
const maxPad = 64

// Disturbances are what happens to packets without anybody's meaning it, or to hide what they are: unlike Transforms, they are no
// proof of the hosts' view, but a measure of how much of the packets a model needs as they were. The same seed disturbs the same packets.
var Disturbances = []Transform{
	{Name: "padded", What: "1 to 64 random bytes behind each packet's payload, as senders do to hide lengths", Segmentation: true, Apply: pad},
	{Name: "dropped", What: "one packet in ten not seen", Segmentation: true, Apply: func(r *rand.Rand, p, _ []Packet) []Packet {
		kept := slices.DeleteFunc(slices.Clone(p), func(Packet) bool { return r.Float64() < Rate })
		if len(kept) == 0 {
			return p[:1]
		}
		return kept
	}},
	{Name: "duplicated", What: "one packet in ten seen twice", Segmentation: true, Apply: func(r *rand.Rand, p, _ []Packet) (out []Packet) {
		for _, q := range p {
			out = append(out, q)
			if r.Float64() < Rate {
				q.Time += 20e3
				out = append(out, q)
			}
		}
		return out
	}},
	{Name: "reordered", What: "one packet in ten in the place of the next", Segmentation: true, Apply: func(r *rand.Rand, p, _ []Packet) []Packet {
		for i := 1; i < len(p); i++ {
			if r.Float64() < Rate {
				p[i-1], p[i] = p[i], p[i-1]
				p[i-1].Time, p[i].Time = p[i].Time, p[i-1].Time
				i++
			}
		}
		return p
	}},
}

// pad lengthens what each side sends: later sequence numbers of that side, and the other's acknowledgements, move along.
func pad(r *rand.Rand, p, _ []Packet) (out []Packet) {
	var moved [2]renumber
	seed := r.Uint64()
	for i := range p {
		q := p[i]
		size := uint32(len(q.Payload))
		if size > 0 {
			r := rand.New(rand.NewPCG(seed, uint64(q.Dir)<<32|uint64(q.Seq))) // what is sent again is padded alike
			more := make([]byte, 1+r.IntN(maxPad))
			for k := range more {
				more[k] = byte(r.Uint32())
			}
			q.Payload = slices.Concat(q.Payload, more)
		}
		q.Seq = moved[q.Dir].add(q.Seq, size, uint32(len(q.Payload)), q.Flags)
		q.Ack = moved[1-q.Dir].of(q.Ack)
		out = append(out, q)
	}
	return out
}
