//go:build linux

package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Rights in a folder whose files are read, and of one whose files are written: appended to, replaced by another that is renamed, removed. Folders are read where a
// rename is made lasting.
const (
	readRights   = ll.AccessFSReadFile
	writeRights  = ll.AccessFSReadFile | ll.AccessFSReadDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSRemoveFile
	deviceRights = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
)

// LandlockABI is the version of landlock that this kernel has, 0 where it has none.
func LandlockABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return v
}

// LandlockLacks is what a version of landlock does not restrict of what is asked of it.
func LandlockLacks(abi int) string {
	var s []string
	for _, l := range []struct {
		from int
		what string
	}{
		{3, "truncation of files (from Linux 6.2 on)"},
		{4, "TCP (6.7)"},
		{6, "signals and abstract sockets (6.12)"},
	} {
		if abi < l.from {
			s = append(s, l.what)
		}
	}
	return strings.Join(s, ", ")
}

// folder is where a file's name stands, which is what has to be open to us where files are replaced.
func folder(name string) string {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return name
	}
	return parent(name)
}

// parent is a name without its last element. Dir would cut a/.. too, where a may be a link.
func parent(name string) string {
	switch i := strings.LastIndexByte(name, '/'); i {
	case -1:
		return "."
	case 0:
		return "/"
	default:
		return name[:i]
	}
}

// folders are those of a file's name and of what that is a link to.
func folders(name string) []string {
	all := []string{folder(name)}
	for range 40 { // links, as the kernel
		to, err := os.Readlink(name)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = parent(name) + "/" + to
		}
		name = to
		all = append(all, folder(name))
	}
	return all
}

// wide says which files lie in folders of the system that hold much else, all of which stays open with them: / and those in it, such as /etc.
func wide(paths []Path) (list []string) {
	for _, p := range paths {
		info, err := os.Stat(p.Name)
		if p.Socket || err == nil && info.Mode()&fs.ModeDevice != 0 {
			continue
		}
		for _, at := range folders(p.Name) {
			at, err := filepath.Abs(at)
			if err == nil && strings.Count(strings.TrimSuffix(at, "/"), "/") < 2 {
				list = append(list, fmt.Sprintf("%s: %s lies in %s, and all that is in there stays open to this process: put it into a folder of its own", p.For, p.Name, at))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// restrictFiles leaves the files that are needed. The right is to a folder, since whoever replaces a file makes another one of its name.
func restrictFiles(n *Needs) (says, lacks string, err error) {
	abi := LandlockABI()
	if abi == 0 {
		return "", "", errors.New("this kernel has none (from Linux 5.13 on, where lsm= at boot has it)")
	}
	var rules []landlock.Rule
	var where [3][]string
	for _, p := range n.Paths {
		rights, kind, at := landlock.AccessFSSet(readRights), 0, folders(p.Name)
		switch info, err := os.Stat(p.Name); {
		case p.Socket:
			rights, kind = ll.AccessFSResolveUnix, 2
		case err == nil && info.Mode()&fs.ModeDevice != 0: // nobody replaces it
			rights, kind, at = deviceRights, 1, []string{p.Name}
		case p.Write:
			rights, kind = writeRights, 1
		}
		rules = append(rules, landlock.PathAccess(rights, at...).IgnoreIfMissing())
		where[kind] = append(where[kind], at...)
	}
	c := landlock.V9
	if strings.HasPrefix(os.Getenv("NOTIFY_SOCKET"), "@") {
		c.Scoped = ll.ScopeSignal // systemd's socket is an abstract one, which can't be named
	}
	if err := c.BestEffort().Restrict(rules...); err != nil {
		return "", "", err
	}
	leave(slices.Concat(where[:]...))
	for i, what := range []string{"reads in ", "writes in ", "connects to sockets in "} {
		if len(where[i]) > 0 {
			says += "; " + what + list(where[i], func(s string) string { return s })
		}
	}
	return fmt.Sprintf("version %d%s", abi, says), LandlockLacks(abi), nil
}
