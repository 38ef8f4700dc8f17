//go:build linux

package privilege

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Status is what the kernel says of a thread's rights.
type Status struct {
	Effective, Permitted, Inheritable, Ambient, Bounding uint64 // sets of capabilities, by number
	NoNewPrivs                                           bool
	Seccomp                                              int // 0: none, 2: filters
}

// Threads are the threads of a process; none where it can't be looked at, or is gone.
func Threads(pid int) (all []Status) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		all = append(all, parseStatus(string(text)))
	}
	return all
}

func parseStatus(text string) (s Status) {
	sets := map[string]*uint64{"CapEff": &s.Effective, "CapPrm": &s.Permitted, "CapInh": &s.Inheritable, "CapAmb": &s.Ambient, "CapBnd": &s.Bounding}
	for line := range strings.Lines(text) {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if set := sets[field]; set != nil {
			*set, _ = strconv.ParseUint(value, 16, 64)
		}
		switch field {
		case "NoNewPrivs":
			s.NoNewPrivs = value == "1"
		case "Seccomp":
			s.Seccomp, _ = strconv.Atoi(value)
		}
	}
	return s
}
