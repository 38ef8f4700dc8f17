// Package slowtokens says once more, slowly and plainly, what a traffic contract makes of packets: tests compare the encoder of the
// packet path with it. It reads packets itself, shares no code with runtime/traffic and runtime/capture but the contract's struct,
// and takes no care of time or memory.
package slowtokens

import (
	"slices"

	"nepcoc/runtime/traffic"
)

// Packet is a packet of a flow.
type Packet struct {
	Link []byte // the 14 bytes of an Ethernet header, or nothing
	IP   []byte // from the IP header on, as captured, with what may come behind the packet
	Side int    // traffic.Client or traffic.Server
	// Proto is the transport protocol, of a later fragment, which does not say it.
	Proto byte
	// Size is how many bytes of payload count, where some were left out of IP; -1 where the headers say it.
	Size int
	// Time in nanoseconds, in the order of the packets.
	Time int64
}

func be(b []byte) (v int) {
	for _, x := range b {
		v = v<<8 | int(x)
	}
	return v
}

// parsed is where things lie in a packet.
type parsed struct {
	ip          []byte // cut to the packet's length
	l4          int    // 0: there is no transport header
	proto       byte
	header      int   // bytes of headers
	said        bool  // by the transport header; else all are
	payload     int   // bytes of payload on the wire
	fragmentIDs []int // where fragment headers have their identification
}

func parse(p Packet) (r parsed) {
	b := p.IP
	length, at, next := 0, 0, byte(0)
	v6 := b[0]>>4 == 6
	if v6 {
		length, at, next = 40+be(b[4:6]), 40, b[6]
		if length == 40 && next != 59 {
			length = len(b)
		}
	} else {
		length, at, next = be(b[2:4]), int(b[0]&15)*4, b[9]
		if length == 0 {
			length = len(b)
		}
	}
	b = b[:min(length, len(b))]
	r.ip = b
	later, fragment := false, false
	if !v6 {
		later, fragment = be(b[6:8])&0x1fff != 0, be(b[6:8])&0x3fff != 0
	}
	for !later {
		size := 0
		switch {
		case next == 51:
			size = 8 + 4*int(b[at+1])
		case !v6:
		case next == 0 || next == 43 || next == 60 || next == 135 || next == 139 || next == 140:
			size = 8 + 8*int(b[at+1])
		case next == 44:
			size = 8
			r.fragmentIDs = append(r.fragmentIDs, at+4)
			later = be(b[at+2:at+4])>>3 != 0 && !fragment
			fragment = fragment || be(b[at+2:at+4])&0xfff9 != 0
		}
		if size == 0 {
			break
		}
		next = b[at]
		at += size
	}
	if later {
		r.header, r.payload, r.proto = at, length-at, p.Proto
		return r
	}
	r.l4, r.proto = at, next
	t := b[at:]
	r.header, r.payload = len(b), 0 // unless the transport header says otherwise
	switch {
	case next == 17 && len(t) >= 8:
		size := be(t[4:6])
		if size < 8 || size > length-at {
			size = length - at
		}
		r.header, r.payload, r.said = at+8, size-8, true
	case next == 6 && len(t) >= 20:
		if n := int(t[12]>>4) * 4; n >= 20 && n <= length-at {
			r.header, r.payload, r.said = min(at+n, len(b)), length-at-n, true
		}
	}
	return r
}

// blank gives the packet with what a contract blanks set to zero, bit by bit.
func blank(c *traffic.Contract, r *parsed, link []byte) (ip, eth []byte) {
	ip, eth = slices.Clone(r.ip), slices.Clone(link)
	zero := func(at, n int) {
		for i := at; i < at+n; i++ {
			if i < len(ip) {
				ip[i] = 0
			}
		}
	}
	v6 := ip[0]>>4 == 6
	tcp, udp := r.l4 > 0 && r.proto == 6, r.l4 > 0 && r.proto == 17
	for _, what := range c.Blank {
		switch {
		case what == "mac" && len(eth) > 0:
			copy(eth, make([]byte, 12))
		case what == "tos" && v6:
			ip[0] &= 0xf0
			ip[1] &= 0x0f
		case what == "tos":
			zero(1, 1)
		case what == "flow_label" && v6:
			ip[1] &= 0xf0
			zero(2, 2)
		case what == "ip_id" && v6:
			for _, at := range r.fragmentIDs {
				zero(at, 4)
			}
		case what == "ip_id":
			zero(4, 2)
		case what == "ttl" && v6:
			zero(7, 1)
		case what == "ttl":
			zero(8, 1)
		case what == "addresses" && v6:
			zero(8, 32)
		case what == "addresses":
			zero(12, 8)
		case what == "ports" && r.l4 > 0:
			zero(r.l4, 4)
		case what == "checksums":
			if !v6 {
				zero(10, 2)
			}
			if tcp {
				zero(r.l4+16, 2)
			}
			if udp {
				zero(r.l4+6, 2)
			}
		case what == "tcp_seq" && tcp:
			zero(r.l4+4, 8)
		case what == "tcp_window" && tcp:
			zero(r.l4+14, 2)
		case (what == "tcp_timestamps" || what == "tcp_options") && tcp && r.said:
			options(r.ip[:r.header], r.l4+20, func(kind byte, at, n int) {
				if kind == 8 || what == "tcp_options" {
					zero(at, n)
				}
			})
		case (what == "tls_random" || what == "tls_sni") && tcp && r.said:
			random, name := TLS(r.ip[r.header:])
			if what == "tls_sni" {
				random = name
			}
			for _, i := range random {
				zero(r.header+i, 1)
			}
		}
	}
	return ip, eth
}

