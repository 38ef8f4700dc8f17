package agent

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"nepcoc/internal/version"
	"nepcoc/runtime/act"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// collector turns reports into Prometheus metrics when they are asked for. The
// packet path knows nothing of Prometheus.
type collector struct{ a *Agent }

// metricNames are those of all descriptions: each is in docs/metrics.md.
var metricNames []string

func desc(name, help string, labels ...string) *prometheus.Desc {
	metricNames = append(metricNames, "nepcod_"+name)
	return prometheus.NewDesc("nepcod_"+name, help, labels, nil)
}

// The metrics. Names are an interface: dashboards depend on them.
var (
	descReceived     = desc("kernel_packets_total", "Packets that the kernel received for the capture.")
	descDropped      = desc("packets_dropped_total", "Packets lost, by where: in the kernel's ring, or before a worker that was behind.", "where")
	descStalls       = desc("kernel_stalls_total", "Times that the kernel found the ring full.")
	descPackets      = desc("packets_total", "Packets read, by what they were: ok, or why they were ignored, refused (no host takes them) or malformed.", "kind")
	descBytes        = desc("bytes_total", "Bytes of the packets read, on the wire.")
	descTunnels      = desc("packets_tunnelled_total", "Packets that carry another one in a tunnel which is left closed, by the tunnel's kind.", "tunnel")
	descHeld         = desc("fragments_held", "Fragments that wait for others of their packet, and count as no kind yet.")
	descFlows        = desc("flows_total", "Flows begun.")
	descReasons      = desc("flows_decided_total", "Flows decided, by why they were decided when they were.", "reason")
	descLabels       = desc("verdicts_total", "Verdicts by output of the model and label, each label of several by itself; unknown and insufficient ones are counted apart.", "output", "label")
	descInsufficient = desc("verdicts_insufficient_total", "Verdicts withheld because the flow held too little payload.", "output")
	descUnknown      = desc("verdicts_unknown_total", "Verdicts whose score was below the threshold, or whose flow does not belong to the classes.", "output")
	descNone         = desc("verdicts_without_label_total", "Verdicts of an output that gives any number of labels, and gave none.", "output")
	descMarks        = desc("marks_total", "Flows with a verdict that has a mark, by mark.", "mark")
	descAlerts       = desc("alerts_total", "Alert events raised.")
	descLost         = desc("flows_without_verdict_total", "Flows left without a verdict: shed in an emergency, abandoned at the end of a drain, failed, or withdrawn since their bundle was returned from.", "why")
	descRecords      = desc("records_total", "Records for the output, by what became of them.", "fate")
	descEnds         = desc("flow_ends_total", "Records among them of flows that ended (output.totals).")
	descOutBytes     = desc("output_bytes_total", "Bytes written to the output.")
	descOpen         = desc("table_flows", "Flows in the tables.")
	descCapacity     = desc("table_capacity_flows", "Flows that the tables have room for.")
	descEvicted      = desc("flows_evicted_total", "Flows that had to make room in a full table, those that had had their verdict included, by how much they had shown: one_packet, one_sided or both_ways.", "class")
	descUrgent       = desc("emergency_tables", "Tables that are in an emergency: flows have to make room faster than the table is made for.")
	descUrgents      = desc("emergencies_total", "Emergencies of tables that have begun.")
	descSources      = desc("source_share", "Share of lately begun flows, and of lately evicted ones, that came from one source prefix (/24, /48 of IPv6), at least: of the prefix with most flows (rank 1) to the fifth.", "of", "rank")
	descActive       = desc("flows_undecided", "Flows in the tables without a verdict yet.")
	descQueue        = desc("queue_batches", "Batches of packets waiting before each worker.", "worker")
	descQueueCap     = desc("queue_capacity_batches", "Batches that each worker's queue has room for.")
	descOutQueue     = desc("output_queue_chunks", "Chunks of lines waiting for the output.")
	descSwaps        = desc("model_changes_total", "Changes of the model, by result: done, refused, or returned to the bundle before (done, too).", "result")
	descTrial        = desc("model_on_trial", "1 while the model is new and watched (probation).")
	descModel        = desc("model_info", "The model of new flows.", "digest", "bundle", "model_version", "file", "kernels")
	descBuild        = desc("build_info", "The agent.", "version", "revision", "goversion")
	descMerged       = desc("packets_merged_total", "Frames that the system had merged of several packets (GRO, LRO, TSO), by what the agent did: split them again, or read them as one packet each.", "how")
	descProblem      = desc("problem", "1 where something is wrong now, of which /healthz says what: a thread is stalled, an interface is down, the output fails, packets or verdicts are dropped, rules of actions are refused or were flushed, the bundle is refused, returned from or no longer trusted.", "kind")
	descDrift        = desc("drift", "1 while the traffic is not what the bundle was calibrated with: from a drift event's begin to its end.")
	descDistance     = desc("drift_distance_bits", "Distance of the latest window's flows from calibration's, by feature and output (docs/drift.md): 0 is the same, 1 has nothing in common.", "feature", "output")
	descBound        = desc("drift_bound_bits", "What that distance must be above to count.", "feature", "output")
	descLooks        = desc("drift_windows_total", "Windows that were compared, a quarter of one apart.")
	descKept         = desc("unknown_flows_kept_total", "Flows of unknown verdict whose packets were to be kept (keep_unknown), by fate: written, or dropped because the disk was behind or full.", "fate")
	descActions      = desc("actions_total", "Rules that verdicts asked for (actions), by kind and what became of them: done is in force, dry_run would have been, everything else was not done.", "kind", "result")
	descWithheld     = desc("actions_withheld_total", "Verdicts with a label and score that actions are for, about which nothing was done, by why: the flow's marks, the allow list, packets that no rule can match, a bundle that hasn't stood its trial.", "why")
	descActing       = desc("action_rules", "Rules of actions in force now.", "kind")
	descActingHW     = desc("action_rules_in_hardware", "Rules in force that the kernel says are in hardware, all parts of them.")
	descActed        = desc("action_rules_ended_total", "Rules of actions that have ended, by why: restart is one that an agent before this one had left.", "kind", "why")
	descActQueue     = desc("action_queue_rules", "Rules that wait for the kernel.")
	descModels       = desc("models_in_use", "Models in use in the worker that has most: the current one, and those that undecided flows hold.")

	descHists = []struct {
		desc, quantile *prometheus.Desc
		of             func(*latencies) *hist
	}{
		hists("queue_wait", "from a batch's first packet being read to a worker taking it", func(l *latencies) *hist { return &l.queue }),
		hists("input_construction", "making a flow's tokens", func(l *latencies) *hist { return &l.input }),
		hists("inference", "running the model on a flow", func(l *latencies) *hist { return &l.inference }),
		hists("decision_latency", "from a flow's last packet to the verdict that it brought about", func(l *latencies) *hist { return &l.decision }),
		hists("timer_latency", "from a flow's last packet to a verdict by a timeout, the timeout included", func(l *latencies) *hist { return &l.timer }),
	}
)

