//go:build linux

// Package privilege takes from the running process what it no longer needs, once its sockets are open: capabilities, system
// calls, files. What is left is what Needs names, whoever started the process and however: by a unit of systemd or as root by hand.
//
// In this order, since each step needs what a later one takes:
//
//	no_new_privs   no program that is started could gain rights (prctl(2))
//	landlock       files: only those of Needs.Paths; TCP: nothing is bound or connected to; signals and abstract sockets: none to others (landlock(7))
//	capabilities   effective, permitted, inheritable, ambient and bounding set: only Needs.Capabilities (capabilities(7))
//	seccomp        system calls: a list, see calls.go; some of their arguments are held to what is asked for (seccomp(2))
//
// All of it holds for every thread, those that run already too, and can't be undone. A system call that isn't on the list gives EPERM, and its
// number goes to the kernel's log; one that only an intruder makes (execve, ptrace, bpf and others) ends the process at once by SIGSYS. Ending it at each
// call that isn't listed would make a rare path of the Go runtime, or of another kernel, an outage.
//
// What is still possible to who takes the process over: to read and write the files of Needs.Paths, to use the sockets and files that are open (so to send frames from
// the interface that is captured from; with the call sendmsg, which rules need, from others, too), and to take this process's processor time and memory.
//
// The package imports nothing of the project.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Needs is what a process still has to do after Restrict. Each part of a program says its own, and Add joins them.
type Needs struct {
	// Capabilities that are kept, such as unix.CAP_NET_ADMIN.
	Capabilities []int
	Paths        []Path
	// Sockets are the address families of sockets that are still to be made, such as unix.AF_UNIX.
	Sockets []int
	// Calls are further system calls by name, Ioctls further requests of ioctl.
	Calls  []string
	Ioctls []uint64
}

// Path is a file that is used later.
type Path struct {
	For   string // what it is, for messages
	Name  string
	Write bool // written and replaced, too; else read only
	// Socket: it is a unix socket that is connected to.
	Socket bool
}

// Add joins what another part needs.
func (n *Needs) Add(m Needs) {
	n.Capabilities = append(n.Capabilities, m.Capabilities...)
	n.Paths = append(n.Paths, m.Paths...)
	n.Sockets = append(n.Sockets, m.Sockets...)
	n.Calls = append(n.Calls, m.Calls...)
	n.Ioctls = append(n.Ioctls, m.Ioctls...)
}

// Config says which parts are used.
type Config struct {
	Capabilities bool `yaml:"capabilities"`
	Seccomp      bool `yaml:"seccomp"`
	Landlock     bool `yaml:"landlock"`
	// Require makes it an error that a part does not hold; else it is said.
	Require bool `yaml:"require"`
}

// Default is all that there is, as far as the system has it.
var Default = Config{Capabilities: true, Seccomp: true, Landlock: true}

// Validate refuses to require what is switched off.
func (c *Config) Validate() error {
	if c.Require && !(c.Capabilities && c.Seccomp && c.Landlock) {
		return errors.New("require: goes with capabilities, seccomp and landlock, none of them off")
	}
	return nil
}

// Part is what became of one part.
type Part struct {
	Name string
	// Held: it restricts the process. Otherwise Off says that it was not asked for, or Err why it does not.
	Held, Off bool
	Err       error
	// Says is what is left, in words.
	Says string
	// Lacks is what this kernel does not restrict though the part holds; empty where nothing is missing.
	Lacks string
}

// Report is what Restrict has done.
type Report struct {
	Parts []Part
	// Warnings are what will not work with the rights that are left, and works still.
	Warnings []string
}

// Restrict restricts the process to what it needs. Where a part is off, or the system lacks it, the others are used all the same and the report says so; with
// Require that is an error.
func Restrict(c Config, n Needs) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// Read on first use, from a file that may be out of reach then.
	_, _ = time.Now().Zone()
	r := &Report{}
	var errs []error
	for _, p := range []struct {
		name string
		on   bool
		do   func(*Needs) (says, lacks string, err error)
	}{
		{"landlock", c.Landlock, restrictFiles},
		{"capabilities", c.Capabilities, dropCapabilities},
		{"seccomp", c.Seccomp, filterCalls},
	} {
		part := Part{Name: p.name, Off: !p.on}
		if p.on {
			part.Err = noNewPrivileges()
			if part.Err == nil {
				part.Says, part.Lacks, part.Err = p.do(&n)
			}
			part.Held = part.Err == nil
			if part.Err != nil && c.Require {
				errs = append(errs, fmt.Errorf("%s: %w", p.name, part.Err))
			}
		}
		r.Parts = append(r.Parts, part)
	}
	r.Warnings = unreachable(n.Paths)
	if r.Parts[0].Held {
		r.Warnings = append(r.Warnings, wide(n.Paths)...)
	}
	return r, errors.Join(errs...)
}

// noNewPrivileges keeps programs that are started from gaining rights; seccomp and landlock want it of processes without rights.
func noNewPrivileges() error {
	return everyThread("prctl PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}

// everyThread makes a system call in every thread.
func everyThread(what string, call, a, b, c uintptr) error {
	if _, _, errno := psx.Syscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}

// unreachable says which files the process can't use with the rights that are left: root without capabilities is bound by modes as everybody.
func unreachable(paths []Path) (list []string) {
	for _, p := range paths {
		var err error
		what := "read"
		switch {
		case p.Socket:
			what = "connected to"
			if err = unix.Access(p.Name, unix.W_OK); errors.Is(err, unix.ENOENT) {
				err = nil // not there yet
			}
		case p.Write:
			what = "replaced"
			err = writable(p.Name)
		default:
			if err = unix.Access(p.Name, unix.R_OK); errors.Is(err, unix.ENOENT) {
				err = nil
			}
		}
		if err != nil {
			list = append(list, fmt.Sprintf("%s: %s can no longer be %s (%v): this process is bound by modes now, root too: put it into a folder of this user's, or let others in (chmod o+rx)", p.For, p.Name, what, err))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// writable tells whether a file can be replaced, or a device or pipe written to.
func writable(name string) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return unix.Access(name, unix.W_OK)
	}
	return unix.Access(folder(name), unix.W_OK|unix.X_OK)
}

// list joins names.
func list[T any](all []T, name func(T) string) string {
	var s []string
	for _, v := range all {
		s = append(s, name(v))
	}
	slices.Sort(s)
	return strings.Join(slices.Compact(s), " ")
}
