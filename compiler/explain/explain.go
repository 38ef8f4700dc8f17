// Package explain shows what a traffic contract makes of a capture: of one flow, byte by byte; of all, how much of the tokens
// is payload and how many flows the contract's budget cuts. And it says which bytes of a flow a bundle's verdict stands on. It asks the encoder
// of the packet path itself.
package explain

import (
	"encoding/binary"
	"slices"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Report is what a contract makes of a capture.
type Report struct {
	Contract string `json:"contract"`
	Hash     string `json:"hash"`
	Flows    int    `json:"flows"`
	// Tokens are those before the padding, PayloadTokens how many of them payload fills.
	Tokens        uint64  `json:"tokens"`
	PayloadTokens uint64  `json:"payload_tokens"`
	PayloadShare  float64 `json:"payload_share"`
	// Full are the flows whose sequence has no room left, Budget those of which the contract wants no more (its packets, or enough
	// of one side), Cut those among both that went on: more packets came.
	Full   int `json:"full"`
	Budget int `json:"budget"`
	Cut    int `json:"cut"`
	// Handshake are those among both that hold no byte of payload; Empty all flows that don't.
	Handshake int            `json:"handshake_only"`
	Empty     int            `json:"without_payload"`
	Marked    int            `json:"marked"`
	Marks     map[string]int `json:"marks"`
	Flow      *Flow          `json:"flow,omitempty"`

	Counters *flow.Counters `json:"-"`
	Notes    []string       `json:"notes,omitempty"`
}

// Flow is one flow, byte by byte.
type Flow struct {
	Number  int      `json:"number"`
	Key     string   `json:"key"`
	Reason  string   `json:"reason"`
	Marks   []string `json:"marks"`
	Tokens  int      `json:"tokens"`
	Packets []Packet `json:"packets,omitempty"` // in the packets view
	Sides   []Packet `json:"sides,omitempty"`   // in the stream view
	// Numbers are what stands beside the tokens, one row per fact.
	Numbers []Numbers `json:"numbers,omitempty"`
}

// Numbers are one fact of each of the contract's packets, 0 where none came.
type Numbers struct {
	Fact   string  `json:"fact"`
	Values []int32 `json:"values"`
}

// Packet is a packet of a flow, or a side of its stream.
type Packet struct {
	Side   string           `json:"side"` // client, server
	Bytes  explain.HexBytes `json:"bytes"`
	Header int              `json:"header_bytes"` // that enter
	// Payload are the bytes of payload that enter; where it begins is told by the fields.
	Payload int     `json:"payload_bytes"`
	Facts   int     `json:"facts"` // tokens in front
	Fields  []Field `json:"fields"`
}

// Field is a field of a packet, or part of one.
type Field struct {
	explain.Field
	// State says what becomes of the bytes: enters, blanked, or left out.
	State string `json:"state"`
}

// Options say what is explained.
type Options struct {
	Contract traffic.Contract
	View     bundle.View
	Flow     int // number of the flow that is shown, from 1; 0: none
}

// Explain reads a capture.
func Explain(src capture.Source, opt Options) (*Report, error) {
	c := opt.Contract
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		return nil, err
	}
	r := &Report{Contract: c.Name, Hash: c.Hash(), Marks: map[string]int{}}
	var shown *tracer
	if opt.Flow > 0 {
		if shown, err = newTracer(c); err != nil {
			return nil, err
		}
	}
	packets := map[uint64]uint64{} // of flows that are full, at their verdict
	options := flow.Options{
		Encoder: enc, Tunnels: opt.View.Tunnels, Scope: classify.ScopeOf(&opt.View), Active: opt.View.ActiveTimeout,
		Ready: func(f *flow.Flow) {
			r.Flows++
			r.Tokens += uint64(f.Valid)
			r.PayloadTokens += uint64((f.Payload + c.TokenBytes - 1) / c.TokenBytes)
			full, budget := f.Reason == flow.ReasonTokens, f.Reason == flow.ReasonPackets || f.Reason == flow.ReasonEnough
			switch {
			case full:
				r.Full++
			case budget:
				r.Budget++
			}
			if full || budget {
				packets[f.Seq] = f.Packets[0] + f.Packets[1]
			}
			if f.Payload == 0 {
				r.Empty++
				if full || budget {
					r.Handshake++
				}
			}
			if f.Marks != 0 {
				r.Marked++
			}
			for _, name := range f.Marks.Names() {
				r.Marks[name]++
			}
			if shown != nil && f.Seq+1 == uint64(opt.Flow) {
				r.Flow = shown.flow(f)
			}
		},
		Closed: func(f *flow.Flow) {
			if n, ok := packets[f.Seq]; ok {
				if delete(packets, f.Seq); f.Packets[0]+f.Packets[1] > n {
					r.Cut++
				}
			}
		},
	}
	if shown != nil {
		options.Took = func(p flow.Taken) {
			if p.Seq+1 == uint64(opt.Flow) {
				shown.took(&p.Packet, p.At)
			}
		}
	}
	in, err := flow.NewInput(options)
	if err != nil {
		return nil, err
	}
	if err := in.Run(src); err != nil {
		return nil, err
	}
	if r.Tokens > 0 {
		r.PayloadShare = float64(r.PayloadTokens) / float64(r.Tokens)
	}
	r.Counters = in.Counters()
	r.Notes = r.Counters.Notes(&options)
	if opt.Flow > 0 && r.Flow == nil {
		return nil, NoFlow{opt.Flow, r.Flows}
	}
	return r, nil
}

