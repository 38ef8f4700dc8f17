package flow

import (
	"fmt"
	"strings"

	"nepcoc/internal/plural"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// Link-layer bytes in front of a packet's IP header, without VLAN tags, and
// what VXLAN over IPv4 puts in front of the packet that it carries.
const (
	ethernetBytes = 14
	vxlanBytes    = 14 + 20 + 8 + 8
)

// SnapLength is how much of a frame without VLAN tags has to be captured for a contract to
// get all that it takes.
func SnapLength(c *traffic.Contract, tunnels bool) int {
	if tunnels {
		return c.PacketBytes() + ethernetBytes + vxlanBytes
	}
	return c.PacketBytes() + ethernetBytes
}

// Notes says in plain words what of a capture the tokens could not hold, though
// the contract asks for it: figures from such flows are not those of the link.
// opt are the options that it was read with.
func (c *Counters) Notes(opt *Options) (notes []string) {
	contract := opt.Encoder.Contract()
	wayOut := fmt.Sprintf("capture whole packets, or %d bytes of each at least (4 more per VLAN tag)", SnapLength(&contract, opt.Tunnels))
	if c.Cut > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d packets were captured cut below the %d bytes that the traffic contract takes of each, so that verdicts come from less than the model was trained on: %s",
			c.Cut, c.Taken, contract.PacketBytes(), wayOut))
	}
	if c.NoEthernet > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d packets came in no Ethernet header, and the addresses that the traffic contract takes of it are zero in their tokens: capture at an Ethernet interface, or blank: [mac] in the contract",
			c.NoEthernet, c.Taken))
	}
	if c.CutHeaders > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d packets were captured cut within their headers, and are in no flow: %s", c.CutHeaders, c.Read(), wayOut))
	}
	if n := c.InTunnels(); n > 0 && 2*n >= c.Read() {
		notes = append(notes, fmt.Sprintf("%d of %d packets carry another packet in a tunnel (%s), and the flows read are the tunnels' own: --tunnels reads what they carry",
			n, c.Read(), strings.Join(c.tunnels(), ", ")))
	}
	if s := c.OneSidedNote(); s != "" {
		notes = append(notes, s)
	}
	if c.Decided() == 0 {
		note := fmt.Sprintf("no TCP or UDP flow among %s", plural.Of(c.Read(), "packet"))
		if kinds := c.Kinds(); len(kinds) > 0 {
			note += " (" + strings.Join(kinds, ", ") + ")"
		}
		notes = append(notes, note)
	}
	return notes
}

// manyConnections are enough to tell a mirror of one direction from hosts that
// don't answer.
const manyConnections = 20

// OneSidedNote says so where most connections were seen on one side only.
func (c *Counters) OneSidedNote() string {
	if c.Connections < manyConnections || 2*c.OneSided < c.Connections {
		return ""
	}
	return fmt.Sprintf("%d of %d TCP connections were seen on one side only, and the model was trained on both: see that the mirror, or the routes, show both directions", c.OneSided, c.Connections)
}

// Kinds are the counts of what is in no flow, "name count", where they are not 0, and behind them those of
// tunnels left closed.
func (c *Counters) Kinds() (list []string) {
	for k := capture.KindOK + 1; k < capture.NumKinds; k++ {
		if n := c.Frames[k]; n > 0 {
			list = append(list, fmt.Sprintf("%s %d", k, n))
		}
	}
	return append(list, c.tunnels()...)
}

func (c *Counters) tunnels() (list []string) {
	for t, n := range c.Tunnelled {
		if n > 0 {
			list = append(list, fmt.Sprintf("in_%s_tunnel %d", capture.Tunnel(t), n))
		}
	}
	return list
}

// String is one line of packets and flows, the same for a capture and for the agent.
func (c *Counters) String() string {
	s := fmt.Sprintf("%s = %d decoded + %d ignored + %d refused + %d malformed; %s = %s (%d evicted)",
		plural.Of(c.Read(), "packet"), c.Joined(), c.Ignored(), c.Refused(), c.Malformed(), plural.Of(c.Flows, "flow"), plural.Of(c.Decided(), "verdict"), c.Verdicts[ReasonEvicted])
	if c.Shed > 0 {
		s += fmt.Sprintf(" + %d shed", c.Shed)
	}
	if kinds := c.Kinds(); len(kinds) > 0 {
		s += "; " + strings.Join(kinds, ", ")
	}
	return s
}
