//go:build linux

// Command plan compares what nepcoc plan predicts for this machine with what nepcod reaches under nepcod load.
//
//	plan [-rounds 5] [-length 3s] [-idle 1s] [-bin DIR] MODEL CONTRACT CALIB CAPTURE
//
// A network namespace with a virtual cable is made; sender and agent have a core each, so the prediction is for one core, without the kernel's work on
// packets, which a virtual cable leaves to the sender. The contract's timers are made short, so that what is begun in a step of the search ends in it, too.
// Programs run before all others that are not of the system (as groups of their own, at nice -20): a busy machine takes little from them.
// Prediction and search take turns; figures are medians. `make bench-plan` runs it, as root. Nothing here is part of the product or of CI.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nepcoc/internal/locked"
)

func main() {
	rounds := flag.Int("rounds", 3, "turns of prediction and search")
	length := flag.Duration("length", 3*time.Second, "length of a step of the search")
	idle := flag.Duration("idle", time.Second, "idle timeout of the contract")
	bin := flag.String("bin", "bin", "folder of nepcoc and nepcod")
	flag.Parse()
	if flag.NArg() != 4 || *rounds < 1 {
		fmt.Fprintln(os.Stderr, "usage: plan [-rounds N] [-length D] [-idle D] [-bin DIR] MODEL CONTRACT CALIB CAPTURE")
		os.Exit(2)
	}
	b := &bench{bin: *bin, length: *length, capture: flag.Arg(3)}
	if err := b.run(*rounds, *idle, flag.Arg(0), flag.Arg(1), flag.Arg(2)); err != nil {
		fmt.Fprintln(os.Stderr, "plan:", err)
		os.Exit(1)
	}
}

type bench struct {
	bin, dir, bundle, capture string
	length                    time.Duration
}

var timers = regexp.MustCompile(`(?m)^(idle|close_linger|quiet): (\d+)ms$`)

func (b *bench) run(rounds int, idle time.Duration, model, contract, calib string) error {
	if runtime.NumCPU() < 2 {
		return errors.New("sender and agent need a core each: this machine has one")
	}
	var err error
	if b.dir, err = os.MkdirTemp("/dev/shm", "bench-plan"); err != nil { // events would wait for a disk
		if b.dir, err = os.MkdirTemp("", "bench-plan"); err != nil {
			return err
		}
	}
	defer os.RemoveAll(b.dir)
	text, err := os.ReadFile(contract)
	if err != nil {
		return err
	}
	short := timers.ReplaceAllStringFunc(string(text), func(l string) string {
		m := timers.FindStringSubmatch(l)
		ms, _ := strconv.Atoi(m[2])
		return fmt.Sprintf("%s: %dms", m[1], min(ms, int(idle.Milliseconds())))
	})
	if err := os.WriteFile(filepath.Join(b.dir, "short.yaml"), []byte(short), 0o600); err != nil {
		return err
	}
	b.bundle = filepath.Join(b.dir, "bench.nepco")
	if _, err := b.output("nepcoc", "compile", model, "--contract", filepath.Join(b.dir, "short.yaml"), "--calib", calib, "-o", b.bundle); err != nil {
		return err
	}
	// The thread's: what it starts has the same.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("a network namespace: %w: run as root", err)
	}
	for _, line := range []string{
		"link add near mtu 9000 type veth peer name far mtu 9000", "link set near up arp off multicast off", "link set far up arp off multicast off",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	time.Sleep(500 * time.Millisecond) // carrier
	var predicted, reached, ratios []float64
	fmt.Println("flows/s of one core: predicted by nepcoc plan (between), reached by nepcod under nepcod load; reached by predicted")
	for i := range rounds {
		p, err := b.predict()
		if err != nil {
			return err
		}
		got, limited, err := b.reach(p.Flows.Value)
		if err != nil {
			return err
		}
		word := ""
		if limited {
			word = "  (the sender's bound)"
		}
		fmt.Printf("%d  %7.0f (%.0f to %.0f)  %7.0f  %.2f%s\n", i+1, p.Flows.Value, p.Flows.Low, p.Flows.High, got, got/p.Flows.Value, word)
		predicted, reached, ratios = append(predicted, p.Flows.Value), append(reached, got), append(ratios, got/p.Flows.Value)
	}
	fmt.Printf("medians  %.0f  %.0f  %.2f\n", median(predicted), median(reached), median(ratios))
	return nil
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}

// pinned is a command of ours on one core.
func (b *bench) pinned(core, program string, args ...string) *exec.Cmd {
	args = append([]string{"taskset", "-c", core, filepath.Join(b.bin, program)}, args...)
	return exec.Command(args[0], args[1:]...)
}

// start starts a command ahead of others: in a group of its own for the scheduler, where that makes groups of sessions.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	syscall.Setpriority(syscall.PRIO_PROCESS, pid, -20)
	os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte("-20"), 0)
	return nil
}

func (b *bench) output(program string, args ...string) ([]byte, error) {
	return said(exec.Command(filepath.Join(b.bin, program), args...))
}

func said(cmd *exec.Cmd) ([]byte, error) {
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, &log)
	}
	return out.Bytes(), err
}

type prediction struct {
	Flows struct{ Value, Low, High float64 } `json:"flows_per_s"`
}

func (b *bench) predict() (p prediction, err error) {
	out, err := said(b.pinned("1", "nepcoc", "plan", b.bundle, "--target", "host", "--traffic", b.capture, "--cores", "1", "--kernel-apart", "--json"))
	if err == nil {
		err = json.Unmarshal(out, &p)
	}
	return p, err
}

// reach starts an agent and looks for the rate that it holds.
func (b *bench) reach(guess float64) (rate float64, limited bool, err error) {
	eve := filepath.Join(b.dir, "eve.json")
	if err := os.WriteFile(eve, nil, 0o600); err != nil {
		return 0, false, err
	}
	agent := b.pinned("1", "nepcod", "run", "--bundle", b.bundle, "--iface", "far", "--output", eve)
	var log locked.Buffer
	agent.Stderr = &log
	if err := start(agent); err != nil {
		return 0, false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "started") && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	out, err := said(b.pinned("0", "nepcod", "load", b.capture, "--iface", "near", "--find", "--rate", fmt.Sprintf("%.0f", guess/2), "--length", b.length.String(), "--patience", "1s",
		"--bundle", b.bundle, "--eve", eve, "--json"))
	agent.Process.Signal(syscall.SIGTERM)
	<-ended // 1 where verdicts were lost, as some were
	var r struct {
		Capacity struct {
			Flows   float64 `json:"flows_per_s"`
			Limited bool    `json:"sender_limited"`
		} `json:"capacity"`
	}
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	return r.Capacity.Flows, r.Capacity.Limited, err
}
