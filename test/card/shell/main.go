//go:build linux

// Shell boots the emulated card in a folder and logs in; the card goes off when the shell ends, and forgets all (make card-shell).
//
//	go run ./test/card/shell [-replay CAPTURE] DIR [COMMAND]
//
// A capture is replayed into the card's port p0 for as long as the shell lasts. Where this user may make one, the tap card0 is
// the other end of p0's cable: what is sent to it arrives there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nepcoc/internal/interrupt"
	"nepcoc/internal/testcard"
)

func main() {
	replay := flag.String("replay", "", "capture that is sent to p0, again and again")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: shell [-replay CAPTURE] DIR [COMMAND]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() < 1 {
		flag.Usage()
		os.Exit(2)
	}
	interrupt.Watch()
	err := shell(flag.Arg(0), *replay, flag.Args()[1:])
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "card:", err)
		os.Exit(1)
	}
}

func shell(dir, replay string, command []string) error {
	c, err := testcard.New(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	fmt.Fprintln(os.Stderr, "card: it starts, which takes half a minute")
	if err := c.Start(); err != nil {
		return fmt.Errorf("%w\n%s", err, c.Console())
	}
	args := []string{"-i", c.Key(), "-p", strconv.Itoa(c.Port)}
	for _, o := range c.SSHOptions() {
		args = append(args, "-o", o)
	}
	fmt.Fprintf(os.Stderr, "card: up after %.0f s. From elsewhere, and for nepcoc ship: ssh -p %d -i %s root@127.0.0.1\n", time.Since(began).Seconds(), c.Port, c.Key())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := tap(c.P0); err != nil {
		fmt.Fprintf(os.Stderr, "card: no tap to p0 (%v); -replay CAPTURE needs none\n", err)
	} else {
		fmt.Fprintln(os.Stderr, "card: what is sent to the interface card0 here arrives at p0 there")
	}
	if replay != "" {
		go func() {
			for ctx.Err() == nil {
				if err := c.P0.Replay(ctx, replay, 1); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "card:", err)
					return
				}
			}
		}()
	}
	ssh := exec.Command("ssh", append(append(args, "root@127.0.0.1"), command...)...)
	ssh.Stdin, ssh.Stdout, ssh.Stderr = os.Stdin, os.Stdout, os.Stderr
	return ssh.Run()
}

// tap makes the interface card0 the far end of a cable, until this process ends.
func tap(cable *testcard.Cable) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	request := struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: unix.IFF_TAP | unix.IFF_NO_PI}
	copy(request.name[:], "card0")
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		unix.Close(fd)
		return errno
	}
	f := os.NewFile(uintptr(fd), "card0")
	if out, err := exec.Command("ip", "link", "set", "card0", "up").CombinedOutput(); err != nil {
		f.Close()
		return fmt.Errorf("ip link set card0 up: %w: %s", err, out)
	}
	cable.Listen(func(frame []byte) { f.Write(frame) })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := f.Read(b)
			if err != nil || cable.Send(b[:n]) != nil {
				return
			}
		}
	}()
	return nil
}