// options calls value for each option's value, and for what is behind the list's end as if it were one of kind 0.
func options(b []byte, at int, value func(kind byte, at, n int)) {
	for at < len(b) {
		kind := b[at]
		if kind == 1 {
			at++
			continue
		}
		if kind == 0 {
			value(0, at+1, len(b)-at-1)
			return
		}
		if at+1 == len(b) {
			return
		}
		if n := int(b[at+1]); n >= 2 && at+n <= len(b) {
			value(kind, at+2, n-2)
			at += n
			continue
		}
		value(kind, at+2, len(b)-at-2)
		return
	}
}

// TLS finds the random bytes of hellos and the servers' names in the first bytes of a stream.
func TLS(b []byte) (random, name []int) {
	var where []int // of the bytes of handshake messages
	for i := 0; i+5 <= len(b) && b[i] == 22 && b[i+1] == 3 && b[i+2] <= 4; {
		n := be(b[i+3 : i+5])
		if n == 0 || n > 1<<14 {
			break
		}
		for k := i + 5; k < i+5+n && k < len(b); k++ {
			where = append(where, k)
		}
		i += 5 + n
	}
	at := 0
	number := func(n int) int { // -1: they have not come
		if at+n > len(where) {
			return -1
		}
		v := 0
		for range n {
			v = v<<8 | int(b[where[at]])
			at++
		}
		return v
	}
	mark := func(list *[]int, n int) {
		for i := at; i < at+n && i < len(where); i++ {
			*list = append(*list, where[i])
		}
		at += n
	}
	for {
		kind := number(1)
		size := number(3)
		if size < 0 {
			return
		}
		end := at + size
		if kind != 1 && kind != 2 {
			at = end
			continue
		}
		if size < 2 {
			return
		}
		if v := number(2); v < 0 || v>>8 != 3 || at+32 > end {
			return
		}
		mark(&random, 32)
		// vectors are lists of bytes behind their length.
		vector := func(of int) bool {
			if at+of > end {
				return false
			}
			n := number(of)
			if n < 0 || at+n > end {
				return false
			}
			at += n
			return true
		}
		if !vector(1) {
			return
		}
		if kind == 1 {
			if !vector(2) || !vector(1) {
				return
			}
		} else if at += 3; at > end {
			return
		}
		if at == end {
			continue
		}
		if at+2 > end {
			return
		}
		if n := number(2); n < 0 || at+n != end {
			return
		}
		for at < end {
			if at+4 > end {
				return
			}
			ext := number(2)
			n := number(2)
			if n < 0 || at+n > end {
				return
			}
			extEnd := at + n
			if ext != 0 || kind != 1 || n == 0 {
				at = extEnd
				continue
			}
			if n < 2 {
				return
			}
			if list := number(2); list < 0 || at+list != extEnd {
				return
			}
			for at < extEnd {
				if at+3 > extEnd {
					return
				}
				number(1)
				n := number(2)
				if n < 0 || at+n > extEnd {
					return
				}
				mark(&name, n)
			}
		}
	}
}

// Of are a flow's tokens in the packets view, with padding, and how many come before it.
func Of(c *traffic.Contract, packets []Packet) (tokens []int32, valid int) {
	size := c.TokenBytes
	put := func(id int) {
		if len(tokens) < c.Length {
			tokens = append(tokens, int32(id))
		}
	}
	if c.UseCLS {
		put(c.CLS)
	}
	for i, p := range packets {
		if i == c.Packets || len(tokens) == c.Length {
			break
		}
		r := parse(p)
		if p.Size >= 0 {
			r.payload = p.Size
		}
		for _, fact := range c.PacketTokens {
			if fact == "direction" {
				put(facts(c) + 2 + p.Side)
			} else {
				put(facts(c) + 4 + bits(r.payload))
			}
		}
		bytes := enters(c, &r, p.Link)
		for ; len(bytes)%size != 0; bytes = append(bytes, 0) {
		}
		for ; len(bytes) > 0; bytes = bytes[size:] {
			put(id(c, be(bytes[:size])))
		}
	}
	return end(c, tokens)
}

