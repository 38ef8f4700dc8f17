package agent

import (
	"context"
	"os"
	"time"
)

// Reload loads the bundle of a configuration again and makes it the model of
// new flows. A bundle that cannot be used changes nothing.
func (a *Agent) Reload(c *Config) error {
	m, err := c.Load()
	if err != nil {
		a.refused.Add(1)
		a.opt.Log.Error("bundle refused; the agent goes on with the one it has", "error", err, "digest", a.Model().Digest())
		return err
	}
	a.Swap(m)
	a.opt.Log.Info("bundle changed", "bundle", m.Path, "digest", m.Digest())
	return nil
}

// Watch reloads the bundle and opens the output anew whenever something comes from again, and reloads the bundle when its
// file has changed and then stayed the same for one interval: one that is
// being copied is not touched. An interval of 0 doesn't look at the file.
func (a *Agent) Watch(ctx context.Context, c *Config, again <-chan os.Signal, interval time.Duration) {
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	loaded := a.Model().file
	last := loaded
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			a.ReopenOutput()
			info, _ := os.Stat(c.Bundle)
			loaded, last = info, info
			a.Reload(c)
		case <-tick:
			info, err := os.Stat(c.Bundle)
			if err != nil {
				continue // gone, perhaps between two renames: what runs, runs
			}
			settled := sameFile(info, last)
			last = info
			if settled && !sameFile(info, loaded) {
				loaded = info
				a.Reload(c)
			}
		}
	}
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
