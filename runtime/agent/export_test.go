package agent

import (
	"io"
	"os"
	"time"
)

// A reader that a machine keeps from its work for a while has not gone away.
func init() { socketTimeout = time.Minute }

// QuantileOf is a quantile of a histogram of d alone.
func QuantileOf(d time.Duration, q float64) float64 {
	var h hist
	var c durations
	h.add(d)
	c.read(&h)
	return c.quantile(q)
}

// Clock sets what happened to an output, and when.
type Clock struct{ o *output }

func (c Clock) Begin(at time.Duration) { c.o.began.Store(max(int64(at), 1)) }

func (c Clock) Fail(at time.Duration, err error) {
	c.o.last.Store(&err)
	c.o.failedAt.Store(max(int64(at), 1))
}

// OutputProblem gives what an output says of itself as a function of the time, after set.
func OutputProblem(set func(Clock)) func(now time.Duration) string {
	o := new(output)
	set(Clock{o})
	return func(now time.Duration) string {
		o.now = func() int64 { return int64(now) }
		return o.problem(DefaultHealth.Window)
	}
}

// MetricNames are the names of all metrics.
func MetricNames() []string { return metricNames }

// LossProblems gives what is said of losses after each part of a window in which so many verdicts of 1,000 were lost.
func LossProblems(c HealthConfig) func(lost uint64) []string {
	s, sum := new(losses), loss{}
	return func(lost uint64) []string {
		sum.records, sum.output = sum.records+1000, sum.output+lost
		said := s.problems(sum, &c)
		s.sample(sum)
		return said
	}
}

// SetDisk puts a file system of a test's in the place of the real one.
func (c *Config) SetDisk(stat func(string) (os.FileInfo, error), open func(string) (io.ReadCloser, error)) {
	c.disk = &disk{stat, open}
}

// PerFlow is what a flow takes, as it was measured.
func (m *Model) PerFlow() time.Duration { return m.perFlow }

// UnderWay is how many loads have not come back, MaxUnderWay how many may be.
func UnderWay() int { return int(underWay.Load()) }

const MaxUnderWay = maxUnderWay

// GoBackTo returns from the model that runs.
func (a *Agent) GoBackTo(m *Model) {
	a.probation.withdrawn.Store(a.Model())
	a.Swap(m)
}

// TrialSample is what a trial looks at.
type TrialSample struct {
	Packets, Lost, Verdicts, Unknown uint64
	Latency                          time.Duration // of 100 verdicts that were decided since the one before
}

// TrialFault is what a trial finds with these samples, one after another; "" where nothing is wrong.
func TrialFault(c ProbationConfig, before TrialSample, after ...TrialSample) (fault string) {
	h := new(hist)
	make := func(t TrialSample) (s sample) {
		s.packets, s.lost, s.verdicts, s.unknown = t.Packets, t.Lost, t.Verdicts, t.Unknown
		if t.Latency > 0 {
			for range 100 {
				h.add(t.Latency)
			}
		}
		s.decision.read(h)
		return s
	}
	t := &trial{before: make(before)}
	for i := range after {
		s := make(after[i])
		if fault == "" {
			fault = t.fault(&s, &c)
		}
		t.add(s)
	}
	return fault
}

// Barred tells whether nothing is done about a model's verdicts.
func (m *Model) Barred() bool { return m.barred.Load() }
