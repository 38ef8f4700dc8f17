package verdict

import (
	"strconv"

	"nepcoc/runtime/flow"
)

// AppendEVE appends the verdict as a Suricata EVE "flow" event with our own
// object "nepco" beside it, without a newline, so that what reads Suricata's
// log reads ours. The event's time is that of the latest packet. With Totals it is an event of type "nepco" instead, whose
// object "flow" has what alerts have. Where the record asks for alerts, "alert" events precede it, one per label on a line of its own.
func (r *Record) AppendEVE(b []byte) []byte {
	alerted := false
	r.eachAlert(func(label string, id int) {
		alerted = true
		b = append(r.appendEVEAlert(b, label, id), '\n')
	})
	if r.Totals {
		b = append(r.appendEVEFlow(r.appendEVEHead(b, "nepco")), '}')
		return append(r.appendEVENepco(b), '}')
	}
	b = r.appendEVEWhole(b, r.state(), eveReason(r.Reason), alerted)
	return append(r.appendEVENepco(b), '}')
}

// End is what is known of a flow that has left the table, beside its totals.
type End struct {
	Why      flow.Reason // it left
	Finished bool        // its TCP connection was ended by FIN or RST
	Alerted  bool
	Label    string // of its verdict; empty where that has no or several
}

// AppendEVEEnd appends a "flow" event as Suricata writes it when a flow has ended: r has all that the flow carried. It has the
// flow_id of the verdict's own event, and of the verdict only the label, and why it came when it did.
func (r *Record) AppendEVEEnd(b []byte, e *End) []byte {
	state := "closed"
	if !e.Finished {
		state = "established"
		if r.Packets[1] == 0 {
			state = "new"
		}
	}
	b = r.appendEVEWhole(b, state, eveReason(e.Why), e.Alerted)
	b = append(b, `,"community_id":"`...)
	b = AppendCommunityID(b, r.Seed, r.Key)
	b = append(b, `","nepco":{`...)
	if e.Label != "" {
		b = append(b, `"label":`...)
		b = append(appendString(b, e.Label), ',')
	}
	b = append(b, `"decided":`...)
	b = appendString(b, r.Reason.String())
	b = r.appendTunnel(b)
	return append(b, "}}"...)
}

// appendEVEWhole begins a "flow" event, up to the end of its object "flow".
func (r *Record) appendEVEWhole(b []byte, state, reason string, alerted bool) []byte {
	event := len(b)
	b = r.appendEVEHead(b, "flow")
	last := b[event+len(eveStart):][:len(eveTime)] // the event's time
	b = r.appendEVEFlow(b)
	b = append(b, `,"end":`...)
	b = append(b, last...)
	b = append(b, `,"age":`...)
	b = strconv.AppendInt(b, max(0, r.Last/1e9-r.First/1e9), 10)
	b = append(b, `,"state":`...)
	b = appendString(b, state)
	b = append(b, `,"reason":`...)
	b = appendString(b, reason)
	b = append(b, `,"alerted":`...)
	b = strconv.AppendBool(b, alerted)
	return append(b, '}')
}

// What our alerts have in common. Generator 1 is that of rules; signature ids are the
// bundle's (see bundle.AlertIDs).
const (
	alertGID       = 1
	alertRevision  = 1
	alertSeverity  = 3
	alertSignature = "NEPCO "
)

func (r *Record) appendEVEAlert(b []byte, label string, id int) []byte {
	b = r.appendEVEHead(b, "alert")
	b = append(b, `,"alert":{"action":"allowed","gid":`...)
	b = strconv.AppendInt(b, alertGID, 10)
	b = append(b, `,"signature_id":`...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, `,"rev":`...)
	b = strconv.AppendInt(b, alertRevision, 10)
	b = append(b, `,"signature":`...)
	b = appendString(b, alertSignature+label)
	b = append(b, `,"category":"Traffic classification","severity":`...)
	b = strconv.AppendInt(b, alertSeverity, 10)
	b = append(b, '}')
	b = r.appendEVEFlow(b)
	b = append(b, '}')
	return append(r.appendEVENepco(b), '}')
}

