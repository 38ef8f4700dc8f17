package agent

import "time"

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

// SetLoadTimeout makes LoadTimeout shorter for an agent.
func (a *Agent) SetLoadTimeout(d time.Duration) { a.loadTimeout = d }
