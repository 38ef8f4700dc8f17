//go:build linux

// Package doctor says what holds on this machine for an agent with a configuration: what was seen, whether that is well, and the way out where it is not.
// It changes nothing, but takes the interface's packets for a moment, in a ring as the agent's.
package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/internal/version"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/privilege"
)

// What a Finding can be.
const (
	OK   = "ok"
	Warn = "warn" // the agent runs, but not as well as it could, or not as safely
	Fail = "fail" // it doesn't run, or what it says is wrong
)

// manual is where the package puts its pages, which are in docs of the sources.
const manual = "/usr/share/doc/nepcod"

// Finding is what was found of one thing.
type Finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
	Seen   string `json:"seen"`
	WayOut string `json:"way_out,omitempty"`
}

// findings are collected in order.
type findings []Finding

func (f *findings) add(check, status, wayOut, seen string, args ...any) {
	if status == OK {
		wayOut = ""
	}
	*f = append(*f, Finding{check, status, fmt.Sprintf(seen, args...), wayOut})
}

// Failed tells whether one of them is a failure.
func Failed(list []Finding) bool {
	for _, f := range list {
		if f.Status == Fail {
			return true
		}
	}
	return false
}

// Examine looks at all there is for a configuration, whose numbers are valid (agent.Config.Usable). It listens at the interface for so long; 0: not at all.
func Examine(c *agent.Config, listen time.Duration) []Finding {
	var f findings
	machine(&f, c)
	rights(&f)
	sandbox(&f, c)
	running(&f)
	health(&f, c)
	clock(&f)
	bundles(&f, c)
	network(&f, c, listen)
	actions(&f, c)
	output(&f, c)
	disks(&f, c)
	return f
}

func machine(f *findings, c *agent.Config) {
	var u unix.Utsname
	unix.Uname(&u)
	f.add("program", OK, "", "nepcod %s for %s, Linux %s", version.Version, runtime.GOARCH, unix.ByteSliceToString(u.Release[:]))
	var paths []string
	for _, p := range cpu.Available() {
		paths = append(paths, p.String())
	}
	status := OK
	if len(paths) < 2 {
		status = Warn
	}
	f.add("cpu", status, "kernels for this processor are missing: verdicts are the same, but take several times as long", "%s, kernels %s", plural.Of(runtime.NumCPU(), "core"), strings.Join(paths, " "))
	status = OK
	if c.Receive.Threads+c.Workers > runtime.NumCPU() {
		status = Warn
	}
	f.add("threads", status, "lower receive.threads or workers: together they should not exceed the cores", "%d receive, %d classify", c.Receive.Threads, c.Workers)
	page := os.Getpagesize()
	status = OK
	if c.Receive.BlockSize%page != 0 {
		status = Fail
	}
	f.add("page size", status, fmt.Sprintf("receive.block_size must be a multiple of %d", page), "%d; receive.block_size %d", page, c.Receive.BlockSize)
}

func rights(f *findings) {
	all := privilege.Threads(os.Getpid())
	if len(all) == 0 {
		f.add("rights", Warn, "mount /proc", "can't be read")
		return
	}
	status := OK
	if all[0].Effective>>unix.CAP_NET_RAW&1 == 0 {
		status = Fail
	}
	set := privilege.CapabilityNames(all[0].Effective)
	if len(set) > 100 {
		set = "nearly all capabilities"
	}
	f.add("rights", status, "capturing needs CAP_NET_RAW: run as root, by the systemd unit, or setcap cap_net_raw+ep on the program", "user %d, %s", os.Geteuid(), set)
}

func sandbox(f *findings, c *agent.Config) {
	worst := Warn
	if c.Sandbox.Require {
		worst = Fail
	}
	part := func(name string, on, has bool, lacks, wayOut, seen string) {
		switch {
		case !on:
			f.add(name, Warn, "sandbox."+name+": true", "switched off")
		case !has:
			f.add(name, worst, wayOut, "%s", seen)
		case lacks != "":
			f.add(name, Warn, wayOut, "%s; does not restrict %s", seen, lacks)
		default:
			f.add(name, OK, "", "%s", seen)
		}
	}
	part("capabilities", c.Sandbox.Capabilities, true, "", "", "given up once the sockets are open")
	has := privilege.HasSeccomp()
	seen := "the kernel has it"
	if !has {
		seen = "this kernel has none"
	}
	part("seccomp", c.Sandbox.Seccomp, has, "", "a kernel with CONFIG_SECCOMP_FILTER", seen)
	abi := privilege.LandlockABI()
	seen = fmt.Sprintf("version %d", abi)
	if abi == 0 {
		seen = "this kernel has none"
	}
	part("landlock", c.Sandbox.Landlock, abi > 0, privilege.LandlockLacks(abi), "a newer kernel, with landlock in lsm= at boot", seen)
}