func hists(name, what string, of func(*latencies) *hist) struct {
	desc, quantile *prometheus.Desc
	of             func(*latencies) *hist
} {
	return struct {
		desc, quantile *prometheus.Desc
		of             func(*latencies) *hist
	}{
		desc(name+"_seconds", "Time "+what+"."),
		desc(name+"_quantile_seconds", "Quantiles, since the start, of the time "+what+"; right to 6 %.", "quantile"),
		of,
	}
}

// Describe implements prometheus.Collector. Saying nothing makes the collector
// an unchecked one: labels come and go with models.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	r, m := c.a.Report(), c.a.Model()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	if r.Live {
		count(descReceived, r.Kernel.Received)
		count(descDropped, r.Kernel.Dropped, "kernel")
		count(descStalls, r.Kernel.Stalls)
		count(descMerged, r.Kernel.Merged, "split")
		count(descMerged, r.Kernel.Unsplit, "kept")
	}
	count(descDropped, r.QueueDropped, "queue")
	for k := range capture.NumKinds {
		count(descPackets, r.Flow.Frames[k], k.String())
	}
	count(descBytes, r.Bytes)
	for t := capture.NoTunnel + 1; t < capture.NumTunnels; t++ {
		count(descTunnels, r.Flow.Tunnelled[t], t.String())
	}
	gauge(descHeld, int(r.Flow.Held))
	count(descFlows, r.Flow.Flows)
	for why := range flow.NumReasons {
		count(descReasons, r.Flow.Verdicts[why], why.String())
	}
	for i := range m.Bundle.Manifest.Outputs { // there from the start, so that rates can be taken
		switch o := &m.Bundle.Manifest.Outputs[i]; o.EffectiveKind() {
		case bundle.KindClasses, bundle.KindBinary:
			r.Labels[OutputLabel{o.Name, "", Unknown}] += 0
			r.Labels[OutputLabel{o.Name, "", Insufficient}] += 0
		case bundle.KindLabels:
			r.Labels[OutputLabel{o.Name, "", None}] += 0
			r.Labels[OutputLabel{o.Name, "", Insufficient}] += 0
		}
	}
	for l, n := range r.Labels {
		switch l.Special {
		case Unknown:
			count(descUnknown, n, l.Output)
		case Insufficient:
			count(descInsufficient, n, l.Output)
		case None:
			count(descNone, n, l.Output)
		default:
			count(descLabels, n, l.Output, l.Label)
		}
	}
	for mark, n := range r.Marked {
		count(descMarks, n, mark)
	}
	count(descAlerts, r.Alerts)
	count(descLost, r.Abandoned, "abandoned")
	count(descLost, r.Failed, "failed")
	count(descLost, r.Withdrawn, "withdrawn")
	count(descLost, r.Flow.Shed, "shed")
	for c := range flow.NumClasses {
		count(descEvicted, r.Flow.Evicted[c], c.String())
	}
	gauge(descUrgent, r.Emergencies)
	count(descUrgents, r.Flow.Emergencies)
	for i := range SourcesShown {
		var s flow.SourceCount
		if i < len(r.Sources) {
			s = r.Sources[i].SourceCount
		}
		share := func(of string, part, whole uint64) {
			ch <- prometheus.MustNewConstMetric(descSources, prometheus.GaugeValue, float64(part)/float64(max(whole, 1)), of, strconv.Itoa(i+1))
		}
		share("new", s.Flows, r.SourceTotal.Flows)
		share("evicted", s.Evicted, r.SourceTotal.Evicted)
	}
	count(descRecords, r.Written, "written")
	count(descRecords, r.OutputDropped, "queue_full")
	count(descRecords, r.OutputFailed, "refused")
	count(descRecords, r.OutputTooLarge, "too_large")
	count(descEnds, r.Ends)
	count(descOutBytes, r.OutputBytes)
	gauge(descOpen, r.Open)
	gauge(descCapacity, c.a.opt.FlowsPerWorker*len(c.a.workers))
	gauge(descActive, r.Undecided)
	for i, w := range c.a.workers {
		gauge(descQueue, len(w.in), workerName(i))
	}
	gauge(descQueueCap, c.a.opt.Queue)
	gauge(descOutQueue, r.chunks)
	count(descSwaps, r.Swaps, "done")
	count(descSwaps, r.SwapsRefused, "refused")
	count(descSwaps, r.Returns, "returned")
	gauge(descTrial, map[bool]int{true: 1}[c.a.probation.onTrial.Load()])
	problems := c.a.problems()
	for kind := range numProblems {
		gauge(descProblem, min(len(problems[kind]), 1), kind.String())
	}
	if by := c.a.monitor(m); by != nil {
		state, looks, drifted := by.State()
		gauge(descDrift, map[bool]int{true: 1}[drifted])
		count(descLooks, uint64(looks))
		for _, d := range state.Distances {
			ch <- prometheus.MustNewConstMetric(descDistance, prometheus.GaugeValue, d.Bits, d.Feature, d.Output)
			ch <- prometheus.MustNewConstMetric(descBound, prometheus.GaugeValue, d.Bound, d.Feature, d.Output)
		}
	}
	if k := c.a.kept; k != nil {
		count(descKept, k.written.Load(), "written")
		count(descKept, k.dropped.Load(), "dropped")
	}
	if s := c.a.acts; s != nil {
		t := s.Stats()
		for k := range act.NumKinds {
			for result := range act.NumResults {
				count(descActions, t.Results[k][result], k.String(), result.String())
			}
			for why := range act.NumEndings {
				count(descActed, t.Ended[k][why], k.String(), why.String())
			}
			gauge(descActing, t.Active[k], k.String())
		}
		for why := act.Unasked + 1; why < act.NumReasons; why++ {
			count(descWithheld, t.Withheld[why], why.String())
		}
		gauge(descActingHW, t.Hardware)
		gauge(descActQueue, t.Queued)
	}
	gauge(descModels, r.Models)
	gauge(descModel, 1, m.Digest(), m.Bundle.Name(), m.Bundle.Manifest.Model.Version, m.Bundle.Manifest.Model.File, m.Kernels())
	gauge(descBuild, 1, version.Version, version.Revision(), runtime.Version())
	for _, h := range descHists {
		var d durations
		for _, w := range c.a.workers {
			d.read(h.of(&w.lat))
		}
		ch <- prometheus.MustNewConstHistogram(h.desc, d.count, float64(d.sum)/1e9, d.cumulative())
		if d.count == 0 {
			continue
		}
		for _, q := range []struct {
			name string
			q    float64
		}{{"0.5", 0.5}, {"0.99", 0.99}, {"0.999", 0.999}} {
			ch <- prometheus.MustNewConstMetric(h.quantile, prometheus.GaugeValue, d.quantile(q.q), q.name)
		}
	}
}

// cumulative are the counts up to powers of two from 1 us to 69 s: a
// Prometheus histogram's buckets.
func (d *durations) cumulative() map[float64]uint64 {
	m := map[float64]uint64{}
	var sum uint64
	for i, n := range d.buckets {
		sum += n
		if up := histUpper(i); up&(up-1) == 0 && up >= 1<<10 && up <= 1<<36 {
			m[float64(up)/1e9] = sum
		}
	}
	return m
}

// Registry has the agent's metrics and those of the process.
func (a *Agent) Registry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{a})
	return reg
}