// Numbers are what stands beside a flow's tokens in the packets view.
func Numbers(c *traffic.Contract, packets []Packet) (list []int32) {
	for _, what := range c.Numbers {
		for i := range c.Packets {
			if i >= len(packets) {
				list = append(list, 0)
				continue
			}
			p, n := packets[i], 0
			switch what {
			case "length":
				if n = p.Size; n < 0 {
					r := parse(p)
					n = r.payload
				}
			case "direction":
				n = p.Side + 1
			case "gap":
				if i > 0 {
					for t := (p.Time - packets[i-1].Time) / 1000; t > 0; t /= 2 {
						n++
					}
				}
			}
			list = append(list, int32(min(n, 65535)))
		}
	}
	return list
}

// enters are the bytes of a packet that enter.
func enters(c *traffic.Contract, r *parsed, link []byte) []byte {
	if c.FirstLayer != "ethernet" {
		link = nil
	} else {
		typ := []byte{0x08, 0x00}
		if r.ip[0]>>4 == 6 {
			typ = []byte{0x86, 0xdd}
		}
		if link == nil {
			link = make([]byte, 12)
		}
		link = append(slices.Clone(link[:12]), typ...)
	}
	ip, link := blank(c, r, link)
	header := append(link, ip[:r.header]...)
	payload := ip[r.header:]
	cut := func(b []byte, n int) []byte { return b[:min(n, len(b))] }
	switch {
	case c.FirstLayer == "payload":
		return cut(cut(payload, r.payload), c.BytesPerPacket)
	case c.HeaderBytes > 0:
		return append(slices.Clone(cut(header, c.HeaderBytes)), cut(cut(payload, r.payload), c.BytesPerPacket-c.HeaderBytes)...)
	}
	return cut(append(link, ip...), c.BytesPerPacket)
}

// facts is the id of the first fact.
func facts(c *traffic.Contract) int {
	if len(c.ByteIDs) > 0 {
		return slices.Max(c.ByteIDs) + 1
	}
	if c.TokenBytes == 2 {
		return c.ValueOffset + 65536
	}
	return c.ValueOffset + 256
}

func id(c *traffic.Contract, value int) int {
	if len(c.ByteIDs) > 0 {
		return c.ByteIDs[value]
	}
	return c.ValueOffset + value
}

func bits(n int) int {
	for b := 0; ; b++ {
		if n < 1<<b {
			return min(b, 17)
		}
	}
}

func end(c *traffic.Contract, tokens []int32) ([]int32, int) {
	if c.UseSEP && len(tokens) < c.Length {
		tokens = append(tokens, int32(c.SEP))
	}
	valid := len(tokens)
	for len(tokens) < c.Length {
		tokens = append(tokens, int32(c.Pad))
	}
	return tokens, valid
}

// Segment is payload of one side, with its place in the side's stream.
type Segment struct {
	Side, At int
	Payload  []byte
}

// OfStream are a flow's tokens in the stream view.
func OfStream(c *traffic.Contract, udp bool, segments []Segment) (tokens []int32, valid int) {
	put := func(id int) {
		if len(tokens) < c.Length {
			tokens = append(tokens, int32(id))
		}
	}
	if c.UseCLS {
		put(c.CLS)
	}
	if udp {
		put(facts(c) + 1)
	} else {
		put(facts(c))
	}
	for side, budget := range []int{c.ClientBytes, c.ServerBytes} {
		came := map[int]byte{}
		for _, s := range segments {
			for i, b := range s.Payload {
				if _, there := came[s.At+i]; s.Side == side && !there {
					came[s.At+i] = b
				}
			}
		}
		var bytes []byte
		for len(bytes) < budget {
			b, there := came[len(bytes)]
			if !there {
				break
			}
			bytes = append(bytes, b)
		}
		put(facts(c) + 2 + side)
		put(facts(c) + 4 + bits(len(bytes)))
		random, name := TLS(bytes)
		for _, w := range c.Blank {
			where := random
			if w == "tls_sni" {
				where = name
			}
			for _, i := range where {
				if !udp {
					bytes[i] = 0
				}
			}
		}
		for ; len(bytes)%c.TokenBytes != 0; bytes = append(bytes, 0) {
		}
		for ; len(bytes) > 0; bytes = bytes[c.TokenBytes:] {
			put(id(c, be(bytes[:c.TokenBytes])))
		}
	}
	return end(c, tokens)
}
