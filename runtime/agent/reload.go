package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Reload loads the bundle of a configuration again and makes it the model of
// new flows. A bundle that cannot be used changes nothing.
func (a *Agent) Reload(c *Config) error { return a.reload(c, func() bool { return true }) }

// reload is Reload; a bundle is taken only if wanted still holds once it has been proved.
func (a *Agent) reload(c *Config, wanted func() bool) error {
	var m *Model
	// What is no regular file may never end, and was good enough for the start only.
	info, err := os.Stat(c.Bundle)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: is %s, not a file: copy a bundle beside it and rename that to this name", c.Bundle, kindOf(info.Mode()))
	} else {
		m, err = c.Load()
	}
	if !wanted() {
		return errors.New("given up")
	}
	if err == nil {
		err = c.Remember(m)
	}
	if err != nil {
		a.refused.Add(1)
		a.opt.Log.Error("bundle refused; the agent goes on with the one it has", "error", err, "digest", a.Model().Digest())
		return err
	}
	a.Swap(m)
	a.opt.Log.Info("bundle changed", "bundle", m.Path, "digest", m.Digest())
	return nil
}

// kindOf names what is no regular file.
func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&os.ModeNamedPipe != 0:
		return "a named pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// LoadTimeout is how long a bundle may take to be read and proved while another runs.
const LoadTimeout = time.Minute

// Watch reloads the bundle and opens the output anew whenever something comes from again, and reloads the bundle when its
// file has changed and then stayed the same for one interval: one that is
// being copied is not touched. An interval of 0 doesn't look at the file. A bundle that takes longer than LoadTimeout, say on a file
// system that hangs, is given up, and the next change is looked at.
func (a *Agent) Watch(ctx context.Context, c *Config, again <-chan os.Signal, interval time.Duration) {
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	loaded := a.Model().file
	last := loaded
	var load struct {
		done    chan struct{} // nil: none is under way
		timeout <-chan time.Time
		over    *atomic.Bool // it was taken, or refused, or given up: whoever sets it first
		again   bool         // asked for meanwhile
	}
	begin := func() {
		done, over := make(chan struct{}), new(atomic.Bool)
		load.done, load.over, load.timeout, load.again = done, over, time.After(a.loadTimeout), false
		go func() {
			defer close(done)
			a.reload(c, func() bool { return over.CompareAndSwap(false, true) })
		}()
	}
	look := func() {
		info, _ := os.Stat(c.Bundle)
		loaded, last = info, info
		begin()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-load.done:
			if load.done, load.timeout = nil, nil; load.again {
				look()
			}
		case <-load.timeout:
			if load.timeout = nil; !load.over.CompareAndSwap(false, true) {
				continue // it is being taken
			}
			load.done = nil
			a.refused.Add(1)
			a.opt.Log.Error("bundle given up: reading and proving it takes too long; the agent goes on with the one it has", "bundle", c.Bundle, "timeout", a.loadTimeout, "digest", a.Model().Digest())
			if load.again {
				look()
			}
		case <-again:
			a.ReopenOutput()
			if load.again = load.done != nil; !load.again {
				look()
			}
		case <-tick:
			info, err := os.Stat(c.Bundle)
			if err != nil || load.done != nil {
				continue // gone, perhaps between two renames: what runs, runs
			}
			settled := sameFile(info, last)
			last = info
			if settled && !sameFile(info, loaded) {
				loaded = info
				begin()
			}
		}
	}
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
