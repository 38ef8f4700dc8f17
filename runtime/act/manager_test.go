package act

import (
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

var nan = math.NaN()

var good = new(atomic.Bool) // a model that is not barred

// fake is a kernel that refuses, is slow, and dies as it is told.
type fake struct {
	mu      sync.Mutex
	rules   map[uint32]Rule
	most    int // in force at a time
	expires bool
	refuse  func(*Rule) error
	slow    time.Duration
	undo    error
	delete  error
	closed  bool
	gone    bool // what all rules hang on
	looked  int  // most rules that were asked for at once
}

func newFake() *fake { return &fake{rules: map[uint32]Rule{}} }

func (f *fake) Name() string  { return "fake" }
func (f *fake) Expires() bool { return f.expires }
func (f *fake) Hardware(r Rule) string {
	return map[bool]string{true: "yes", false: "partly"}[r.ID%2 == 0]
}
func (f *fake) Close() error { f.closed = true; return nil }

func (f *fake) Add(rules []Rule) []error {
	time.Sleep(f.slow)
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := make([]error, len(rules))
	for i, r := range rules {
		if f.refuse != nil {
			errs[i] = f.refuse(&r)
		}
		if errs[i] == nil {
			f.rules[r.ID] = r
		}
	}
	f.most = max(f.most, len(f.rules))
	return errs
}

func (f *fake) Delete(rules []Rule) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.delete != nil {
		return f.delete
	}
	for _, r := range rules {
		delete(f.rules, r.ID)
	}
	return nil
}

func (f *fake) Check(some []Rule) (lost []int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = max(f.looked, len(some))
	for i, r := range some {
		if _, ok := f.rules[r.ID]; !ok {
			lost = append(lost, i)
		}
	}
	if f.gone {
		return nil, ErrGone
	}
	return lost, nil
}

func (f *fake) Undo() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.undo == nil {
		clear(f.rules)
	}
	return f.undo
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.rules)
}

// managed is a manager that runs, and what it tells.
type managed struct {
	*Manager
	mu     sync.Mutex
	events []verdict.Action
	log    strings.Builder
}

func manage(t testing.TB, text string, b Backend, found ...Found) *managed {
	t.Helper()
	m := &managed{}
	m.Manager = NewManager(Options{
		Config: valid(t, text), Backend: b, Found: found, Flush: func() {},
		Emit: func(a *verdict.Action, _ bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.events = append(m.events, *a)
		},
		Log: slog.New(slog.NewTextHandler(&m.log, nil)),
	})
	go m.Run()
	return m
}

// told are the events so far, in short.
func (m *managed) told() (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.events {
		e := &m.events[i]
		s := e.Event + " " + e.Kind
		if e.Why+e.Error != "" {
			s += ": " + e.Why + e.Error
		}
		list = append(list, s)
	}
	return list
}

// nth is a verdict of the nth flow.
func nth(t testing.TB, n int) *verdict.Record {
	r := recordOf(t, "tor", 1)
	r.Key.Src[1], r.Key.Src[2], r.Key.SrcPort = byte(n>>16), byte(n>>8), uint16(1+n&255)
	return r
}

const dropping = "rules: [{labels: [tor], min_score: 0.5, do: drop, for: 10s}]\ndry_run: false\n"

