//go:build linux

package privilege_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/privilege"
)

// asChild names what a process of its own does: a restricted process stays one.
const asChild = "NEPCOC_TEST_PRIVILEGE"

func TestMain(m *testing.M) {
	if what := os.Getenv(asChild); what != "" {
		child(what)
	}
	os.Exit(m.Run())
}

// order is what a child is told, answer what it says: of each thing that it tried the error, "" where it could.
type order struct {
	Config  privilege.Config
	Needs   privilege.Needs
	Dir     string // holds in (read), out (written), not (neither)
	Missing string // a part that the kernel shall seem to lack
	Only    string // the one thing to try
}

type answer struct {
	Error    string
	Parts    []privilege.Part
	Warnings []string
	Tried    map[string]string
	threads  []privilege.Status
}

// said is an error as text.
func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func child(what string) {
	var o order
	if err := json.Unmarshal([]byte(what), &o); err != nil {
		panic(err)
	}
	var a answer
	// Threads that wait in the kernel when the process is restricted.
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	for range 4 {
		go func() {
			runtime.LockOSThread()
			var b [1]byte
			syscall.Read(int(r.Fd()), b[:])
		}()
	}
	for runtime.NumGoroutine() < 5 || threads() < 5 {
		time.Sleep(time.Millisecond)
	}
	defer w.Close()
	if o.Missing != "" {
		hide(o.Missing)
	}
	os.Remove(o.Dir + "/in/socket")
	listener, err := net.Listen("unix", o.Dir+"/in/socket")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	if captured, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		panic(err)
	}
	report, err := privilege.Restrict(o.Config, o.Needs)
	a.Error = said(err)
	if report != nil {
		for _, p := range report.Parts {
			if p.Err != nil {
				p.Says, p.Err = p.Err.Error(), nil
			}
			a.Parts = append(a.Parts, p)
		}
		a.Warnings = report.Warnings
	}
	a.Tried = map[string]string{}
	for name, try := range tries(o.Dir) {
		if o.Only == "" && !strings.HasPrefix(name, "intruder ") || o.Only == name {
			a.Tried[name] = said(try())
		}
	}
	json.NewEncoder(os.Stdout).Encode(a)
	io.ReadAll(os.Stdin) // until it has been looked at from outside, /proc being out of reach
	os.Exit(0)
}

// hide has a system call answered as a kernel without it does.
func hide(call string) {
	err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{{Names: []string{call}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)}},
	}})
	if err != nil {
		panic(err)
	}
}

func threads() int {
	all, _ := filepath.Glob("/proc/self/task/*")
	return len(all)
}

// status are the values of the threads' status files, by field.
func status(all []privilege.Status) map[string][]string {
	m := map[string][]string{}
	for _, s := range all {
		for field, v := range map[string]string{
			"effective": privilege.CapabilityNames(s.Effective), "permitted": privilege.CapabilityNames(s.Permitted), "inheritable": privilege.CapabilityNames(s.Inheritable),
			"ambient": privilege.CapabilityNames(s.Ambient), "bounding": privilege.CapabilityNames(s.Bounding), "seccomp": fmt.Sprint(s.Seccomp), "no_new_privs": fmt.Sprint(s.NoNewPrivs),
		} {
			if !slices.Contains(m[field], v) {
				m[field] = append(m[field], v)
			}
		}
	}
	return m
}

// captured is a packet socket that was opened before, as the agent's are.
var captured int

