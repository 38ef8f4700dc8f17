package dataset

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"nepcoc/runtime/traffic"
)

// A field is one thing that a sequence holds, by the name that protocol analysers have for it.
type field struct {
	name   string // such as "ip.ttl of packet 1"
	part   string // the contract's word for what blanks it, "" for none
	value  uint64
	nature bool // payload, lengths, flags: that it tells the class may be the traffic's nature
}

// nature stands in place of a contract's word for what is no habit of machines or recordings.
const nature = "nature"

// reach is how many packets of a sequence, and how many bytes of payload, are looked at one by one.
const (
	reachPackets = 5
	reachPayload = 64
)

// fields calls emit for what a flow's tokens hold.
func fields(c *traffic.Contract, tokens []int32, emit func(field)) {
	if c.View == traffic.ViewStream {
		streamFields(c, tokens, emit)
		return
	}
	link := 0
	if c.FirstLayer == traffic.LayerEthernet {
		link = traffic.EthernetBytes
	}
	if c.HeaderBytes > 0 || len(c.PacketTokens) > 0 || len(c.ByteIDs) > 0 || c.FirstLayer == traffic.LayerPayload || c.BytesPerPacket < link+leastHeader {
		// Where fields lie in such a sequence depends on what came before, or can't be told: by position then.
		positions(tokens, emit)
		return
	}
	b := tokenBytes(c, tokens)
	for packet := 1; packet <= reachPackets && len(b) > 0; packet++ {
		if link > 0 {
			linkFields(b, packet, emit)
		}
		b = b[min(link, len(b)):]
		n := packetFields(c, b, link, packet, emit)
		if n == 0 {
			return
		}
		b = b[min(n, len(b)):]
	}
}

func positions(tokens []int32, emit func(field)) {
	for p, t := range tokens[:min(len(tokens), reachPackets*reachPayload)] {
		emit(field{name: "position " + strconv.Itoa(p), value: uint64(t), nature: true})
	}
}

// linkFields emits the fields of the Ethernet header at the beginning of b.
func linkFields(b []byte, packet int, emit func(field)) {
	if len(b) < traffic.EthernetBytes {
		return
	}
	emit(field{name: fmt.Sprintf("eth.dst of packet %d", packet), part: "mac", value: number(b[:6])})
	emit(field{name: fmt.Sprintf("eth.src of packet %d", packet), part: "mac", value: number(b[6:12])})
}

// tokenBytes are the bytes that a sequence of the packets view holds.
func tokenBytes(c *traffic.Contract, tokens []int32) []byte {
	b := make([]byte, 0, len(tokens)*c.TokenBytes)
	for _, t := range tokens {
		v := t - int32(c.ValueOffset)
		if v < 0 { // CLS, SEP
			continue
		}
		if c.TokenBytes == 2 {
			b = append(b, byte(v>>8))
		}
		b = append(b, byte(v))
	}
	return b
}

// number is a field's value, big endian; of an IPv6 address, which has too many bytes, a hash.
func number(b []byte) (v uint64) {
	if len(b) > 8 {
		return mix(string(b))
	}
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}

// leastHeader is how many bytes of an IP header tell where its packet ends and what it carries.
const leastHeader = 10