// A rule begins, is told, ends after its time, and is told to have ended, with one number for all its events.
func TestTime(t *testing.T) {
	for _, expires := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := newFake()
			k.expires = expires
			m := manage(t, dropping, k)
			r := nth(t, 1)
			m.Offer(r, flow.Scope{}, good)
			m.Offer(recordOf(t, "web", 1), flow.Scope{}, good)
			synctest.Wait()
			if k.count() != 1 || !slices.Equal(m.told(), []string{"begin drop"}) {
				t.Fatal(k.rules, m.told())
			}
			if s := m.Stats(); s.Active[Drop] != 1 || s.Results[Drop][Done] != 1 || s.Hardware != 0 || s.Backend != "fake" {
				t.Errorf("%+v", s)
			}
			time.Sleep(9 * time.Second)
			m.Offer(r, flow.Scope{}, good) // the same flow once more is no new rule, and no longer time
			synctest.Wait()
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			if !slices.Equal(m.told(), []string{"begin drop", "end drop: time"}) {
				t.Error(m.told())
			}
			if left := k.count(); (left == 0) != !expires { // the kernel's own timeout is not ours to do
				t.Error(left, "rules are left")
			}
			if e := m.events; e[0].FlowID() != e[1].FlowID() || e[0].Limit != 10 || e[1].Held < 10 || e[1].Held > 10.1 || e[0].Hardware != "partly" || e[0].Score != 1 || e[0].Label != "tor" {
				t.Errorf("%+v", e)
			}
			if s := m.Stats(); s.Active[Drop] != 0 || s.Ended[Drop][EndTime] != 1 || s.Results[Drop][Already] != 1 {
				t.Errorf("%+v", s)
			}
			m.Offer(r, flow.Scope{}, good) // and may ask again
			synctest.Wait()
			m.Close()
			if s := m.Stats(); s.Results[Drop][Done] != 2 || s.Ended[Drop][EndExit] != 1 || k.count() != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A kernel that takes its time, and ends rules by its own clock from when it has them: none is forgotten that is in force there still, since a new one for its flow would end with it.
func TestTimeOfSlowKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		k.expires, k.slow = true, 4*time.Second
		m := manage(t, dropping, k)
		r := nth(t, 1)
		m.Offer(r, flow.Scope{}, good)
		time.Sleep(13 * time.Second) // 9 in force
		synctest.Wait()
		m.Offer(r, flow.Scope{}, good)
		synctest.Wait()
		if s := m.Stats(); s.Results[Drop][Already] != 1 || s.Active[Drop] != 1 || !slices.Equal(m.told(), []string{"begin drop"}) {
			t.Errorf("%+v, %q", s, m.told())
		}
		m.Close()
	})
}

// Numbers of rules begin again when they are used up, and leave those out that are in force.
func TestNumbersUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		m := manage(t, strings.Replace(dropping, "10s", "1h", 1), k)
		m.Offer(nth(t, 1), flow.Scope{}, good)
		synctest.Wait()
		m.nextID = MaxID - 1
		for i := range 3 {
			m.Offer(nth(t, 2+i), flow.Scope{}, good)
		}
		synctest.Wait()
		if got := slices.Sorted(maps.Keys(k.rules)); !slices.Equal(got, []uint32{1, 2, 3, MaxID}) {
			t.Errorf("numbers %v", got)
		}
		m.Close()
	})
}

// Rules of one batch of which one finds that all are gone: none is told to be in force, all being undone.
func TestGoneAmidBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		k.slow = time.Second // so that what follows the first waits for it
		m := manage(t, dropping, k)
		m.Offer(nth(t, 0), flow.Scope{}, good)
		synctest.Wait()
		for i := range 3 {
			m.Offer(nth(t, 1+i), flow.Scope{}, good)
		}
		k.refuse = func(r *Rule) error {
			if r.ID == 2 {
				return ErrGone
			}
			return nil
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := m.Stats(); s.Active[Drop] != 0 || s.Results[Drop][Done] != 1 || s.Results[Drop][Refused] != 3 || k.count() != 0 {
			t.Errorf("%+v, %d in force, %q", s, k.count(), m.told())
		}
		m.Close()
	})
}

