package fleet

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	nepco "nepcoc/internal/version"
)

// hubMetricNames are those of all descriptions: each is in docs/fleet-page.md.
var hubMetricNames []string

func hubDesc(name, help string, labels ...string) *prometheus.Desc {
	hubMetricNames = append(hubMetricNames, "nepcof_"+name)
	return prometheus.NewDesc("nepcof_"+name, help, labels, nil)
}

var (
	hubConnected = hubDesc("connected", "1 while the hub hears the fleet's servers: else all else here may be old.")
	hubLeads     = hubDesc("leads", "1 while this hub moves rollouts on.")
	hubRefused   = hubDesc("reports_refused_total", "Reports since this hub began that no enrolled card sealed, or that were old.")
	hubCards     = hubDesc("cards", "Cards by phase, of those that report; silent: reported once and not in the last minute; never: did not report since enrolment.", "group", "phase")
	hubRunning   = hubDesc("cards_running", "Cards that report, by the bundle that their agent gives new flows to.", "group", "digest")
	hubProblem   = hubDesc("cards_with_problem", "Cards that report and need a look, by why: agent, drift, drops (of more than 1 % of packets), lines (lost since the store was full).", "group", "why")
	hubState     = hubDesc("rollout_state", "1 for the state that the group's latest rollout is in: running, waiting, halted, returning, done or returned.", "group", "state")
	hubReached   = hubDesc("rollout_cards_reached", "Cards that the latest rollout has been ordered to.", "group")
	hubOf        = hubDesc("rollout_cards", "Cards that the latest rollout is for.", "group")
	hubLines     = hubDesc("lines_messages", "Messages of lines that the group's stream holds.", "group")
	hubReaders   = hubDesc("lines_readers", "Readers of the group's stream of lines: sinks, tails.", "group")
	hubLag       = hubDesc("lines_lag_messages", "Messages in the group's stream that its slowest reader has not been given.", "group")
	hubBuild     = hubDesc("build_info", "The hub.", "version", "revision")
)

// hubCollector turns the hub's view into metrics when it is asked.
type hubCollector struct{ w *web }

// Describe implements prometheus.Collector.
func (c hubCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. Nothing that a card can choose freely becomes a label.
func (c hubCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	v := c.w.look()
	gauge(hubConnected, float64(btoi(v.Deaf == "")))
	gauge(hubLeads, float64(btoi(v.Leads)))
	ch <- prometheus.MustNewConstMetric(hubRefused, prometheus.CounterValue, float64(c.w.h.refused.Load()))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for i := range v.Groups {
		g := &v.Groups[i]
		phases := map[string]int{string(Idle): 0, string(Fetching): 0, string(Placed): 0, string(Running): 0, string(Refused): 0, "silent": 0, "never": 0, "other": 0}
		why := map[string]int{"agent": 0, "drift": 0, "drops": 0, "lines": 0}
		for i := range g.Cards {
			k := &g.Cards[i]
			phase := string(k.Phase)
			switch _, known := phases[phase]; {
			case k.Never:
				phase = "never"
			case !k.Fresh:
				phase = "silent"
			case !known:
				phase = "other"
			}
			phases[phase]++
			if k.Fresh {
				why["agent"] += btoi(k.Agent.Problem != "")
				why["drift"] += btoi(k.Agent.Drift)
				why["drops"] += btoi(k.Agent.DropShare() > notedDrops)
				why["lines"] += btoi(k.Lines.Dropped > 0)
			}
		}
		for phase, n := range phases {
			gauge(hubCards, float64(n), g.Name, phase)
		}
		for w, n := range why {
			gauge(hubProblem, float64(n), g.Name, w)
		}
		digests := map[string]int{}
		for _, x := range g.Versions {
			digest := x.Digest
			if r := g.Rollout; digest != g.Stable.Digest && (r == nil || digest != r.To.Digest && digest != r.From.Digest) {
				digest = "other"
			}
			digests[digest] += x.Figures.Cards
		}
		for digest, n := range digests {
			gauge(hubRunning, float64(n), g.Name, digest)
		}
		if r := g.Rollout; r != nil {
			for _, s := range []State{Advancing, Waiting, Halted, Returning, Done, Returned} {
				gauge(hubState, float64(btoi(r.State == s)), g.Name, string(s))
			}
			gauge(hubReached, float64(r.Reached), g.Name)
			gauge(hubOf, float64(len(r.Cards)), g.Name)
		}
		c.lines(ctx, gauge, g.Name)
	}
	gauge(hubBuild, 1, nepco.Version, nepco.Revision())
}

// lines asks the servers for the state of a group's stream. What they don't say is left out.
func (c hubCollector) lines(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string), group string) {
	stream, err := c.w.h.js.Stream(ctx, streamLines+group)
	if err != nil {
		return
	}
	gauge(hubLines, float64(stream.CachedInfo().State.Msgs), group)
	readers, lag := 0, uint64(0)
	list := stream.ListConsumers(ctx)
	for r := range list.Info() {
		readers++
		lag = max(lag, r.NumPending)
	}
	if list.Err() != nil {
		return
	}
	gauge(hubReaders, float64(readers), group)
	if readers > 0 {
		gauge(hubLag, float64(lag), group)
	}
}
