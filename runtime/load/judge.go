package load

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Judge compares the verdicts on a run's flows with what they must be.
type Judge struct {
	script *Script
	sent   *Sent
	seen   []uint8 // verdicts of each flow that was begun
	left   int     // that have not come
	r      Verdicts
	times  []float64 // us, from a flow's last packet to its verdict, where a packet decided: of maxTimes at most, chosen at random
	worst  float64
	random *rand.Rand
	late   time.Duration
}

// maxTimes bounds the times that are kept: the quantiles of so many are those of all, to a hundredth of a percent of the verdicts. One run may have a thousand times as many.
const maxTimes = 1 << 21

// Verdicts is how the verdicts on a run compare with those of the capture at rest. Expected = Right + Different + NotCompared + Lost + Waiting.
type Verdicts struct {
	Expected int `json:"expected"`
	Right    int `json:"right"` // equal labels
	// Different have other labels, DifferentMarked of them are marked as incomplete.
	Different       int `json:"different"`
	DifferentMarked int `json:"different_marked"`
	// NotCompared are there, of flows whose labels depend on addresses or pauses, or of which packets could not be sent.
	NotCompared int `json:"not_compared"`
	Lost        int `json:"lost"`
	// Waiting have not come, nor has the time of the timer that they wait for.
	Waiting int `json:"waiting"`
	// Late came later after the deciding packet than the bound, Timed is how many could be told: those that a packet decided.
	Late  int     `json:"late"`
	Timed int     `json:"timed"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Worst float64 `json:"worst_us"`
	// Extra are second verdicts of a flow, Others those of other traffic.
	Extra  int `json:"extra"`
	Others int `json:"others"`
	// Examples are differences, as text: flow, label at rest, label under load.
	Examples []Difference `json:"examples,omitempty"`
}

// Difference is a flow whose label changed.
type Difference struct {
	Flow string `json:"flow"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

const maxExamples = 5

// NewJudge judges a run; late is when a verdict is late. Expect was called before.
func (s *Script) NewJudge(sent *Sent, late time.Duration) *Judge {
	j := &Judge{script: s, sent: sent, seen: make([]uint8, sent.Flows), late: late, random: rand.New(rand.NewPCG(1, 2))}
	for i := range j.seen {
		j.left += len(s.Flows[i%len(s.Flows)].want)
	}
	return j
}

// Event takes a line of EVE; others than verdicts on the run's flows are passed over.
func (j *Judge) Event(line []byte) {
	var e event
	if !parse(line, &e) {
		return
	}
	n, ok := Instance(e.Src, e.Dst)
	if n -= j.sent.First; !ok || uint64(n) >= uint64(len(j.seen)) {
		j.r.Others++
		return
	}
	f := &j.script.Flows[int(n)%len(j.script.Flows)]
	k := int(j.seen[n])
	if k >= len(f.want) {
		j.r.Extra++
		return
	}
	j.seen[n]++
	j.left--
	if us := e.Says.Latency; us > 0 && byPacket[e.Says.Decided] {
		j.r.Timed++
		if len(j.times) < maxTimes {
			j.times = append(j.times, us)
		} else if k := j.random.IntN(j.r.Timed); k < maxTimes {
			j.times[k] = us
		}
		j.worst = max(j.worst, us)
		if us > float64(j.late.Microseconds()) {
			j.r.Late++
		}
	}
	switch got := e.labels(); {
	case !f.compared || j.sent.FailedFlows[int(n)]:
		j.r.NotCompared++
	case got == f.want[k].Labels:
		j.r.Right++
	default:
		j.r.Different++
		if len(e.Says.Incomplete) > 0 {
			j.r.DifferentMarked++
		}
		if len(j.r.Examples) < maxExamples {
			j.r.Examples = append(j.r.Examples, Difference{f.Key.String(), f.want[k].Labels, got})
		}
	}
}

// byPacket are the reasons of verdicts that a packet brought about.
var byPacket = map[string]bool{"tokens": true, "packets": true, "active": true, "enough": true}

// Verdicts is the comparison so far, a time after the last packet was sent.
func (j *Judge) Verdicts(after time.Duration) Verdicts {
	r := j.r
	for i, have := range j.seen {
		f := &j.script.Flows[i%len(j.script.Flows)]
		r.Expected += len(f.want)
		for _, v := range f.want[have:] {
			switch {
			case j.sent.FailedFlows[i]:
				r.Expected--
			case v.Wait > 0 && after < v.Wait+slack:
				r.Waiting++
			default:
				r.Lost++
			}
		}
	}
	slices.Sort(j.times)
	at := func(q float64) float64 {
		if len(j.times) == 0 {
			return math.NaN()
		}
		return j.times[int(q*float64(len(j.times)-1))]
	}
	r.P50, r.P99, r.Worst = at(0.5), at(0.99), at(1)
	if r.Timed > 0 {
		r.Worst = j.worst
	}
	return r
}

// slack is how much later than its time a timer's verdict may come.
const slack = time.Second

// Wait reads events until all verdicts have come, or a time has passed after the last packet without any coming: none for patience, and those
// of timers that take no longer than timers.
func (j *Judge) Wait(ctx context.Context, events *Events, clock Clock, patience, timers time.Duration) (Verdicts, error) {
	begin := clock.Now()
	came := begin
	need := patience // the longest timer that is waited for
	for i := range j.script.Flows {
		for _, v := range j.script.Flows[i].want {
			if v.Wait <= timers {
				need = max(need, v.Wait+slack)
			}
		}
	}
	for {
		n, err := events.Read(j.Event)
		now := clock.Now()
		if n > 0 {
			came = now
		}
		v := j.Verdicts(now - begin)
		if err != nil || v.Lost+v.Waiting == 0 || ctx.Err() != nil || now-begin > need && now-came > patience {
			return v, err
		}
		clock.Sleep(20 * time.Millisecond)
	}
}
