package flow

import (
	"fmt"

	"nepcoc/runtime/capture"
)

// Counters account for every frame and every flow.
type Counters struct {
	// Frames[k] counts the frames that Decode, or the fragment table, called
	// k; Frames[capture.KindOK] those that were joined to a flow.
	Frames [capture.NumKinds]uint64
	// Held are the fragments that wait for others, and count as nothing yet.
	Held  uint64
	Bytes uint64 // IP bytes of the frames joined
	// AfterVerdict are the joined packets that came after their flow's verdict.
	AfterVerdict uint64
	// Taken are the joined packets whose bytes the contract takes, Cut those of them that the
	// capture holds less of than the contract takes, and CutHeaders malformed frames that were
	// cut by the capture. See Notes.
	Taken, Cut, CutHeaders uint64
	// NoEthernet are those of Taken that came in no Ethernet header, where the contract takes its addresses.
	NoEthernet uint64
	// Tunnelled are frames that carry another packet, by kind of tunnel, where tunnels are left closed.
	Tunnelled [capture.NumTunnels]uint64

	// Of the joined packets, Repeats carry nothing new and Outside are not taken by
	// their receiver: with a contract that accepts what hosts do, they don't enter.
	Repeats, Outside uint64
	// FarTTL and Empty are those that a contract has dropped for their hop limit, and passed over for
	// having no payload.
	FarTTL, Empty uint64

	// Connections are the TCP flows among the verdicts, OneSided those of which one
	// side only was seen until then.
	Connections, OneSided uint64

	Flows    uint64 // flows begun
	Verdicts [NumReasons]uint64
	Closed   uint64 // flows that left the table
	// Shed are the flows that got no verdict; see Options.Shed.
	Shed uint64
	// Evicted are the flows that had to make room, by class: those that had had their verdict,
	// those that got it then (Verdicts[ReasonEvicted]) and those that were shed.
	Evicted     [NumClasses]uint64
	Emergencies uint64 // begun
}

// Read is the number of frames read: joined, ignored, malformed and held.
func (c *Counters) Read() (n uint64) {
	n = c.Held
	for _, v := range c.Frames {
		n += v
	}
	return n
}

// Joined, Ignored and Malformed are Read's parts.
func (c *Counters) Joined() uint64 { return c.Frames[capture.KindOK] }

// Ignored counts frames that are not TCP or UDP over IP.
func (c *Counters) Ignored() (n uint64) {
	for k, v := range c.Frames {
		if capture.Kind(k).Ignored() {
			n += v
		}
	}
	return n
}

// Refused counts packets that no host takes, where the contract counts what hosts do.
func (c *Counters) Refused() (n uint64) {
	for k, v := range c.Frames {
		if capture.Kind(k).Refused() {
			n += v
		}
	}
	return n
}

// Malformed counts frames that contradict themselves.
func (c *Counters) Malformed() (n uint64) {
	for k, v := range c.Frames {
		if capture.Kind(k).Malformed() {
			n += v
		}
	}
	return n
}

// InTunnels is the number of frames that carry another packet, of any kind of tunnel.
func (c *Counters) InTunnels() (n uint64) {
	for _, v := range c.Tunnelled {
		n += v
	}
	return n
}

// Decided is the number of verdicts.
func (c *Counters) Decided() (n uint64) {
	for _, v := range c.Verdicts {
		n += v
	}
	return n
}

// Unread counts what a frame holds that the capture or closed tunnels keep from the flows.
func (c *Counters) Unread(f *capture.Frame, p *capture.Packet, kind capture.Kind, tunnels bool) {
	if kind.Malformed() && f.Cut() {
		c.CutHeaders++
	}
	if !tunnels {
		if t := p.Tunnelled(kind); t != capture.NoTunnel {
			c.Tunnelled[t]++
		}
	}
}

// Add sums the counters of several tables.
func (c *Counters) Add(o *Counters) {
	for i := range c.Frames {
		c.Frames[i] += o.Frames[i]
	}
	for i := range c.Verdicts {
		c.Verdicts[i] += o.Verdicts[i]
	}
	c.Held += o.Held
	c.Bytes += o.Bytes
	c.AfterVerdict += o.AfterVerdict
	c.Taken += o.Taken
	c.NoEthernet += o.NoEthernet
	c.Cut += o.Cut
	c.CutHeaders += o.CutHeaders
	for i := range c.Tunnelled {
		c.Tunnelled[i] += o.Tunnelled[i]
	}
	c.Repeats += o.Repeats
	c.Outside += o.Outside
	c.FarTTL += o.FarTTL
	c.Empty += o.Empty
	c.Connections += o.Connections
	c.OneSided += o.OneSided
	c.Flows += o.Flows
	c.Closed += o.Closed
	c.Shed += o.Shed
	for i := range c.Evicted {
		c.Evicted[i] += o.Evicted[i]
	}
	c.Emergencies += o.Emergencies
}

// Check is the law of conservation: frames read = joined + ignored +
// refused + malformed + held, and flows begun = verdicts + shed + undecided, where read is the number
// of frames that the source has handed out and undecided those still in the
// table.
func (c *Counters) Check(read uint64, undecided int) error {
	if sum := c.Joined() + c.Ignored() + c.Refused() + c.Malformed() + c.Held; sum != read {
		return fmt.Errorf("of %d frames read, %d joined + %d ignored + %d refused + %d malformed + %d held = %d are accounted for",
			read, c.Joined(), c.Ignored(), c.Refused(), c.Malformed(), c.Held, sum)
	}
	if sum := c.Decided() + c.Shed + uint64(undecided); sum != c.Flows {
		return fmt.Errorf("of %d flows, %d with a verdict + %d shed + %d undecided = %d are accounted for", c.Flows, c.Decided(), c.Shed, undecided, sum)
	}
	return nil
}
