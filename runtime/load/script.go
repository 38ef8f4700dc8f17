// Package load sends the flows of a capture again and again, each time between hosts of new addresses, at a
// given rate, and compares the verdicts that an agent gives to them with those of the capture at rest.
//
// Addresses are of the networks that are set apart for measuring (198.18.0.0/15, RFC 2544; 2001:2::/48, RFC 5180), and say
// which flow it is: whoever sees a verdict's addresses knows what it must be.
//
// The package knows nothing of the agent: what it judges are EVE events.
package load

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unsafe"

	"nepcoc/internal/plural"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// Script is the flows of a capture, as they are to be sent.
type Script struct {
	Flows []Flow
	// Left counts the frames that are not sent, by why.
	Left map[string]int
}

// Flow is one flow of the capture, with the errors (ICMP) that its packets met.
type Flow struct {
	Key   flow.Key // in the direction of the first packet
	First int64    // its time in the capture
	// Packets in the order in which they are sent.
	packets []packet

	// what the verdicts must be; see Script.Expect.
	want     []Verdict
	compared bool
}

// Packets is the number of the flow's packets, Bytes that of their frames.
func (f *Flow) Packets() int { return len(f.packets) }

// Bytes is the length of the flow's frames.
func (f *Flow) Bytes() (n int) {
	for i := range f.packets {
		n += len(f.packets[i].data)
	}
	return n
}

// Length is the time from its first packet to its last, as it is sent.
func (f *Flow) Length() time.Duration { return f.packets[len(f.packets)-1].at }

// packet is a frame, and what of it changes with its addresses.
type packet struct {
	at      time.Duration // after the flow's first; while a capture is read, its time
	data    []byte        // an Ethernet frame up to the end of the IP packet
	ip      int           // where its IP header begins
	sum     int           // where in the IP packet its checksum lies; 0: there is none
	quoted  int           // where in the IP packet the header begins that an ICMP error quotes; 0: it is none
	n       uint32        // its number in the capture: of equal times the one before comes first
	reverse bool          // from the second host to the first
	proto   uint8         // of what lies behind the IP header
}

// Options of ReadScript.
type Options struct {
	// Gap bounds the pauses between two packets of a flow.
	Gap time.Duration
	// Idle is the pause behind which the same addresses and ports are another flow.
	Idle time.Duration
	// Tunnels: what tunnels carry is not to be sent, since its addresses would stay.
	Tunnels bool
	// Progress, which may be nil, is told how many frames were read.
	Progress func(frames int)

	limit int // instead of maxScript, in tests
}

// What is kept of a capture is bounded: the bytes of its frames, and, as much again, what stands beside them. That is about, with the room that slices and maps
// grow by, each packet's place in its flow, a flow and its entries in maps, and a frame that waits until all is read.
const (
	maxScript   = 1 << 30
	packetBytes = 2 * int(unsafe.Sizeof(packet{}))
	flowBytes   = 2 * int(unsafe.Sizeof(Flow{})+2*unsafe.Sizeof(flow.Key{}))
	rawBytes    = 2 * int(unsafe.Sizeof(raw{}))
	headBytes   = 128
)

// raw is a frame of the capture, and what its flow is found by.
type raw struct {
	packet
	key      flow.Key // of the packet, or of what an error quotes
	fragment bool     // other than the first
	id       uint32   // of the fragment
	icmp     bool
}

