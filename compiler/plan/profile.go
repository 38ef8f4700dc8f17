// Package plan says how much traffic a bundle can take on a machine that need not be at hand: flows and packets per second that so many cores hold,
// the time to a verdict, memory, and what gives way first.
//
// It is arithmetic on two things: the shape of the traffic (Profile), and what a packet, a flow and an inference cost (Costs), each
// with where it comes from and how wrong it may be.
package plan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

// Profile is the shape of traffic: all that a plan needs of it, and nothing of its content. Times are in seconds unless said.
type Profile struct {
	Version int `yaml:"nepco_profile" json:"-"`
	// Contract is the hash of the traffic contract that tokens and waits are of.
	Contract string `yaml:"contract" json:"contract"`
	// FlowsPerS are begun in the mean, Peak is how many times as many in the second of most.
	FlowsPerS float64 `yaml:"flows_per_s" json:"flows_per_s"`
	Peak      float64 `yaml:"peak_over_mean" json:"peak_over_mean"`
	// PacketsPerFlow are all of a flow's, both ways; BytesPerPacket are IP bytes.
	PacketsPerFlow float64 `yaml:"packets_per_flow" json:"packets_per_flow"`
	BytesPerPacket float64 `yaml:"bytes_per_packet" json:"bytes_per_packet"`
	// Short is the share of flows of one or two packets, Evaluated that of flows that the model is run on.
	Short     float64 `yaml:"short_flows" json:"short_flows"`
	Evaluated float64 `yaml:"evaluated" json:"evaluated"`
	// ByPacket is the share of the verdicts that a packet brings about; the others wait for a timer. WaitP50 and WaitP99 are from a flow's first packet to
	// the one that decides, in ms, Timer the mean wait of the others, from the last packet on.
	ByPacket float64 `yaml:"decided_by_packet" json:"decided_by_packet"`
	WaitP50  float64 `yaml:"wait_p50_ms" json:"wait_p50_ms"`
	WaitP99  float64 `yaml:"wait_p99_ms" json:"wait_p99_ms"`
	Timer    float64 `yaml:"timer_s" json:"timer_s"`
	// Tokens is the mean number of a flow's tokens.
	Tokens float64 `yaml:"tokens" json:"tokens"`
	// FlowSeconds is the mean time from a flow's first packet to its last.
	FlowSeconds float64 `yaml:"flow_seconds" json:"flow_seconds"`
	// Other is the share of the frames that are no flow's packet.
	Other float64 `yaml:"other_frames" json:"other_frames"`

	// Flows and Seconds are what it was read from; 0: not from a capture.
	Flows   int     `yaml:"flows" json:"flows"`
	Seconds float64 `yaml:"seconds" json:"seconds"`
}

// profileVersion is that of the file.
const profileVersion = 1

// maxProfile bounds a profile's file.
const maxProfile = 64 << 10

// IsProfile tells whether a file holds a profile, by its first bytes.
func IsProfile(path string) (bool, error) {
	head, err := files.Head(path, 4096)
	for l := range bytes.Lines(head) {
		if l = bytes.TrimSpace(l); len(l) > 0 && l[0] != '#' {
			return bytes.HasPrefix(l, []byte("nepco_profile:")), err
		}
	}
	return false, err
}

// ReadProfile reads and checks a profile.
func ReadProfile(path string) (*Profile, error) {
	data, err := files.All(path, maxProfile)
	if err != nil {
		return nil, err
	}
	p := new(Profile)
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err = d.Decode(p); err == nil {
		err = p.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files.Show(path), err)
	}
	return p, nil
}

// Validate says all that is wrong with a profile.
func (p *Profile) Validate() error {
	var wrong []string
	if p.Version != profileVersion {
		wrong = append(wrong, fmt.Sprintf("nepco_profile: %d: this program reads version %d", p.Version, profileVersion))
	}
	for _, f := range []struct {
		name      string
		v, lo, hi float64
	}{
		{"flows_per_s", p.FlowsPerS, 1e-6, 1e9}, {"peak_over_mean", p.Peak, 1, 1e6}, {"packets_per_flow", p.PacketsPerFlow, 1, 1e9},
		{"bytes_per_packet", p.BytesPerPacket, 20, 65535}, {"short_flows", p.Short, 0, 1}, {"evaluated", p.Evaluated, 0, 1}, {"decided_by_packet", p.ByPacket, 0, 1},
		{"wait_p50_ms", p.WaitP50, 0, 1e9}, {"wait_p99_ms", p.WaitP99, 0, 1e9}, {"timer_s", p.Timer, 0, 1e6}, {"tokens", p.Tokens, 0, 1e6}, {"flow_seconds", p.FlowSeconds, 0, 1e7},
		{"other_frames", p.Other, 0, 0.999}, {"flows", float64(p.Flows), 0, 1e12}, {"seconds", p.Seconds, 0, 1e9},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) {
			wrong = append(wrong, fmt.Sprintf("%s: %g is not within %g..%g", f.name, f.v, f.lo, f.hi))
		}
	}
	if wrong != nil {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// Encode is the profile's file.
func (p *Profile) Encode() ([]byte, error) {
	q := *p
	q.Version = profileVersion
	for _, v := range []*float64{&q.FlowsPerS, &q.Peak, &q.PacketsPerFlow, &q.BytesPerPacket, &q.Short, &q.Evaluated, &q.ByPacket, &q.WaitP50, &q.WaitP99, &q.Timer, &q.Tokens, &q.FlowSeconds, &q.Other, &q.Seconds} {
		*v = significant(*v)
	}
	b, err := yaml.Marshal(&q)
	return append([]byte("# The shape of traffic, written by nepcoc plan: no addresses, no content. docs/plan.md has the fields.\n"), b...), err
}

// significant rounds to four digits.
func significant(x float64) float64 {
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'e', 3, 64), 64) // always a number
	return x
}

