package traffic

import "strings"

// Blank names a group of fields that are set to zero.
type Blank string

// The fields that a contract may blank.
const (
	BlankAddresses     Blank = "addresses"      // IPv4 and IPv6 source and destination
	BlankPorts         Blank = "ports"          // TCP and UDP source and destination port
	BlankChecksums     Blank = "checksums"      // IPv4 header, TCP and UDP checksum
	BlankTOS           Blank = "tos"            // IPv4 type of service, IPv6 traffic class
	BlankTTL           Blank = "ttl"            // IPv4 time to live, IPv6 hop limit
	BlankIPID          Blank = "ip_id"          // IPv4 identification, that of an IPv6 fragment header
	BlankFlowLabel     Blank = "flow_label"     // IPv6 flow label
	BlankTCPSeq        Blank = "tcp_seq"        // TCP sequence and acknowledgement number
	BlankTCPWindow     Blank = "tcp_window"     // TCP window
	BlankTCPTimestamps Blank = "tcp_timestamps" // the values of TCP's timestamp option
	BlankTCPOptions    Blank = "tcp_options"    // the values of all TCP options
	BlankMAC           Blank = "mac"            // Ethernet source and destination
	BlankTLSRandom     Blank = "tls_random"     // the random bytes of TLS hellos
	BlankTLSSNI        Blank = "tls_sni"        // the server's name in TLS client hellos
)

// where a group's fields are.
type where int

const (
	inHeaders where = iota // IP and transport headers
	inLink                 // the Ethernet header
	inPayload
)

// blanks are all groups, in the order in which they are listed, with the version of the file that each came with.
var blanks = []struct {
	word  Blank
	where where
	since int
	doc   string
}{
	{BlankAddresses, inHeaders, 1, "source and destination of IPv4 and IPv6"},
	{BlankPorts, inHeaders, 1, "source and destination port of TCP and UDP"},
	{BlankChecksums, inHeaders, 1, "the checksums of the IPv4 header, TCP and UDP"},
	{BlankTOS, inHeaders, 3, "IPv4 type of service, IPv6 traffic class (8 bits, the lower half of one byte and the upper half of the next)"},
	{BlankTTL, inHeaders, 3, "IPv4 time to live, IPv6 hop limit"},
	{BlankIPID, inHeaders, 3, "IPv4 identification, and that of an IPv6 fragment header"},
	{BlankFlowLabel, inHeaders, 3, "IPv6 flow label (20 bits: the lower half of one byte, and two bytes)"},
	{BlankTCPSeq, inHeaders, 3, "TCP sequence and acknowledgement number"},
	{BlankTCPWindow, inHeaders, 3, "TCP window"},
	{BlankTCPTimestamps, inHeaders, 3, "the values of TCP's timestamp option; its kind and length stay"},
	{BlankTCPOptions, inHeaders, 3, "the values of all TCP options, and what is behind the end of their list; kinds and lengths stay"},
	{BlankMAC, inLink, 3, "Ethernet source and destination, where first_layer is ethernet"},
	{BlankTLSRandom, inPayload, 3, "the 32 random bytes of TLS client and server hellos"},
	{BlankTLSSNI, inPayload, 3, "the server's name (SNI) in TLS client hellos; its length stays"},
}

// index is a group's place in blanks, -1 for what is none.
func (b Blank) index() int {
	for i := range blanks {
		if blanks[i].word == b {
			return i
		}
	}
	return -1
}

// blankWords lists the groups that are in one of these places.
func blankWords(places ...where) string {
	var words []string
	for _, b := range blanks {
		for _, w := range places {
			if b.where == w {
				words = append(words, string(b.word))
			}
		}
	}
	return strings.Join(words, ", ")
}

// checkBlank says what is wrong with the list of groups.
func (c *Contract) checkBlank() error {
	for i, b := range c.Blank {
		k := b.index()
		if k < 0 {
			return bad("blank", "no such fields: %q (%s)", b, blankWords(inHeaders, inLink, inPayload))
		}
		switch at := blanks[k].where; {
		case c.View == ViewStream && at != inPayload:
			return bad("blank", "%s has no meaning in the stream view, which has no headers: write [], or of %s", b, blankWords(inPayload))
		case c.FirstLayer == LayerPayload && at != inPayload:
			return bad("blank", "%s has no meaning with first_layer: payload, which has no headers: write [], or of %s", b, blankWords(inPayload))
		case at == inLink && c.FirstLayer != LayerEthernet:
			return bad("blank", "%s has no meaning with first_layer: %s: leave it out, or write first_layer: ethernet", b, c.FirstLayer)
		}
		for _, earlier := range c.Blank[:i] {
			if earlier == b {
				return bad("blank", "%s is listed twice", b)
			}
		}
	}
	return nil
}

