package agent

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/runtime/act"
	"nepcoc/runtime/verdict"
)

// Actions are what is done about verdicts, and how.
type Actions struct {
	Config act.Config
	// Backend is nil where Config.DryRun; the agent does not close it.
	Backend act.Backend
	Found   []act.Found // what the backend found of an earlier run
}

// actions is the manager and its way to the output.
type actions struct {
	*act.Manager
	out   *output
	lines *chunk

	events, lost atomic.Uint64
}

func (a *Agent) newActions(o *Actions) *actions {
	s := &actions{out: a.out}
	s.Manager = act.NewManager(act.Options{Config: o.Config, Backend: o.Backend, Found: o.Found, Emit: s.emit, Flush: s.flush, Log: a.opt.Log})
	return s
}

// emit writes an event, or counts it as lost where the output is behind and must not be waited for.
func (s *actions) emit(e *verdict.Action, wait bool) {
	s.events.Add(1)
	if s.lines == nil {
		if s.lines = s.out.take(wait); s.lines == nil {
			s.lost.Add(1)
			return
		}
	}
	c := s.lines
	c.buf = append(e.AppendEVE(c.buf), '\n')
	c.ends = append(c.ends, len(c.buf))
	if len(c.buf) >= chunkBytes {
		s.flush()
	}
}

func (s *actions) flush() {
	if s.lines != nil && len(s.lines.ends) > 0 {
		s.out.send(s.lines)
		s.lines = nil
	}
}

// CheckActions asks whether what actions name is there, and may be done.
func (c *Config) CheckActions() (note string, err error) {
	var errs []error
	seen := map[string]bool{}
	for _, p := range c.Actions.Places(c.Interface) {
		if _, err := net.InterfaceByName(p.Interface); err != nil && !seen[p.Interface] {
			seen[p.Interface] = true
			errs = append(errs, fmt.Errorf("actions.interfaces: %s: %w", p.Interface, err))
		}
		for i := range c.Actions.Rules {
			if c.Actions.Rules[i].To == p.Interface && !p.Egress && len(c.Actions.Interfaces) == 0 {
				errs = append(errs, fmt.Errorf("actions.rules[%d].to: %s has the rules itself: its copies would be copied again", i, p.Interface))
			}
		}
	}
	for i := range c.Actions.Rules {
		if to := c.Actions.Rules[i].To; to != "" {
			if _, err := net.InterfaceByName(to); err != nil {
				errs = append(errs, fmt.Errorf("actions.rules[%d].to: %s: %w", i, to, err))
			}
		}
	}
	if !c.Actions.Acts() {
		note = "actions: dry run: what would be done is written, nothing is done (dry_run: false does it)"
	} else if !mayAdmin() {
		errs = append(errs, errors.New("actions: rules need CAP_NET_ADMIN: see /usr/share/doc/nepcod/actions.md; or dry_run: true"))
	}
	return note, errors.Join(errs...)
}

// mayAdmin says whether this process may change the kernel's rules.
func mayAdmin() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) != nil || d[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// OpenActions prepares what the configuration wants done, and takes away what an earlier run has left; nil where nothing is. Packets of a capture are
// no reason to do anything now: replay makes it a dry run.
func (c *Config) OpenActions(replay bool) (*Actions, error) {
	if !c.Actions.On() {
		return nil, nil
	}
	o := &Actions{Config: c.Actions}
	if o.Config.DryRun = o.Config.DryRun || replay; o.Config.DryRun {
		return o, nil
	}
	var err error
	o.Backend, o.Found, err = act.Open(&o.Config, c.Interface)
	return o, err
}

// RulesInForce is the number of rules that the kernel has at the captured interface, as far as this process may ask. Where the agent
// makes none they are of another one, or of one that was killed: neither are its to take away.
func (c *Config) RulesInForce() int {
	found, _ := act.List(c.Interface)
	return len(found)
}

// RulesOverdue is the number of rules anywhere whose time has been over for a minute, as far as this process may ask: flower's, of an agent that was killed, at interfaces that no
// configuration names any more. Whoever lives deletes his.
func RulesOverdue() (n int) {
	found, _ := act.List("")
	for i := range found {
		if found[i].Left < -time.Minute {
			n++
		}
	}
	return n
}

// Close takes away what may be left of the backend's rules, and closes it, when the agent has ended.
func (o *Actions) Close() error {
	if o == nil || o.Backend == nil {
		return nil
	}
	return errors.Join(o.Backend.Undo(), o.Backend.Close())
}