// OfCapture reads the shape of a capture, as a bundle's contract and view see it. progress, which may be nil, is told how many packets were read.
func OfCapture(src capture.Source, b *bundle.Bundle, progress func(packets int)) (*Profile, error) {
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	c := opt.Encoder.Contract()
	timer := map[flow.Reason]time.Duration{flow.ReasonClosed: c.CloseLinger, flow.ReasonQuiet: c.Quiet, flow.ReasonIdle: c.Idle, flow.ReasonEnd: c.Idle, flow.ReasonEvicted: c.Idle}
	p := &Profile{Version: profileVersion, Contract: c.Hash(), Evaluated: 1}
	var waits []float64
	var begun []int64
	var packets, bytes, timed float64
	opt.Ready = func(f *flow.Flow) {
		p.Flows++
		p.Tokens += float64(f.Valid)
		if wait, ok := timer[f.Reason]; ok {
			p.Timer += wait.Seconds()
			timed++
		} else {
			waits = append(waits, float64(max(f.Last-f.First, 0))/1e6)
		}
	}
	opt.Closed = func(f *flow.Flow) {
		begun = append(begun, f.First)
		n := float64(f.Packets[0] + f.Packets[1])
		packets, bytes = packets+n, bytes+float64(f.Bytes[0]+f.Bytes[1])
		p.FlowSeconds += float64(max(f.Last-f.First, 0)) / 1e9
		if n <= 2 {
			p.Short++
		}
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		return nil, err
	}
	w := &watched{Source: src, progress: progress}
	if err := in.Run(w); err != nil {
		return nil, err
	}
	if p.Flows == 0 {
		return nil, errors.New("no flow of TCP or UDP is in it")
	}
	n := float64(p.Flows)
	p.PacketsPerFlow, p.BytesPerPacket = packets/n, bytes/packets
	p.Short, p.Tokens, p.FlowSeconds = p.Short/n, p.Tokens/n, p.FlowSeconds/n
	p.ByPacket = 1 - timed/n
	if timed > 0 {
		p.Timer /= timed
	}
	slices.Sort(waits)
	if m := len(waits); m > 0 {
		p.WaitP50, p.WaitP99 = waits[m/2], waits[(m-1)*99/100]
	}
	p.Other = 1 - float64(in.Counters().Joined())/float64(w.n)
	p.Seconds = max(float64(w.last-w.first)/1e9, 1e-3)
	p.FlowsPerS = n / p.Seconds
	p.Peak = peak(begun, p.FlowsPerS)
	return p, nil
}

// peak is how many times the mean rate flows begin in the second in which most do. Of less than a second nobody can tell.
func peak(begun []int64, mean float64) float64 {
	slices.SortFunc(begun, cmp.Compare[int64])
	most, from := 0, 0
	for i, t := range begun {
		for t-begun[from] >= 1e9 {
			from++
		}
		most = max(most, i-from+1)
	}
	return max(1, float64(most)/max(mean, 1))
}

// watched counts the frames of a source.
type watched struct {
	capture.Source
	n           int
	first, last int64
	progress    func(int)
}

// Next implements capture.Source.
func (w *watched) Next(f *capture.Frame) error {
	err := w.Source.Next(f)
	if err != nil {
		return err
	}
	if w.n++; w.n == 1 {
		w.first, w.last = f.Time, f.Time
	}
	w.first, w.last = min(w.first, f.Time), max(w.last, f.Time)
	if w.progress != nil && w.n%4096 == 0 {
		w.progress(w.n)
	}
	return nil
}

var _ io.Closer = (*watched)(nil)