// tracer follows one flow with an encoder that blanks and one that doesn't: what differs is blanked.
type tracer struct {
	c            traffic.Contract
	enc, raw     *traffic.Encoder
	st, rawState traffic.State
	buf, rawBuf  []byte
	packets      []Packet
	begun        bool
}

func newTracer(c traffic.Contract) (*tracer, error) {
	t := &tracer{c: c}
	if c.View == traffic.ViewStream { // bytes as they are, whatever their tokens
		c.TokenBytes, c.ByteIDs, c.ValueOffset, c.UseCLS, c.CLS, c.UseSEP, c.SEP, c.Pad = 1, nil, 0, false, 0, false, 0, 1<<17
		c.Length = c.ClientBytes + c.ServerBytes + 5
	}
	var err error
	if t.enc, err = traffic.NewEncoder(c); err != nil {
		return nil, err
	}
	c.Blank = nil
	if t.raw, err = traffic.NewEncoder(c); err != nil {
		return nil, err
	}
	t.c.Length = c.Length
	t.buf, t.rawBuf = make([]byte, t.enc.BufferSize()), make([]byte, t.raw.BufferSize())
	return t, nil
}

func (t *tracer) took(p *traffic.Packet, at int64) {
	if !t.begun {
		t.begun, t.st, t.rawState = true, t.enc.Begin(p.Proto), t.raw.Begin(p.Proto)
	}
	side := int(p.Side)
	if t.c.View == traffic.ViewStream {
		payload := p.IP[min(len(p.IP), p.Payload):min(len(p.IP), p.Payload+p.Size)]
		t.enc.Put(&t.st, t.buf, side, at, payload)
		t.raw.Put(&t.rawState, t.rawBuf, side, at, payload)
		return
	}
	if t.enc.Full(t.st) {
		return
	}
	start := int(t.st.Bytes)
	taken, payload := t.enc.Append(&t.st, t.buf, p)
	t.raw.Append(&t.rawState, t.rawBuf, p)
	facts := min(len(t.c.PacketTokens)*t.c.TokenBytes, max(0, int(t.st.Bytes)-start-taken))
	start += facts

	link := 0
	var bytes []byte
	if t.c.FirstLayer == traffic.LayerEthernet {
		link = traffic.EthernetBytes
		bytes = append(slices.Clone(p.MAC[:]), etherType(p.IP)...)
	}
	bytes = append(bytes, p.IP...)
	header := taken - payload
	entered := func(i int) (at int, ok bool) { // where byte i of the packet is in the buffer
		switch from := link + p.Payload; {
		case i < header:
			return start + i, true
		case i >= from && i < from+payload:
			return start + header + i - from, true
		}
		return 0, false
	}
	pk := Packet{Side: sides[side], Bytes: bytes, Header: header, Payload: payload, Facts: facts / t.c.TokenBytes}
	for _, f := range explain.Fields(link, p) {
		pk.Fields = append(pk.Fields, split(f, func(i int) string {
			at, ok := entered(i)
			switch {
			case !ok:
				return leftOut
			case t.buf[at] != t.rawBuf[at] || t.rawBuf[at] == 0 && slices.ContainsFunc(f.Blank, t.c.Blanks):
				return blanked
			}
			return enters
		})...)
	}
	t.packets = append(t.packets, pk)
}

var sides = [...]string{traffic.Client: "client", traffic.Server: "server"}

// What becomes of bytes.
const (
	enters  = "enters"
	blanked = "blanked"
	leftOut = "left out"
)

// split cuts a field into runs of bytes that share what becomes of them.
func split(f explain.Field, state func(i int) string) (list []Field) {
	for i := f.From; i < f.To; i++ {
		s := state(i)
		if n := len(list); n > 0 && list[n-1].State == s {
			list[n-1].To = i + 1
			continue
		}
		run := Field{f, s}
		run.From, run.To = i, i+1
		list = append(list, run)
	}
	return list
}

// flow is what the tracer has seen of a flow that is ready.
func (t *tracer) flow(f *flow.Flow) *Flow {
	out := &Flow{Number: int(f.Seq) + 1, Key: f.Key.String(), Reason: f.Reason.String(), Marks: listed(f.Marks.Names()), Tokens: f.Valid, Packets: t.packets}
	if t.c.View != traffic.ViewStream {
		values := slices.Clone(f.Tokens[t.c.Length:])
		for k, fact := range t.c.Numbers {
			out.Numbers = append(out.Numbers, Numbers{string(fact), values[k*t.c.Packets:][:t.c.Packets]})
		}
		return out
	}
	tokens, raw := make([]int32, t.c.Length), make([]int32, t.c.Length)
	n := t.enc.Tokens(tokens, t.st, t.buf)
	t.raw.Tokens(raw, t.rawState, t.rawBuf)
	// transport, then for each side: its name, a length, its bytes
	at := 1
	for s, name := range sides {
		from := at + 2
		for at = from; at < n && raw[at] < 256; at++ {
		}
		side := Packet{Side: name, Payload: at - from, Facts: 2 + 1 - s}
		for _, b := range raw[from:at] {
			side.Bytes = append(side.Bytes, byte(b))
		}
		side.Fields = split(explain.Field{To: at - from, Name: "stream", Part: "payload"}, func(i int) string {
			if tokens[from+i] != raw[from+i] {
				return blanked
			}
			return enters
		})
		out.Sides = append(out.Sides, side)
	}
	return out
}

// etherType is the type of an Ethernet header in front of an IP packet.
func etherType(ip []byte) []byte {
	if ip[0]>>4 == 4 {
		return binary.BigEndian.AppendUint16(nil, 0x0800)
	}
	return binary.BigEndian.AppendUint16(nil, 0x86dd)
}
