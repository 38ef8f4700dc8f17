// Package flow joins packets to flows: both directions of a 5-tuple are one
// flow, kept in a table of fixed capacity with timers in packet time, and every
// flow with at least one packet gets exactly one verdict.
//
// Nothing is allocated per packet or per flow, and the work per packet is
// bounded, so the same table serves a file and a saturated link. One Table
// belongs to one goroutine; a program with several shards has several tables
// and gives each packet to that of its Key.Shard.
//
// The package imports runtime/capture and runtime/traffic and knows nothing of
// models.
package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"

	"github.com/dchest/siphash"

	"nepcoc/runtime/capture"
)

// Key is a flow's 5-tuple in one direction, and where it was seen. It is comparable and of fixed size:
// IPv4 addresses lie in the first 4 bytes, the others are zero.
type Key struct {
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	Proto            uint8
	V6               bool
	// Tunnel is the id of the tunnel that it is in, 0 for none: networks of different
	// customers use the same addresses. How deep in tunnels it is is no part, since a
	// load balancer sends packets through one whose answers come without.
	Tunnel uint32
	// VLAN and Interface are 0 where the Scope leaves them out.
	VLAN      [2]uint16
	Interface uint16
}

// Scope is what, beside 5-tuple and tunnel, tells flows apart. By default VLAN tags don't, so that a flow
// that is tagged in one direction only stays one flow, nor do interfaces, so that one whose
// directions come in by two does.
type Scope struct{ VLANs, Interfaces bool }

// widen adds to a packet's key what the scope asks for.
func (s Scope) widen(k *Key, p *capture.Packet) {
	if s.VLANs {
		k.VLAN = p.VLAN
	}
	if s.Interfaces {
		k.Interface = p.Interface
	}
}

// KeyOf is the key of a packet in the packet's own direction.
func (s Scope) KeyOf(p *capture.Packet) Key {
	k := KeyOf(p)
	s.widen(&k, p)
	return k
}

// FiveTuple is the key without where the flow was seen: what label files and other tools
// know of it.
func (k Key) FiveTuple() Key {
	k.Tunnel, k.VLAN, k.Interface = 0, [2]uint16{}, 0
	return k
}

// KeyOf is the key of a packet in the packet's own direction, in the narrowest scope. Of a later
// fragment the ports are zero.
func KeyOf(p *capture.Packet) (k Key) {
	// Constant sizes compile to plain moves.
	if p.V6 {
		k.Src = [16]byte(p.IP[8:24])
		k.Dst = [16]byte(p.IP[24:40])
		k.V6 = true
	} else {
		copy(k.Src[:4], p.IP[12:16])
		copy(k.Dst[:4], p.IP[16:20])
	}
	k.SrcPort, k.DstPort, k.Proto, k.Tunnel = p.SrcPort, p.DstPort, p.Proto, p.Tunnel
	return k
}

// MakeKey is a key from addresses and ports. Both addresses must be of one
// family.
func MakeKey(proto uint8, src, dst netip.AddrPort) (Key, error) {
	// An IPv6 packet may carry IPv4-mapped addresses: they stay IPv6.
	a, b := src.Addr(), dst.Addr()
	if !a.IsValid() || !b.IsValid() || a.Is4() != b.Is4() {
		return Key{}, fmt.Errorf("%s and %s are not addresses of one family", src.Addr(), dst.Addr())
	}
	k := Key{SrcPort: src.Port(), DstPort: dst.Port(), Proto: proto, V6: a.Is6()}
	copy(k.Src[:], a.AsSlice())
	copy(k.Dst[:], b.AsSlice())
	return k, nil
}

// Reverse is the key of the other direction.
func (k Key) Reverse() Key {
	k.Src, k.Dst = k.Dst, k.Src
	k.SrcPort, k.DstPort = k.DstPort, k.SrcPort
	return k
}

// Canonical is the same key for both directions: the smaller address, then the
// smaller port, comes first. swapped tells whether k was the other way round.
func (k Key) Canonical() (c Key, swapped bool) {
	swapped = k.turn()
	return k, swapped
}

// turn makes a key canonical, and tells whether it was the other way round.
func (k *Key) turn() bool {
	if !k.swapped() {
		return false
	}
	k.Src, k.Dst = k.Dst, k.Src
	k.SrcPort, k.DstPort = k.DstPort, k.SrcPort
	return true
}

