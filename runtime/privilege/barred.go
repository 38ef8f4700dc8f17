//go:build linux

package privilege

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
)

// left are the folders and devices that landlock has left to this process, as they were at that time: a name may lead elsewhere later.
var left atomic.Pointer[[]os.FileInfo]

// leave notes what is left. What is not there yet stays closed when it comes.
func leave(names []string) {
	var all []os.FileInfo
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			all = append(all, info)
		}
	}
	left.Store(&all)
}

// Barred says why landlock keeps this process from what a name leads to now: a link of its path has been pointed elsewhere since Restrict, or a folder replaced by another. It
// is empty where that isn't so.
func Barred(name string) string {
	open := left.Load()
	if open == nil {
		return ""
	}
	isLeft := func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && slices.ContainsFunc(*open, func(o os.FileInfo) bool { return os.SameFile(info, o) })
	}
	if isLeft(name) {
		return ""
	}
	all := folders(name) // the last is where links lead to, be there a file or not
	to, err := filepath.EvalSymlinks(all[len(all)-1])
	if err == nil {
		to, err = filepath.Abs(to)
	}
	if err != nil {
		return ""
	}
	for at := to; ; at = filepath.Dir(at) {
		if isLeft(at) {
			return ""
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	return fmt.Sprintf("it leads into %s now, another folder than at the start, which landlock keeps this process out of: restart the agent", to)
}
