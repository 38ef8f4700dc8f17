package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/internal/testflood"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/verdict"
)

// parsed is a line of JSON, as far as these tests read it.
type parsed struct {
	Proto, Src, Dst, Label string
	Sport, Dport           int
	Incomplete, Anomaly    []string
	Insufficient           bool
}

// flow is the same for both directions.
func (l *parsed) flow() string {
	a, b := fmt.Sprint(l.Src, " ", l.Sport), fmt.Sprint(l.Dst, " ", l.Dport)
	return l.Proto + " " + min(a, b) + " " + max(a, b)
}

func parse(t testing.TB, text string) (l parsed) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// However many packets are lost, no flow gets a label with confidence that it would not have had: those that lost what they
// needed are marked, or have none.
func TestFloodOverload(t *testing.T) {
	const rate, flowsPerWorker = 300_000, 1 << 13
	const start = 1_700_000_000_000_000_000
	length := 2 * time.Second
	if testing.Short() {
		length /= 4
	}
	mem, err := testflood.Real(testfiles.Path(t, "traffic", "test.pcap"), start, length*3/4)
	if err != nil {
		t.Fatal(err)
	}
	b := testBundle(t, 0, "class")
	want := map[string][]string{}
	for _, text := range expected(t, b, mem) {
		l := parse(t, text)
		want[l.flow()] = append(want[l.flow()], l.Label)
	}
	for _, tc := range []struct {
		name string
		slow time.Duration // of each verdict
	}{{"as fast as it goes", 0}, {"workers that are late", 2 * time.Millisecond}} {
		t.Run(tc.name, func(t *testing.T) {
			flood := testflood.New(mem, start, rate, length)
			began := time.Now()
			src := generate(func(n uint64, f *capture.Frame) error {
				if time.Since(began) < time.Duration(n)*time.Second/rate && n%64 == 0 {
					return capture.ErrEmpty
				}
				return flood.Next(f)
			})
			src.crowded = true // nothing is waited for
			lines, r := runAgent(t, t.Context(), agent.Options{
				Sources: []capture.Source{src}, Model: must(agent.NewModel(b)), Workers: 2, FlowsPerWorker: flowsPerWorker, Queue: 16, Drain: time.Minute,
				Format: func(r *verdict.Record, b []byte) []byte {
					if src.n.Load() < uint64(length.Seconds()*rate) { // until all was sent
						time.Sleep(tc.slow)
					}
					return r.AppendJSON(b)
				},
			})
			seen := map[string]bool{}
			flooding, right, marked := 0, 0, 0
			for _, text := range lines {
				l := parse(t, text)
				labels, ok := want[l.flow()]
				switch {
				case !ok && strings.HasPrefix(l.Src, "100."):
					flooding++
				case slices.Contains(labels, l.Label):
					right++
					seen[l.flow()] = true
				case len(l.Incomplete)+len(l.Anomaly) > 0 || l.Insufficient:
					marked++
				default:
					t.Errorf("want %v or a mark: %s", labels, text)
				}
			}
			if tc.slow > 0 && r.QueueDropped == 0 {
				t.Error("nothing was lost")
			}
			// On a machine that is too busy for the source, too, the tables may not have been full.
			if full := r.Flow.Joined() > 8*2*flowsPerWorker; full && (r.Flow.Emergencies == 0 || r.Flow.Shed == 0) || r.Emergencies != 0 {
				t.Errorf("%d emergencies, %d flows shed, %d now", r.Flow.Emergencies, r.Flow.Shed, r.Emergencies)
			}
			t.Logf("%d of %d flows right, %d verdicts marked, %d of the flood's; %s", len(seen), len(want), marked, flooding, r)
		})
	}
}