func (k *Key) swapped() bool {
	a, b := binary.BigEndian.Uint64(k.Src[:]), binary.BigEndian.Uint64(k.Dst[:])
	if a == b {
		a, b = binary.BigEndian.Uint64(k.Src[8:]), binary.BigEndian.Uint64(k.Dst[8:])
	}
	if a == b {
		return k.SrcPort > k.DstPort
	}
	return a > b
}

// Compare orders keys by family, protocol, addresses, ports, and where they were seen.
func (k Key) Compare(o Key) int {
	rank := func(k *Key) []byte {
		var b [48]byte
		if k.V6 {
			b[0] = 1
		}
		b[1] = k.Proto
		copy(b[2:], k.Src[:])
		copy(b[18:], k.Dst[:])
		binary.BigEndian.PutUint16(b[34:], k.SrcPort)
		binary.BigEndian.PutUint16(b[36:], k.DstPort)
		binary.BigEndian.PutUint32(b[38:], k.Tunnel)
		binary.BigEndian.PutUint16(b[42:], k.VLAN[0])
		binary.BigEndian.PutUint16(b[44:], k.VLAN[1])
		binary.BigEndian.PutUint16(b[46:], k.Interface)
		return b[:]
	}
	return bytes.Compare(rank(&k), rank(&o))
}

// A Seed is the secret of a hash.
type Seed struct{ k0, k1 uint64 }

// NewSeed draws a seed that nobody outside knows: they can't aim flows at one bucket or worker.
func NewSeed() Seed { return Seed{rand.Uint64(), rand.Uint64()} }

// FixedSeed is one for where runs must be alike and senders can't do harm.
func FixedSeed(n uint64) Seed { return Seed{n, 0x6e65706364} }

// Hash of a canonical key: SipHash, which is made for keys that strangers choose. (A multiplication per word, which
// was here before, gives 0 for any seed where one factor can be made 0.)
func (k *Key) Hash(seed Seed) uint64 {
	var b [48]byte
	binary.LittleEndian.PutUint32(b[:], uint32(k.SrcPort)<<16|uint32(k.DstPort))
	b[4] = k.Proto
	n := 13
	if !k.V6 {
		copy(b[5:], k.Src[:4])
		copy(b[9:], k.Dst[:4])
	} else {
		n = 38
		b[5] = 6
		copy(b[6:], k.Src[:])
		copy(b[22:], k.Dst[:])
	}
	if where := uint64(k.Tunnel)<<32 | uint64(k.VLAN[0])<<16 | uint64(k.VLAN[1]); where != 0 || k.Interface != 0 {
		binary.LittleEndian.PutUint64(b[n:], where)
		binary.LittleEndian.PutUint16(b[n+8:], k.Interface)
		n += 10
	}
	return siphash.Hash(seed.k0, seed.k1, b[:n])
}

// Shard is the one of n, 0 to n-1, that a canonical key's flow belongs to. It is chosen by other bits of the hash
// than a table's bucket is.
func (k *Key) Shard(seed Seed, n int) int {
	return int(k.Hash(seed) >> 32 * uint64(n) >> 32)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// SrcAddr and DstAddr are the ends as netip values.
func (k Key) SrcAddr() netip.AddrPort { return netip.AddrPortFrom(addr(k.Src, k.V6), k.SrcPort) }
func (k Key) DstAddr() netip.AddrPort { return netip.AddrPortFrom(addr(k.Dst, k.V6), k.DstPort) }

func addr(b [16]byte, v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// ProtoName is "TCP" or "UDP".
func (k Key) ProtoName() string {
	switch k.Proto {
	case capture.ProtoTCP:
		return "TCP"
	case capture.ProtoUDP:
		return "UDP"
	}
	return fmt.Sprintf("IP-%d", k.Proto)
}

// String is "TCP 10.0.0.1:40001 > 10.0.1.1:443".
func (k Key) String() string {
	return string(k.Append(nil))
}

// Append appends String without allocating.
func (k Key) Append(b []byte) []byte {
	b = append(b, k.ProtoName()...)
	b = append(b, ' ')
	b = k.SrcAddr().AppendTo(b)
	b = append(b, " > "...)
	return k.DstAddr().AppendTo(b)
}
