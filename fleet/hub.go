package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// HubOptions are of one hub.
type HubOptions struct {
	Name     string // of this hub, for people
	Replicas int    // of everything stored: 1, or 3 with a cluster of three servers
	// LinesAge and LinesBytes bound what is kept of a group's lines.
	LinesAge   time.Duration
	LinesBytes int64
	Log        *slog.Logger
}

// Check says all that is wrong with what an operator asks for: servers would take no bound, or one that keeps nothing, without a word.
func (o *HubOptions) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Replicas != 1 && o.Replicas != 3 && o.Replicas != 5 {
		bad("%d replicas: 1, or 3 or 5 of a cluster of as many servers", o.Replicas)
	}
	if o.LinesAge < leastAge {
		bad("lines are kept for %v: %v at least", o.LinesAge, leastAge)
	}
	if o.LinesBytes < fewLines {
		bad("bytes of lines to keep: %d; %d at least", o.LinesBytes, fewLines)
	}
	return errors.Join(errs...)
}

// leastAge is how long lines are kept at least: a sink that begins again needs some time.
const leastAge = time.Minute

// Hub moves rollouts on and orders, while it leads; it answers enrolments always. What it knows it has from the streams: another may take over at any moment.
type Hub struct {
	*Client
	o      HubOptions
	leader jetstream.KeyValue

	mu     sync.Mutex
	cards  *register
	groups map[string]entry[Group]
	orders map[string]entry[Order] // by key
	lines  map[string]bool         // groups that have a stream of lines
	told   map[string]*Story       // what the log has of their rollouts
	// troubles is what is wrong with a group on the hub's side, "": nothing.
	troubles map[string]string
	unread   map[string]string // likewise, why its document can't be read: nothing of it moves
	wake     chan struct{}
	leads    bool
	heard    time.Time // since when this hub has led and looked without a break: what was silent before is held against no card
	looked   time.Time // when it looked last

	// For who looks: whether the view is whole, how often it changed, and reports that were left out.
	follows          atomic.Bool
	changes, refused atomic.Uint64

	enrolments, unreadable, reportsRefused, logins seldom

	asking sync.Map // subjects of enrolments that are being answered
}

// entry is a value with its revision.
type entry[T any] struct {
	value    T
	revision uint64
}

// leaseTime is how long a hub leads without saying so again.
var leaseTime = 6 * time.Second // changed by tests only

// ackTime is how long the servers may take to have an order; then it is tried again.
const ackTime = 5 * time.Second

// idsTime is how long the servers know message ids of lines: they are in memory, and it is for what is sent again in the same minute. Sinks count.
const idsTime = 2 * time.Minute

// CheckHub says why a hub can't work with the folder.
func (a *Access) CheckHub() error {
	if a.seal == nil || a.users == nil {
		return fmt.Errorf("%s: has no %s and %s: a hub needs the folder that nepcof init made", a.dir, fileCardsKey, fileSealKey)
	}
	return nil
}

// NewHub makes what isn't there yet in the servers.
func NewHub(ctx context.Context, c *Client, o HubOptions) (*Hub, error) {
	if err := c.access.CheckHub(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hub{Client: c, o: o, groups: map[string]entry[Group]{}, orders: map[string]entry[Order]{}, lines: map[string]bool{}, told: map[string]*Story{}, troubles: map[string]string{}, unread: map[string]string{}, wake: make(chan struct{}, 1)}
	for _, b := range []struct {
		name string
		ttl  time.Duration
		kv   *jetstream.KeyValue
	}{{bucketGroups, 0, &c.groups}, {bucketMembers, 0, &c.members}, {bucketOrders, 0, &c.orders}, {bucketTokens, tokenLife, &c.tokens}, {bucketLeader, leaseTime, &h.leader}} {
		var err error
		if *b.kv, err = c.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: b.name, TTL: b.ttl, Replicas: o.Replicas}); err != nil {
			return nil, roomless(b.name, err)
		}
	}
	for _, s := range []jetstream.StreamConfig{
		{Name: streamCards, Subjects: []string{subjectCards + ">"}, MaxMsgsPerSubject: 1, MaxMsgSize: maxReport},
		// A chunk stays as it is: nothing is written over it.
		{Name: streamBundles, Subjects: []string{subjectBundles + ">"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, AllowDirect: true},
	} {
		s.Replicas = o.Replicas
		if _, err := c.js.CreateOrUpdateStream(ctx, s); err != nil {
			return nil, roomless(s.Name, err)
		}
	}
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	h.cards = newRegister(members)
	return h, nil
}

