package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nepcoc/internal/files"
)

// CheckOutput asks whether OpenSink and the first write would succeed, without writing and without a reader's notice. The note
// is of a reader that may still come: what is written before it does is lost, and counted.
func (c *Config) CheckOutput() (note string, err error) {
	name := c.Output.To
	network, path := socketOf(name)
	switch {
	case name == "" || files.IsStdout(name):
		return "", nil
	case network != "":
		return checkSocket(name, network, path)
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", files.Writable(name)
	case err != nil:
		return "", fmt.Errorf("%s: %w", name, files.Reason(err))
	case info.IsDir():
		return "", fmt.Errorf("%s: is a folder, not a file", name)
	case info.Mode()&fs.ModeSocket != 0:
		return "", fmt.Errorf("%s: is a socket: name it %s%s or %s%s", name, sockets[0].prefix, name, sockets[1].prefix, name)
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		return "", fmt.Errorf("%s: is a disk, which lines would be written over: name a file", name)
	}
	if err := unix.Access(name, unix.W_OK); err != nil {
		return "", fmt.Errorf("%s: can't be written to: %w", name, err)
	}
	if info.Mode()&fs.ModeCharDevice != 0 {
		return "", checkDevice(name)
	}
	return "", nil
}

// lostUntil ends a note of a reader that isn't there.
const lostUntil = "verdicts are lost, and counted, until somebody does"

// checkSocket asks a unix socket's name who has it. A datagram socket that is connected to it says so, and nothing reaches a
// listener: connecting a stream would take one that accepts a single connection from the agent.
func checkSocket(name, network, path string) (note string, err error) {
	if path == "" {
		return "", fmt.Errorf("%s has no path", name)
	}
	if strings.HasPrefix(path, "@") && network == "unix" {
		return "", nil // outside the file system only sockets of one kind find each other
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	missing := errors.Is(err, fs.ErrNotExist)
	if missing {
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return "", fmt.Errorf("%s: there is no folder %s", name, filepath.Dir(path))
		}
	}
	switch {
	case missing, errors.Is(err, syscall.ECONNREFUSED):
		if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
			return "", fmt.Errorf("%s: is no socket", name)
		}
		// Not refused: the reader may come later, and the agent connects again.
		return fmt.Sprintf("output: %s: nobody listens there yet: %s", name, lostUntil), nil
	case err == nil && network == "unix":
		return "", fmt.Errorf("%s: a socket of the other kind: %s%s", name, sockets[1].prefix, path)
	case errors.Is(err, syscall.EPROTOTYPE) && network == "unixgram":
		return "", fmt.Errorf("%s: a socket of the other kind: %s%s", name, sockets[0].prefix, path)
	case err != nil && !errors.Is(err, syscall.EPROTOTYPE): // no rights, too long a name
		return "", fmt.Errorf("%s: can't be written to: %w", name, err)
	}
	return "", nil
}

// checkDevice asks a device whether it takes lines, by writing none.
func checkDevice(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte{})
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: a device that can't be written to: %w", name, err)
	}
	return nil
}

// ReaderNote says that nobody reads the output, where that is a FIFO that no process has open for reading; run finds it out by opening it. Here it stays shut: a
// reader that waits in opening it would find a writer that leaves at once, and end. So such a one is not seen.
func (c *Config) ReaderNote() string {
	name := c.Output.To
	info, err := os.Stat(name)
	if err != nil || info.Mode()&fs.ModeNamedPipe == 0 || files.IsStdout(name) {
		return ""
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	all := len(procs) > 0
	for _, proc := range procs {
		open, err := os.ReadDir(proc + "/fd")
		all = all && !errors.Is(err, fs.ErrPermission)
		for _, fd := range open {
			if reads(proc+"/fdinfo/"+fd.Name(), info) {
				if other, err := os.Stat(proc + "/fd/" + fd.Name()); err == nil && os.SameFile(info, other) {
					return ""
				}
			}
		}
	}
	seen := "nobody reads (one that is opening it just now is not seen)"
	if !all {
		seen = "nobody is seen to read: processes of others can be seen by root only"
	}
	return fmt.Sprintf("output: %s: a FIFO that %s: %s", name, seen, lostUntil)
}

// reads says whether a descriptor is open for reading and may be a file's, by its own file in /proc/PID/fdinfo, of which kernels before 5.14 leave the inode out.
// Asking each descriptor for its file would wait for servers of files that are gone.
func reads(fdinfo string, info fs.FileInfo) bool {
	text, err := os.ReadFile(fdinfo)
	if err != nil {
		return false
	}
	field := func(name string, base int) (n uint64, there bool) {
		_, rest, _ := strings.Cut("\n"+string(text), "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseUint(strings.TrimSpace(line), base, 64)
		return n, err == nil
	}
	if inode, there := field("ino", 10); there && inode != info.Sys().(*syscall.Stat_t).Ino {
		return false
	}
	flags, there := field("flags", 8)
	return there && flags&unix.O_ACCMODE != unix.O_WRONLY
}
