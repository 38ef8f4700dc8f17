// Package pool reduces positions: over a whole sequence, over its valid
// prefix, or over a sliding window, in time-major rows or in planes.
package pool

//go:generate go run ../internal/armgen -kernel pool -o pool_arm64.s -go decl_arm64.go

import (
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
	"nepcoc/runtime/internal/kernels/rescale"
)

// What kernels do at a time; the last vector of a row overlaps the one before it.
const (
	lanes8   = 16
	lanes16  = 8
	lanesSum = 8
)

// Max is the maximum of each channel over the rows of x, of which there is at
// least one.
func Max[T rescale.Int](path cpu.Path, dst, x []T) {
	Windows(path, dst, x, len(dst), len(x)/len(dst), 0)
}

// Windows are the maxima of each of cols channels over windows of rows rows, of which each begins step rows after the one before it:
// as many as dst has rows.
func Windows[T rescale.Int](path cpu.Path, dst, x []T, cols, rows, step int) {
	count := len(dst) / cols
	if count == 0 {
		return
	}
	x = x[:((count-1)*step+rows)*cols]
	switch d := any(dst).(type) {
	case []int8:
		if has(path) && cols >= lanes8 {
			max8(path, d, any(x).([]int8), cols, rows, count, step*cols)
			return
		}
	case []int16:
		if has(path) && cols >= lanes16 {
			max16(path, d, any(x).([]int16), cols, rows, count, step*cols)
			return
		}
	}
	for ; len(dst) > 0; dst = dst[cols:] {
		d := dst[:cols]
		copy(d, x)
		for r := 1; r < rows; r++ {
			for c, v := range x[r*cols:][:cols] {
				d[c] = max(d[c], v)
			}
		}
		x = x[min(step*cols, len(x)):]
	}
}

// Sum is the sum of each channel over the rows of x.
func Sum[T rescale.Int](path cpu.Path, dst []int64, x []T) {
	// Sums of so few numbers fit 32 bits.
	if rows := len(x) / max(1, len(dst)); has(path) && len(dst) >= lanesSum {
		switch x := any(x).(type) {
		case []int8:
			if rows < 1<<20 {
				sum8(path, dst, x)
				return
			}
		case []int16:
			if rows < 1<<15 {
				sum16(path, dst, x)
				return
			}
		}
	}
	clear(dst)
	for n := len(dst); len(x) >= n; x = x[n:] {
		for c, v := range x[:n] {
			dst[c] += int64(v)
		}
	}
}

// PlaneMax is Max over the first rows positions of a plane of path's form, whose channels are those of dst.
func PlaneMax(path cpu.Path, dst []int8, p *plane.Plane, rows int) {
	if plane.TimeMajor(path) {
		Max(path, dst, p.Rows(rows))
		return
	}
	for c := range dst {
		row := planeRow(p, c, rows)
		m := row[0] ^ p.Flip
		for _, v := range row {
			m = max(m, v^p.Flip)
		}
		dst[c] = m
	}
}

// PlaneSum is Sum over the first rows positions of such a plane.
func PlaneSum(path cpu.Path, dst []int64, p *plane.Plane, rows int) {
	if plane.TimeMajor(path) {
		Sum(path, dst, p.Rows(rows))
		return
	}
	for c := range dst {
		var sum int64
		for _, v := range planeRow(p, c, rows) {
			sum += int64(v ^ p.Flip)
		}
		dst[c] = sum
	}
}

func planeRow(p *plane.Plane, c, rows int) []int8 { return p.Data[p.Index(c, 0):][:rows] }
