package main

import (
	"fmt"
	"io"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/cli"
	"nepcoc/internal/evasion"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// evasionReport says what becomes of verdicts when flows are changed as senders, networks and mirrors do.
type evasionReport struct {
	Bundle     string       `json:"bundle"`
	Flows      int          `json:"flows"`
	Accuracy   float64      `json:"accuracy"` // of flows put together anew, unchanged
	Transforms []evasionRow `json:"transforms"`
}

// evasionRow is one transform: of the flows that it applies to, how many keep their tokens, how many
// verdicts are right without it and with it, and how many of those that it makes wrong carry a mark.
type evasionRow struct {
	Name        string `json:"name"`
	What        string `json:"what"`
	HostsView   string `json:"hosts_view"` // "same", "same, other packets", "depends"
	Flows       int    `json:"flows"`
	SameTokens  int    `json:"same_tokens"`
	Right       int    `json:"right"`
	RightBefore int    `json:"right_before"`
	Spoilt      int    `json:"spoilt"` // right before, wrong after
	Marked      int    `json:"spoilt_marked"`
}

// evasionPackets is how many packets of a flow are changed: more than any contract waits for.
const evasionPackets = 12

// benchEvasion changes the labelled flows of a capture by every transform. Flows whose beginning the capture
// doesn't have are left out: nobody can tell what their hosts take.
func benchEvasion(b *bundle.Bundle, pcap, labels string, progress *cli.Progress) (*evasionReport, error) {
	contract, err := classify.Contract(b)
	if err != nil {
		return nil, err
	}
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	x, err := classify.Engine(b)
	if err != nil {
		return nil, err
	}
	c := classify.New(b, x)
	set, err := calibrate.FromCapture([]string{pcap}, contract, b.Manifest.View)
	if err != nil {
		return nil, err
	}
	if _, err := set.Label(labels, b.Manifest.Outputs); err != nil {
		return nil, err
	}
	classes := set.LabelsOf(b.Manifest.Outputs[0].Name, true)
	label := map[int64]int{}
	for i := range set.Flows {
		if len(classes[i]) == 1 {
			label[set.Flows[i].First] = classes[i][0]
		}
	}
	all, err := evasion.Load(pcap, evasionPackets, opt)
	if err != nil {
		return nil, err
	}
	var flows []evasion.Flow
	var want []int
	for i := range all {
		if l, ok := label[all[i].First]; ok && all[i].Whole() {
			flows, want = append(flows, all[i]), append(want, l)
		}
	}
	if len(flows) == 0 {
		return nil, fmt.Errorf("%s: no labelled flow whose beginning was captured", pcap)
	}
	verdict := func(s *evasion.Seen) (int, error) {
		if s.Flows == 0 {
			return -1, nil
		}
		res, err := c.Run(s.Tokens, s.Valid)
		if err != nil {
			return 0, err
		}
		return res[0].Class, nil
	}
	base, right := make([]evasion.Seen, len(flows)), make([]bool, len(flows))
	r := &evasionReport{Bundle: b.Name(), Flows: len(flows)}
	for i := range flows {
		if base[i], err = evasion.SeeAs(opt, flows[i].Packets, flows[i].First); err != nil {
			return nil, err
		}
		class, err := verdict(&base[i])
		if err != nil {
			return nil, err
		}
		if right[i] = class == want[i]; right[i] {
			r.Accuracy += 1 / float64(len(flows))
		}
	}
	for n, t := range evasion.Transforms {
		progress.Update("changing flows", n, len(evasion.Transforms))
		row := evasionRow{Name: t.Name, What: t.What, HostsView: "same"}
		switch {
		case t.Segmentation:
			row.HostsView = "same, other packets"
		case t.Depends:
			row.HostsView = "depends"
		}
		for i := range flows {
			if !t.Applies(&flows[i]) {
				continue
			}
			seen, err := evasion.SeeAs(opt, t.Run(&flows[i], evasion.Other(flows, want, i), uint64(i)), flows[i].First)
			if err != nil {
				return nil, err
			}
			class, err := verdict(&seen)
			if err != nil {
				return nil, err
			}
			row.Flows++
			if slices.Equal(seen.Tokens, base[i].Tokens) {
				row.SameTokens++
			}
			if right[i] {
				row.RightBefore++
			}
			if class == want[i] {
				row.Right++
			} else if right[i] {
				row.Spoilt++
				if seen.Marks != 0 {
					row.Marked++
				}
			}
		}
		r.Transforms = append(r.Transforms, row)
	}
	return r, nil
}

func (r *evasionReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d labelled flows, accuracy %.4f undisturbed\n", cli.Name(r.Bundle), r.Flows, r.Accuracy)
	rows := [][]string{{"change", "hosts' view", "flows", "same tokens", "accuracy", "before", "spoilt", "of them marked"}}
	for _, t := range r.Transforms {
		n := float64(max(t.Flows, 1))
		rows = append(rows, []string{t.Name, t.HostsView, fmt.Sprint(t.Flows), cli.Percent(float64(t.SameTokens) / n), cli.Percent(float64(t.Right) / n),
			cli.Percent(float64(t.RightBefore) / n), fmt.Sprint(t.Spoilt), fmt.Sprint(t.Marked)})
	}
	cli.Table(w, rows)
}
