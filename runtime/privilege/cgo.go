//go:build linux && cgo

package privilege

// libraryCalls are those of the C library, which makes the threads and has the memory of a program built with cgo.
const libraryCalls = "set_robust_list rseq brk mremap"
