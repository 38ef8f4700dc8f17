package flow

import (
	"encoding/binary"

	"nepcoc/runtime/capture"
)

// Fragments remembers the first fragments seen lately, so that later ones,
// which carry no ports, find their flow. It is of fixed size: a newer fragment
// overwrites an older one of its bucket. It stands before the shards, since a
// later fragment alone doesn't tell to which shard its flow went.
//
// Later fragments that overtake their first are not joined (they would have to
// be stored); they are counted as capture.IgnoredFragment.
type Fragments struct {
	sets [fragSets][fragWays]fragment
}

const (
	fragSets = 1024
	fragWays = 4
	// fragLife is how long a first fragment waits for the rest of its packet,
	// as a host's reassembly does. IPv4 reuses its 16-bit ids soon.
	fragLife = 30e9
)

type fragment struct {
	src, dst         [16]byte
	id               uint32
	proto            uint8 // of the fragment header: part of the identity
	v6, used         bool
	transport        uint8 // what the first fragment showed
	srcPort, dstPort uint16
	time             int64
}

// Resolve fills in the ports of a later fragment and notes first ones. It
// returns capture.IgnoredFragment for a later fragment without a first.
func (t *Fragments) Resolve(p *capture.Packet) capture.Kind {
	if !p.Fragment {
		return capture.KindOK
	}
	f := fragment{id: p.FragID, proto: p.FragProto, v6: p.V6, used: true, time: p.Time}
	copy(f.src[:], p.Src())
	copy(f.dst[:], p.Dst())
	set := &t.sets[f.hash()%fragSets]
	found := -1
	for i := range set {
		if set[i].same(&f) {
			found = i
		}
	}
	if p.Later() {
		if found < 0 {
			return capture.IgnoredFragment
		}
		first := &set[found]
		if age := p.Time - first.time; age > fragLife || age < -fragLife {
			return capture.IgnoredFragment
		}
		p.Proto, p.SrcPort, p.DstPort = first.transport, first.srcPort, first.dstPort
		return capture.KindOK
	}
	f.transport, f.srcPort, f.dstPort = p.Proto, p.SrcPort, p.DstPort
	if found < 0 {
		// The ways are a queue: the newest in front, the last one falls out.
		found = fragWays - 1
	}
	copy(set[1:found+1], set[:found])
	set[0] = f
	return capture.KindOK
}

func (f *fragment) same(o *fragment) bool {
	return f.used && f.id == o.id && f.src == o.src && f.dst == o.dst && f.proto == o.proto && f.v6 == o.v6
}

// hash has a fixed seed: which fragments a full table forgets must not differ
// between two runs over the same capture.
func (f *fragment) hash() uint64 {
	le := binary.LittleEndian
	h := mix(le.Uint64(f.src[:])^0x9e3779b97f4a7c15, le.Uint64(f.dst[:])^uint64(f.id))
	return mix(h^le.Uint64(f.src[8:])^uint64(f.proto), le.Uint64(f.dst[8:])^0xd6e8feb86659fd93)
}
