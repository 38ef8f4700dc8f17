package c

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"nepcoc/runtime/traffic"
)

//go:embed *.tmpl
var flowFiles embed.FS

var flowTemplates = template.Must(template.ParseFS(flowFiles, "*.tmpl"))

// flowCode is what the templates know of a contract: what it asks for, so that nothing else is written.
type flowCode struct {
	P, M string // nepco_NAME, NEPCO_NAME
	C    traffic.Contract

	Hosts, Stream, DropFar, SkipEmpty bool
	// Plain: bytes of packets enter as they come from the IP header on. Sized: the size of payload matters, Sided: whose packet it is.
	Plain, Sized, Sided bool
	// Budget are the bytes of packets in the sequence, Buffer what is kept; Seen is where the bits of a stream's bytes are.
	Budget, Buffer, SeenClient, SeenServer int
	Link                                   int  // bytes of the Ethernet header
	MAC                                    bool // of which the addresses are not blanked
	Facts, FactBytes, Fact                 int  // tokens in front of a packet's bytes; the first one's id
	FactLength                             bool
	BodyBytes                              int // of bytes_per_packet, those for payload only
	PacketTokens                           []traffic.PacketToken
	Numbers                                int
	Length, Direction, Gap                 bool // numbers

	Blanks, Addresses, PortsBlank, Checksums, TOS, TTL, IPID, FlowLabel, Seq, Window, Options, AllOptions bool
	TLS, Random, SNI                                                                                      bool
	BlankWords                                                                                            string

	Linger, Quiet, Idle int64
	MinPayload          int
	Runs                bool // the program takes what the contract gives

	// Of the table of flows: the bundle's view, and what is kept of a fragment that waits.
	Tunnels, VLANs bool
	Active         int64
	HeldBytes      int
}

// Value is the token of a byte.
func (f *flowCode) Value(b string) string {
	if f.C.ByteIDs != nil {
		return "flow_ids[" + b + "]"
	}
	return f.Offset() + b
}

// Offset stands in front of a token's value.
func (f *flowCode) Offset() string {
	if f.C.ValueOffset == 0 {
		return ""
	}
	return fmt.Sprintf("%d + ", f.C.ValueOffset)
}

// IDs are those of byte values.
func (f *flowCode) IDs() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(f.C.ByteIDs), " ", ", "), "[]")
}

// Row is where a number's row of packets begins, Member where its values are kept.
func (f *flowCode) Row(k int) int { return k * f.C.Packets }
func (f *flowCode) Member(n traffic.Number) string {
	return map[traffic.Number]string{traffic.NumberLength: "length", traffic.NumberDirection: "sender", traffic.NumberGap: "gap"}[n]
}

// contract is the bundle's, where it has one.
func (u *unit) contract() (*traffic.Contract, error) {
	if u.b.Manifest.Contract.YAML == "" {
		return nil, nil
	}
	c, err := traffic.Parse("the bundle's contract", []byte(u.b.Manifest.Contract.YAML))
	return &c, err
}

// flow writes how packets become tokens; nothing where the bundle has no contract.
func (u *unit) flow() (header, source string, err error) {
	c, err := u.contract()
	if err != nil || c == nil {
		return "", "", err
	}
	f := &flowCode{P: u.prefix(), M: u.macro(), C: *c, MinPayload: max(0, u.b.Manifest.LeastPayload())}
	f.Hosts, f.Stream = c.Accept == traffic.AcceptHosts, c.View == traffic.ViewStream
	f.DropFar, f.SkipEmpty = c.FarTTL == traffic.FarTTLDrop, c.Empty == traffic.EmptySkip
	f.PacketTokens, f.Facts, f.FactBytes, f.Fact = c.PacketTokens, len(c.PacketTokens), len(c.PacketTokens)*c.TokenBytes, c.FirstFact()
	f.FactLength = slices.Contains(c.PacketTokens, traffic.TokenLength)
	f.Numbers = c.NumberCount()
	f.Runs = f.Numbers == u.p.Sides
	f.Length, f.Direction, f.Gap = slices.Contains(c.Numbers, traffic.NumberLength), slices.Contains(c.Numbers, traffic.NumberDirection), slices.Contains(c.Numbers, traffic.NumberGap)
	f.Plain = c.FirstLayer == traffic.LayerIP && c.HeaderBytes == 0 && f.Facts == 0
	f.Sized = !f.Stream && (!f.Plain || f.Numbers > 0)
	f.Sided = slices.Contains(c.PacketTokens, traffic.TokenDirection) || f.Direction
	f.BodyBytes = c.BytesPerPacket - c.HeaderBytes
	if c.FirstLayer == traffic.LayerEthernet {
		f.Link, f.MAC = traffic.EthernetBytes, !c.Blanks(traffic.BlankMAC)
	}
	f.Budget = c.PayloadTokens() * c.TokenBytes
	f.Buffer = f.Budget
	if f.Stream {
		f.SeenClient = c.ClientBytes + c.ServerBytes
		f.SeenServer = f.SeenClient + (c.ClientBytes+7)/8
		f.Buffer = f.SeenServer + (c.ServerBytes+7)/8
	}
	var words []string
	for _, b := range c.Blank {
		words = append(words, string(b))
	}
	slices.Sort(words)
	f.BlankWords = strings.Join(words, ", ")
	f.Addresses, f.PortsBlank, f.Checksums = c.Blanks(traffic.BlankAddresses), c.Blanks(traffic.BlankPorts), c.Blanks(traffic.BlankChecksums)
	f.TOS, f.TTL, f.IPID, f.FlowLabel = c.Blanks(traffic.BlankTOS), c.Blanks(traffic.BlankTTL), c.Blanks(traffic.BlankIPID), c.Blanks(traffic.BlankFlowLabel)
	f.Seq, f.Window, f.AllOptions = c.Blanks(traffic.BlankTCPSeq), c.Blanks(traffic.BlankTCPWindow), c.Blanks(traffic.BlankTCPOptions)
	f.Options = f.AllOptions || c.Blanks(traffic.BlankTCPTimestamps)
	f.Random, f.SNI = c.Blanks(traffic.BlankTLSRandom), c.Blanks(traffic.BlankTLSSNI)
	f.TLS = f.Random || f.SNI
	f.Blanks = f.Addresses || f.PortsBlank || f.Checksums || f.TOS || f.TTL || f.IPID || f.FlowLabel || f.Seq || f.Window || f.Options
	f.Linger, f.Quiet, f.Idle = c.CloseLinger.Nanoseconds(), c.Quiet.Nanoseconds(), c.Idle.Nanoseconds()
	view := u.b.Manifest.View
	f.Tunnels, f.VLANs, f.Active = view.Tunnels, view.VLANs, view.ActiveTimeout.Nanoseconds()
	f.HeldBytes = jumbo // to put them together, all is wanted
	if !f.Hosts {
		f.HeldBytes = min(traffic.MaxBytesPerPacket, mostHeaders+max(c.BytesPerPacket, c.ClientBytes, c.ServerBytes))
	}
	var h, s strings.Builder
	for _, name := range []string{"flow", "table"} {
		if err := flowTemplates.ExecuteTemplate(&h, name+".h.tmpl", f); err != nil {
			return "", "", err
		}
		if err := flowTemplates.ExecuteTemplate(&s, name+".c.tmpl", f); err != nil {
			return "", "", err
		}
	}
	return h.String(), s.String(), nil
}