// blankSet is a list of groups, prepared for the packet path.
type blankSet struct {
	addresses, ports, checksums                                 bool
	tos, ttl, ipID, flowLabel, seq, window, timestamps, options bool
	mac, random, sni                                            bool
	// more: some of the headers' fields that are seldom blanked; tls: some of payload.
	more, tls bool
}

func newBlankSet(c *Contract) (s blankSet) {
	s.addresses, s.ports, s.checksums = c.Blanks(BlankAddresses), c.Blanks(BlankPorts), c.Blanks(BlankChecksums)
	s.tos, s.ttl, s.ipID, s.flowLabel = c.Blanks(BlankTOS), c.Blanks(BlankTTL), c.Blanks(BlankIPID), c.Blanks(BlankFlowLabel)
	s.seq, s.window = c.Blanks(BlankTCPSeq), c.Blanks(BlankTCPWindow)
	s.options = c.Blanks(BlankTCPOptions)
	s.timestamps = c.Blanks(BlankTCPTimestamps) || s.options
	s.mac, s.random, s.sni = c.Blanks(BlankMAC), c.Blanks(BlankTLSRandom), c.Blanks(BlankTLSSNI)
	s.more = s.tos || s.ttl || s.ipID || s.flowLabel || s.seq || s.window || s.timestamps
	s.tls = s.random || s.sni
	return s
}

// headers blanks fields of b, which are a packet's first bytes from the IP header on.
func (s *blankSet) headers(b []byte, p *Packet) {
	v4 := b[0]>>4 == 4
	if s.more {
		s.rare(b, p, v4)
	}
	if v4 {
		if s.checksums {
			zero(b, 10, 12)
		}
		if s.addresses {
			zero(b, 12, 20)
		}
	} else if s.addresses {
		zero(b, 8, 40)
	}
	l4 := p.L4
	if l4 == 0 {
		return
	}
	if s.ports {
		zero(b, l4, l4+4)
	}
	if s.checksums {
		switch p.Proto {
		case protoTCP:
			zero(b, l4+16, l4+18)
		case protoUDP:
			zero(b, l4+6, l4+8)
		}
	}
}

// rare blanks the fields that few contracts do.
func (s *blankSet) rare(b []byte, p *Packet, v4 bool) {
	switch {
	case v4:
		if s.tos {
			zero(b, 1, 2)
		}
		if s.ipID {
			zero(b, 4, 6)
		}
		if s.ttl {
			zero(b, 8, 9)
		}
	default:
		if s.ipID { // before anything is zero that says where the fragment header is
			blankFragmentID(b)
		}
		if s.tos {
			b[0] &= 0xf0
			mask(b, 1, 0x0f)
		}
		if s.flowLabel {
			mask(b, 1, 0xf0)
			zero(b, 2, 4)
		}
		if s.ttl {
			zero(b, 7, 8)
		}
	}
	if l4 := p.L4; l4 != 0 && p.Proto == protoTCP {
		if s.timestamps && p.Payload > l4+20 {
			s.tcpOptions(b[:min(len(b), p.Payload)], l4+20)
		}
		if s.seq {
			zero(b, l4+4, l4+12)
		}
		if s.window {
			zero(b, l4+14, l4+16)
		}
	}
}

// blankFragmentID follows an IPv6 packet's extension headers, as far as b reaches, to the fragment header.
func blankFragmentID(b []byte) {
	if len(b) < 7 {
		return
	}
	next := b[6]
	for at := 40; at+2 <= len(b); {
		size := 8 + 8*int(b[at+1])
		switch next {
		case 0, 43, 60, 135, 139, 140: // hop-by-hop, routing, destination, mobility, HIP, Shim6
		case 51: // authentication
			size = 8 + 4*int(b[at+1])
		case 44: // the fragment header
			zero(b, at+4, at+8)
			size = 8
		default:
			return
		}
		next, at = b[at], at+size
	}
}

// tcpOptions blanks the values of TCP options, which are those from at to b's end. In options that contradict themselves
// nothing is known to be a kind or a length.
func (s *blankSet) tcpOptions(b []byte, at int) {
	for at < len(b) {
		kind := b[at]
		switch {
		case kind == 1: // no operation
			at++
			continue
		case kind == 0: // end of the list
			if s.options {
				zero(b, at+1, len(b))
			}
			return
		case at+1 >= len(b):
			return
		}
		size := int(b[at+1])
		bad := size < 2 || at+size > len(b)
		if bad {
			size = len(b) - at
		}
		if s.options || kind == 8 {
			zero(b, at+2, at+size)
		}
		if bad {
			return
		}
		at += size
	}
}

// zero clears b[from:to] as far as b reaches: a packet may be cut anywhere.
func zero(b []byte, from, to int) {
	if from < len(b) {
		clear(b[from:min(to, len(b))])
	}
}

// mask keeps some bits of a byte, where b reaches that far.
func mask(b []byte, at int, keep byte) {
	if at < len(b) {
		b[at] &= keep
	}
}
