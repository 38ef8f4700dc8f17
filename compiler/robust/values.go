package robust

import (
	"math/rand/v2"
	"slices"
	"sync"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// values says which tokens stand for bytes, and what those can become.
type values struct {
	list  []int32 // ids of bytes, where they are not a run
	from  int32
	n     int32 // how many ids there are
	known bool  // a contract says so
}

// newValues asks the bundle's contract; without one, every id can stand anywhere.
func newValues(b *bundle.Bundle) (*values, error) {
	v := &values{n: int32(b.Program.Vocab)}
	if b.Manifest.Contract.YAML == "" {
		return v, nil
	}
	c, err := classify.Contract(b)
	if err != nil {
		return nil, err
	}
	v.known, v.from, v.n = true, int32(c.ValueOffset), 1<<(8*c.TokenBytes)
	for _, id := range c.ByteIDs {
		v.list = append(v.list, int32(id))
	}
	return v, nil
}

// byte tells that a token stands for bytes.
func (v *values) byte(token int32) bool {
	if v.list != nil {
		return slices.Contains(v.list, token)
	}
	return token >= v.from && token < v.from+v.n
}

// open are the positions of an input that hold bytes.
func (v *values) open(in *calibrate.Input) (at []int) {
	for i, t := range in.Tokens[:in.Valid] {
		if v.byte(t) {
			at = append(at, i)
		}
	}
	return at
}

// other draws another value.
func (v *values) other(token int32, rng *rand.Rand) int32 {
	for {
		t := v.from + rng.Int32N(v.n)
		if v.list != nil {
			t = v.list[rng.IntN(len(v.list))]
		}
		if t != token || v.n < 2 {
			return t
		}
	}
}

// blank is the value of bytes that are 0, or, where they are 0 already, 255.
func (v *values) blank(token int32) int32 {
	zero, full := v.from, v.from+v.n-1
	if v.list != nil {
		zero, full = v.list[0], v.list[255]
	}
	if token == zero {
		return full
	}
	return zero
}

// counter tells how far several workers have come.
type counter struct {
	sync.Mutex
	n int
}

func (c *counter) tell(progress func(done, total int), total int) {
	c.Lock()
	defer c.Unlock()
	if c.n++; progress != nil {
		progress(c.n, total)
	}
}