// What a model says that is barred is not done, and what it has had done is undone within a second, while the rules of others stay; with or without a kernel's own timeout, and in a
// dry run, too.
func TestBarred(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		backend    func() *fake
	}{
		{"flower", dropping, newFake},
		{"nftables", dropping, func() *fake { k := newFake(); k.expires = true; return k }},
		{"dry run", strings.Replace(dropping, "dry_run: false", "dry_run: true", 1), nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			var k *fake
			var b Backend
			if tc.backend != nil {
				k = tc.backend()
				b = k
			}
			m := manage(t, tc.text, b)
			bad := new(atomic.Bool)
			m.Offer(nth(t, 1), flow.Scope{}, bad)
			m.Offer(nth(t, 2), flow.Scope{}, good)
			m.Offer(nth(t, 3), flow.Scope{}, bad)
			synctest.Wait()
			bad.Store(true)
			m.Offer(nth(t, 4), flow.Scope{}, bad)
			time.Sleep(checkEvery)
			synctest.Wait()
			if told := m.told(); !slices.Equal(told, []string{"begin drop", "begin drop", "begin drop", "end drop: withdrawn", "end drop: withdrawn"}) || k != nil && k.count() != 1 {
				t.Errorf("%s: %v", tc.name, told)
			}
			if s := m.Stats(); s.Withheld[Unproven] != 1 {
				t.Errorf("%s: %+v", tc.name, s)
			}
			bad.Store(false)
			m.Offer(nth(t, 1), flow.Scope{}, bad) // a rule like any other again
			synctest.Wait()
			if told := m.told(); len(told) != 6 {
				t.Errorf("%s: %v", tc.name, told)
			}
			if k != nil {
				k.mu.Lock()
				k.delete = errors.New("busy")
				k.mu.Unlock()
				bad.Store(true)
				time.Sleep(2 * checkEvery)
				synctest.Wait()
				if s := m.Stats(); k.count() != 2 || s.Active[Drop] != 2 {
					t.Errorf("%s: what can't be deleted is told to have ended: %+v", tc.name, s)
				}
				k.mu.Lock()
				k.delete = nil
				k.mu.Unlock()
				time.Sleep(checkEvery)
				synctest.Wait()
				if s := m.Stats(); k.count() != 1 || s.Active[Drop] != 1 || s.Ended[Drop][EndWithdrawn] != 3 {
					t.Errorf("%s: %+v", tc.name, s)
				}
			}
			m.Close()
		})
	}
}

// What waits for a slow kernel when its model is barred is not done.
func TestBarredWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, bad := newFake(), new(atomic.Bool)
		k.slow = 3 * time.Second
		m := manage(t, dropping, k)
		m.Offer(nth(t, 0), flow.Scope{}, good)
		synctest.Wait()
		m.Offer(nth(t, 1), flow.Scope{}, bad)
		bad.Store(true)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if s := m.Stats(); s.Results[Drop][Done] != 1 || s.Results[Drop][Withdrawn] != 1 || k.count() != 1 {
			t.Errorf("%+v", s)
		}
		m.Close()
	})
}

// Bounds hold, and what they keep from being done is counted.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		m := manage(t, dropping+"max_rules: 30\nrules_per_second: 20", k)
		for i := range 50 {
			m.Offer(nth(t, i), flow.Scope{}, good)
		}
		synctest.Wait()
		s := m.Stats()
		if s.Results[Drop][Done] != 20 || s.Results[Drop][TooFast] != 30 || k.count() != 20 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Second)
		for i := range 50 {
			m.Offer(nth(t, 100+i), flow.Scope{}, good)
		}
		synctest.Wait()
		if s = m.Stats(); s.Results[Drop][Done] != 30 || s.Results[Drop][TooMany] != 40 || k.most != 30 {
			t.Errorf("%+v", s)
		}
		m.Close()
		if n := len(m.told()); n != 60 {
			t.Errorf("%d events", n)
		}
	})
}

