package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Numbers that IP headers use.
const (
	protoTCP = 6
	protoUDP = 17
)

// frame is one captured Ethernet frame; length is its length on the wire.
type frame struct {
	time   time.Time
	data   []byte
	length int
}

func (f frame) info() gopacket.CaptureInfo {
	return gopacket.CaptureInfo{Timestamp: f.time, CaptureLength: len(f.data), Length: f.length}
}

// tagged is the frame with an 802.1Q tag.
func (f frame) tagged(vlan int) frame {
	if len(f.data) < 12 {
		return f
	}
	data := make([]byte, 0, len(f.data)+4)
	data = append(data, f.data[:12]...)
	data = append(data, 0x81, 0x00, byte(vlan>>8), byte(vlan))
	return frame{time: f.time, data: append(data, f.data[12:]...), length: f.length + 4}
}

// key is a 5-tuple in the direction of one packet.
type key struct {
	proto    uint8
	src, dst netip.AddrPort
}

func (k key) reverse() key { return key{k.proto, k.dst, k.src} }

// flow is one bidirectional flow, keyed in the direction of its first packet.
type flow struct {
	key         key
	first, last time.Time
	label       string
	kept        int
	frames      []frame
	payload     bool // some packet carried more than headers
}

type limits struct {
	packets, snap int
	idle          time.Duration
}

type trimmed struct {
	flows  []*flow // by time of the first packet
	frames []frame // by time
	// What was left out.
	unlabelled, empty, other int
}

// trim separates flows as the traffic contract does (both directions of a 5-tuple, until a pause longer
// than idle) and keeps the first packets of those that have a label and say something. A TCP connection
// without payload (refused, or a port probe) is no example of any protocol.
func trim(frames []frame, table ports, limit limits) trimmed {
	var result trimmed
	slices.SortStableFunc(frames, func(a, b frame) int { return a.time.Compare(b.time) })
	open := make(map[key]*flow)
	var flows []*flow
	for _, fr := range frames {
		k, payload, ok := decode(fr.data)
		if !ok {
			result.other++
			continue
		}
		f := open[k]
		if f == nil {
			f = open[k.reverse()]
		}
		if f == nil || fr.time.Sub(f.last) > limit.idle {
			if f != nil {
				delete(open, f.key)
			}
			f = &flow{key: k, first: fr.time, label: table.label(k)}
			open[k] = f
			flows = append(flows, f)
		}
		f.last = fr.time
		f.payload = f.payload || payload
		if len(f.frames) < limit.packets {
			fr.data = fr.data[:min(len(fr.data), limit.snap)]
			f.frames = append(f.frames, fr)
		}
	}
	for _, f := range flows {
		switch {
		case f.label == "":
			result.unlabelled++
		case !f.payload:
			result.empty++
		default:
			f.kept = len(f.frames)
			result.flows = append(result.flows, f)
			result.frames = append(result.frames, f.frames...)
		}
	}
	slices.SortStableFunc(result.frames, func(a, b frame) int { return a.time.Compare(b.time) })
	return result
}

// decode finds the 5-tuple of an Ethernet frame, and whether the packet has payload. Fragments are left
// out: a flow's first packets may hold a part of a datagram whose rest was trimmed away.
func decode(data []byte) (k key, payload, ok bool) {
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var src, dst netip.Addr
	var rest int // bytes after the IP header, from its length field, as the frame may be cut or padded
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		if ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 {
			return k, false, false
		}
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
		rest = int(ip.Length) - int(ip.IHL)*4
	case *layers.IPv6:
		if p.Layer(layers.LayerTypeIPv6Fragment) != nil {
			return k, false, false
		}
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
		rest = int(ip.Length)
	default:
		return k, false, false
	}
	switch t := p.TransportLayer().(type) {
	case *layers.TCP:
		k = key{protoTCP, netip.AddrPortFrom(src.Unmap(), uint16(t.SrcPort)), netip.AddrPortFrom(dst.Unmap(), uint16(t.DstPort))}
		return k, rest > int(t.DataOffset)*4, true
	case *layers.UDP:
		k = key{protoUDP, netip.AddrPortFrom(src.Unmap(), uint16(t.SrcPort)), netip.AddrPortFrom(dst.Unmap(), uint16(t.DstPort))}
		return k, rest > 8, true
	}
	return k, false, false
}

// ports is the table of server ports.
type ports []portRange

type portRange struct {
	proto    uint8
	from, to uint16
	label    string
}

// label looks at the destination first: a flow usually starts with the client's packet.
func (p ports) label(k key) string {
	for _, port := range []uint16{k.dst.Port(), k.src.Port()} {
		for _, r := range p {
			if r.proto == k.proto && r.from <= port && port <= r.to {
				return r.label
			}
		}
	}
	return ""
}

// parsePorts reads lines of transport, port or port range, label.
func parsePorts(r io.Reader) (ports, error) {
	var table ports
	scanner := bufio.NewScanner(r)
	for line := 1; scanner.Scan(); line++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %d: want transport, port, label", line)
		}
		entry := portRange{label: fields[2]}
		switch fields[0] {
		case "tcp":
			entry.proto = protoTCP
		case "udp":
			entry.proto = protoUDP
		default:
			return nil, fmt.Errorf("line %d: transport %q is neither tcp nor udp", line, fields[0])
		}
		from, to, isRange := strings.Cut(fields[1], "-")
		if !isRange {
			to = from
		}
		for _, p := range []struct {
			text string
			out  *uint16
		}{{from, &entry.from}, {to, &entry.to}} {
			n, err := strconv.ParseUint(p.text, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("line %d: port %q is not 0..65535", line, p.text)
			}
			*p.out = uint16(n)
		}
		table = append(table, entry)
	}
	return table, scanner.Err()
}
