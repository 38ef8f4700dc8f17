//go:build !purego

package lookup

// No path of this CPU has time-major planes.
func copyRows(rows **int8, n int, dst *int8, step, cols int) { panic("BUG: no assembly") }