// roomless says what it means that servers don't make a stream.
func roomless(name string, err error) error {
	if isNoRoom(err) {
		return fmt.Errorf("%s: the servers' disks have no room: free some (%w)", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Run leads whenever nobody else does, until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	enrolments, err := h.nc.QueueSubscribe(subjectEnrol+"*", "hub", func(m *nats.Msg) { h.answerSoon(ctx, m) })
	if err != nil {
		return err
	}
	defer enrolments.Unsubscribe()
	connection := h.nc.StatusChanged(nats.CONNECTED)
	unfollow, err := h.followAll(ctx, time.Minute)
	if err != nil {
		if ctx.Err() != nil { // it was to end before it had begun
			return nil
		}
		return err
	}
	defer func() { unfollow() }()
	stale := false
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var lease uint64
	var renewed time.Time
	for {
		if stale {
			// Watches find back to their places by themselves, but take their time.
			unfollow()
			if unfollow, err = h.followAll(ctx, leaseTime/3); err == nil {
				stale = false
			} else if ctx.Err() == nil {
				h.o.Log.Warn("the servers don't tell what is new yet", "why", err)
			}
		}
		if time.Since(renewed) > leaseTime/3 {
			lease = h.lead(ctx, lease)
			if h.nc.IsConnected() {
				h.Now(ctx)
			}
			renewed = time.Now()
		}
		now := h.clock.now()
		h.setLeads(lease != 0, now)
		if lease != 0 {
			h.step(ctx, now)
		}
		select {
		case <-ctx.Done():
			if lease != 0 {
				done, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				h.leader.Delete(done, "hub", jetstream.LastRevision(lease))
				cancel()
			}
			return nil
		case _, open := <-connection:
			if stale = open; !open {
				connection = nil
			}
		case <-tick.C:
		case <-h.wake:
			// Many cards report at once: what comes in the next moment is looked at together.
			time.Sleep(50 * time.Millisecond)
			select {
			case <-h.wake:
			default:
			}
		}
	}
}

// Leads is true while this hub moves rollouts on.
func (h *Hub) Leads() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leads
}

// setLeads notes that this hub looks, and whether it leads. Where it has not looked for long, as a machine that slept, or the servers' clock was set, nobody
// could be heard.
func (h *Hub) setLeads(leads bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if broke := now.Sub(h.looked); !h.looked.IsZero() && broke.Abs() > lost/2 {
		h.heard = now
		h.o.Log.Warn("hub did not look for a while, or the servers' clock was set: cards that were silent have the time to be heard", "name", h.o.Name, "seconds", broke.Seconds())
	}
	h.looked = now
	if h.leads != leads {
		h.leads, h.heard = leads, now
		h.o.Log.Info("hub", "name", h.o.Name, "leads", leads)
		for name, g := range h.groups { // what was before is in another log, or further up
			h.story(name, g.value.Rollout)
		}
	}
}

// story are the events of a group's rollout that were not given before. The caller holds the lock.
func (h *Hub) story(group string, r *Rollout) []Event {
	if r == nil {
		return nil
	}
	if h.told[group] == nil {
		h.told[group] = &Story{}
	}
	return h.told[group].New(r)
}

// tell logs what a group's rollout has come to.
func (h *Hub) tell(g Group) {
	h.mu.Lock()
	events := h.story(g.Name, g.Rollout)
	h.mu.Unlock()
	for _, e := range events {
		h.o.Log.Info("rollout", "group", g.Name, "state", g.Rollout.State, "event", e.Text, "rollout", g.Rollout.ID)
	}
}

// lead takes or keeps the lead, and returns the revision that says so; 0: another has it.
func (h *Hub) lead(ctx context.Context, lease uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, leaseTime/3)
	defer cancel()
	if lease != 0 {
		if r, err := h.leader.Update(ctx, "hub", []byte(h.o.Name), lease); err == nil {
			return r
		}
	}
	r, err := h.leader.Create(ctx, "hub", []byte(h.o.Name))
	if err != nil {
		return 0
	}
	return r
}

// answerSoon answers one request of each token at a time, so that who asks again and again, and has it no longer, keeps nobody else waiting.
func (h *Hub) answerSoon(ctx context.Context, m *nats.Msg) {
	if _, busy := h.asking.LoadOrStore(m.Subject, true); busy {
		h.say(m, enrolment{Error: "somebody uses the token just now: nepcof enrol makes another"})
		return
	}
	go func() {
		defer h.asking.Delete(m.Subject)
		h.answer(ctx, m)
	}()
}

// answer enrols a card.
func (h *Hub) answer(ctx context.Context, m *nats.Msg) {
	h.say(m, h.enrol(ctx, cutPrefix(m.Subject, subjectEnrol), m.Data))
}

