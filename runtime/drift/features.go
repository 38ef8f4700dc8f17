package drift

import (
	"math/bits"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// A feature puts flows into bins. What the bins of a name mean never changes within a bundle.TrafficVersion; a new
// feature is a new row, which bundles without it do not have.
type feature struct {
	name, what string
	bins       int
	// of is a flow's bin, -1 where it is not known; length is that of the program's input.
	of func(r *verdict.Record, length int) int
	// cause, of a feature of two bins, is what it is called where more flows than then are in the second; see Cause.
	cause string
}

// Bounds of bins.
const (
	packetBins = 16 // of one packet each; the last has all more
	octaves    = 17 // of sizes: powers of two
	shares     = 16 // of numbers from 0 to 1
	mtu        = 1500
)

// features are of the flow itself.
var features = []feature{
	{name: "tokens", what: "valid tokens, as a share of the input's length", bins: shares, of: func(r *verdict.Record, length int) int {
		return min(r.Valid*shares/(length+1), shares-1)
	}},
	{name: "packets", what: "packets up to the verdict", bins: packetBins, of: seen(func(r *verdict.Record) int {
		return int(min(r.Packets[0]+r.Packets[1]-1, packetBins-1))
	})},
	{name: "answers", what: "share of packets against the flow's direction", bins: shares, of: seen(func(r *verdict.Record) int {
		return int(r.Packets[1] * shares / (r.Packets[0] + r.Packets[1] + 1))
	})},
	{name: "size", what: "IP bytes per packet", bins: octaves, of: seen(func(r *verdict.Record) int {
		return octave((r.Bytes[0] + r.Bytes[1]) / (r.Packets[0] + r.Packets[1]))
	})},
	{name: "payload", what: "bytes of payload in the tokens", bins: octaves, of: seen(func(r *verdict.Record) int { return octave(uint64(r.Payload)) })},
	{name: "one_sided", what: "TCP connections of which one side only was seen", bins: 2, of: marked(flow.MarkOneSided),
		cause: "one-sided traffic: the other direction's packets don't come here"},
	{name: "cut", what: "flows of which the capture holds less than the contract takes", bins: 2, of: marked(flow.MarkCut),
		cause: "cut packets: the capture's snapshot length is below what the contract takes"},
	{name: "lost", what: "flows whose beginning, or bytes, are missing", bins: 2, of: marked(flow.MarkLost),
		cause: "lost packets: dropped on the way here, or captured from the middle on"},
	{name: "merged", what: "flows with packets above 1500 bytes", bins: 2, of: measured(func(r *verdict.Record) int { return bit(r.Largest > mtu) }),
		cause: "packets above 1500 bytes: merged on the way (GRO, LRO, TSO), unless the network has jumbo frames"},
	{name: "repeated", what: "flows with packets that carry nothing new, of those that are not cut", bins: 2, of: measured(func(r *verdict.Record) int {
		if r.Marks&flow.MarkCut != 0 {
			return -1 // what was cut off told them apart
		}
		return bit(r.Repeats > 0)
	}),
		cause: "duplicates: packets seen twice (two mirror ports), or retransmissions"},
}

// seen is a feature of what is known of a flow from packets only.
func seen(of func(*verdict.Record) int) func(*verdict.Record, int) int {
	return func(r *verdict.Record, _ int) int {
		if r.Packets[0]+r.Packets[1] == 0 {
			return -1
		}
		return of(r)
	}
}

// measured is one of what older token sets don't have.
func measured(of func(*verdict.Record) int) func(*verdict.Record, int) int {
	return func(r *verdict.Record, _ int) int {
		if r.Largest == 0 {
			return -1
		}
		return of(r)
	}
}

func marked(m flow.Marks) func(*verdict.Record, int) int {
	return seen(func(r *verdict.Record) int { return bit(r.Marks&m != 0) })
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// octave is 0 for 0, and one more than the binary logarithm of others.
func octave(n uint64) int { return min(bits.Len64(n), octaves-1) }

// share is the bin of a number from 0 to 1. Scores are integers over 2^24: the product is exact.
func share(x float64) int { return max(0, min(int(x*shares), shares-1)) }

// An outputFeature puts one output's verdicts into bins.
type outputFeature struct {
	name, what string
	// fits tells which outputs have it; bins is how many there are of a number of labels.
	fits func(bundle.OutputKind) bool
	bins func(labels int) int
	// fitted: it was made from the calibration's flows themselves, which so look nearer than any others of their kind.
	fitted bool
	// add counts a verdict.
	add func(v *verdict.Verdict, counts []uint64)
}

func oneLabel(k bundle.OutputKind) bool { return k == bundle.KindClasses || k == bundle.KindBinary }

// outputFeatures are of each output.
var outputFeatures = []outputFeature{
	{name: "score", what: "probability of the verdict", fits: oneLabel, bins: func(int) int { return shares },
		add: func(v *verdict.Verdict, counts []uint64) { counts[share(v.Score)]++ }},
	{name: "belonging", what: "share of known flows that lie as far out", fits: oneLabel, fitted: true, bins: func(int) int { return shares },
		add: func(v *verdict.Verdict, counts []uint64) {
			if v.Placed {
				counts[share(v.Belonging)]++
			}
		}},
	{name: labelFeature, what: "the best class, whatever its score; each of several labels by itself, the last bin none",
		fits: func(k bundle.OutputKind) bool { return k != bundle.KindValues }, bins: func(labels int) int { return labels + 1 },
		add: func(v *verdict.Verdict, counts []uint64) {
			switch {
			case !v.Multi:
				counts[v.Class]++
			case len(v.Given) == 0:
				counts[len(counts)-1]++
			default:
				for i := range v.Given {
					counts[v.Given[i].Class]++
				}
			}
		}},
}

const labelFeature = "label"

// Names lists the features, each with what it counts.
func Names() (list [][2]string) {
	for i := range features {
		list = append(list, [2]string{features[i].name, features[i].what})
	}
	for i := range outputFeatures {
		list = append(list, [2]string{outputFeatures[i].name, outputFeatures[i].what})
	}
	return list
}

// What says in words what a feature counts.
func What(name string) string {
	for _, f := range Names() {
		if f[0] == name {
			return f[1]
		}
	}
	return ""
}

// Cause says in words what a feature is the cause of where it has grown; empty for those that are none.
func Cause(name string) string {
	for i := range features {
		if features[i].name == name {
			return features[i].cause
		}
	}
	return ""
}
