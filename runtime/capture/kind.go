package capture

// Kind is what Decode made of a frame: a packet of a flow (KindOK), something
// that is not ours to classify (ignored), or something broken (malformed).
type Kind uint8

// The kinds. The order is part of no format; names are, see String.
const (
	KindOK Kind = iota

	// Ignored: well-formed as far as we read, but not TCP or UDP over IP.
	IgnoredLinkType // a link type that we don't read
	IgnoredNotIP    // another network protocol
	IgnoredARP
	IgnoredLLC    // 802.2 without IP: spanning tree, IS-IS, vendors' discovery
	IgnoredLLDP   // and the other link-local ones of IEEE 802: LACP, EAPOL, PTP
	IgnoredMACsec // encrypted
	IgnoredMPLS   // labels around something else than IP or Ethernet
	IgnoredPPP    // PPP without IP: control protocols, compressed headers, PPPoE's discovery
	IgnoredNSH    // a service header without IP or Ethernet in it
	IgnoredICMP
	IgnoredICMPv6
	IgnoredIGMP
	IgnoredSCTP
	IgnoredGRE
	IgnoredESP
	IgnoredIPIP    // IP in IP, a tunnel left closed
	IgnoredEtherIP // Ethernet in IP, and L2TP version 3
	IgnoredOSPF
	IgnoredTransport // any other IP protocol
	IgnoredFragment  // a later fragment whose first did not come
	// A later fragment that was waiting for its first when the room for such ran out.
	IgnoredFragmentEvicted
	IgnoredPart              // a fragment that a packet is put together from; the last one counts as the packet
	IgnoredDuplicateFragment // a fragment that had been seen already

	// Refused: decoded, but no host takes it, and the contract counts what hosts take.
	RefusedIPChecksum
	RefusedChecksum // TCP's or UDP's
	RefusedLength   // lengths or offsets that contradict each other
	RefusedOverlap  // of fragments that overlap
	RefusedOptions  // of IP, or extension headers, for which hosts drop a packet
	RefusedLost     // the last of a datagram's fragments that came, where others did not
	RefusedSegment  // TCP flags that no connection begins with

	// Malformed: a header is cut short or contradicts itself.
	MalformedLink           // cut within what stands before IP
	MalformedTags           // more tags and headers before IP than maxLayers, or MPLS labels than maxLabels
	MalformedIPVersion      // neither 4 nor 6, or not what the link layer said
	MalformedIPv4Header     // header cut, length field below 20 or beyond the packet
	MalformedIPv4Length     // total length shorter than the header
	MalformedIPv6Header     // header cut
	MalformedIPv6Extension  // an extension header reaches beyond the packet
	MalformedIPv6Extensions // more bytes of extension headers than maxExtensions
	MalformedTCP            // header cut
	MalformedUDP            // header cut

	NumKinds
)

var kindNames = [NumKinds]string{
	KindOK:                   "ok",
	IgnoredLinkType:          "ignored_link_type",
	IgnoredNotIP:             "ignored_not_ip",
	IgnoredARP:               "ignored_arp",
	IgnoredLLC:               "ignored_llc",
	IgnoredLLDP:              "ignored_lldp",
	IgnoredMACsec:            "ignored_macsec",
	IgnoredMPLS:              "ignored_mpls",
	IgnoredPPP:               "ignored_ppp",
	IgnoredNSH:               "ignored_nsh",
	IgnoredICMP:              "ignored_icmp",
	IgnoredICMPv6:            "ignored_icmpv6",
	IgnoredIGMP:              "ignored_igmp",
	IgnoredSCTP:              "ignored_sctp",
	IgnoredGRE:               "ignored_gre",
	IgnoredESP:               "ignored_esp",
	IgnoredIPIP:              "ignored_ipip",
	IgnoredEtherIP:           "ignored_etherip",
	IgnoredOSPF:              "ignored_ospf",
	IgnoredTransport:         "ignored_transport",
	IgnoredFragment:          "ignored_fragment",
	IgnoredFragmentEvicted:   "ignored_fragment_evicted",
	IgnoredPart:              "ignored_part",
	IgnoredDuplicateFragment: "ignored_duplicate_fragment",
	RefusedIPChecksum:        "refused_ip_checksum",
	RefusedChecksum:          "refused_checksum",
	RefusedLength:            "refused_length",
	RefusedOverlap:           "refused_overlap",
	RefusedOptions:           "refused_options",
	RefusedLost:              "refused_lost",
	RefusedSegment:           "refused_segment",
	MalformedLink:            "malformed_link",
	MalformedTags:            "malformed_tags",
	MalformedIPVersion:       "malformed_ip_version",
	MalformedIPv4Header:      "malformed_ipv4_header",
	MalformedIPv4Length:      "malformed_ipv4_length",
	MalformedIPv6Header:      "malformed_ipv6_header",
	MalformedIPv6Extension:   "malformed_ipv6_extension",
	MalformedIPv6Extensions:  "malformed_ipv6_extensions",
	MalformedTCP:             "malformed_tcp",
	MalformedUDP:             "malformed_udp",
}

func (k Kind) String() string { return kindNames[k] }

// Ignored and Malformed class a kind that is not KindOK.
func (k Kind) Ignored() bool   { return k >= IgnoredLinkType && k <= IgnoredDuplicateFragment }
func (k Kind) Refused() bool   { return k >= RefusedIPChecksum && k <= RefusedSegment }
func (k Kind) Malformed() bool { return k >= MalformedLink && k < NumKinds }

// notIP tells what is known before an IP header was seen.
func (k Kind) notIP() bool { return k >= IgnoredLinkType && k <= IgnoredNSH }