// elsewhere is an interface that it isn't bound to, which every machine has.
var elsewhere = &unix.SockaddrLinklayer{Ifindex: 1, Protocol: 0x0300}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func tries(dir string) map[string]func() error {
	write := func(name string) func() error {
		return func() error {
			tmp := dir + "/" + name + ".part"
			if err := os.WriteFile(tmp, []byte("new"), 0o600); err != nil {
				return err
			}
			if err := os.Rename(tmp, dir+"/"+name); err != nil {
				return err
			}
			f, err := os.OpenFile(dir+"/"+name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return errors.Join(f.Truncate(1), f.Sync(), f.Close(), os.Remove(dir+"/"+name))
		}
	}
	read := func(name string) func() error {
		return func() error { _, err := os.ReadFile(name); return err }
	}
	call := func(number uintptr, args ...uintptr) func() error {
		return func() error {
			var six [6]uintptr
			copy(six[:], args)
			if _, _, e := syscall.Syscall6(number, six[0], six[1], six[2], six[3], six[4], six[5]); e != 0 {
				return e
			}
			return nil
		}
	}
	return map[string]func() error{
		"read":          read(dir + "/in/file"),
		"read link":     read(dir + "/deep/alias/link"),
		"read other":    read(dir + "/not/file"),
		"read passwd":   read("/etc/passwd"),
		"write":         write("out/file"),
		"write other":   write("not/file"),
		"write in":      write("in/file2"),
		"list other":    func() error { _, err := os.ReadDir(dir + "/not"); return err },
		"unix":          func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
		"inet":          func() error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
		"inet6":         func() error { return socket(unix.AF_INET6, unix.SOCK_DGRAM) },
		"packet":        func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
		"netlink":       func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
		"connect":       func() error { c, err := net.Dial("unix", dir+"/in/socket"); closes(c); return err },
		"fork":          call(unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
		"executable":    call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0)),
		"keep rights":   call(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1),
		"signal other":  func() error { return syscall.Kill(1, 0) },
		"signal self":   func() error { return syscall.Kill(os.Getpid(), 0) },
		"ioctl":         func() error { _, err := unix.IoctlGetInt(0, unix.SIOCGIFMTU); return err },
		"not on a list": call(unix.SYS_SYNC),
		// A packet socket that is open stays on its interface.
		"capture elsewhere": func() error { return unix.Bind(captured, elsewhere) },
		"send elsewhere":    func() error { return unix.Sendto(captured, make([]byte, 64), 0, elsewhere) },
		"message elsewhere": func() error { return unix.Sendmsg(captured, make([]byte, 64), nil, elsewhere, 0) },
		"promiscuous": func() error {
			return unix.SetsockoptPacketMreq(captured, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: 1, Type: unix.PACKET_MR_PROMISC})
		},
		"options": func() error { return unix.SetsockoptInt(captured, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) },
		// What a Go program needs in any case.
		"runtime": func() error {
			done := make(chan error)
			for i := range 20 {
				go func() {
					runtime.LockOSThread() // a thread each
					b := make([]byte, 4<<20)
					b[i] = 1
					runtime.GC()
					time.Sleep(time.Millisecond)
					r, w, err := os.Pipe()
					if err == nil {
						w.Write(b[:1])
						w.Close()
						_, err = io.ReadAll(r)
						r.Close()
					}
					done <- err
				}()
			}
			var errs []error
			for range 20 {
				errs = append(errs, <-done)
			}
			return errors.Join(errs...)
		},
		"intruder execve":  func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"intruder ptrace":  call(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
		"intruder bpf":     call(unix.SYS_BPF, 0),
		"intruder unshare": call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	}
}

func closes(c net.Conn) {
	if c != nil {
		c.Close()
	}
}