// A slow kernel keeps nobody waiting: what does not fit the queue is counted, and the rest is done.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		k.slow = 3 * time.Second
		m := manage(t, dropping+"queue: 10\nrules_per_second: 1000", k)
		m.Offer(nth(t, 0), flow.Scope{}, good)
		synctest.Wait() // it is with the kernel
		start := time.Now()
		for i := range 100 {
			m.Offer(nth(t, 1+i), flow.Scope{}, good)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("offering took %v", d)
		}
		if s := m.Stats(); s.Results[Drop][Overflow] != 90 || s.Queued != 10 {
			t.Errorf("%+v", s)
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if s := m.Stats(); s.Results[Drop][Done] != 11 {
			t.Errorf("%+v", s)
		}
		m.Close()
	})
}

// What the kernel refuses is told and counted as refused, a problem for a minute, and nothing else.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		k.refuse = func(r *Rule) error {
			if r.ID%2 == 0 {
				return errors.New("no room")
			}
			return nil
		}
		m := manage(t, dropping, k)
		for i := range 4 {
			m.Offer(nth(t, i), flow.Scope{}, good)
		}
		synctest.Wait()
		s := m.Stats()
		if s.Results[Drop][Done] != 2 || s.Results[Drop][Refused] != 2 || s.Active[Drop] != 2 || k.count() != 2 {
			t.Errorf("%+v", s)
		}
		if told := m.told(); len(told) != 4 || !slices.Contains(told, "refused drop: no room") {
			t.Error(told)
		}
		if p := m.Problem(); p != "actions: the kernel refuses rules: no room" {
			t.Error(p)
		}
		time.Sleep(refusalTold)
		if p := m.Problem(); p != "" {
			t.Error(p)
		}
		m.Close()
		if !strings.Contains(m.log.String(), "no room") {
			t.Error(m.log.String())
		}
	})
}

// Rules that somebody else takes away are told to have ended, and no more are made, whether it shows when looked for, when a rule is
// added, or when one is to be deleted.
func TestGone(t *testing.T) {
	for name, dies := range map[string]func(k *fake, m *managed){
		"looked for": func(k *fake, _ *managed) {
			k.mu.Lock()
			clear(k.rules)
			k.gone = true
			k.mu.Unlock()
		},
		"added": func(k *fake, m *managed) {
			k.mu.Lock()
			k.refuse = func(*Rule) error { return ErrGone }
			k.mu.Unlock()
			m.Offer(nth(t, 70), flow.Scope{}, good)
		},
		"deleted": func(k *fake, _ *managed) {
			k.mu.Lock()
			k.delete = ErrGone
			k.mu.Unlock()
			time.Sleep(10 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newFake()
				m := manage(t, dropping, k)
				for i := range 5 {
					m.Offer(nth(t, i), flow.Scope{}, good)
				}
				synctest.Wait()
				dies(k, m)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				k.mu.Lock()
				k.refuse = nil
				k.mu.Unlock()
				m.Offer(nth(t, 50), flow.Scope{}, good)
				synctest.Wait()
				s := m.Stats()
				if s.Ended[Drop][EndFlushed] != 5 || s.Active[Drop] != 0 || s.Results[Drop][Stopped] != 1 || k.count() != 0 {
					t.Errorf("%+v, %d in force", s, k.count())
				}
				if p := m.Problem(); !strings.HasPrefix(p, "actions are off until a restart: ") {
					t.Error(p)
				}
				m.Close()
			})
		})
	}
}

// Rules that somebody takes away one by one are told to have ended, each within a round of looks at so many at once; the others stay, and more are made.
func TestOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		m := manage(t, strings.Replace(dropping, "10s", "10m", 1)+"rules_per_second: 100000\n", k)
		const n = 100
		for i := range n {
			m.Offer(nth(t, i), flow.Scope{}, good)
		}
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond) // all of them are looked at, those that end last too
		k.mu.Lock()
		for _, id := range []uint32{1, 50, n} {
			delete(k.rules, id)
		}
		k.mu.Unlock()
		time.Sleep((n/lookAtOnce + 1) * checkEvery)
		synctest.Wait()
		if s := m.Stats(); s.Ended[Drop][EndFlushed] != 3 || s.Active[Drop] != n-3 || m.Problem() != "" || k.looked > lookAtOnce {
			t.Errorf("%+v, %q, %d at once", s, m.Problem(), k.looked)
		}
		if n := strings.Count(strings.Join(m.told(), "\n"), "end drop: flushed"); n != 3 || !strings.Contains(m.log.String(), "somebody has taken a rule away before its time was over: drop ") {
			t.Errorf("%d are told: %s", n, m.log.String())
		}
		m.Offer(nth(t, 0), flow.Scope{}, good) // asked for once more
		m.Offer(nth(t, n), flow.Scope{}, good)
		synctest.Wait()
		if s := m.Stats(); s.Active[Drop] != n-1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if s := m.Stats(); s.Ended[Drop][EndTime] != n-1 || s.Active[Drop] != 0 {
			t.Errorf("%+v", s)
		}
		m.Close()
	})
}

