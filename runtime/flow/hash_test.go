package flow_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/flow"
)

// chosen makes keys as one would who has read the code: addresses that differ in one word only, and in words
// that made products of earlier hashes vanish.
func chosen(n int, v6 bool) []flow.Key {
	keys := make([]flow.Key, n)
	for i := range keys {
		k := &keys[i]
		k.Proto, k.V6, k.SrcPort, k.DstPort = 6, v6, 1000, 443
		if v6 {
			binary.LittleEndian.PutUint64(k.Dst[:], 0xe7037ed1a0b428db)
			binary.LittleEndian.PutUint64(k.Src[:], uint64(i)<<32)
			binary.LittleEndian.PutUint64(k.Dst[8:], 0xe7037ed1a0b428db)
		} else {
			binary.LittleEndian.PutUint32(k.Src[:], uint32(i)<<8)
		}
	}
	return keys
}

// 100,000 keys, chosen or drawn, fill the buckets of a table alike: the chains that lookups go through have
// the length of random ones.
func TestHashOfChosenKeys(t *testing.T) {
	const n, buckets = 100_000, 1 << 17
	work := func(keys []flow.Key) float64 {
		seed, count := flow.NewSeed(), make([]int, buckets)
		for i := range keys {
			c, _ := keys[i].Canonical()
			count[c.Hash(seed)%buckets]++
		}
		sum := 0
		for _, k := range count {
			sum += k * k // looking all of them up
		}
		return float64(sum) / n
	}
	for _, v6 := range []bool{false, true} {
		random := chosen(n, v6)
		for i := range random {
			binary.LittleEndian.PutUint32(random[i].Src[:], rand.Uint32())
			random[i].SrcPort = uint16(rand.Uint32())
		}
		a, b := work(chosen(n, v6)), work(random)
		if a > 1.1*b {
			t.Errorf("IPv6 %v: %.2f entries per lookup of chosen keys, %.2f of random ones", v6, a, b)
		}
		t.Logf("IPv6 %v: %.3f chosen, %.3f random", v6, a, b)
	}
}

func BenchmarkHash(b *testing.B) {
	seed := flow.NewSeed()
	for _, v6 := range []bool{false, true} {
		keys := chosen(1024, v6)
		b.Run(map[bool]string{false: "v4", true: "v6"}[v6], func(b *testing.B) {
			i := 0
			for b.Loop() {
				keys[i&1023].Hash(seed)
				i++
			}
		})
	}
}