// An emergency is said once when it begins and once when it is over, and shows in health and metrics meanwhile, with
// where the flows come from.
func TestEmergencyIsSaid(t *testing.T) {
	var mu sync.Mutex
	var said strings.Builder
	logger := slog.New(slog.NewTextHandler(sinkFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return said.Write(b)
	}), nil))
	const flows = 4096
	ctx, cancel := context.WithCancel(t.Context())
	src := generate(func(n uint64, f *capture.Frame) error {
		switch {
		case n < 4*flows:
			f.Data, f.Time = udp(uint32(n), 4), int64(n)*20_000
		case n < 4*flows+600: // half a minute with no new flow but this one
			f.Data, f.Time = udp(1<<20, 4), int64(n)*20_000+int64(n-4*flows)*50e6
		default:
			return capture.ErrEmpty
		}
		return nil
	})
	a, err := agent.New(agent.Options{Sources: []capture.Source{&pausing{src, 4 * flows}}, Model: testModel(t, 0, "class"), Workers: 2, FlowsPerWorker: flows / 4, Sink: io.Discard, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	wait := func(what string, reached func(*agent.Report) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !reached(a.Report()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("a minute later still not %s: %s", what, a.Report())
			}
		}
	}
	done := make(chan error)
	src.pause.Store(false)
	go func() {
		_, err := a.Run(ctx)
		done <- err
	}()
	wait("in an emergency", func(r *agent.Report) bool {
		return r.Emergencies == 2 && r.Flow.Joined()+r.QueueDropped == 4*flows && len(r.Sources) > 0 && r.SourceTotal.Evicted > 0
	})
	code, health := get(t, a.Handler(), "/healthz")
	if code != 200 || !strings.Contains(health, `"status":"ok"`) || !strings.Contains(health, `"emergency":true,"new_flows_from":["10.0.0.0/24 100%"]`) {
		t.Errorf("%d %s", code, health)
	}
	_, metrics := get(t, a.Handler(), "/metrics")
	for _, m := range []string{`nepcod_emergency_tables 2`, `nepcod_emergencies_total 2`, `nepcod_source_share{of="new",rank="1"} 1`, `nepcod_source_share{of="evicted",rank="1"} 1`, `nepcod_source_share{of="new",rank="5"} 0`, `nepcod_flows_evicted_total{class="both_ways"} 0`} {
		if !strings.Contains(metrics, m+"\n") {
			t.Errorf("no %s", m)
		}
	}
	src.pause.Store(true) // go on
	wait("over", func(r *agent.Report) bool { return r.Emergencies == 0 })
	if _, health := get(t, a.Handler(), "/healthz"); !strings.Contains(health, `"emergency":false`) {
		t.Error(health)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	text := said.String()
	if strings.Count(text, "emergency") != 2 || strings.Count(text, "emergency:") != 1 || strings.Count(text, "emergency over") != 1 || !strings.Contains(text, "10.0.0.0/24 100%") {
		t.Errorf("%s", text)
	}
	r := a.Report()
	if want := fmt.Sprintf("flows_without_verdict=%d", r.Flow.Shed); !strings.Contains(text, want) || r.Flow.Shed == 0 {
		t.Errorf("no %s: %s", want, text)
	}
}

// pausing stops behind some frames until the generator's pause is set, which then means: go on.
type pausing struct {
	*generator
	at uint64
}

func (p *pausing) Next(f *capture.Frame) error {
	if p.n.Load() >= p.at && !p.pause.Load() {
		if p.stop.Load() {
			return io.EOF
		}
		return capture.ErrEmpty
	}
	if p.pause.Swap(false) {
		defer p.pause.Store(true)
	}
	return p.generator.Next(f)
}

// Who keeps flows open through many changes of the model does not keep the models: a worker holds four. Flows of older
// ones are judged by the next where its contract is the same, and finish early, with their own, where it is not.
func TestHeldModels(t *testing.T) {
	const changes = 12
	for _, contracts := range []bool{false, true} {
		t.Run(fmt.Sprintf("own contracts %v", contracts), func(t *testing.T) {
			var models []*agent.Model
			for i := range changes {
				b := testBundle(t, 0, string(rune('a'+i)))
				if contracts {
					c, err := contractOf(b)
					if err != nil {
						t.Fatal(err)
					}
					c.Idle += time.Duration(i) * time.Second
					b = bundleOf(t, testProgram(t, 0), c, string(rune('a'+i)))
				}
				models = append(models, must(agent.NewModel(b)))
			}
			// One new flow for each model, and a second packet of each flow at the end. A number of flows
			// may be sent at a time.
			frames := make(chan []byte, 2*changes)
			clock := int64(1e18)
			src := generate(func(_ uint64, f *capture.Frame) error {
				select {
				case data, ok := <-frames:
					if !ok {
						return io.EOF
					}
					clock += 1e6
					f.Data, f.Time = data, clock
					return nil
				default:
					return capture.ErrEmpty
				}
			})
			var out strings.Builder
			a, err := agent.New(agent.Options{Sources: []capture.Source{src}, Model: models[0], FlowsPerWorker: 64, Sink: &out, Format: agent.Formats["json"]})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan *agent.Report)
			go func() {
				r, err := a.Run(t.Context())
				if err != nil {
					t.Error(err)
				}
				done <- r
			}()
			joined := uint64(0)
			put := func(i int) {
				frames <- udp(uint32(i), 4)
				joined++
				for end := time.Now().Add(time.Minute); a.Report().Flow.Joined() != joined; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal(a.Report())
					}
				}
			}
			for i, m := range models {
				if i > 0 {
					a.Swap(m)
				}
				put(i)
				if r := a.Report(); r.Models > min(i+1, 4) || r.Tables > 4 {
					t.Errorf("%d models and %d tables after %d changes", r.Models, r.Tables, i)
				}
			}
			for i := range models {
				put(i)
			}
			close(frames)
			r := <-done
			labels := map[string][]parsed{}
			for text := range strings.Lines(out.String()) {
				l := parse(t, text)
				labels[l.flow()] = append(labels[l.flow()], l)
			}
			if len(labels) != changes || r.Flow.Decided() != r.Flow.Flows {
				t.Errorf("%d flows: %s", len(labels), r)
			}
			for i := range changes {
				l := parse(t, expected(t, models[i].Bundle, memoryOf(udp(uint32(i), 4)))[0])
				got := labels[l.flow()]
				kept := i >= changes-4
				switch by := rune(got[0].Label[0]); {
				case kept && by != rune('a'+i):
					t.Errorf("flow %d: by model %c", i, by)
				case kept && len(got) != 1, !kept && contracts && len(got) != 2, !contracts && len(got) != 1:
					t.Errorf("flow %d: %d verdicts", i, len(got))
				case !kept && contracts && (by != rune('a'+i) || !slices.Contains(got[1].Incomplete, "evicted")):
					t.Errorf("flow %d: by model %c; its rest: %+v", i, by, got[1])
				case !kept && !contracts && by != rune('a'+changes-4):
					t.Errorf("flow %d: by model %c, not the oldest that is left", i, by)
				}
			}
		})
	}
}

func memoryOf(frames ...[]byte) *capture.Memory {
	mem := new(capture.Memory)
	for _, f := range frames {
		mem.Add(&capture.Frame{Data: f, Length: len(f), Link: capture.LinkEthernet})
	}
	return mem
}
