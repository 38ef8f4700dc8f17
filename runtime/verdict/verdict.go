// Package verdict is what comes out: the record of one flow's verdict and the
// forms it is written in, and what goes with a flow's identity outside of us:
// Community ID and Suricata's EVE events.
//
// Everything written is a function of the record alone, to the byte: no map
// order, no locale, one spelling per number.
package verdict

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"nepcoc/runtime/flow"
)

// Record is one flow, and what a model says of it.
type Record struct {
	Key     flow.Key // direction of the first packet
	First   int64    // times of the first and latest packet, ns since 1970
	Last    int64
	Packets [2]uint64 // in Key's direction, against it
	Bytes   [2]uint64
	Reason  flow.Reason
	Valid   int // tokens that the verdict was made from
	// UsedPackets and UsedBytes are the packets and bytes that the tokens hold.
	UsedPackets, UsedBytes int
	// Payload is how many bytes of payload are among them; Marks say what else the
	// verdict stands on.
	Payload int
	Marks   flow.Marks
	// Largest and Repeats are the flow's; they are not written. See flow.Flow.
	Largest, Repeats int
	// VLAN, Level and Shims are the first packet's; see flow.Flow. Shims and Apart are not written.
	VLAN         [2]uint16
	Level, Shims uint8
	Apart        bool

	// Seed is that of the Community ID: networks that use the same addresses have
	// different ones.
	Seed uint16
	// Totals: an event of the flow's end will follow (AppendEVEEnd), so that of the verdict is none of type "flow".
	Totals bool
	// Source is what the verdict came of; nil leaves it out.
	Source *Source
	// Verdicts are one per output of the model that makes some.
	Verdicts []Verdict
	// Latency is the time from the flow's last packet to the verdict; 0 leaves
	// it out.
	Latency time.Duration
}

// Source names the bundle that a verdict is of: its name, the first digits of its
// digest and the version of its model, each left out where it is not known.
type Source struct{ fields []byte } // of a JSON object, each with a comma before it: made once, since they stand in every event

// NewSource makes a Source.
func NewSource(bundle, digest, modelVersion string) *Source {
	s := new(Source)
	for _, f := range [][2]string{{"bundle", bundle}, {"digest", digest}, {"model_version", modelVersion}} {
		if f[1] != "" {
			s.fields = appendString(appendName(s.fields, f[0]), f[1])
		}
	}
	return s
}

func (r *Record) appendSource(b []byte) []byte {
	if r.Source == nil {
		return b
	}
	return append(b, r.Source.fields...)
}

// Verdict is what one output of a model says of a flow.
type Verdict struct {
	Head   int    // the output's index in the model
	Output string // its name, which is written where there are several

	Label string // name of the class
	Class int    // its index
	// Score is the label's probability, Margin its distance from another verdict; see classify.Result.
	Score, Margin float64
	// Unknown: the score is below the threshold. Label and Class still name the
	// best class.
	Unknown bool
	// Insufficient: the flow holds too little payload for a verdict. Label and Class name what the
	// model makes of its headers.
	Insufficient bool
	// Placed: the output tells which flows belong to its classes. Belonging is the share of known flows that lie as far out as
	// this one or farther.
	Placed    bool
	Belonging float64
	// Multi: the output gives any number of labels: Given, and no Label.
	Multi bool
	Given []Given

	// Alert: the label is one that an EVE alert is wanted for; AlertID its signature id.
	Alert   bool
	AlertID int

	Logits []int32 // integer logits; empty leaves them out
	Scaled []float64

	// Why are bytes that the verdict stands on; empty leaves them out.
	Why []Why
}

// Why is a run of a flow's bytes, or a fact of the flow, and its share of what a verdict stands on; see explain.Range.
type Why struct {
	Fact   string // transport, client, server or length; empty for bytes
	Packet uint64 // in the flow, from 1; 0 where it is not known
	Side   string // client, server
	Offset int    // in the packet
	Stream int64  // in the side's stream; below 0 where tokens are made of packets
	Length int
	Share  float64
}

// Given is one of an output's labels.
type Given struct {
	Label   string
	Class   int
	Score   float64
	Alert   bool
	AlertID int
}

// The words that stand in place of a label.
const (
	WordUnknown      = "unknown"
	WordInsufficient = "insufficient"
)

// Withheld is the word that stands in place of the label, empty where the label is given.
func (v *Verdict) Withheld() string {
	switch {
	case v.Insufficient:
		return WordInsufficient
	case v.Unknown:
		return WordUnknown
	}
	return ""
}

