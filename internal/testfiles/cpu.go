package testfiles

import (
	"syscall"
	"time"
)

// CPUTime is the processor time that the process has used, all threads
// together: what benchmarks divide by on a machine that others use, too.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
