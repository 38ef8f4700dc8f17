package explain

import (
	"fmt"

	"nepcoc/runtime/traffic"
)

// Field is a run of bytes of a packet, or of a side's stream, with the name that protocol analysers have for it.
type Field struct {
	From int    `json:"from"`
	To   int    `json:"to"`
	Name string `json:"name"`
	Part string `json:"part"` // ethernet, header, payload
	// Blank are the contract's words that blank it, or part of it.
	Blank []traffic.Blank `json:"-"`
}

// Fields names the bytes of a packet: an Ethernet header, where link is 14, and p's. Its payload is one field; see Application.
func Fields(link int, p *traffic.Packet) (list []Field) {
	b := p.IP
	at := func(from, to int, name string, blank ...traffic.Blank) {
		if to = min(to, len(b)); from < to {
			list = append(list, Field{From: link + from, To: link + to, Name: name, Part: "header", Blank: blank})
		}
	}
	if link > 0 {
		list = []Field{
			{From: 0, To: 6, Name: "eth.dst", Part: "ethernet", Blank: []traffic.Blank{traffic.BlankMAC}},
			{From: 6, To: 12, Name: "eth.src", Part: "ethernet", Blank: []traffic.Blank{traffic.BlankMAC}},
			{From: 12, To: 14, Name: "eth.type", Part: "ethernet"},
		}
	}
	end := len(b) // of headers
	if p.Payload > p.L4 {
		end = min(end, p.Payload)
	}
	ipEnd := end
	if p.L4 > 0 {
		ipEnd = p.L4
	}
	if b[0]>>4 == 4 {
		at(0, 1, "ip.version, ip.hdr_len")
		at(1, 2, "ip.dsfield", traffic.BlankTOS)
		at(2, 4, "ip.len")
		at(4, 6, "ip.id", traffic.BlankIPID)
		at(6, 8, "ip.flags, ip.frag_offset")
		at(8, 9, "ip.ttl", traffic.BlankTTL)
		at(9, 10, "ip.proto")
		at(10, 12, "ip.checksum", traffic.BlankChecksums)
		at(12, 16, "ip.src", traffic.BlankAddresses)
		at(16, 20, "ip.dst", traffic.BlankAddresses)
		at(20, ipEnd, "ip.options")
	} else {
		at(0, 4, "ipv6.version, ipv6.tclass, ipv6.flow", traffic.BlankTOS, traffic.BlankFlowLabel)
		at(4, 6, "ipv6.plen")
		at(6, 7, "ipv6.nxt")
		at(7, 8, "ipv6.hlim", traffic.BlankTTL)
		at(8, 24, "ipv6.src", traffic.BlankAddresses)
		at(24, 40, "ipv6.dst", traffic.BlankAddresses)
		at(40, ipEnd, "ipv6 extension headers", traffic.BlankIPID)
	}
	if l4 := p.L4; l4 > 0 {
		switch p.Proto {
		case 6:
			at(l4, l4+2, "tcp.srcport", traffic.BlankPorts)
			at(l4+2, l4+4, "tcp.dstport", traffic.BlankPorts)
			at(l4+4, l4+8, "tcp.seq", traffic.BlankTCPSeq)
			at(l4+8, l4+12, "tcp.ack", traffic.BlankTCPSeq)
			at(l4+12, l4+14, "tcp.hdr_len, tcp.flags")
			at(l4+14, l4+16, "tcp.window_size", traffic.BlankTCPWindow)
			at(l4+16, l4+18, "tcp.checksum", traffic.BlankChecksums)
			at(l4+18, l4+20, "tcp.urgent_pointer")
			options(b[:end], l4+20, at)
		case 17:
			at(l4, l4+2, "udp.srcport", traffic.BlankPorts)
			at(l4+2, l4+4, "udp.dstport", traffic.BlankPorts)
			at(l4+4, l4+6, "udp.length")
			at(l4+6, l4+8, "udp.checksum", traffic.BlankChecksums)
		}
	}
	if end < len(b) {
		list = append(list, Field{From: link + end, To: link + len(b), Name: "payload", Part: "payload"})
	}
	return list
}

// options names TCP options: kind and length apart from the value.
func options(b []byte, from int, at func(from, to int, name string, blank ...traffic.Blank)) {
	for from < len(b) {
		kind := b[from]
		switch {
		case kind == 1:
			at(from, from+1, "tcp.options.nop")
			from++
			continue
		case kind == 0 || from+1 >= len(b) || b[from+1] < 2 || from+int(b[from+1]) > len(b):
			at(from, from+1, "tcp.option_kind")
			at(from+1, len(b), "tcp.options", traffic.BlankTCPOptions)
			return
		}
		size := int(b[from+1])
		name, words := fmt.Sprintf("tcp.options kind %d", kind), []traffic.Blank{traffic.BlankTCPOptions}
		switch kind {
		case 2:
			name = "tcp.options.mss_val"
		case 3:
			name = "tcp.options.wscale"
		case 4:
			name = "tcp.options.sack_perm"
		case 5:
			name = "tcp.options.sack"
		case 8:
			name, words = "tcp.options.timestamp", append(words, traffic.BlankTCPTimestamps)
		}
		at(from, from+2, name+": kind, length")
		at(from+2, from+size, name, words...)
		from += size
	}
}
