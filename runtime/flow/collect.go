package flow

import (
	"slices"
	"sort"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// Sample is a flow that was read to its verdict: what calibration, verification
// and tests work on.
type Sample struct {
	Key            Key // direction of the first packet
	First, Last    int64
	Packets, Bytes [2]uint64
	Reason         Reason
	Marks          Marks
	Payload        int
	Tokens         []int32
	Valid          int
}

// Collect reads all flows of a source, in the order of their first packets.
// Where the source ends with an error, the flows up to there come with it.
func Collect(src capture.Source, c traffic.Contract) ([]Sample, *Counters, error) {
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		return nil, nil, err
	}
	return CollectAll(src, Options{Encoder: enc})
}

// CollectAll is Collect for a table of any options; Ready is its own.
func CollectAll(src capture.Source, opt Options) ([]Sample, *Counters, error) {
	return CollectAs(src, opt, func(f *Flow) Sample {
		return Sample{
			Key: f.Key, First: f.First, Last: f.Last, Packets: f.Packets, Bytes: f.Bytes,
			Reason: f.Reason, Marks: f.Marks, Payload: f.Payload, Tokens: slices.Clone(f.Tokens), Valid: f.Valid,
		}
	})
}

// CollectAs is CollectAll with what as makes of each flow, which it must not keep.
func CollectAs[T any](src capture.Source, opt Options, as func(f *Flow) T) ([]T, *Counters, error) {
	var c collected[T]
	opt.Ready = func(f *Flow) { c.seq, c.made = append(c.seq, f.Seq), append(c.made, as(f)) }
	in, err := NewInput(opt)
	if err != nil {
		return nil, nil, err
	}
	err = in.Run(src)
	sort.Sort(&c)
	return c.made, in.Counters(), err
}

// collected is sorted by the numbers of the flows, in place: there may be many.
type collected[T any] struct {
	seq  []uint64
	made []T
}

func (c *collected[T]) Len() int           { return len(c.seq) }
func (c *collected[T]) Less(i, j int) bool { return c.seq[i] < c.seq[j] }
func (c *collected[T]) Swap(i, j int) {
	c.seq[i], c.seq[j] = c.seq[j], c.seq[i]
	c.made[i], c.made[j] = c.made[j], c.made[i]
}