// Next appends an empty verdict to r.Verdicts, in memory that was used before, and returns it.
func (r *Record) Next() *Verdict {
	if n := len(r.Verdicts); n < cap(r.Verdicts) {
		r.Verdicts = r.Verdicts[:n+1]
	} else {
		r.Verdicts = append(r.Verdicts, Verdict{})
	}
	v := &r.Verdicts[len(r.Verdicts)-1]
	*v = Verdict{Given: v.Given[:0], Logits: v.Logits[:0], Scaled: v.Scaled[:0], Why: v.Why[:0]}
	return v
}

// Alerts counts the labels that an alert is wanted for.
func (r *Record) Alerts() (n int) {
	r.eachAlert(func(string, int) { n++ })
	return n
}

// eachAlert calls f with each label that an alert is wanted for, and its signature id.
func (r *Record) eachAlert(f func(label string, id int)) {
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if v.Alert {
			f(v.Label, v.AlertID)
		}
		for k := range v.Given {
			if g := &v.Given[k]; g.Alert {
				f(g.Label, g.AlertID)
			}
		}
	}
}

// FromFlow copies what a flow says of itself; within Ready.
func (r *Record) FromFlow(f *flow.Flow) {
	r.Key, r.First, r.Last, r.Packets, r.Bytes = f.Key, f.First, f.Last, f.Packets, f.Bytes
	r.Reason, r.Valid = f.Reason, f.Valid
	r.VLAN, r.Level, r.Shims, r.Apart = f.VLAN, f.Level, f.Shims, f.Apart
	r.UsedPackets, r.UsedBytes, r.Payload, r.Marks = f.UsedPackets(), f.BytesUsed(), f.Payload, f.Marks
	r.Largest, r.Repeats = f.Largest, f.Repeats
}

// AppendJSON appends the record as one JSON object, without a newline. Fields
// have a fixed order; numbers one spelling.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"proto":`...)
	b = appendString(b, r.Key.ProtoName())
	b = r.appendEnds(b, "src", "sport", "dst", "dport")
	b = r.appendVLAN(b)
	b = r.appendTunnel(b)
	b = append(b, `,"time":`...)
	b = appendTime(b, r.First)
	b = append(b, `,"last":`...)
	b = appendTime(b, r.Last)
	b = append(b, `,"packets":[`...)
	b = appendPair(b, r.Packets)
	b = append(b, `],"bytes":[`...)
	b = appendPair(b, r.Bytes)
	b = append(b, `],"reason":`...)
	b = appendString(b, r.Reason.String())
	b = append(b, `,"tokens":`...)
	b = strconv.AppendInt(b, int64(r.Valid), 10)
	b = r.appendStands(b)
	b = append(b, ',')
	b = r.appendVerdicts(b)
	b = r.appendSource(b)
	b = append(b, `,"community_id":"`...)
	b = AppendCommunityID(b, r.Seed, r.Key)
	return append(b, `"}`...)
}

// AppendText appends the record as one line for people, without a newline:
// time, 5-tuple, packets, of each output label, score, margin, and the marks.
func (r *Record) AppendText(b []byte) []byte {
	b = appendTime(b, r.First)
	b = append(b, ' ')
	b = r.Key.Append(b)
	b = append(b, " packets="...)
	b = strconv.AppendUint(b, r.Packets[0]+r.Packets[1], 10)
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if len(r.Verdicts) > 1 {
			b = append(b, " output="...)
			b = append(b, v.Output...)
		}
		b = v.appendTextWhy(v.appendText(b))
	}
	for i := range r.Marks.Count() {
		b = append(b, " mark="...)
		b = append(b, r.Marks.Name(i)...)
	}
	return b
}

func (v *Verdict) appendText(b []byte) []byte {
	if v.Multi {
		b = append(b, " labels="...)
		for i := range v.Given {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, v.Given[i].Label...)
			b = append(b, ':')
			b = strconv.AppendFloat(b, v.Given[i].Score, 'f', 4, 64)
		}
		if len(v.Given) == 0 {
			b = append(b, '-')
		}
		return b
	}
	b = append(b, " label="...)
	if word := v.Withheld(); word != "" {
		b = append(append(b, word...), " candidate="...)
	}
	b = append(b, v.Label...)
	b = append(b, " score="...)
	b = strconv.AppendFloat(b, v.Score, 'f', 4, 64)
	b = append(b, " margin="...)
	b = strconv.AppendFloat(b, v.Margin, 'f', 4, 64)
	if v.Placed {
		b = append(b, " belonging="...)
		b = strconv.AppendFloat(b, v.Belonging, 'f', 4, 64)
	}
	return b
}

