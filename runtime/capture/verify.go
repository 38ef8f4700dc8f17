package capture

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// Faults are reasons for which a host drops a packet, and what keeps us from
// telling; see Verify.
type Faults uint16

// The faults.
const (
	FaultIPChecksum Faults = 1 << iota // IPv4 header checksum
	FaultChecksum                      // TCP or UDP checksum
	FaultLength                        // lengths or offsets that contradict each other
	FaultOverlap                       // fragments that overlap
	// FaultCut is no fault of the packet: the capture does not hold all of it,
	// so its checksum can't be told.
	FaultCut
	// FaultNoLength: the length field is 0 and the capture's length was taken.
	FaultNoLength
	// FaultOptions: IPv4 options or IPv6 extension headers for which a host drops the packet.
	FaultOptions
	// FaultForm is no fault where all of a flow's packets have it: a checksum of the form that network cards
	// leave, or are given; see TrustForm.
	FaultForm
	// FaultLost: not the packet's, but that of a datagram of its flow, fragments of which did not come in time.
	FaultLost
)

// Dropped are the faults for which a host drops the packet.
const Dropped = FaultIPChecksum | FaultChecksum | FaultLength | FaultOverlap | FaultOptions | FaultLost

var faultNames = []string{"ip_checksum", "checksum", "length", "overlap", "cut", "no_length", "options", "form", "lost"}

func (f Faults) String() string {
	var names []string
	for i, n := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// Trust is what a source knows of the checksums of a frame.
type Trust uint8

// What is known.
const (
	// TrustForm: nothing is known, as in a file. Checksums that a network card was
	// to fill in have a form of their own, zero or the pseudo header's sum alone, and are
	// taken; others must be right.
	TrustForm Trust = iota
	// TrustWire: the packet came over a wire: its checksums must be right.
	TrustWire
	// TrustChecked: the system has found the transport checksum right, or has made the
	// packet itself and left it to the card.
	TrustChecked
)

// etherMTU is the longest frame without segmentation offload, VLAN tags
// included: a longer one was captured before it was cut, or after it was put
// together.
const etherMTU = 1522

// Verify looks for what makes a host drop a packet that Decode took: wrong
// checksums, lengths and offsets (RFC 791, 8200, 9293, 768). Of a fragment it
// checks the IP header only; what fragments make up is checked when it is put together.
// wire is the frame's length on the wire.
func (p *Packet) Verify(wire int, trust Trust) {
	b, l4 := p.IP, p.L4
	p.Trust = trust
	if !p.V6 {
		ihl := int(b[0]&15) * 4
		if binary.BigEndian.Uint16(b[2:]) == 0 {
			p.noLength(wire, trust)
		} else if onesSum(b[:ihl], 0) != 0xffff {
			if trust != TrustWire && b[10] == 0 && b[11] == 0 {
				p.Faults |= FaultForm
			} else {
				p.Faults |= FaultIPChecksum
			}
		}
		if ihl > 20 && !optionsTaken(b[20:ihl]) {
			p.Faults |= FaultOptions
		}
	} else if binary.BigEndian.Uint16(b[4:]) == 0 {
		p.noLength(wire, trust)
	}
	if p.V6 && p.Extended() && !extensionsTaken(b[:l4]) {
		p.Faults |= FaultOptions
	}
	if len(b) < p.Length {
		p.Faults |= FaultCut
	}
	if p.Fragment || l4 == 0 {
		return
	}
	if p.Faults&FaultCut != 0 && (len(b) < l4+8 || p.Proto == ProtoTCP && len(b) < l4+20) {
		return // within the header: nothing of it can be held against another
	}
	size := p.Length - l4 // of header and payload
	field := l4 + 16
	if p.Proto == ProtoUDP {
		field = l4 + 6
		switch n := int(binary.BigEndian.Uint16(b[l4+4:])); {
		case n == 0 && p.Length > 0xffff: // a jumbogram, RFC 2675
		case n < 8 || n > size:
			p.Faults |= FaultLength
			return
		default:
			size = n // what is behind it is padding
		}
	} else if int(p.Payload) == l4 {
		p.Faults |= FaultLength
		return
	}
	if p.Faults&FaultCut != 0 || trust == TrustChecked {
		return
	}
	have := binary.BigEndian.Uint16(b[field:])
	pseudo := p.pseudoSum(size)
	switch {
	case p.Proto == ProtoUDP && have == 0:
		// Not computed: allowed over IPv4, and over IPv6 in tunnels only, which are
		// opened before this.
		if p.V6 && trust == TrustWire {
			p.Faults |= FaultChecksum
		}
	case trust == TrustForm && (have == 0 || have == fold(pseudo)):
		if wire <= etherMTU {
			p.Faults |= FaultForm // a longer one was merged, which leaves it in one packet and not in others
		}
	case p.Faults&FaultNoLength != 0 && trust != TrustWire:
		// Whose length was missing when it was captured, its checksum was, too.
	case onesSum(b[l4:l4+size], pseudo) != 0xffff:
		p.Faults |= FaultChecksum
	}
}

// noLength judges a length field of 0: what segmentation offload leaves in
// packets that are captured before they are cut, or after they were put
// together. Those are longer than a frame can be; of a shorter one over IPv4, which has a checksum
// for its header, every host knows that it is wrong.
func (p *Packet) noLength(wire int, trust Trust) {
	p.Faults |= FaultNoLength
	if wire <= etherMTU && (!p.V6 || trust == TrustWire) {
		p.Faults |= FaultLength
	}
}

// pseudoSum is the sum over the pseudo header, not yet folded.
func (p *Packet) pseudoSum(size int) uint64 {
	sum := uint64(p.Proto) + uint64(size)
	ends := p.IP[12:20]
	if p.V6 {
		ends = p.IP[8:40]
	}
	for ; len(ends) >= 4; ends = ends[4:] {
		sum += uint64(binary.BigEndian.Uint32(ends))
	}
	return sum
}

func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// HeaderSum is the one's complement sum of an IPv4 header; its complement is the checksum where that field is 0.
func HeaderSum(b []byte) uint16 { return onesSum(b, 0) }

// onesSum is the Internet checksum's sum (RFC 1071) over b and what has been
// summed before: 0xffff where the checksum field is right. It adds 64 bits at a
// time with end-around carry, in little endian: the sum comes out with its bytes swapped.
func onesSum(b []byte, before uint64) uint16 {
	le := binary.LittleEndian
	var sum, carry uint64
	for ; len(b) >= 64; b = b[64:] {
		w := (*[64]byte)(b)
		sum, carry = bits.Add64(sum, le.Uint64(w[0:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[8:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[16:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[24:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[32:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[40:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[48:]), carry)
		sum, carry = bits.Add64(sum, le.Uint64(w[56:]), carry)
	}
	for ; len(b) >= 8; b = b[8:] {
		sum, carry = bits.Add64(sum, le.Uint64(b), carry)
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		sum, carry = bits.Add64(sum, le.Uint64(tail[:]), carry)
	}
	for carry != 0 {
		sum, carry = bits.Add64(sum, 0, carry)
	}
	return fold(uint64(bits.ReverseBytes16(fold(sum))) + uint64(fold(before)))
}
