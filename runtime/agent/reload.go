package agent

import (
	"context"
	"os"
	"reflect"
	"sync"
	"time"
)

// Reload loads the bundle of a configuration again and makes it the model of
// new flows. A bundle that cannot be used changes nothing.
func (a *Agent) Reload(c *Config) error {
	p := &a.probation
	known := false // it has stood its trial
	m, err := c.within(c.Bundle, func(r *reading) (*Model, error) {
		m, err := c.load(c.Bundle, r, true, a.Load())
		if err != nil || r.over.Load() {
			return nil, err
		}
		p.mu.Lock()
		known = p.good != nil && p.good.Digest() == m.Digest() || !a.watches(c)
		under := p.trial != nil && p.trial.model.Digest() == m.Digest() && reflect.DeepEqual(p.trial.model.Bundle.Signature, m.Bundle.Signature)
		p.mu.Unlock()
		switch {
		case under:
			return nil, nil
		case known:
			return m, c.remember(m)
		}
		return m, c.begin(m, 0)
	})
	if err == nil && m == nil {
		p.says("") // it is on trial already, whatever was in its place meanwhile
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		a.refused.Add(1)
		p.says("the bundle is refused: " + err.Error())
		a.opt.Log.Error("bundle refused; the agent goes on with the one it has", "error", err, "digest", a.Model().Digest())
		return err
	}
	before := a.before()
	p.enter(m)
	m.barred.Store(!known)
	a.Swap(m)
	p.says("")
	p.watch(nil)
	a.opt.Log.Info("bundle changed", "bundle", m.Path, "digest", m.Digest())
	if m.note != "" {
		a.opt.Log.Warn(m.note)
	}
	if !known {
		a.beginTrial(m, before)
		return nil
	}
	p.good = m
	if err := c.keepGood(m); err != nil {
		a.opt.Log.Error("the last good bundle can't be kept", "error", err)
	}
	return nil
}

// Watch reloads the bundle and opens the output anew whenever something comes from again, and reloads the bundle when its
// file, or one of those that say whom to trust, has changed and then stayed the same for one interval: one that is
// being copied is not touched. An interval of 0 doesn't look at the files. A new bundle is on trial for a while (probation.go). Nothing that a file system does keeps
// Watch from what comes next: files are looked at and read elsewhere, and what takes too long is given up.
func (a *Agent) Watch(ctx context.Context, c *Config, again <-chan os.Signal, interval time.Duration) {
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	a.beginWatch(c)
	var probing sync.WaitGroup
	probing.Go(func() { a.probe(ctx, c) })
	defer probing.Wait()

	names := append([]string{c.Bundle}, c.trustFiles()...)
	loaded := make([]os.FileInfo, len(names)) // as they were when they were last read
	looks := make(chan []os.FileInfo, 1)
	looking := false
	look := func() {
		looking = true
		a.probation.asking.Store(max(a.now(), 1))
		go func() {
			infos := make([]os.FileInfo, len(names))
			for i, name := range names {
				infos[i], _ = c.from().stat(name)
			}
			a.probation.asking.Store(0)
			looks <- infos
		}()
	}
	if m := a.Model(); m.instead == nil { // else it is tried once more
		loaded[0] = m.file
	}
	last, first := loaded, true
	var load chan []os.FileInfo // nil: none is under way
	asked := false              // to be read, whatever its file is like
	for {
		select {
		case <-ctx.Done():
			if load != nil {
				select {
				case <-load: // what it remembers is written
				case <-time.After(lastLoad):
				}
			}
			return
		case loaded = <-load:
			load = nil
		case <-again:
			a.ReopenOutput()
			asked = true
		case <-tick:
			if !looking && load == nil {
				look()
			}
		case now := <-looks:
			looking = false
			begins := first
			if first { // what says whom to trust was read before, and is once more, since it may have changed meanwhile
				first = false
				loaded = append([]os.FileInfo{loaded[0]}, now[1:]...)
			}
			changed := same(now, last) && !same(now, loaded) &&
				(now[0] != nil || !same(now[1:], loaded[1:])) // gone, perhaps between two renames: what runs, runs, while it is trusted
			if last = now; load == nil && (changed || asked || begins) {
				done, reload, then := make(chan []os.FileInfo, 1), changed || asked, loaded
				if reload {
					then = now
				}
				load, asked = done, false
				go func() {
					if reload {
						a.Reload(c)
					}
					a.checkSigner(c)
					done <- then
				}()
			}
		}
		if asked && !looking && load == nil {
			look()
		}
	}
}

// lastLoad is how long the end waits for a load that is under way, and more may not: a file system may hang.
const lastLoad = 500 * time.Millisecond

// beginWatch takes notice of how the model that runs came to.
func (a *Agent) beginWatch(c *Config) {
	p := &a.probation
	p.mu.Lock()
	defer p.mu.Unlock()
	m := a.Model()
	p.enter(m)
	if m.note != "" {
		a.opt.Log.Warn(m.note)
	}
	switch {
	case m.instead != nil:
		p.good = m
		p.says("the last good bundle runs, since the configuration's is refused: " + m.instead.Error())
		a.opt.Log.Error("the last good bundle runs in place of the configuration's", "error", m.instead, "bundle", m.Path, "digest", m.Digest())
		a.tell("kept", m, nil, m.instead.Error())
	case m.onTrial && a.watches(c):
		a.beginTrial(m, sample{})
	case m.onTrial:
		p.good = m
		m.barred.Store(false)
		a.settle(c, m)
	default:
		p.good = m
	}
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		if !(a[i] == nil && b[i] == nil) && !sameFile(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