// ReadScript takes the flows of a capture. Checksums that a network card was to fill in are filled in; what the capture cut off is
// zeros. A capture of which more than twice maxScript bytes would be kept is refused.
func ReadScript(src capture.Source, o Options) (*Script, error) {
	s := &Script{Left: map[string]int{}}
	var later []raw // errors, and fragments behind the first: what they belong to may follow them
	type open struct {
		flow int
		last int64
	}
	flows := map[flow.Key]open{}
	type ends struct {
		src, dst [16]byte
		id       uint32
	}
	heads := map[ends]int{}        // fragments: flow of the datagram's first
	pairs := map[[2][16]byte]int{} // the latest flow between two hosts
	var f capture.Frame
	var p capture.Packet
	size, beside, limit := 0, 0, cmp.Or(o.limit, maxScript)
	for n := 1; ; n++ {
		err := src.Next(&f)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if o.Progress != nil && n%4096 == 0 {
			o.Progress(n)
		}
		kind := capture.Decode(&f, &p)
		if o.Tunnels && p.Tunnelled(kind) != capture.NoTunnel {
			s.Left["in tunnels"]++
			continue
		}
		icmp := kind == capture.IgnoredICMP || kind == capture.IgnoredICMPv6
		if kind != capture.KindOK && (!icmp || p.Fragment || p.L4 == 0) {
			s.Left[kind.String()]++
			continue
		}
		r := raw{key: flow.KeyOf(&p), fragment: p.Later(), id: p.FragID, icmp: icmp}
		r.at, r.n = time.Duration(f.Time), uint32(n)
		r.frame(&f, &p, icmp)
		size, beside = size+len(r.data), beside+packetBytes
		canonical, _ := r.key.Canonical()
		switch {
		case icmp:
			r.key = quotedKey(r.data[r.ip:], r.quoted, r.key)
			fallthrough
		case r.fragment:
			later = append(later, r)
			beside += rawBytes
		default:
			at, ok := flows[canonical]
			if !ok || o.Idle > 0 && time.Duration(f.Time-at.last) > o.Idle {
				at.flow = len(s.Flows)
				s.Flows = append(s.Flows, Flow{Key: r.key, First: f.Time})
				beside += flowBytes
			}
			flows[canonical] = open{at.flow, f.Time}
			if p.Fragment {
				heads[ends{r.key.Src, r.key.Dst, r.id}] = at.flow
				beside += headBytes
			}
			pairs[[2][16]byte{canonical.Src, canonical.Dst}] = at.flow
			s.Flows[at.flow].take(&r)
		}
		switch {
		case size > limit:
			return nil, fmt.Errorf("more than %d MiB of packets: %s", limit>>20, takeAPart)
		case beside > limit:
			return nil, fmt.Errorf("its first %s, of %s, take more than %d MiB beside their bytes: %s", plural.Of(n, "packet"), plural.Of(len(s.Flows), "flow"), limit>>20, takeAPart)
		}
	}
	for i := range later {
		r := &later[i]
		if r.fragment {
			if at, ok := heads[ends{r.key.Src, r.key.Dst, r.id}]; ok {
				s.Flows[at].take(r)
			} else {
				s.Left["fragments without their first"]++
			}
			continue
		}
		canonical, _ := r.key.Canonical()
		at, ok := flows[canonical]
		if other, near := pairs[[2][16]byte{canonical.Src, canonical.Dst}]; !ok && near {
			at.flow, ok = other, true
		}
		if !ok {
			s.Left["ICMP of hosts without flows"]++
			continue
		}
		s.Flows[at.flow].take(r)
	}
	if len(s.Flows) == 0 {
		return nil, errors.New("no flow of TCP or UDP is in it")
	}
	for i := range s.Flows {
		pace(s.Flows[i].packets, o.Gap)
	}
	return s, nil
}

// takeAPart is the way out where a capture is too large.
const takeAPart = "take a part of the capture (editcap -c, tcpdump -c)"

// take adds a frame to its flow.
func (f *Flow) take(r *raw) {
	// An error may come from a router: then it is from the other side than whom it is for.
	switch to := r.data[r.ip:]; {
	case r.icmp:
		r.reverse = sameHost(to, true, &f.Key.Src)
	default:
		r.reverse = !sameHost(to, false, &f.Key.Src) || f.Key.Src == f.Key.Dst && r.key.SrcPort != f.Key.SrcPort
	}
	f.packets = append(f.packets, r.packet)
}

// pace makes of times in the capture times after the first packet, with pauses of at most gap.
func pace(packets []packet, gap time.Duration) {
	slices.SortFunc(packets, func(a, b packet) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n)) })
	at, last := time.Duration(0), packets[0].at
	for i := range packets {
		p := &packets[i]
		at, last, p.at = at+min(p.at-last, gap), p.at, at+min(p.at-last, gap)
	}
}

// The length of an Ethernet header, and of an ICMP error's before what it quotes.
const (
	etherBytes = 14
	icmpBytes  = 8
)