// packetFields emits the fields of the packet at the beginning of b, behind so many bytes of the link layer, and returns how many
// bytes it takes there, 0 if that can't be told.
func packetFields(c *traffic.Contract, b []byte, link, packet int, emit func(field)) int {
	b = b[:min(len(b), c.BytesPerPacket-link)]
	at := func(from, to int, name, part string) {
		if to <= len(b) {
			emit(field{name: fmt.Sprintf("%s of packet %d", name, packet), part: part, value: number(b[from:to]), nature: part == nature})
		}
	}
	var total, header int
	var proto byte
	switch {
	case len(b) >= leastHeader && b[0]>>4 == 4 && b[0]&15 >= 5:
		total, header, proto = int(binary.BigEndian.Uint16(b[2:])), int(b[0]&15)*4, b[9]
		at(1, 2, "ip.dsfield", "tos")
		at(2, 4, "ip.len", nature)
		at(4, 6, "ip.id", "ip_id")
		at(6, 8, "ip.flags", "")
		at(8, 9, "ip.ttl", "ttl")
		at(12, 16, "ip.src", "addresses")
		at(16, 20, "ip.dst", "addresses")
	case len(b) >= leastHeader && b[0]>>4 == 6:
		total, header, proto = 40+int(binary.BigEndian.Uint16(b[4:])), 40, b[6]
		emit(field{name: fmt.Sprintf("ipv6.flow of packet %d", packet), part: "flow_label", value: number(b[1:4]) & 0xfffff})
		at(4, 6, "ipv6.plen", nature)
		at(7, 8, "ipv6.hlim", "ttl")
		at(8, 24, "ipv6.src", "addresses")
		at(24, 40, "ipv6.dst", "addresses")
	default:
		return 0
	}
	n := min(total, c.BytesPerPacket-link) // as long as the contract lets it be, though the sequence may end before
	if c.TokenBytes == 2 {
		n += (n + link) & 1
	}
	b = b[:min(n, len(b))]
	payload := header
	switch {
	case proto == 6 && len(b) >= header+20:
		at(header, header+2, "tcp.srcport", "ports")
		at(header+2, header+4, "tcp.dstport", "ports")
		at(header+4, header+8, "tcp.seq", "tcp_seq")
		at(header+8, header+12, "tcp.ack", "tcp_seq")
		at(header+13, header+14, "tcp.flags", nature)
		at(header+14, header+16, "tcp.window_size", "tcp_window")
		at(header+16, header+18, "tcp.checksum", "checksums")
		payload = header + int(b[header+12]>>4)*4
		tcpOptions(b, header+20, min(payload, len(b)), packet, emit)
	case proto == 17 && len(b) >= header+8:
		at(header, header+2, "udp.srcport", "ports")
		at(header+2, header+4, "udp.dstport", "ports")
		at(header+4, header+6, "udp.length", nature)
		at(header+6, header+8, "udp.checksum", "checksums")
		payload = header + 8
	}
	for k := 0; k < reachPayload && payload+k < min(len(b), total); k++ {
		emit(field{name: fmt.Sprintf("payload[%d] of packet %d", k, packet), value: uint64(b[payload+k]), nature: true})
	}
	return n
}

func tcpOptions(b []byte, from, to, packet int, emit func(field)) {
	for p := from; p+1 < to && b[p] != 0; {
		if b[p] == 1 {
			p++
			continue
		}
		size := int(b[p+1])
		if size < 2 || p+size > to {
			return
		}
		of := func(name, part string, lo, hi int) {
			emit(field{name: fmt.Sprintf("%s of packet %d", name, packet), part: part, value: number(b[p+lo : p+hi])})
		}
		switch {
		case b[p] == 2 && size == 4:
			of("tcp.options.mss_val", "tcp_options", 2, 4)
		case b[p] == 3 && size == 3:
			of("tcp.options.wscale", "tcp_options", 2, 3)
		case b[p] == 8 && size == 10:
			of("tcp.options.timestamp.tsval", "tcp_timestamps", 2, 6)
			of("tcp.options.timestamp.tsecr", "tcp_timestamps", 6, 10)
		}
		p += size
	}
}

// streamFields emits what a sequence of the stream view holds: transport, lengths, bytes of each side.
func streamFields(c *traffic.Contract, tokens []int32, emit func(field)) {
	if c.TokenBytes != 1 || c.ByteIDs != nil {
		positions(tokens, emit)
		return
	}
	sides := []string{"client", "server"}
	side, k := -1, 0
	for _, t := range tokens {
		switch fact := c.Fact(t); {
		case fact == "tcp" || fact == "udp":
			emit(field{name: "ip.proto", value: uint64(t), nature: true})
		case fact == "client" || fact == "server":
			side, k = side+1, 0
		case fact != "" && side >= 0:
			emit(field{name: "length of the " + sides[min(side, 1)] + "'s bytes", value: uint64(t), nature: true})
		case side >= 0 && t >= int32(c.ValueOffset) && k < reachPayload:
			emit(field{name: fmt.Sprintf("byte %d of the %s", k, sides[min(side, 1)]), value: uint64(t), nature: true})
			k++
		}
	}
}