// running looks at agents that run already.
func running(f *findings) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		text, err := os.ReadFile(name)
		args := strings.Split(string(text), "\x00")
		if err != nil || len(args) < 2 || filepath.Base(args[0]) != "nepcod" || args[1] != "run" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		threads := privilege.Threads(pid)
		if err != nil || len(threads) == 0 {
			continue
		}
		var caps uint64
		status, filtered := OK, true
		for _, s := range threads {
			caps |= s.Effective
			filtered = filtered && s.Seccomp == 2 && s.NoNewPrivs
		}
		if caps != 0 && caps != 1<<unix.CAP_NET_ADMIN && caps != 1<<unix.CAP_NET_RAW || !filtered {
			status = Warn
		}
		seccomp := "seccomp on"
		if !filtered {
			seccomp = "seccomp off"
		}
		f.add("agent", status, "see its log for what of the sandbox does not hold", "process %d runs: %s, capabilities %s", pid, seccomp, privilege.CapabilityNames(caps))
	}
}

// health is what the agent says of itself that runs with the configuration.
func health(f *findings, c *agent.Config) {
	h, ok := c.AskHealth()
	switch {
	case !ok:
		f.add("health", OK, "", "no agent serves it now")
	case len(h.Problems) > 0:
		f.add("health", Warn, manual+"/bluefield.md, troubleshooting", "%s, bundle %.12s: %s", h.Status, h.Digest, strings.Join(h.Problems, "; "))
	default:
		f.add("health", OK, "", "%s, bundle %.12s, for %v", h.Status, h.Digest, time.Duration(h.Uptime)*time.Second)
	}
}

// actions says whether what verdicts ask for can be done.
func actions(f *findings, c *agent.Config) {
	if !c.Actions.On() {
		f.add("actions", OK, "", "none are configured")
		return
	}
	note, err := c.CheckActions()
	for _, e := range agent.Errors(err) {
		f.add("actions", Fail, manual+"/actions.md", "%v", e)
	}
	if err == nil && note != "" {
		f.add("actions", OK, "", "%s", note)
	} else if err == nil {
		f.add("actions", OK, "", "%s configured, and can be made", plural.Of(len(c.Actions.Rules), "rule")+plural.Verb(len(c.Actions.Rules), " is", " are"))
	}
}

func clock(f *findings) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const unsync = 0x40 // STA_UNSYNC
	const timeError = 5 // TIME_ERROR
	now := time.Now().UTC().Format(time.RFC3339)
	switch {
	case err != nil:
		f.add("clock", Warn, "", "%s; can't be asked: %v", now, err)
	case time.Now().Year() < 2025:
		f.add("clock", Fail, "set it (timedatectl set-ntp true): bundles are held to the times of their signatures", "%s", now)
	case state == timeError || t.Status&unsync != 0:
		f.add("clock", Warn, "timedatectl set-ntp true, or chrony; events carry this time, and signed bundles are held to it", "%s, not synchronised", now)
	default:
		f.add("clock", OK, "", "%s, synchronised within %d us", now, t.Maxerror)
	}
}

func bundles(f *findings, c *agent.Config) {
	m, err := c.LoadStart()
	const wayOut = "nepcod selftest BUNDLE says more; a good one is put there by nepcoc ship"
	for _, e := range agent.Errors(err) {
		f.add("bundle", Fail, wayOut, "%v", e)
	}
	if err == nil {
		b := m.Bundle
		for _, e := range agent.Errors(m.Instead()) {
			f.add("bundle instead", Warn, wayOut, "the last good one runs in its place: %v", e)
		}
		f.add("bundle", OK, "", "%s (%.12s): %s equal, kernels %s", m.Path, m.Digest(), plural.Of(len(b.Golden), "golden vector"), m.Kernels())
		for _, note := range m.Notes() {
			f.add("bundle note", Warn, "nepcod check-config says the same", "%s", note)
		}
		signed := "not signed"
		if b.Signature != nil {
			signed = fmt.Sprintf("signed by %s, serial %d", bundle.Fingerprint(b.Signature.Key), b.Signature.Serial)
		}
		switch {
		case len(c.TrustedKeys) == 0:
			f.add("signature", Warn, "trusted_keys: without them whoever can write the bundle's file decides what runs here", "%s; no key is trusted, so none is needed", signed)
		case c.State == "":
			f.add("signature", Warn, "state: a file that remembers serials, so that no older bundle comes back", "%s, by a trusted key; serials are not remembered", signed)
		default:
			f.add("signature", OK, "", "%s, by a trusted key", signed)
		}
	}
}