// A rule that can't be deleted when its time is over is in force, and is counted so, until it can.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		k.delete = errors.New("busy")
		m := manage(t, dropping, k)
		m.Offer(nth(t, 0), flow.Scope{}, good)
		time.Sleep(13 * time.Second)
		synctest.Wait()
		if s := m.Stats(); s.Active[Drop] != 1 || len(m.told()) != 1 || k.count() != 1 {
			t.Errorf("%+v %v", s, m.told())
		}
		k.mu.Lock()
		k.delete = nil
		k.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := m.Stats(); s.Active[Drop] != 0 || k.count() != 0 {
			t.Errorf("%+v", s)
		}
		m.Close()
	})
}

// What can't be undone at the end is not told to have ended.
func TestEndFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		k.undo = errors.New("no answer")
		m := manage(t, dropping, k)
		m.Offer(nth(t, 0), flow.Scope{}, good)
		synctest.Wait()
		m.Close()
		if s := m.Stats(); s.Active[Drop] != 1 || s.Ended[Drop][EndExit] != 0 || !strings.Contains(m.log.String(), "nepcod actions flush takes them away: no answer") {
			t.Errorf("%+v %s", s, m.log.String())
		}
	})
}

// A dry run tells the same, says that it is one, and counts nothing as done.
func TestDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manage(t, "rules: [{labels: [tor], min_score: 0.5, do: mirror, to: p9, for: 10s}]", nil)
		m.Offer(nth(t, 0), flow.Scope{}, good)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if !slices.Equal(m.told(), []string{"begin mirror", "end mirror: time"}) || !m.events[0].DryRun || !m.events[1].DryRun || m.events[0].Backend != "none" {
			t.Errorf("%+v", m.events)
		}
		m.Close()
		s := m.Stats()
		if s.Results[Mirror][DryRun] != 1 || s.Results[Mirror][Done] != 0 || s.Active != [NumKinds]int{} || s.Ended != [NumKinds][NumEndings]uint64{} {
			t.Errorf("%+v", s)
		}
	})
}

// The end of what an earlier run has left is told, with that run's number.
func TestRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manage(t, dropping, newFake(), Found{Backend: "fake", Kind: Drop, Flow: Flow{Key: nth(t, 3).Key}, Label: "tor", FlowID: 99})
		synctest.Wait()
		if !slices.Equal(m.told(), []string{"end drop: restart"}) || m.events[0].FlowID() != 99 || m.Stats().Ended[Drop][EndRestart] != 1 {
			t.Errorf("%+v", m.events)
		}
		m.Close()
	})
}

// Why nothing was done about a verdict that asked for it is counted.
func TestWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake()
		m := manage(t, dropping, k)
		r := nth(t, 1)
		r.Marks = flow.MarkLost
		m.Offer(r, flow.Scope{}, good)
		m.Offer(recordOf(t, "web", 1), flow.Scope{}, good)
		synctest.Wait()
		if s := m.Stats(); s.Withheld[Marked] != 1 || s.Withheld[Unasked] != 0 || k.count() != 0 {
			t.Errorf("%+v", s)
		}
		m.Close()
	})
}