// folders are those of an order, with a link out of in.
func folders(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"in", "out", "not", "far"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// in/link again, by a link to its folder: .. is in's parent, not that of the link.
	if err := errors.Join(os.Symlink("../far/file", filepath.Join(dir, "in", "link")), os.Mkdir(filepath.Join(dir, "deep"), 0o755), os.Symlink("../in", filepath.Join(dir, "deep", "alias"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ask runs a child. err is its end.
func ask(t *testing.T, o order) (a answer, err error) {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"="+string(b), "NOTIFY_SOCKET=")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wrong := json.NewDecoder(out).Decode(&a)
	if wrong == nil {
		a.threads = privilege.Threads(cmd.Process.Pid)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		return a, fmt.Errorf("%w: %s", err, errs.String())
	}
	if wrong != nil {
		t.Fatalf("%v: %s", wrong, errs.String())
	}
	return a, nil
}

// needsKernel skips the test under an emulator of user programs, which passes none of this on, and says what else is missing.
func needsKernel(t *testing.T) {
	t.Helper()
	if !seccomp.Supported() {
		t.Skip("no seccomp here (an emulator of user programs has none)")
	}
	if privilege.LandlockABI() < 4 {
		testfiles.Missing(t, "this kernel's landlock has version %d, and 4 is needed", privilege.LandlockABI())
	}
	if os.Geteuid() != 0 {
		testfiles.Missing(t, "needs root, whose rights are dropped")
	}
}

func needs(dir string) privilege.Needs {
	return privilege.Needs{Paths: []privilege.Path{
		{For: "bundle", Name: dir + "/in/file"}, {For: "key", Name: dir + "/deep/alias/link"}, {For: "output", Name: dir + "/out/file", Write: true},
	}}
}

const (
	eperm  = "operation not permitted"
	eacces = "permission denied"
)

// check compares what was tried: "" could be done, other texts are in the error.
func check(t *testing.T, a answer, want map[string]string) {
	t.Helper()
	for name, text := range want {
		got, ok := a.Tried[name]
		if !ok || (text == "") != (got == "") || !strings.Contains(got, text) {
			t.Errorf("%s: %q, want %q", name, got, text)
		}
	}
	if len(want) != len(a.Tried) {
		t.Errorf("tried %d things, expected %d", len(a.Tried), len(want))
	}
}

// Everything that was not asked for is refused, in threads that were there already too, and what was asked for goes on.
func TestRestrict(t *testing.T) {
	needsKernel(t)
	dir := folders(t)
	c := privilege.Default
	c.Require = true
	a, err := ask(t, order{Config: c, Needs: needs(dir), Dir: dir})
	if err != nil || a.Error != "" || len(a.Warnings) > 0 {
		t.Fatal(err, a.Error, a.Warnings)
	}
	check(t, a, map[string]string{
		"read": "", "read link": "", "read other": eacces, "read passwd": eacces, "write": "", "write other": eacces, "write in": eacces, "list other": eacces,
		"unix": eperm, "inet": eperm, "inet6": eperm, "packet": eperm, "netlink": eperm, "connect": eperm,
		"fork": eperm, "executable": eperm, "keep rights": eperm, "signal other": eperm, "signal self": "", "ioctl": eperm, "not on a list": eperm, "runtime": "",
		"capture elsewhere": eperm, "send elsewhere": eperm, "message elsewhere": eperm, "promiscuous": eperm, "options": "",
	})
	for field, want := range map[string]string{
		"effective": "none", "permitted": "none", "inheritable": "none", "ambient": "none", "bounding": "none", "seccomp": "2", "no_new_privs": "true",
	} {
		if got := status(a.threads)[field]; len(got) != 1 || got[0] != want {
			t.Errorf("%s of %d threads: %q, want %q", field, len(a.threads), got, want)
		}
	}
	if len(a.threads) < 5 {
		t.Errorf("%d threads", len(a.threads))
	}
}

// A part of a program that needs more gets just that.
func TestNeeds(t *testing.T) {
	needsKernel(t)
	dir := folders(t)
	n := needs(dir)
	n.Add(privilege.Needs{
		Capabilities: []int{unix.CAP_NET_ADMIN}, Sockets: []int{unix.AF_NETLINK}, Calls: []string{"sync"},
		Paths: []privilege.Path{{For: "list", Name: dir + "/not/file"}},
	})
	n.Add(privilege.Needs{Sockets: []int{unix.AF_UNIX}, Ioctls: []uint64{unix.SIOCGIFMTU}, Paths: []privilege.Path{{For: "reader", Name: dir + "/in/socket", Socket: true}}})
	a, err := ask(t, order{Config: privilege.Default, Needs: n, Dir: dir})
	if err != nil || a.Error != "" {
		t.Fatal(err, a.Error)
	}
	check(t, a, map[string]string{
		"read": "", "read link": "", "read other": "", "read passwd": eacces, "write": "", "write other": eacces, "write in": eacces, "list other": eacces,
		"unix": "", "inet": eperm, "inet6": eperm, "packet": eperm, "netlink": "", "connect": "",
		"fork": eperm, "executable": eperm, "keep rights": eperm, "signal other": eperm, "signal self": "", "ioctl": "inappropriate ioctl", "not on a list": "", "runtime": "",
		"capture elsewhere": eperm, "send elsewhere": eperm, "message elsewhere": eperm, "promiscuous": eperm, "options": "",
	})
	for _, field := range []string{"effective", "permitted", "bounding"} {
		if got := status(a.threads)[field]; len(got) != 1 || got[0] != "CAP_NET_ADMIN" {
			t.Errorf("%s: %q", field, got)
		}
	}
	if a, err := ask(t, order{Config: privilege.Default, Needs: privilege.Needs{Calls: []string{"nosuchcall"}}, Dir: dir, Only: "read"}); err != nil || !strings.Contains(a.Parts[2].Says, "nosuchcall") || a.Parts[2].Held {
		t.Errorf("a call that there is not: %v, %+v", err, a.Parts)
	}
}

// Who calls what only an intruder calls is ended, by a signal that says so.
func TestIntruder(t *testing.T) {
	needsKernel(t)
	dir := folders(t)
	for name := range tries(dir) {
		if !strings.HasPrefix(name, "intruder ") {
			continue
		}
		_, err := ask(t, order{Config: privilege.Default, Needs: needs(dir), Dir: dir, Only: name})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each part can be switched off, or be missing in the kernel, and the others hold; with require it is an error.
func TestParts(t *testing.T) {
	needsKernel(t)
	dir := folders(t)
	sign := func(p privilege.Part) string {
		switch {
		case p.Held:
			return "held"
		case p.Off:
			return "off"
		}
		return "missing"
	}
	for name, tc := range map[string]struct {
		config  privilege.Config
		missing string
		want    string // landlock, capabilities, seccomp
		passwd  string
	}{
		"landlock off":     {config: privilege.Config{Capabilities: true, Seccomp: true}, want: "off held held"},
		"capabilities off": {config: privilege.Config{Landlock: true, Seccomp: true}, want: "held off held", passwd: eacces},
		"seccomp off":      {config: privilege.Config{Landlock: true, Capabilities: true}, want: "held held off", passwd: eacces},
		"all off":          {want: "off off off"},
		"no landlock":      {config: privilege.Default, missing: "landlock_create_ruleset", want: "missing held held"},
		"no seccomp":       {config: privilege.Default, missing: "seccomp", want: "held held missing", passwd: eacces},
	} {
		t.Run(name, func(t *testing.T) {
			o := order{Config: tc.config, Needs: needs(dir), Dir: dir, Missing: tc.missing, Only: "read passwd"}
			a, err := ask(t, o)
			if err != nil || a.Error != "" {
				t.Fatal(err, a.Error)
			}
			if got := sign(a.Parts[0]) + " " + sign(a.Parts[1]) + " " + sign(a.Parts[2]); got != tc.want {
				t.Errorf("%s, want %s: %+v", got, tc.want, a.Parts)
			}
			if got := a.Tried["read passwd"]; !strings.Contains(got, tc.passwd) || tc.passwd == "" && got != "" {
				t.Errorf("reading another file: %q, want %q", got, tc.passwd)
			}
			o.Config.Require = true
			a, err = ask(t, o)
			if want := strings.Contains(tc.want, "missing") || strings.Contains(tc.want, "off"); err != nil || (a.Error != "") != want {
				t.Errorf("required: %v, %q", err, a.Error)
			}
		})
	}
}

// Root without capabilities is bound by modes: what it can't reach any more is said.
func TestUnreachable(t *testing.T) {
	needsKernel(t)
	dir := folders(t)
	for _, name := range []string{"in", "out"} {
		if err := errors.Join(os.Chown(filepath.Join(dir, name), 1234, 1234), os.Chmod(filepath.Join(dir, name), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := ask(t, order{Config: privilege.Default, Needs: needs(dir), Dir: dir})
	if err != nil || a.Error != "" {
		t.Fatal(err, a.Error)
	}
	if s := strings.Join(a.Warnings, "\n"); len(a.Warnings) != 3 || !strings.Contains(s, "bundle: "+dir+"/in/file can no longer be read") || !strings.Contains(s, "output: ") {
		t.Errorf("%d warnings: %s", len(a.Warnings), s)
	}
}

// A folder is open with all that is in it: one that holds much else is said, since landlock helps little then.
func TestWide(t *testing.T) {
	needsKernel(t)
	dir := folders(t)
	n := needs(dir)
	n.Paths = append(n.Paths, privilege.Path{For: "key", Name: "/signer.pub"}, privilege.Path{For: "keys", Name: "/etc/keys.note"}, privilege.Path{For: "output", Name: "/dev/null", Write: true},
		privilege.Path{For: "systemd", Name: "/run/socket", Socket: true})
	a, err := ask(t, order{Config: privilege.Default, Needs: n, Dir: dir, Only: "read"})
	if err != nil || len(a.Warnings) != 2 || !strings.HasPrefix(a.Warnings[0], "key: /signer.pub lies in /, and all that is in there") || !strings.HasPrefix(a.Warnings[1], "keys: /etc/keys.note lies in /etc, ") {
		t.Errorf("%v, %q", err, a.Warnings)
	}
}
