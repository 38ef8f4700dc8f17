//go:build linux

package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// calls are the system calls that stay, by what they are for. Names are those of either architecture: where one has none of a name, it
// has another call for the same (poll, ppoll).
var calls = []struct {
	what  string
	names string
}{
	{"the Go runtime: threads, signals, memory, time",
		"clone futex gettid getpid tgkill kill rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall sched_yield sched_getaffinity " +
			"mmap munmap mprotect madvise prctl nanosleep clock_nanosleep clock_gettime gettimeofday getrandom getrusage exit exit_group"},
	{"descriptors, and waiting for them",
		"read write readv writev pread64 pwrite64 lseek close fcntl fstat ioctl poll ppoll epoll_create1 epoll_ctl epoll_pwait eventfd2 pipe2"},
	{"files, as far as landlock lets them: bundle, keys, output, state, kept flows",
		"openat newfstatat fstatat stat lstat readlinkat faccessat faccessat2 ftruncate fsync fdatasync fchmod fchmodat renameat renameat2 unlinkat getdents64 fstatfs"},
	{"sockets that are open: packets and their counts, readers of metrics",
		"accept4 getsockname getpeername getsockopt setsockopt recvfrom shutdown"},
}

// intruders are calls that nothing here makes: who does has taken the process over.
var intruders = "execve execveat ptrace process_vm_readv process_vm_writev init_module finit_module delete_module kexec_load kexec_file_load bpf perf_event_open userfaultfd " +
	"io_uring_setup memfd_create mount umount2 pivot_root chroot setns unshare keyctl add_key request_key personality setuid setgid setreuid setresuid"

// limits hold one argument of a call to some values, or to values without some bits.
type limit struct {
	call     string
	argument uint32
	values   []uint64 // it is one of them
	without  uint64   // none of these bits is set
	with     uint64   // one of these bits is set
}

func limits(n *Needs) []limit {
	self := uint64(os.Getpid())
	l := []limit{
		{call: "mmap", argument: 2, without: unix.PROT_EXEC},
		{call: "mprotect", argument: 2, without: unix.PROT_EXEC},
		{call: "clone", argument: 0, with: unix.CLONE_THREAD}, // no process
		{call: "prctl", argument: 0, values: []uint64{unix.PR_SET_VMA}},
		{call: "tgkill", argument: 0, values: []uint64{self}},
		{call: "kill", argument: 0, values: []uint64{self}},
		// Of sockets and of TCP, such as Go's net sets for each reader; not of packets, which could be had from other interfaces.
		{call: "setsockopt", argument: 1, values: []uint64{unix.SOL_SOCKET, unix.IPPROTO_TCP}},
		{call: "ioctl", argument: 1, values: append([]uint64{unix.SIOCGIFFLAGS, unix.SIOCGIFINDEX}, n.Ioctls...)},
	}
	if len(n.Sockets) > 0 {
		var families []uint64
		for _, f := range n.Sockets {
			families = append(families, uint64(f))
		}
		l = append(l, limit{call: "socket", argument: 0, values: families})
	}
	return l
}

// socketCalls come with Needs.Sockets; what is connected is read and written as files are. Calls that take an address would let packet sockets that are open be bound to
// other interfaces, and send from them, for which the kernel asks no rights.
const socketCalls = "socket connect"

// condition are what makes a call one that the limit refuses: all of them.
func (l *limit) conditions() (all []seccomp.Condition) {
	add := func(op seccomp.Operation, v uint64) {
		all = append(all, seccomp.Condition{Argument: l.argument, Operation: op, Value: v})
	}
	for _, v := range l.values {
		add(seccomp.NotEqual, v)
	}
	if l.without != 0 {
		add(seccomp.BitsSet, l.without)
	}
	if l.with != 0 {
		add(seccomp.BitsNotSet, l.with)
	}
	return all
}

// known are the names that this architecture has.
func known(names string, a *arch.Info) (list []string) {
	for name := range strings.FieldsSeq(names) {
		if _, ok := a.SyscallNames[name]; ok && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// filters are what the kernel is given, in this order; of what they say about a call the strictest holds. Each limit is a filter of its own: within one, the library
// would compare the calls that follow with the argument that it has loaded in place of the call's number.
func filters(n *Needs, a *arch.Info) ([]seccomp.Policy, error) {
	allowed := libraryCalls + " " + strings.Join(n.Calls, " ")
	for _, c := range calls {
		allowed += " " + c.names
	}
	if len(n.Sockets) > 0 {
		allowed += " " + socketCalls
	}
	for _, name := range n.Calls {
		if len(known(name, a)) == 0 {
			return nil, fmt.Errorf("no system call %q here", name)
		}
	}
	var all []seccomp.Policy
	for _, l := range limits(n) {
		all = append(all, seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno, NamesWithCondtions: []seccomp.NameWithConditions{{Name: l.call, Conditions: l.conditions()}}}},
		})
	}
	// The last one has no seccomp: nothing is loaded after it. clone3, whose flags no filter sees, is answered as a kernel without it does, so that C libraries take clone.
	return append(all,
		seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{{Action: seccomp.ActionKillProcess, Names: known(intruders, a)}}},
		seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: known(allowed, a)},
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		}},
	), nil
}

// HasSeccomp tells whether this kernel has filters of system calls.
func HasSeccomp() bool { return seccomp.Supported() }

// filterCalls loads the filters into every thread.
func filterCalls(n *Needs) (says, lacks string, err error) {
	a, err := arch.GetInfo("")
	if err != nil {
		return "", "", fmt.Errorf("there is no list of system calls for this processor: %w", err)
	}
	if !HasSeccomp() {
		return "", "", errors.New("this kernel has none (CONFIG_SECCOMP_FILTER)")
	}
	all, err := filters(n, a)
	if err != nil {
		return "", "", err
	}
	for _, p := range all {
		if err := seccomp.LoadFilter(seccomp.Filter{Flag: seccomp.FilterFlagTSync | seccomp.FilterFlagLog, Policy: p}); err != nil {
			return "", "", err
		}
	}
	last := all[len(all)-1].Syscalls[0].Names
	return fmt.Sprintf("%d system calls", len(last)), "", nil
}
