//go:build linux

// Package testcard boots the emulated card that test/card/build.sh makes: Debian for arm64 with systemd and sshd, on
// a core like BlueField-3's under qemu-system.
//
// Each card writes to an overlay of its own; what was built is never written. It is reached by ssh over a management
// interface that leads nowhere else, and has two ports, p0 and p1, whose cables tests hold the other ends of. A power cut
// kills the emulator.
package testcard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"nepcoc/internal/interrupt"
)

// BootTimeout is how long a card may take until it answers: 10 s on a quiet machine with two cores, where others work several times that.
const BootTimeout = 5 * time.Minute

// Card is an emulated card: its disk, and the machine while that is on.
type Card struct {
	built string // the folder of what test/card/build.sh made
	dir   string // of this card's own files, which go with it
	undo  func()

	// Port is where the card's ssh server answers, at 127.0.0.1.
	Port int
	// P0 and P1 are the cables of the card's ports while it is on.
	P0, P1 *Cable

	mu     sync.Mutex // over what a power cut takes away
	power  context.CancelFunc
	gone   chan struct{} // closed when the machine is off
	client *ssh.Client
	boots  int
}

// New makes a card with a new disk, a copy of the built one's, and leaves it off. What a test or a signal leaves of it, Close removes.
func New(built string) (*Card, error) {
	for _, f := range []string{"recipe", "card.img", "vmlinuz", "initrd.gz", "key"} {
		if _, err := os.Stat(filepath.Join(built, f)); err != nil {
			return nil, fmt.Errorf("no emulated card in %s (%w): make card", built, err)
		}
	}
	image, err := filepath.Abs(filepath.Join(built, "card.img"))
	if err != nil {
		return nil, err
	}
	// A short path: sockets are in it.
	dir, err := os.MkdirTemp("", "nepcoc-card-")
	if err != nil {
		return nil, err
	}
	c := &Card{built: built, dir: dir}
	c.undo = interrupt.Undo(c.remove) // not Close, which would wait for what calls it
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, c.file("disk.qcow2")).CombinedOutput(); err != nil {
		c.Close()
		return nil, fmt.Errorf("qemu-img (of Debian's qemu-utils): %w: %s", err, out)
	}
	return c, nil
}

func (c *Card) file(name string) string { return filepath.Join(c.dir, name) }

// Key is the file of the private key that root logs in with.
func (c *Card) Key() string { return filepath.Join(c.built, "key") }

// SSHOptions are what ssh, scp and nepcoc ship need besides port and key, each as after ssh's -o: cards come and go at one address.
func (c *Card) SSHOptions() []string {
	return []string{"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR"}
}

