package agent_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// With totals, each flow gives one "nepco" event with its verdict and one "flow" event at its end. They have one flow_id, and label
// and alert in common; the totals add up to all packets and bytes that joined a flow, where those of verdicts stop at the verdict. A
// connection that was closed behind its verdict is closed.
func TestTotals(t *testing.T) {
	m := testModel(t, 0, "class")
	mem, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	got, r := runAgent(t, t.Context(), agent.Options{
		Sources: []capture.Source{mem}, Model: m, Lossless: true, Workers: 2, Format: agent.Formats["eve"], Totals: true,
		Alerts: m.Bundle.Manifest.Outputs[0].Labels[:2],
	})
	type nepco struct {
		Label, Decided      string
		Incomplete, Anomaly []string
		Insufficient        bool
	}
	type event struct {
		Type   string `json:"event_type"`
		ID     uint64 `json:"flow_id"`
		Source string `json:"src_ip"`
		Flow   struct {
			PS      uint64 `json:"pkts_toserver"`
			PC      uint64 `json:"pkts_toclient"`
			BS      uint64 `json:"bytes_toserver"`
			BC      uint64 `json:"bytes_toclient"`
			Start   string
			End     string
			State   string
			Reason  string
			Alerted *bool
		}
		ComID string `json:"community_id"`
		Nepco nepco
	}
	verdicts, ends, alerts := map[uint64]event{}, map[uint64]event{}, map[uint64]bool{}
	states, marked := map[string]int{}, map[string]uint64{}
	var packets, bytes, early uint64
	for _, l := range got {
		var e event
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatal(err)
		}
		switch e.Type {
		case "alert":
			alerts[e.ID] = true
		case "nepco":
			verdicts[e.ID] = e
			for _, m := range slices.Concat(e.Nepco.Incomplete, e.Nepco.Anomaly) {
				marked[m]++
			}
			if e.Nepco.Insufficient {
				marked["insufficient"]++
			}
			early += e.Flow.PS + e.Flow.PC
		case "flow":
			ends[e.ID] = e
			packets += e.Flow.PS + e.Flow.PC
			bytes += e.Flow.BS + e.Flow.BC
			states[e.Flow.State]++
		}
	}
	if uint64(len(verdicts)) != r.Records || uint64(len(ends)) != r.Ends || r.Ends != r.Flow.Flows || r.Written != 2*r.Records || len(alerts) == 0 {
		t.Errorf("%d verdicts, %d ends, %d alerts: %s", len(verdicts), len(ends), len(alerts), r)
	}
	if packets != r.Flow.Joined() || bytes != r.Flow.Bytes || early >= packets {
		t.Errorf("%d packets and %d bytes in all, want %d and %d; %d up to the verdicts", packets, bytes, r.Flow.Joined(), r.Flow.Bytes, early)
	}
	for id, v := range verdicts {
		e := ends[id]
		if e.Source != v.Source || e.ComID != v.ComID || e.Flow.Start != v.Flow.Start || e.Nepco.Label != v.Nepco.Label || e.Nepco.Decided != v.Nepco.Decided || v.Nepco.Label == "" ||
			e.Flow.PS < v.Flow.PS || e.Flow.Alerted == nil || *e.Flow.Alerted != alerts[id] || e.Flow.End == "" || v.Flow.End != "" || e.Flow.Reason == "" {
			t.Errorf("%+v ends as %+v", v, e)
		}
	}
	for mark, n := range r.Marked {
		if n != marked[mark] {
			t.Errorf("%d flows are marked %s, counted are %d", marked[mark], mark, n)
		}
	}
	if len(marked) == 0 {
		t.Error("no flow has a mark")
	}
	// Of this capture no 5-tuple has two connections.
	closed := map[flow.Key]bool{}
	var f capture.Frame
	var p capture.Packet
	for mem.Rewind(); mem.Next(&f) == nil; {
		if capture.Decode(&f, &p) == capture.KindOK && p.Proto == capture.ProtoTCP && p.Flags&(capture.FlagFIN|capture.FlagRST) != 0 {
			k, _ := flow.KeyOf(&p).Canonical()
			closed[k] = true
		}
	}
	if len(closed) == 0 || states["closed"] != len(closed) || states["established"] == 0 {
		t.Errorf("states %v, %d connections were closed", states, len(closed))
	}

	// Without the option nothing is different, but for types and what the end knows.
	mem.Rewind()
	plain, _ := runAgent(t, t.Context(), agent.Options{Sources: []capture.Source{mem}, Model: m, Lossless: true, Format: agent.Formats["eve"]})
	labels := [2]map[string]int{{}, {}}
	for _, l := range plain {
		var e event
		if err := json.Unmarshal([]byte(l), &e); err != nil || e.Type != "flow" {
			t.Fatalf("%v: %s", err, l)
		}
		labels[0][e.Nepco.Label]++
	}
	for _, e := range ends {
		labels[1][e.Nepco.Label]++
	}
	if !maps.Equal(labels[0], labels[1]) {
		t.Errorf("labels %v, with totals %v", labels[0], labels[1])
	}
}

// When the time for a stop is over, flows without an end are counted as such, and the counts balance.
func TestTotalsHurried(t *testing.T) {
	src := generate(func(n uint64, f *capture.Frame) error {
		if n == 50_000 {
			return capture.ErrEmpty
		}
		f.Data, f.Time = udp(uint32(n), 60), int64(n)
		return nil
	})
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{src}, Model: testModel(t, 0, "class"), Totals: true, Drain: time.Millisecond,
		Sink: sinkFunc(func(b []byte) (int, error) { time.Sleep(time.Millisecond); return len(b), nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextUntil(t, func() bool { return src.n.Load() == 50_000 })
	defer cancel()
	r, err := a.Run(ctx)
	if err != nil {
		t.Error(err)
	}
	if r.Ends+r.NoEnds != r.Flow.Closed || r.Lost() == nil || r.Flow.Verdicts[flow.ReasonEnd]+uint64(r.Undecided) == 0 {
		t.Errorf("%s; %d ends, %d without, of %d: %v", r, r.Ends, r.NoEnds, r.Flow.Closed, r.Lost())
	}
}
