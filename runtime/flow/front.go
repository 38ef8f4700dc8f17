package flow

import "nepcoc/runtime/capture"

// Front is what stands before the tables: it decodes frames and puts fragments in
// order, or together. It is one for all shards, since a fragment alone does not say
// which of them has its flow.
type Front struct {
	// Deal gets every packet that a flow may take, Count what any other frame is. Both must be set.
	Deal  func(*capture.Packet)
	Count func(capture.Kind)
	// Unread counts what frames hold that no flow sees.
	Unread *Counters
	// Tunnels are opened. Hosts: packets are checked as hosts do, and fragments put together.
	Tunnels, Hosts bool
	// Limit is how much is kept of a fragment that waits, where they are not put together.
	Limit int
	// Seed is the secret by which fragments find their place. Which of them a full table forgets depends on it, so
	// it is left 0 where that must be the same in every run.
	Seed Seed

	frags Fragments
	pkt   capture.Packet
}

// Frame takes one frame.
func (in *Front) Frame(f *capture.Frame) {
	if !f.Astray {
		in.Advance(f.Time)
	}
	kind := capture.Decoder(in.Tunnels)(f, &in.pkt)
	in.Unread.Unread(f, &in.pkt, kind, in.Tunnels)
	if kind != capture.KindOK && !(in.Hosts && in.Tunnels && in.pkt.TunnelFragment(kind)) {
		in.Count(kind)
		return
	}
	if in.Hosts {
		in.pkt.Verify(f.Length, f.Trust)
	}
	if !in.pkt.Fragment {
		in.Deal(&in.pkt)
		return
	}
	if in.Hosts && in.pkt.Trust == capture.TrustWire && in.pkt.Faults&capture.FaultIPChecksum != 0 {
		in.Count(capture.RefusedIPChecksum) // no host has put it together with the others
		return
	}
	limit := in.Limit
	if in.Hosts {
		limit = maxPacket
	}
	in.frags.Whole, in.frags.Tunnels = in.Hosts, in.Tunnels
	in.frags.Seed = in.Seed
	in.frags.Put(&in.pkt, limit)
	in.join()
}

// join takes what the fragments give back.
func (in *Front) join() {
	for {
		kind, ok := in.frags.Next(&in.pkt)
		switch {
		case !ok:
			return
		case kind != capture.KindOK:
			in.Count(kind)
		default:
			in.Deal(&in.pkt)
		}
	}
}

// Held is the number of fragments that wait for others.
func (in *Front) Held() uint64 { return uint64(in.frags.Held()) }

// Advance tells the time to the fragments that wait.
func (in *Front) Advance(now int64) {
	if in.frags.Held() > 0 {
		in.frags.Advance(now)
		in.join()
	}
}

// Flush gives up the fragments that wait.
func (in *Front) Flush() {
	in.frags.Flush()
	in.join()
}
