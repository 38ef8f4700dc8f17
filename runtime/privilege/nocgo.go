//go:build linux && !cgo

package privilege

// libraryCalls are those of the C library, which this program has none of.
const libraryCalls = ""