// Console is what the card's console has said since it was made, over all its starts.
func (c *Card) Console() string {
	text, err := os.ReadFile(c.file("console"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Start switches the card on and returns when it answers by ssh.
func (c *Card) Start() error {
	c.mu.Lock()
	on := c.power != nil
	c.mu.Unlock()
	if on {
		return errors.New("the card is on")
	}
	var err error
	for range 3 { // another program may take the port that was free
		if err = c.start(); err == nil || !strings.Contains(err.Error(), "Could not set up host forwarding") {
			return err
		}
	}
	return err
}

func (c *Card) start() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	c.P0, c.P1 = newCable(c.file("p0")), newCable(c.file("p1"))
	console, err := os.OpenFile(c.file("console"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	said := 0
	if c.boots++; c.boots > 1 {
		said = strings.Count(c.Console(), answers)
	}
	fmt.Fprintf(console, "\n--- start %d\n", c.boots)

	args := []string{"-machine", "virt", "-cpu", "cortex-a76", "-smp", "2", "-m", "1024", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", filepath.Join(c.built, "vmlinuz"), "-initrd", filepath.Join(c.built, "initrd.gz"),
		// A card that panics is off, and the one that failed says why. The agent restricts itself by landlock; other modules of the kernel's, and
		// what it does against other users' spying, take a third of a start.
		"-append", "console=ttyAMA0 panic=-1 quiet systemd.show_status=no nokaslr mitigations=off audit=0 lsm=landlock",
		// What the card has not written when its power goes is lost with its memory. What it has handed to the disk stays:
		// this disk has no cache that could lose it.
		"-drive", "if=virtio,format=qcow2,cache=writeback,file=" + c.file("disk.qcow2"),
		"-netdev", "user,id=oob,restrict=on,hostfwd=tcp:127.0.0.1:" + strconv.Itoa(c.Port) + "-:22", "-device", nic("oob", 1),
		"-device", "virtio-rng-pci"}
	for i, p := range []*Cable{c.P0, c.P1} {
		id := fmt.Sprint("p", i)
		args = append(args, "-netdev", fmt.Sprintf("dgram,id=%s,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", id, p.card, p.test), "-device", nic(id, i+2))
	}
	ctx, power := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64", args...)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = console, io.MultiWriter(&errs, console)
	// However this process ends, the emulator ends. The signal goes by the thread that started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, gone := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
		close(gone)
	}()
	if err := <-started; err != nil {
		power()
		return fmt.Errorf("qemu-system-aarch64 (of Debian's qemu-system-arm): %w", err)
	}
	c.mu.Lock()
	c.power, c.gone = power, gone
	c.mu.Unlock()

	err = c.connect(gone, said)
	if err != nil {
		c.PowerCut()
		if errs.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
		}
	}
	return err
}

// nic is a network card; the image names it by its address. Its boot code is not needed.
func nic(id string, n int) string {
	return fmt.Sprintf("virtio-net-pci,netdev=%s,mac=52:54:00:00:00:%02x,romfile=", id, n)
}

// answers is what the card's console says when its ssh server is up; see test/card/build.sh.
const answers = "card: answers"

// connect waits until the card is up, which it has said so often before, connects the cables and logs in.
func (c *Card) connect(gone <-chan struct{}, said int) error {
	key, err := os.ReadFile(c.Key())
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute}
	for end := time.Now().Add(BootTimeout); ; time.Sleep(200 * time.Millisecond) {
		select {
		case <-gone:
			return errors.New("the card went off while it started")
		default:
		}
		err := errors.Join(c.P0.connect(), c.P1.connect())
		// Before it is up, the emulator takes connections for it, and keeps them.
		if err == nil && strings.Count(c.Console(), answers) == said {
			err = errors.New("it is not up")
		}
		if err == nil {
			var client *ssh.Client
			if client, err = ssh.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)), config); err == nil {
				c.mu.Lock()
				c.client = client
				c.mu.Unlock()
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("the card did not answer by ssh within %v: %w", BootTimeout, err)
		}
	}
}

// Dial connects to a TCP port that only the card itself reaches, through ssh.
func (c *Card) Dial(port int) (net.Conn, error) {
	c.mu.Lock()
	client := c.client
	c.mu.Unlock()
	if client == nil {
		return nil, errors.New("the card is off")
	}
	return client.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// Do runs a shell script on the card as root, with input on its standard input, and returns its standard output. The error of
// a script that fails has its standard error; it is an [*ssh.ExitError] where the script itself ended with another status than 0.
func (c *Card) Do(script string, input io.Reader) ([]byte, error) {
	c.mu.Lock()
	client := c.client
	c.mu.Unlock()
	if client == nil {
		return nil, errors.New("the card is off")
	}
	s, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = input, &out, &errs
	if err := s.Run(script); err != nil {
		return out.Bytes(), fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// PowerCut switches the card off as pulling its plug does: memory is lost, the disk keeps what it was given. Start switches it on again.
func (c *Card) PowerCut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.power == nil {
		return
	}
	c.power()
	<-c.gone
	if c.client != nil {
		c.client.Close()
	}
	c.power, c.client = nil, nil
	c.P0.close()
	c.P1.close()
}

// Close switches the card off and removes its files.
func (c *Card) Close() {
	c.remove()
	c.undo()
}

func (c *Card) remove() {
	c.PowerCut()
	os.RemoveAll(c.dir)
}
