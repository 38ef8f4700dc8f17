package robust_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/robust"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
)

// subject is a random program and the testbed's flows.
func subject(t *testing.T) (*bundle.Bundle, *engine.Engine, *calibrate.Set, string) {
	t.Helper()
	b, err := testbundle.New(3, "class")
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := classify.Contract(b)
	if err != nil {
		t.Fatal(err)
	}
	pcap := filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap")
	set, err := calibrate.FromCapture([]string{pcap}, c, b.Manifest.View)
	if err != nil {
		t.Fatal(err)
	}
	return b, e, set, pcap
}

func measure(t *testing.T, o robust.Options) *robust.Report {
	t.Helper()
	b, e, set, _ := subject(t)
	r, err := robust.Measure(b, e, set, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A measurement is the same each time, another seed draws another, and its rows add up.
func TestMeasure(t *testing.T) {
	_, _, _, pcap := subject(t)
	if testing.Short() {
		t.Skip("runs 40 flows hundreds of times each")
	}
	o := robust.Options{Seed: 1, Flows: 40, Captures: []string{pcap}}
	r := measure(t, o)
	if again := measure(t, o); !reflect.DeepEqual(r, again) {
		t.Error("the same seed gave another report")
	}
	o.Seed = 2
	other := measure(t, o).Outputs[0].Rows
	for _, kind := range []string{robust.KindDecisive, robust.KindRandom, robust.KindPackets} {
		same := true
		for i, row := range r.Outputs[0].Rows {
			same = same && (row.Kind != kind || reflect.DeepEqual(row, other[i]))
		}
		if same {
			t.Errorf("%s: another seed gave the same rows", kind)
		}
	}
	if len(r.Outputs) != 1 || r.NotMeasured != nil {
		t.Fatalf("%d outputs, not measured: %v", len(r.Outputs), r.NotMeasured)
	}
	flipped := map[string]int{}
	for _, row := range r.Outputs[0].Rows {
		flows, flips := 0, 0
		for _, c := range row.Classes {
			flows, flips = flows+c.Flows, flips+c.Flipped
		}
		if row.Flows == 0 || row.Flows > 40 || flows != row.Flows || flips != row.Flipped || row.Unknown > row.Flipped {
			t.Errorf("%s: %d flows, %d flipped (%d unknown); by class %d, %d", row.Change, row.Flows, row.Flipped, row.Unknown, flows, flips)
		}
		if row.Kind != robust.KindPackets && (row.Tokens < 1 || row.Share <= 0) {
			t.Errorf("%s: share %g, %g tokens", row.Change, row.Share, row.Tokens)
		}
		flipped[row.Kind] += row.Flipped
	}
	if flipped[robust.KindDecisive] <= flipped[robust.KindRandom] {
		t.Errorf("the most decisive bytes flip %d verdicts, random ones %d", flipped[robust.KindDecisive], flipped[robust.KindRandom])
	}
	if flipped[robust.KindPackets] == 0 {
		t.Error("no verdict depends on packets")
	}
}

// What was not measured is said.
func TestNotMeasured(t *testing.T) {
	r := measure(t, robust.Options{Flows: 5})
	if len(r.NotMeasured) != 1 || !strings.Contains(r.NotMeasured[0], "packets") {
		t.Errorf("without captures: %q", r.NotMeasured)
	}
	for _, row := range r.Outputs[0].Rows {
		if row.Kind == robust.KindPackets {
			t.Errorf("a row for packets: %s", row.Change)
		}
	}
}

// wrapped is the testbed's capture in a file of its own, with each frame as wrap makes it.
func wrapped(t *testing.T, wrap func(frame []byte) []byte) string {
	t.Helper()
	src, err := capture.Open(filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b23c4d)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint32(le.AppendUint64(b, 0), 262144), 1)
	var f capture.Frame
	for src.Next(&f) == nil {
		data := wrap(f.Data)
		b = le.AppendUint32(le.AppendUint32(b, uint32(f.Time/1e9)), uint32(f.Time%1e9))
		b = append(le.AppendUint32(le.AppendUint32(b, uint32(len(data))), uint32(len(data)+f.Length-len(f.Data))), data...)
	}
	path := filepath.Join(t.TempDir(), "wrapped.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Packets are changed of the flows that the bundle's view sees: the same ones, with the same outcome, whether they came plainly, in
// a tunnel that is opened or in VLANs that are told apart.
func TestViews(t *testing.T) {
	b, e, _, _ := subject(t)
	c, err := classify.Contract(b)
	if err != nil {
		t.Fatal(err)
	}
	rows := func(path string, v bundle.View) []robust.Row {
		set, err := calibrate.FromCapture([]string{path}, c, v)
		if err != nil {
			t.Fatal(err)
		}
		b := *b
		b.Manifest.View = v
		r, err := robust.Measure(&b, e, set, robust.Options{Seed: 1, Flows: 30, Captures: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(r.Outputs[0].Rows, func(row robust.Row) bool { return row.Kind != robust.KindPackets })
	}
	want := rows(wrapped(t, func(f []byte) []byte { return f }), bundle.View{})
	if len(want) == 0 || want[0].Flows < 20 {
		t.Fatalf("%+v", want)
	}
	ip := func(proto byte, body []byte) []byte {
		h := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(body)))
		return slices.Concat(make([]byte, 12), []byte{8, 0}, h, []byte{0, 0, 0, 0, 64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}, body)
	}
	vxlan := wrapped(t, func(f []byte) []byte {
		udp := binary.BigEndian.AppendUint16([]byte{0x80, 1, 0x12, 0xb5}, uint16(16+len(f)))
		return ip(17, slices.Concat(udp, []byte{0, 0, 8, 0, 0, 0, 0, 0, 7, 0}, f))
	})
	if got := rows(vxlan, bundle.View{Tunnels: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("in VXLAN: %+v, want %+v", got, want)
	}
	vlan := wrapped(t, func(f []byte) []byte { return slices.Concat(f[:12], []byte{0x81, 0, 0, 9}, f[12:]) })
	if got := rows(vlan, bundle.View{VLANs: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("in a VLAN: %+v, want %+v", got, want)
	}
}

// A verdict that gives no label is none that becomes another by naming another candidate, and a label that is no longer given is one that
// is lost. Flows with too little payload for a verdict are left out, and that is said.
func TestWithheld(t *testing.T) {
	b, e, set, pcap := subject(t)
	at := func(unknown float64, least int) *robust.Report {
		b := *b
		b.Manifest.Outputs = slices.Clone(b.Manifest.Outputs)
		b.Manifest.Outputs[0].UnknownThreshold, b.Manifest.MinPayload = &unknown, bundle.MinPayloadOf(least)
		r, err := robust.Measure(&b, e, set, robust.Options{Seed: 1, Flows: 30, Captures: []string{pcap}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, row := range at(1, 0).Outputs[0].Rows {
		if row.Flows == 0 || row.Flipped != 0 {
			t.Errorf("%s: all %d verdicts are unknown before and after, %d are others", row.Change, row.Flows, row.Flipped)
		}
	}
	lost := 0
	for _, row := range at(0.2, 0).Outputs[0].Rows { // about half of the scores are above
		lost += row.Unknown
	}
	for _, row := range at(0, 0).Outputs[0].Rows {
		if row.Unknown > 0 {
			t.Errorf("%s: %d become unknown without a threshold", row.Change, row.Unknown)
		}
	}
	if lost == 0 {
		t.Error("no label is lost")
	}
	r := at(0, 1<<20)
	for _, row := range r.Outputs[0].Rows {
		t.Errorf("%s: %d flows without payload are changed, and %d of them are others", row.Change, row.Flows, row.Flipped)
	}
	for _, want := range []string{"too little payload", "1 % most decisive bytes, ", ", 5 % random bytes, padded, ", ": no flow to change"} {
		if !slices.ContainsFunc(r.NotMeasured, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%q is not said: %q", want, r.NotMeasured)
		}
	}
	if r.Outputs[0].Rows == nil {
		t.Error("no rows are null in JSON, not an empty list")
	}
	var text strings.Builder
	if r.Text(&text); strings.Contains(text.String(), "0 (0.00 %)") {
		t.Errorf("what nobody has measured is 0:\n%s", text.String())
	}
}