func (h *Hub) say(m *nats.Msg, e enrolment) {
	if e.Error != "" {
		h.enrolments.warn(h.o.Log, "enrolment refused", "why", e.Error)
	}
	if text, err := json.Marshal(e); err == nil {
		m.Respond(text)
	}
}

// followAll follows until the function that it returns, which is there with an error, too; and fails where the view is not whole in time.
func (h *Hub) followAll(ctx context.Context, within time.Duration) (context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(within, cancel)
	err := h.follow(ctx)
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
	}
	return cancel, err
}

// follow keeps this hub's view of the streams, from now on until ctx ends.
func (h *Hub) follow(ctx context.Context) error {
	watch := func(kv jetstream.KeyValue, take func(key string, value []byte, revision uint64) error, gone func(key string, revision uint64)) error {
		w, err := kv.WatchAll(ctx)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { w.Stop() })
		ready := make(chan struct{})
		go func() {
			for e := range w.Updates() {
				if e == nil {
					close(ready)
					continue
				}
				h.mu.Lock()
				if ctx.Err() != nil { // another follows, and may know more
					h.mu.Unlock()
					return
				}
				var err error
				if e.Operation() == jetstream.KeyValuePut {
					err = take(e.Key(), e.Value(), e.Revision())
				} else if gone != nil {
					gone(e.Key(), e.Revision())
				}
				h.mu.Unlock()
				if err != nil {
					h.unreadable.warn(h.o.Log, "unreadable", "bucket", kv.Bucket(), "key", e.Key(), "why", err)
				}
				h.rouse()
			}
		}()
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := watch(h.members, func(k string, value []byte, _ uint64) error {
		var m Member
		if err := json.Unmarshal(value, &m); err != nil {
			return err
		}
		group, card, _ := cutKey(k)
		h.cards.add(group, card, m)
		return nil
	}, func(k string, _ uint64) {
		group, card, _ := cutKey(k)
		h.cards.remove(group, card)
	})
	if err == nil {
		err = watch(h.Client.groups, func(name string, value []byte, revision uint64) error {
			g, err := readGroup(name, value)
			if revision > h.groups[name].revision {
				h.groups[name] = entry[Group]{g, revision}
				h.unread[name] = ""
				if err != nil { // what was read before holds no longer
					h.groups[name], h.unread[name] = entry[Group]{Group{Version: version, Name: name}, revision}, fmt.Sprintf("its document can't be read: %v", err)
				}
			}
			return err
		}, nil)
	}
	if err == nil {
		err = watch(h.Client.orders, func(k string, value []byte, revision uint64) error {
			var o Order
			err := unseal(value, public(h.access.seal), &o)
			// One that isn't ours is replaced, too.
			if revision > h.orders[k].revision {
				h.orders[k] = entry[Order]{o, revision}
			}
			return err
		}, func(k string, revision uint64) {
			if revision > h.orders[k].revision {
				h.orders[k] = entry[Order]{revision: revision} // the next one goes over what says that it was deleted
			}
		})
	}
	if err != nil {
		return err
	}
	stream, err := h.js.Stream(ctx, streamCards)
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: []string{subjectCards + ">"}})
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	told := sync.OnceFunc(func() { close(ready) })
	if consumer.CachedInfo().NumPending == 0 {
		told()
	}
	reports, err := consumer.Consume(func(m jetstream.Msg) {
		if ctx.Err() != nil {
			return
		}
		meta, err := m.Metadata()
		if err == nil && meta.NumPending == 0 {
			defer told()
		}
		if err == nil {
			h.mu.Lock()
			err = h.cards.take(m.Subject(), m.Data(), meta.Timestamp)
			h.mu.Unlock()
		}
		if err != nil {
			h.refused.Add(1)
			h.reportsRefused.warn(h.o.Log, "report refused", "why", err)
			return
		}
		h.rouse()
	})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, reports.Stop)
	select {
	case <-ready:
		h.follows.Store(true)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hub) rouse() {
	h.changes.Add(1)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// step moves all rollouts on and writes the orders that are missing. What fails is tried again with the next step.
func (h *Hub) step(ctx context.Context, now time.Time) {
	h.mu.Lock()
	names := make([]string, 0, len(h.cards.groups))
	for name := range h.cards.groups {
		names = append(names, name)
	}
	h.mu.Unlock()
	for _, name := range names {
		if err := h.stepGroup(ctx, name, now); err != nil && !changedMeanwhile(err) && ctx.Err() == nil {
			h.o.Log.Warn("group", "name", name, "why", err)
		}
	}
	h.removeBundles(ctx)
}

func (h *Hub) stepGroup(ctx context.Context, name string, now time.Time) error {
	// A rollout doesn't wait for room for lines.
	lines := h.keepLines(ctx, name)
	h.mu.Lock()
	h.troubles[name] = ""
	if lines != nil {
		h.troubles[name] = fmt.Sprintf("no lines of it can be kept: %v", lines)
	}
	h.mu.Unlock()
	return errors.Join(lines, h.moveGroup(ctx, name, now))
}

func (h *Hub) moveGroup(ctx context.Context, name string, now time.Time) error {
	h.mu.Lock()
	g, ok := h.groups[name]
	ok = ok && h.unread[name] == ""
	h.mu.Unlock()
	if !ok {
		return nil
	}
	h.tell(g.value)
	// What this document orders is ordered before it is held against what cards report.
	if err := h.order(ctx, g); err != nil {
		return err
	}
	h.mu.Lock()
	next, changed := g.value.Step(h.reports(name), now, h.heard)
	h.mu.Unlock()
	if changed {
		var err error
		if g, err = h.replace(ctx, next, g.revision); err != nil {
			return err
		}
		h.tell(next)
	}
	return h.order(ctx, g)
}

// replace writes a group's document over that of a revision, and takes it up.
func (h *Hub) replace(ctx context.Context, g Group, over uint64) (entry[Group], error) {
	revision, err := h.put(ctx, g, over)
	if err != nil {
		return entry[Group]{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := entry[Group]{g, revision}
	if h.groups[g.Name].revision < revision {
		h.groups[g.Name] = e
	}
	return e, nil
}

// reports are what a group's cards report; of one that has an order which it did not report on yet, that it takes it up. The caller holds the lock.
func (h *Hub) reports(group string) map[string]Status {
	reports := make(map[string]Status, len(h.cards.groups[group]))
	for card, s := range h.cards.groups[group] {
		if o := h.orders[key(group, card)].value; s.Order < o.Number {
			s.Wanted, s.Phase, s.Reason = o.Artifact.File, Fetching, ""
		}
		reports[card] = s
	}
	return reports
}

// fewLines is the least that a group's stream of lines is made with, in bytes.
const fewLines = 16 << 20

// keepLines makes the stream of a group's lines, as large as the servers have room for.
func (h *Hub) keepLines(ctx context.Context, group string) error {
	if h.lines[group] {
		return nil
	}
	most, err := fitting(h.o.LinesBytes, fewLines, func(n int64) error {
		_, err := h.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: streamLines + group, Subjects: []string{subjectLines + group + ".*"}, Replicas: h.o.Replicas,
			MaxAge: h.o.LinesAge, MaxBytes: n, Duplicates: min(max(h.o.LinesAge, time.Second), idsTime)})
		return err
	})
	if err != nil {
		return err
	}
	h.lines[group] = true
	if most != h.o.LinesBytes {
		h.o.Log.Warn("the servers have no room for all lines", "group", group, "wanted_bytes", h.o.LinesBytes, "kept_bytes", most)
	}
	return nil
}

// order writes the orders of a group's cards that differ from what its document says. Each goes over the order of the revision that was seen,
// and none over one with a higher number.
func (h *Hub) order(ctx context.Context, g entry[Group]) error {
	h.mu.Lock()
	cards := make([]string, 0, len(h.cards.groups[g.value.Name]))
	for c := range h.cards.groups[g.value.Name] {
		cards = append(cards, c)
	}
	type change struct {
		key  string
		o    Order
		over uint64
	}
	var changes []change
	for card, a := range g.value.wanted(cards) {
		k := key(g.value.Name, card)
		o, try := h.orders[k], g.value.try(a)
		if !a.IsZero() && (o.value.Artifact.File != a.File || try != "" && o.value.Try != try) && o.value.Number < g.revision {
			changes = append(changes, change{k, Order{version, g.value.Name, card, g.revision, a, try}, o.revision})
		}
	}
	h.mu.Unlock()
	var futures []jetstream.PubAckFuture
	for _, c := range changes {
		text, err := seal(c.o, h.access.seal)
		if err != nil {
			return err
		}
		f, err := h.js.PublishAsync(subjectOrders+c.key, text, jetstream.WithExpectLastSequencePerSubject(c.over))
		if err != nil {
			return err
		}
		futures = append(futures, f)
	}
	var errs []error
	var meanwhile error // another hub orders: what that was comes by itself
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			h.mu.Lock()
			if h.orders[changes[i].key].revision < ack.Sequence {
				h.orders[changes[i].key] = entry[Order]{changes[i].o, ack.Sequence}
			}
			h.mu.Unlock()
		case err := <-f.Err():
			if changedMeanwhile(err) {
				meanwhile = err
			} else {
				errs = append(errs, err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(errs) == 0 {
		return meanwhile
	}
	return errors.Join(errs...)
}