func output(f *findings, c *agent.Config) {
	note, err := c.CheckOutput()
	note += c.ReaderNote() // a socket has the one, a FIFO the other
	switch {
	case err != nil:
		f.add("output", Fail, "output.to: a file in a folder that the agent may write to, or a socket of the kind that its reader has", "%v", err)
	case note != "":
		f.add("output", Warn, "start its reader, or name a file (output.to)", "%s", note)
	default:
		f.add("output", OK, "", "%s, %s", c.Output.To, c.Output.Format)
	}
	if c.Metrics.Listen == "" {
		f.add("metrics", Warn, "metrics.listen: what is lost can't be seen without", "are not served")
	} else if note, err := c.CheckMetrics(); err != nil {
		f.add("metrics", Fail, "metrics.listen: an address that nobody else has", "%v", err)
	} else if note != "" {
		f.add("metrics", OK, "", "%s", note)
	} else {
		f.add("metrics", OK, "", "%s is free", c.Metrics.Listen)
	}
}

// What a disk should have free, in bytes.
const (
	littleSpace = 100 << 20
	noSpace     = 1 << 20
)

func disks(f *findings, c *agent.Config) {
	if err := c.CheckState(); err != nil {
		f.add("state", Fail, "state: a file in a folder that the agent may write to", "%v", err)
	}
	said := map[string]bool{}
	for _, p := range c.Needs().Paths {
		if !p.Write || said[filepath.Dir(p.Name)] {
			continue
		}
		dir := filepath.Dir(p.Name)
		said[dir] = true
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			f.add("disk", Fail, "make the folder; the unit makes /var/log/nepcod and /var/lib/nepcod when it starts", "%s: %v", dir, err)
			continue
		}
		free := int64(s.Bavail) * int64(s.Bsize)
		err := files.Writable(p.Name)
		switch {
		case err != nil:
			f.add("disk", Fail, "chmod or chown the folder", "%v", err)
		case free < noSpace || s.Files > 0 && s.Ffree == 0:
			f.add("disk", Fail, "make room: verdicts are lost, and counted", "%s: full", dir)
		case free < littleSpace:
			f.add("disk", Warn, "make room, or rotate more often", "%s: %d MiB free", dir, free>>20)
		default:
			f.add("disk", OK, "", "%s: %d MiB free", dir, free>>20)
		}
	}
}

func network(f *findings, c *agent.Config, listen time.Duration) {
	if c.Interface == "" {
		f.add("interface", Fail, "interface: where packets are mirrored to", "none is named")
		return
	}
	i, err := afpacket.Inspect(c.Interface)
	if err != nil {
		f.add("interface", Fail, "`ip link` lists the interfaces", "%v", err)
		return
	}
	seen := fmt.Sprintf("%s: MTU %d", c.Interface, i.MTU)
	if i.Promiscuous {
		seen += ", promiscuous now"
	} else if c.Receive.Promiscuous {
		seen += ", promiscuous when captured from"
	}
	switch {
	case !i.Up:
		f.add("interface", Fail, "ip link set "+c.Interface+" up", "%s, down", seen)
		return
	case !i.Carrier:
		f.add("interface", Warn, "connect it, or set the other end up", "%s, up, no carrier", seen)
	case !c.Receive.Promiscuous && !i.Promiscuous:
		f.add("interface", Warn, "receive.promiscuous: true takes a mirror's packets, which are addressed to others", "%s, up", seen)
	default:
		f.add("interface", OK, "", "%s, up", seen)
	}
	if len(i.Merging) > 0 {
		f.add("offloads", Warn, "ethtool -K "+c.Interface+" "+strings.Join(i.Merging, " off ")+" off", "packets are merged before they are seen (%s); %s", strings.Join(i.Merging, ", "), i.Note)
	} else {
		f.add("offloads", OK, "", "nothing merges packets (GRO, LRO)")
	}
	traffic(f, c, listen)
}