// frame takes a frame's packet.
func (r *raw) frame(f *capture.Frame, p *capture.Packet, icmp bool) {
	if f.Link == capture.LinkEthernet {
		r.ip = cap(f.Data) - cap(p.IP) // both end where the frame does
		r.data = append(make([]byte, 0, r.ip+p.Length), f.Data[:r.ip]...)
	} else {
		r.ip = etherBytes
		r.data = make([]byte, etherBytes, etherBytes+p.Length)
		kind := uint16(0x0800)
		if p.V6 {
			kind = 0x86dd
		}
		binary.BigEndian.PutUint16(r.data[12:], kind)
	}
	// Nobody's: a frame that gets out of the cable is for no host.
	copy(r.data, []byte{2, 0, 0x5e, 0, 0, 2, 2, 0, 0x5e, 0, 0, 1})
	r.data = append(r.data, p.IP...)
	cut := p.Length - len(p.IP)
	if cut > 0 {
		r.data = append(r.data, make([]byte, cut)...)
	}
	ip := r.data[r.ip:]
	if !p.V6 && binary.BigEndian.Uint16(ip[2:]) == 0 && len(ip) <= 0xffff {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip))) // segmentation offload leaves 0
	}
	if !icmp {
		p.Verify(f.Length, capture.TrustForm)
	}
	if !p.V6 && p.Faults&capture.FaultIPChecksum == 0 {
		setHeaderSum(ip)
	}
	if p.L4 == 0 { // a later fragment
		return
	}
	r.proto = p.Proto
	at := map[uint8]int{capture.ProtoTCP: 16, capture.ProtoUDP: 6}[p.Proto]
	if icmp {
		at = 2
		// What is quoted is a stranger's bytes: of another version than the error it is no packet that it could be about.
		if l4 := ip[p.L4:]; isError(p.V6, l4) && len(l4) >= icmpBytes+minHeader(p.V6) && l4[icmpBytes]>>4 == ip[0]>>4 {
			r.quoted = p.L4 + icmpBytes
		}
	}
	if len(ip) < p.L4+at+2 {
		return
	}
	r.sum = p.L4 + at
	if !icmp && !p.Fragment && (cut > 0 || p.Faults&capture.FaultForm != 0 && !(p.Proto == capture.ProtoUDP && ip[r.sum] == 0 && ip[r.sum+1] == 0)) {
		setSum(ip, p.V6, p.Proto, p.L4, r.sum)
	}
}

func minHeader(v6 bool) int {
	if v6 {
		return 40
	}
	return 20
}

// isError tells whether an ICMP message quotes the packet that it is about.
func isError(v6 bool, b []byte) bool {
	if len(b) == 0 {
		return false
	}
	if v6 {
		return b[0] < 128
	}
	return b[0] == 3 || b[0] == 4 || b[0] == 5 || b[0] == 11 || b[0] == 12
}

// quotedKey is the flow that an error is about, as far as it says so; else the packet's own.
func quotedKey(ip []byte, quoted int, own flow.Key) flow.Key {
	if quoted == 0 {
		return own
	}
	var p capture.Packet
	q := append([]byte(nil), ip[quoted:]...)
	// It holds the first bytes of a packet: as a capture that is cut.
	if kind := capture.Decode(&capture.Frame{Data: q, Length: 1 << 16, Link: capture.LinkRaw}, &p); kind != capture.KindOK || p.Later() {
		own.Proto = 0 // the hosts, then
		return own
	}
	return flow.KeyOf(&p)
}

// sameHost tells whether a packet is from, or to, a host.
func sameHost(ip []byte, to bool, host *[16]byte) bool {
	at, n := 12, 4
	if ip[0]>>4 == 6 {
		at, n = 8, 16
	}
	if to {
		at += n
	}
	return string(ip[at:at+n]) == string(host[:n])
}

// Fit leaves out the flows with a frame that an interface can't send, and returns how many.
func (s *Script) Fit(mtu int) int {
	before := len(s.Flows)
	s.Flows = slices.DeleteFunc(s.Flows, func(f Flow) bool {
		return slices.ContainsFunc(f.packets, func(p packet) bool { return len(p.data)-p.ip > mtu })
	})
	return before - len(s.Flows)
}

// Packets is the mean number of packets of a flow.
func (s *Script) Packets() float64 {
	n := 0
	for i := range s.Flows {
		n += len(s.Flows[i].packets)
	}
	return float64(n) / float64(len(s.Flows))
}
