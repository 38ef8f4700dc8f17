// Package roc says how well a number tells two kinds of samples apart.
package roc

import (
	"cmp"
	"slices"
)

// AUROC is the area under the receiver operating characteristic: how often a foreign sample has a larger distance than a known one,
// an equal one counting half (Mann and Whitney's U). 0 where one of them has no samples.
func AUROC(known, foreign []int64) float64 {
	if len(known) == 0 || len(foreign) == 0 {
		return 0
	}
	k := slices.Sorted(slices.Values(known))
	twice := 0 // pairs in the right order, twice
	for _, f := range foreign {
		below, _ := slices.BinarySearch(k, f)
		upTo, _ := slices.BinarySearchFunc(k, f, func(x, f int64) int { // the first above f
			if x <= f {
				return -1
			}
			return cmp.Compare(x, f)
		})
		twice += below + upTo
	}
	return float64(twice) / 2 / float64(len(known)) / float64(len(foreign))
}

// FalsePass is the share of foreign samples that pass the least bound that passes a share of the known ones: with 0.95 what is
// called the false positive rate at 95 % true positives. 0 where one of them has no samples.
func FalsePass(known, foreign []int64, share float64) float64 {
	if len(known) == 0 || len(foreign) == 0 {
		return 0
	}
	k := slices.Sorted(slices.Values(known))
	at := 0
	for float64(at+1) < share*float64(len(k)) {
		at++
	}
	n := 0
	for _, f := range foreign {
		if f <= k[at] {
			n++
		}
	}
	return float64(n) / float64(len(foreign))
}
