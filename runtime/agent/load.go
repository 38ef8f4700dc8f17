package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// disk is where bundles are read from.
type disk struct {
	stat func(string) (os.FileInfo, error)
	open func(string) (io.ReadCloser, error)
}

var realDisk = disk{os.Stat, files.Open}

func (c *Config) from() *disk {
	if c.disk != nil {
		return c.disk
	}
	return &realDisk
}

// reading is a bundle on its way from a file.
type reading struct {
	over atomic.Bool // nobody waits for it any more
}

var errGivenUp = errors.New("given up")

// stoppable is a file whose reading ends when nobody waits for it any more.
type stoppable struct {
	io.ReadCloser
	r *reading
}

// readAtOnce is how much is read before a reader looks whether somebody waits for it still.
const readAtOnce = 256 << 10

func (s stoppable) Read(b []byte) (int, error) {
	if s.r.over.Load() {
		return 0, errGivenUp
	}
	return s.ReadCloser.Read(b[:min(len(b), readAtOnce)])
}

// Stat is the file's, where it is one.
func (s stoppable) Stat() (os.FileInfo, error) {
	if f, ok := s.ReadCloser.(interface{ Stat() (os.FileInfo, error) }); ok {
		return f.Stat()
	}
	return nil, errors.ErrUnsupported
}

// underWay are the loads of this process that have not come back, those that were given up among them: on a file system that hangs a read never
// does. No more than maxUnderWay are begun.
var underWay atomic.Int32

const maxUnderWay = 4

// within has a bundle loaded within the configuration's time. What takes longer is given up, and told so.
func (c *Config) within(path string, load func(*reading) (*Model, error)) (*Model, error) {
	r := new(reading)
	if files.IsStdin(path) {
		return load(r) // whoever types it may take his time
	}
	if underWay.Add(1) > maxUnderWay {
		underWay.Add(-1)
		return nil, fmt.Errorf("%s: not read: %d reads of bundles hang still, as on a file system that does", path, maxUnderWay)
	}
	type result struct {
		m   *Model
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer underWay.Add(-1)
		m, err := load(r)
		done <- result{m, err}
	}()
	t := time.NewTimer(c.Probation.Load)
	defer t.Stop()
	select {
	case x := <-done:
		return x.m, x.err
	case <-t.C:
		r.over.Store(true)
		return nil, fmt.Errorf("%s: reading and proving it takes longer than %v (probation.load): given up", path, c.Probation.Load)
	}
}

// stat looks at what stands at a bundle's path. A service's bundle is a regular file: what is none may never end, and can't be proved
// before it is run. Where nothing is remembered a pipe will do, for the start.
func (c *Config) stat(path string, running bool) (os.FileInfo, error) {
	if files.IsStdin(path) {
		return nil, nil
	}
	info, err := c.from().stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, files.Reason(err))
	}
	if !info.Mode().IsRegular() && (running || c.State != "" || info.IsDir()) {
		return nil, fmt.Errorf("%s: is %s, not a file: copy a bundle beside it and rename that to this name", path, files.KindOf(info.Mode()))
	}
	return info, nil
}

// ReadBundle reads a bundle that this configuration trusts: that is decided by its signature, before anything in it is decoded.
// All that is wrong is in the error, with the keys and with the bundle.
func (c *Config) ReadBundle(path string) (*bundle.Bundle, error) {
	m, err := c.within(path, func(r *reading) (*Model, error) { return c.read(path, r, false) })
	if err != nil {
		return nil, err
	}
	return m.Bundle, nil
}

// read is ReadBundle's reading: a model that isn't bound yet.
func (c *Config) read(path string, r *reading, running bool) (*Model, error) {
	p, wrong := c.trust()
	info, err := c.stat(path, running)
	if err != nil {
		return nil, errors.Join(append(Errors(wrong), err)...)
	}
	m := &Model{Path: path, file: info, trusted: p, barred: new(atomic.Bool)}
	var refused error
	accept := func(s *bundle.Signature, d bundle.Digest) error {
		if refused = wrong; wrong == nil {
			if p != nil {
				refused = inBundle(path, p.Accept(s, d))
			}
			if refused == nil {
				refused = c.returned(path, s, d, info)
			}
		}
		return refused
	}
	f, err := c.from().open(path)
	if err == nil {
		defer f.Close()
		m.Bundle, m.raw, err = bundle.ReadAccepted(files.Show(path), stoppable{f, r}, c.Probation.Size, accept)
	}
	switch {
	case refused != nil:
		return nil, refused
	case err != nil:
		return nil, errors.Join(append(Errors(wrong), barred(path, err))...)
	}
	return m, nil
}

