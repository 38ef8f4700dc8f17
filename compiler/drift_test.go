package compiler_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/internal/evasion"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/flow"
	record "nepcoc/runtime/verdict"
)

// driftWindow is small enough that the test capture's 441 flows have several.
var driftWindow = drift.Options{Flows: 160, Windows: 2, Bound: 1}

// verdicts are a bundle's of all flows of a source.
func verdicts(t *testing.T, b *bundle.Bundle, src capture.Source) (list []record.Record) {
	t.Helper()
	x, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := classify.New(b, x).Flows(b, src, false, func(r *record.Record) error {
		c := *r
		c.Verdicts = slices.Clone(r.Verdicts)
		list = append(list, c)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// frames are a capture's, copied.
func frames(t *testing.T, path string) (list []capture.Frame) {
	t.Helper()
	src, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for {
		var f capture.Frame
		if err := src.Next(&f); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		f.Data = slices.Clone(f.Data)
		list = append(list, f)
	}
}

func memory(list []capture.Frame) capture.Source {
	var m capture.Memory
	for i := range list {
		m.Add(&list[i])
	}
	return &m
}

// changed is a capture whose flows a change of package evasion was made to.
func changed(t *testing.T, path string, name string, keep func(*evasion.Packet) bool) capture.Source {
	t.Helper()
	flows, err := evasion.Load(path, 5, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(evasion.Transforms, func(x evasion.Transform) bool { return x.Name == name })
	var all []evasion.Packet
	for i := range flows {
		for _, p := range evasion.Transforms[at].Run(&flows[i], &flows[i], uint64(i)) {
			if keep == nil || keep(&p) {
				all = append(all, p)
			}
		}
	}
	sort.SliceStable(all, func(i, k int) bool { return all[i].Time < all[k].Time })
	return evasion.Source(all)
}

// talkative has servers go on for three full segments behind the last that the capture has of each TCP flow, and nothing after those;
// merged has receive offload put them together.
func talkative(t *testing.T, path string, merged bool) capture.Source {
	t.Helper()
	flows, err := evasion.Load(path, 5, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	offload := slices.IndexFunc(evasion.Transforms, func(x evasion.Transform) bool { return x.Name == "offload-merged" })
	var all []evasion.Packet
	for i := range flows {
		f := &flows[i]
		for k := len(f.Packets) - 1; k >= 0; k-- {
			p := f.Packets[k]
			if p.Proto != capture.ProtoTCP || p.Dir == 0 || len(p.Payload) == 0 {
				continue
			}
			f.Packets = f.Packets[:k+1]
			for range 3 {
				p.Seq += uint32(len(p.Payload))
				p.Payload = bytes.Repeat([]byte{'x'}, 1448)
				p.Time += 1000
				f.Packets = append(f.Packets, p)
			}
			break
		}
		if merged {
			f.Packets = evasion.Transforms[offload].Run(f, f, 1)
		}
		all = append(all, f.Packets...)
	}
	sort.SliceStable(all, func(i, k int) bool { return all[i].Time < all[k].Time })
	return evasion.Source(all)
}

// Own traffic is quiet for ten windows; other networks', and what taps and cards do to a capture, is not, and is named.
func TestDrift(t *testing.T) {
	testbed := filepath.Join(testfiles.Root(t), "examples", "testbed")
	test := filepath.Join(testbed, "test.pcap")
	res, err := compiler.Compile(t.Context(), compiler.Options{Model: "../examples/model/demo.onnx", Calib: filepath.Join(testbed, "calib.pcap"), MaxDisagreement: 1})
	if err != nil {
		t.Fatal(err)
	}
	b := res.Bundle
	own := verdicts(t, b, memory(frames(t, test)))
	// The test captures hold the first packets of flows, where no sender goes on for more than a segment: a network in which they do.
	goesOn := &bundle.Bundle{Manifest: b.Manifest, Program: b.Program}
	long := verdicts(t, b, talkative(t, filepath.Join(testbed, "calib.pcap"), false))
	if goesOn.Manifest.Traffic, err = drift.Describe(b, len(long), func(i int) (*record.Record, error) { return &long[i], nil }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		of    *bundle.Bundle // whose calibration is compared with
		flows func() []record.Record
		// features are above their bounds, causes named.
		features, causes string
	}{
		{name: "own", of: b, flows: func() []record.Record { return own }},
		{name: "own, servers that go on", of: goesOn, flows: func() []record.Record { return verdicts(t, b, talkative(t, test, false)) }},
		{"another network's", b, func() []record.Record {
			return verdicts(t, b, memory(frames(t, testfiles.Path(t, "traffic", "test.pcap"))))
		}, "score", ""},
		{"one-sided", b, func() []record.Record {
			return verdicts(t, b, changed(t, test, "none", func(p *evasion.Packet) bool { return p.Dir == 0 }))
		}, "answers packets", "one_sided"},
		{"cut", b, func() []record.Record {
			list := frames(t, test)
			for i := range list {
				list[i].Data = list[i].Data[:min(len(list[i].Data), 64)]
			}
			return verdicts(t, b, memory(list))
		}, "payload tokens", "cut"},
		{"merged", goesOn, func() []record.Record { return verdicts(t, b, talkative(t, test, true)) }, "size", "merged"},
		{"seen twice", b, func() []record.Record { return verdicts(t, b, changed(t, test, "mirror-twice", nil)) }, "", "repeated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := drift.New(c.of, classify.Labels(b), driftWindow)
			if err != nil {
				t.Fatal(err)
			}
			flows := c.flows()
			var begun *drift.Event
			var above []drift.Distance
			disjoint, seen := 0, 0
			for disjoint < 10 { // again and again: four times in a row are ten windows that share no flow
				for i := range flows {
					if e := m.Add(&flows[i]); e != nil && begun == nil {
						begun = e
					}
					if s, looks, _ := m.State(); looks > seen { // no single window of own traffic is above a bound either
						if seen = looks; len(s.Over()) > 0 {
							above = s.Over()
						}
					}
				}
				_, looks, _ := m.State()
				disjoint = (looks + 3) / 4
			}
			whole := m.Whole()
			if c.features == "" && c.causes == "" {
				if begun != nil || len(whole.Over()) > 0 || above != nil {
					t.Errorf("not quiet: %+v\nall flows: %+v\na window: %+v", begun, whole.Over(), above)
				}
				return
			}
			if begun == nil || !begun.Begin {
				t.Fatalf("quiet; all flows: %+v", whole.Distances)
			}
			var over []string
			for _, d := range begun.State.Over() {
				over = append(over, d.Feature)
			}
			for _, f := range strings.Fields(c.features) {
				if !slices.Contains(over, f) {
					t.Errorf("%s is not among what drifts: %v", f, over)
				}
			}
			if got := strings.Join(begun.State.Causes, " "); got != c.causes {
				t.Errorf("causes %q, want %q; %v", got, c.causes, over)
			}
		})
	}
}