func (r *Record) appendEnds(b []byte, src, sport, dst, dport string) []byte {
	s, d := r.Key.SrcAddr(), r.Key.DstAddr()
	b = appendName(b, src)
	b = append(b, '"')
	b = s.Addr().AppendTo(b)
	b = append(b, '"')
	b = appendName(b, sport)
	b = strconv.AppendUint(b, uint64(s.Port()), 10)
	b = appendName(b, dst)
	b = append(b, '"')
	b = d.Addr().AppendTo(b)
	b = append(b, '"')
	b = appendName(b, dport)
	return strconv.AppendUint(b, uint64(d.Port()), 10)
}

// appendVLAN appends the ids of the first packet's VLAN tags, the outer one first, where it had some.
func (r *Record) appendVLAN(b []byte) []byte {
	if r.VLAN[0] == 0 {
		return b
	}
	b = append(b, `,"vlan":[`...)
	b = strconv.AppendUint(b, uint64(r.VLAN[0]), 10)
	if r.VLAN[1] != 0 {
		b = append(b, ',')
		b = strconv.AppendUint(b, uint64(r.VLAN[1]), 10)
	}
	return append(b, ']')
}

// appendTunnel appends the id of the flow's tunnel, 0 where it has none, and how many tunnels its
// first packet was in, where it was in one.
func (r *Record) appendTunnel(b []byte) []byte {
	if r.Level == 0 {
		return b
	}
	b = append(b, `,"tunnel":{"id":`...)
	b = strconv.AppendUint(b, uint64(r.Key.Tunnel), 10)
	b = append(b, `,"level":`...)
	b = strconv.AppendUint(b, uint64(r.Level), 10)
	return append(b, '}')
}

// appendStands appends what the verdict stands on: bytes of payload and, where there are
// any, marks by group.
func (r *Record) appendStands(b []byte) []byte {
	b = append(b, `,"payload":`...)
	b = strconv.AppendInt(b, int64(r.Payload), 10)
	if r.Marks == 0 {
		return b
	}
	for _, g := range markGroups {
		m := r.Marks & g.marks
		if m == 0 {
			continue
		}
		b = append(b, g.head...)
		for i := range m.Count() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, m.Name(i))
		}
		b = append(b, ']')
	}
	if r.Marks&flow.MarkInsufficient != 0 {
		b = append(b, `,"insufficient":true`...)
	}
	return b
}

var markGroups = []struct {
	marks flow.Marks
	head  string
}{{flow.Incomplete, `,"incomplete":[`}, {flow.Anomaly, `,"anomaly":[`}}

// appendVerdicts appends the verdicts as fields of an object: of one output its own fields, of several
// a list of objects.
func (r *Record) appendVerdicts(b []byte) []byte {
	if len(r.Verdicts) == 1 {
		return r.Verdicts[0].appendFields(b)
	}
	b = append(b, `"outputs":[`...)
	for i := range r.Verdicts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"output":`...)
		b = appendString(b, r.Verdicts[i].Output)
		b = append(b, ',')
		b = append(r.Verdicts[i].appendFields(b), '}')
	}
	return append(b, ']')
}

func (v *Verdict) appendFields(b []byte) []byte {
	if v.Multi {
		b = append(b, `"labels":[`...)
		for i := range v.Given {
			if i > 0 {
				b = append(b, ',')
			}
			g := &v.Given[i]
			b = append(b, `{"label":`...)
			b = appendString(b, g.Label)
			b = append(b, `,"class":`...)
			b = strconv.AppendInt(b, int64(g.Class), 10)
			b = append(b, `,"score":`...)
			b = append(appendFloat(b, g.Score), '}')
		}
		b = append(b, ']')
	} else {
		b = append(b, `"label":`...)
		if word := v.Withheld(); word != "" {
			b = append(append(append(b, '"'), word...), `","candidate":`...)
		}
		b = appendString(b, v.Label)
		b = append(b, `,"class":`...)
		b = strconv.AppendInt(b, int64(v.Class), 10)
		b = append(b, `,"score":`...)
		b = appendFloat(b, v.Score)
		b = append(b, `,"margin":`...)
		b = appendFloat(b, v.Margin)
		if v.Placed {
			b = append(b, `,"belonging":`...)
			b = appendFloat(b, v.Belonging)
		}
	}
	if len(v.Logits) > 0 {
		b = append(b, `,"logits":[`...)
		for i, x := range v.Logits {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(x), 10)
		}
		b = append(b, ']')
	}
	if len(v.Scaled) > 0 {
		b = append(b, `,"scaled":[`...)
		for i, x := range v.Scaled {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFloat(b, x)
		}
		b = append(b, ']')
	}
	return v.appendWhy(b)
}