// load reads a bundle that the configuration trusts, checks that it fits, binds it, runs
// its golden vectors, and reckons whether this machine has the time for it: what comes back computes what the compiler saw it compute. beside
// is what the machine has to do.
func (c *Config) load(path string, r *reading, running bool, beside Load) (*Model, error) {
	m, err := c.read(path, r, running)
	if err != nil {
		return nil, err
	}
	if err := c.CheckBundle(path, m.Bundle); err != nil {
		return nil, err
	}
	if err := m.bind(r); err != nil {
		return nil, inBundle(path, err)
	}
	if c.Output.Explain {
		if err := m.priceExplained(); err != nil {
			return nil, inBundle(path, err)
		}
	}
	if err := c.Afford(m.perFlow, beside); err != nil {
		if err = inBundle(path, err); c.Probation.OverBudget != warnOnly {
			return nil, err
		}
		m.note = err.Error()
	}
	if c.State == "" {
		m.raw = nil // nobody keeps it
	}
	// Reading took as much memory again as the model, in steps that a heap of this size does not
	// soon collect.
	debug.FreeOSMemory()
	return m, nil
}

// priceExplained makes what a flow takes that of an explained one.
func (m *Model) priceExplained() error {
	x, err := m.explained()
	if err == nil {
		m.perFlow *= time.Duration(x.Cost())
	}
	return err
}

// The golden vectors are run until that took priceTime of this processor, or pricePasses times: the least pass is what a flow takes.
const (
	priceTime   = 20 * time.Millisecond
	pricePasses = 50
)