// jumbo is the largest MTU that is common, and so the size of the largest fragment.
const jumbo = 9216

// mostHeaders is no less than the bytes of a packet's headers: IPv6 with all extension headers that are passed over, and TCP.
const mostHeaders = 40 + 2048 + 60

// aboutPackets says in the README how packets become tokens.
func (u *unit) aboutPackets() string {
	c, err := u.contract()
	if err != nil || c == nil {
		return "The bundle has no traffic contract, so nothing here makes tokens of packets: give `run` the tokens.\n"
	}
	p, m := u.prefix(), u.macro()
	about := ""
	if c.Accept == traffic.AcceptHosts {
		about += fmt.Sprintf(" This contract takes what hosts take (`accept: hosts`): fragments are to be put together before, `%s_flow_secret` wants two random numbers for each flow, and what is known of checksums is added to `direction`.", p)
	}
	if c.FirstLayer == traffic.LayerEthernet && !c.Blanks(traffic.BlankMAC) {
		about += fmt.Sprintf(" Tokens hold Ethernet addresses (`first_layer: ethernet`): `%s_flow_mac` before `%s_flow_add` gives those of a packet.", p, p)
	}
	return fmt.Sprintf("## From frames\n\nA program without a flow table gives its frames to the library's. It calls back once for each flow.\n\n"+
		"```c\nstatic void verdict(void *ctx, const %[1]s_entry *e)\n{\n    char name[%[2]s_ENTRY_NAME];\n    %[1]s_result r;\n    %[1]s_verdict v;\n    %[1]s_entry_name(e, name); /* TCP 10.0.0.1:40000 > 10.0.0.2:443 */\n"+
		"    if (%[1]s_flow_run(ctx, &e->flow, &r) == 0 && %[1]s_judge(&r, 0, &v) == 0) {\n        printf(\"%%s: %%s\\n\", name, %[1]s_flow_word(&e->flow, 0, &v));\n    }\n}\n\n"+
		"size_t bytes = %[1]s_table_bytes(65536); /* for so many flows at once */\nuint64_t secret[2]; /* random numbers */\n%[1]s_table *t = %[1]s_table_new(malloc(bytes), bytes, 65536, secret, verdict, ctx);\n"+
		"%[1]s_table_frame(t, 1, frame, captured, wire, 0, now); /* each frame; 1: Ethernet, as in pcap files */\n%[1]s_table_end(t);\n```\n\n"+
		"One thread uses a table; `%[1]s_frame_ends` deals frames to several. The header says what `%[1]s_table_time`, `%[1]s_table_lost` and `%[1]s_table_counts` are for.\n\n"+
		"## From packets\n\nA program that has a flow table keeps one `%[1]s_flow` for each flow in it. Both directions of a 5-tuple are one flow (`%[1]s_flow_key`).\n\n"+
		"```c\n/* first: f is new, behind %[1]s_flow_init */\nint error = %[1]s_flow_add(f, ip, captured, wire, direction, now);\n"+
		"if (error == %[2]s_EOTHER) { /* another connection between the same ports */\n"+
		"    verdict(f); /* unless it has had it */\n    %[1]s_flow_next(f);\n    first = 1;\n    error = %[1]s_flow_add(f, ip, captured, wire, direction, now);\n}\n"+
		"if (error != 0 && first) {\n    drop(f); /* there is no flow: nothing begins with this packet */\n"+
		"} else if (%[1]s_flow_ready(f) || now > %[1]s_flow_deadline(f)) { /* or the flow has to leave the table */\n    %[1]s_flow_run(ctx, f, &r);\n}\n```\n\n"+
		"`direction` is 0 for one end's packets and 1 for the other's, and stays so: `swapped` of `%[1]s_flow_key` will do. A flow without a packet has no deadline, so an error for its first one means that there is none. A flow stays in the table until it was quiet for `%[2]s_FLOW_IDLE_NS`, also after its verdict, so that its later packets begin no other.%[3]s\n",
		p, m, about)
}