// appendWhy appends what the verdict stands on, the largest share first.
func (v *Verdict) appendWhy(b []byte) []byte {
	if len(v.Why) == 0 {
		return b
	}
	b = append(b, `,"why":[`...)
	for i := range v.Why {
		if i > 0 {
			b = append(b, ',')
		}
		w := &v.Why[i]
		b = append(b, `{"share":`...)
		b = appendFloat(b, w.Share)
		if w.Fact != "" {
			b = append(b, `,"fact":`...)
			b = append(appendString(b, w.Fact), '}')
			continue
		}
		b = append(b, `,"side":`...)
		b = appendString(b, w.Side)
		if w.Packet > 0 {
			b = append(b, `,"packet":`...)
			b = strconv.AppendUint(b, w.Packet, 10)
			b = append(b, `,"offset":`...)
			b = strconv.AppendInt(b, int64(w.Offset), 10)
		}
		if w.Stream >= 0 {
			b = append(b, `,"stream":`...)
			b = strconv.AppendInt(b, w.Stream, 10)
		}
		b = append(b, `,"length":`...)
		b = append(strconv.AppendInt(b, int64(w.Length), 10), '}')
	}
	return append(b, ']')
}

// appendTextWhy is appendWhy for people: PACKET:OFFSET+LENGTH of each, in the stream view SIDE:OFFSET+LENGTH, or the fact, then its share.
func (v *Verdict) appendTextWhy(b []byte) []byte {
	for i := range v.Why {
		w, sep := &v.Why[i], ","
		if i == 0 {
			sep = " why="
		}
		b = append(b, sep...)
		switch {
		case w.Fact != "":
			b = append(b, w.Fact...)
		case w.Stream >= 0:
			b = append(append(b, w.Side...), ':')
			b = strconv.AppendInt(b, w.Stream, 10)
		default:
			b = append(strconv.AppendUint(b, w.Packet, 10), ':')
			b = strconv.AppendInt(b, int64(w.Offset), 10)
		}
		if w.Fact == "" {
			b = strconv.AppendInt(append(b, '+'), int64(w.Length), 10)
		}
		b = strconv.AppendFloat(append(b, '='), w.Share, 'f', 2, 64)
	}
	return b
}

func appendName(b []byte, name string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	return append(b, `":`...)
}

func appendPair(b []byte, v [2]uint64) []byte {
	b = strconv.AppendUint(b, v[0], 10)
	b = append(b, ',')
	return strconv.AppendUint(b, v[1], 10)
}

// appendFloat writes six significant digits: more than a score means, and few
// enough that the last bit of a multiplication cannot show. JSON has neither
// NaN nor infinity.
func appendFloat(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	if v == 0 {
		return append(b, '0') // also for -0
	}
	return strconv.AppendFloat(b, v, 'g', 6, 64)
}

// appendTime writes seconds since 1970 with nanoseconds, exactly.
func appendTime(b []byte, ns int64) []byte {
	u := uint64(ns)
	if ns < 0 {
		b = append(b, '-')
		u = -u
	}
	b = strconv.AppendUint(b, u/1e9, 10)
	b = append(b, '.')
	frac := u % 1e9
	for d := uint64(1e8); d > 0; d /= 10 {
		b = append(b, '0'+byte(frac/d%10))
	}
	return b
}

// appendString writes a JSON string. Labels come from a bundle, so anything
// may be in them.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < 0x20 || c == 0x7f:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				b = append(b, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case r == '\u2028' || r == '\u2029': // line ends to some readers of lines
			b = append(b, `\u202`...)
			b = append(b, hex[r&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// eveTime is Suricata's form of a time, as a JSON string.
const eveTime = `"2006-01-02T15:04:05.000000-0700"`

// appendEVETime writes a time, in UTC. By the time package it would take a third of an event.
func appendEVETime(b []byte, ns int64) []byte {
	t := time.Unix(0, ns).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(append(b, '"'), year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond()/1000, 6)
	return append(b, `+0000"`...)
}

// appendDigits writes the last n decimal digits of v; n is even.
func appendDigits(b []byte, v, n int) []byte {
	const pairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"
	for unit := [...]int{1, 100, 10000}[n/2-1]; unit > 0; unit /= 100 {
		i := v / unit % 100 * 2
		b = append(b, pairs[i], pairs[i+1])
	}
	return b
}