// price runs the golden vectors with prove, which fails where one of them does, and measures the time of one flow.
func price(vectors int, prove func() error) (perFlow time.Duration, err error) {
	// Time of this thread, not of the day: others' work, an agent's that runs among it, is not this model's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var least, all time.Duration
	for pass := 0; pass < pricePasses && all < priceTime; pass++ {
		start := threadTime()
		if err := prove(); err != nil {
			return 0, err
		}
		took := threadTime() - start
		if all += took; pass == 0 || took < least {
			least = took
		}
	}
	return least / time.Duration(max(vectors, 1)), nil
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Load is what an agent's workers have to do, by what they did lately.
type Load struct {
	// Flows are decided per second.
	Flows float64 `json:"flows_per_s"`
	// Workers is how many of them can run at once.
	Workers int `json:"workers"`
	// Other is the time that they spend on all but running the model, in seconds per second.
	Other float64 `json:"other"`
	// PerFlow is what the model takes that runs, in ns; 0: none does.
	PerFlow time.Duration `json:"ns_per_flow"`
}

// Afford says so where running a model, with its time for a flow, would take more of the workers' time than probation.budget. A model that
// takes no longer than the one that runs is never too slow.
func (c *Config) Afford(perFlow time.Duration, l Load) error {
	rate := max(l.Flows, c.Probation.Rate)
	allowed := c.Probation.Budget * float64(l.Workers)
	need := l.Other + rate*perFlow.Seconds()
	if rate == 0 || need <= allowed || l.PerFlow > 0 && perFlow <= l.PerFlow {
		return nil
	}
	at := "that come now"
	if rate > l.Flows {
		at = "of probation.rate"
	}
	most := time.Duration(max(allowed-l.Other, 0) / rate * float64(time.Second))
	return fmt.Errorf("%w: it takes %v per flow here, and with the %.3g flows/s %s %.3g of the time of %s, %.2g of it for packets; probation.budget allows %.3g: %v per flow",
		errTooSlow, short(perFlow), rate, at, need, plural.Of(l.Workers, "worker"), l.Other, allowed, short(most))
}

var errTooSlow = errors.New("too slow")

// short is a duration in three digits or so.
func short(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

// CheckTime says so where this machine has not the time for a bundle that this configuration takes otherwise: it measures what a flow takes and holds that to what the
// configuration's agent does now, if one runs. Whether the golden vectors' logits are right is not looked at.
func (c *Config) CheckTime(path string, b *bundle.Bundle) error {
	beside := c.Idle()
	if h, ok := c.AskHealth(); ok {
		beside = h.Load
	}
	_, err := c.within(path, func(r *reading) (*Model, error) {
		m := &Model{Bundle: b}
		if err := m.bind(r); err != nil && m.perFlow == 0 {
			return nil, nil // whoever proves it says so
		}
		if c.Output.Explain {
			if err := m.priceExplained(); err != nil {
				return nil, inBundle(path, err)
			}
		}
		return m, inBundle(path, c.Afford(m.perFlow, beside))
	})
	if err != nil && c.Probation.OverBudget == warnOnly && errors.Is(err, errTooSlow) {
		return nil
	}
	return err
}

// Idle is the load of an agent that does not run yet.
func (c *Config) Idle() Load { return Load{Workers: atOnce(c.Workers)} }

// atOnce is how many of so many threads this machine runs at once.
func atOnce(workers int) int { return min(workers, runtime.GOMAXPROCS(0)) }

// Load loads the bundle, and checks that this configuration takes it. All that is wrong is in
// the error.
func (c *Config) Load() (*Model, error) { return c.loadNamed(false, c.Idle()) }

func (c *Config) loadNamed(running bool, beside Load) (*Model, error) {
	if c.Bundle == "" {
		_, err := c.trust()
		return nil, errors.Join(append(Errors(err), errors.New("bundle: is missing"))...)
	}
	return c.within(c.Bundle, func(r *reading) (*Model, error) { return c.load(c.Bundle, r, running, beside) })
}

// LoadStart is Load for a start: where the bundle is not acceptable, the last good one that is runs in its place, and Instead says why.
func (c *Config) LoadStart() (*Model, error) {
	m, err := c.Load()
	if err == nil {
		return m, nil
	}
	good, why := c.loadGood("")
	if good == nil {
		return nil, errors.Join(append(Errors(err), Errors(why)...)...)
	}
	good.instead = err
	return good, nil
}

// policy is trust, within the configuration's time.
func (c *Config) policy() (*trust.Policy, error) {
	m, err := c.within("trusted_keys", func(*reading) (*Model, error) {
		p, err := c.trust()
		return &Model{trusted: p}, err
	})
	if err != nil {
		return nil, err
	}
	return m.trusted, nil
}

// goodFile is where the latest bundle is kept that stood its trial (0), and the one before (1); "" where nothing is remembered.
func (c *Config) goodFile(i int) string {
	if c.State == "" {
		return ""
	}
	return c.State + [2]string{".last-good", ".last-good.1"}[i]
}

// loadGood loads the latest kept bundle that is still acceptable, and isn't the one with this digest. Where there is none, why says what is wrong with those
// that are kept.
func (c *Config) loadGood(but string) (m *Model, why error) {
	var errs []error
	for i := range 2 {
		path := c.goodFile(i)
		if path == "" || !exists(path) {
			continue
		}
		m, err := c.within(path, func(r *reading) (*Model, error) { return c.load(path, r, true, Load{Workers: 1}) })
		if err == nil && m.Digest() != but {
			m.raw, m.kept = nil, true
			return m, nil
		}
		for _, err := range Errors(err) {
			errs = append(errs, fmt.Errorf("the last good bundle can't run in its place: %w", err))
		}
	}
	return nil, errors.Join(errs...)
}

// sameDigest tells whether the file of a bundle says that it has this digest.
func sameDigest(path string, d bundle.Digest) bool {
	if noPipe(path) != nil {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	got, err := bundle.DigestOf(f)
	return err == nil && got == d
}

// keepGood keeps a model's bundle as the last good one.
func (c *Config) keepGood(m *Model) error {
	if c.State == "" || c.onlyRead || m.raw == nil {
		return nil
	}
	file := c.goodFile(0)
	if !sameDigest(file, m.Bundle.Digest) {
		if err := os.Rename(file, c.goodFile(1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: %w", file, files.Reason(err))
		}
	}
	// The digest is not the signature's: one that was signed anew takes the place of itself.
	if err := noPipe(file); err != nil {
		return err
	}
	if kept, err := os.ReadFile(file); err != nil || !bytes.Equal(kept, m.raw) {
		if err := files.Write(file, m.raw); err != nil {
			return err
		}
	}
	m.raw = nil
	return nil
}

// returned says so where a bundle was returned from here, and its file is still the one it was, or where it has ended the agent in its trial too often.
func (c *Config) returned(path string, s *bundle.Signature, d bundle.Digest, info os.FileInfo) error {
	if c.State == "" || info == nil || path == c.goodFile(0) || path == c.goodFile(1) {
		return nil
	}
	state, err := c.readState()
	if err != nil {
		return nil // whoever trusts keys has seen it
	}
	var serial uint64
	if s != nil {
		serial = s.Serial
	}
	if r := state.Returned; r != nil && r.Digest == d.String() && r.Serial == serial && r.Modified.Equal(info.ModTime()) {
		return fmt.Errorf("%s: bundle was returned from here: %s: it is tried again when its file has changed", path, r.Reason)
	}
	if t := state.Trial; t != nil && t.Digest == d.String() && t.Starts >= maxStarts && t.Modified.Equal(info.ModTime()) {
		return fmt.Errorf("%s: bundle was returned from here: in its trial the agent ended %d times, as in a crash: it is tried again when its file has changed", path, t.Starts)
	}
	return nil
}

// maxStarts is how often an agent may begin a bundle's trial, and end in it.
const maxStarts = 3