// eveStart precedes an event's time.
const eveStart = `{"timestamp":`

// appendEVEHead begins an event: what all kinds have in common.
func (r *Record) appendEVEHead(b []byte, event string) []byte {
	return r.appendEVEHeadID(b, event, r.flowID())
}

// appendEVEHeadID is appendEVEHead of a flow whose number is known.
func (r *Record) appendEVEHeadID(b []byte, event string, id uint64) []byte {
	b = append(b, eveStart...)
	b = appendEVETime(b, r.Last)
	b = append(b, `,"flow_id":`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, `,"event_type":`...)
	b = appendString(b, event)
	b = r.appendVLAN(b)
	b = r.appendEnds(b, "src_ip", "src_port", "dest_ip", "dest_port")
	b = append(b, `,"proto":`...)
	b = appendString(b, r.Key.ProtoName())
	b = append(b, `,"ip_v":`...)
	if r.Key.V6 {
		return append(b, '6')
	}
	return append(b, '4')
}

// appendEVEFlow begins the object "flow".
func (r *Record) appendEVEFlow(b []byte) []byte {
	b = append(b, `,"flow":{"pkts_toserver":`...)
	b = strconv.AppendUint(b, r.Packets[0], 10)
	b = append(b, `,"pkts_toclient":`...)
	b = strconv.AppendUint(b, r.Packets[1], 10)
	b = append(b, `,"bytes_toserver":`...)
	b = strconv.AppendUint(b, r.Bytes[0], 10)
	b = append(b, `,"bytes_toclient":`...)
	b = strconv.AppendUint(b, r.Bytes[1], 10)
	b = append(b, `,"start":`...)
	return appendEVETime(b, r.First)
}

// appendEVENepco appends the Community ID and the object "nepco".
func (r *Record) appendEVENepco(b []byte) []byte {
	b = append(b, `,"community_id":"`...)
	b = AppendCommunityID(b, r.Seed, r.Key)
	b = append(b, `","nepco":{`...)
	b = r.appendVerdicts(b)
	b = append(b, `,"decided":`...)
	b = appendString(b, r.Reason.String())
	b = append(b, `,"packets_used":`...)
	b = strconv.AppendInt(b, int64(r.UsedPackets), 10)
	b = append(b, `,"bytes_used":`...)
	b = strconv.AppendInt(b, int64(r.UsedBytes), 10)
	b = append(b, `,"tokens":`...)
	b = strconv.AppendInt(b, int64(r.Valid), 10)
	b = r.appendTunnel(b)
	b = r.appendStands(b)
	b = r.appendSource(b)
	if r.Latency > 0 {
		b = append(b, `,"latency_us":`...)
		b = appendFloat(b, float64(r.Latency.Nanoseconds())/1e3)
	}
	return append(b, '}')
}

// state and eveReason are Suricata's words. A verdict usually comes while the
// flow goes on: "established" then is one that both sides have spoken in.
func (r *Record) state() string {
	switch {
	case r.Reason == flow.ReasonClosed:
		return "closed"
	case r.Packets[1] > 0:
		return "established"
	}
	return "new"
}

func eveReason(why flow.Reason) string {
	switch why {
	case flow.ReasonIdle, flow.ReasonClosed, flow.ReasonActive, flow.ReasonQuiet:
		return "timeout"
	case flow.ReasonEnd:
		return "shutdown"
	}
	return "forced"
}

// flowID numbers the flow as Suricata does, equal for all events of one flow
// and for both directions; 51 bits, so that readers that take numbers for
// floats keep it.
func (r *Record) flowID() uint64 {
	k, _ := r.Key.Canonical()
	return k.Hash(flow.FixedSeed(uint64(r.First))) & (1<<51 - 1)
}
