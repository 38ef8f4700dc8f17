package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// Client reads a fleet and changes what its groups run. It orders nothing itself: that is the leading hub's.
type Client struct {
	access *Access
	nc     *nats.Conn
	js     jetstream.JetStream
	newest nats.JetStreamContext // reads what a stream's leader has

	clock serversClock

	groups, members, tokens, orders jetstream.KeyValue
}

// serversClock is the servers' time. Documents and reports are dated by it: the clocks of hubs and operators may differ from it, and jump.
type serversClock struct {
	mu sync.Mutex
	at time.Time // by the servers, as they were asked last
	by time.Time // then, by a clock of this machine that nobody sets
}

// wall is this machine's time, for want of the servers'.
var wall = time.Now // changed by tests only

func (c *serversClock) set(at, by time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.by = at.UTC(), by
}

func (c *serversClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return wall().UTC().Round(0)
	}
	return c.at.Add(time.Since(c.by))
}

// Now asks the servers what time it is. Where they don't say, it is the time as it was known before or, at last, this machine's.
func (c *Client) Now(ctx context.Context) time.Time {
	ctx, cancel := context.WithTimeout(ctx, leaseTime/3)
	defer cancel()
	asked := time.Now()
	if s, err := c.js.Stream(ctx, streamGroups); err == nil && !s.CachedInfo().TimeStamp.IsZero() {
		c.clock.set(s.CachedInfo().TimeStamp, asked.Add(time.Since(asked)/2))
	}
	return c.clock.now()
}

// Dial connects to the fleet's servers at url with the folder's credentials. Name is for the servers' logs.
func (a *Access) Dial(ctx context.Context, url, name string, opts ...nats.Option) (*Client, error) {
	nc, err := a.connect(url, name, opts...)
	if err != nil {
		return nil, err
	}
	c := &Client{access: a, nc: nc}
	if c.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1024), jetstream.WithPublishAsyncTimeout(ackTime)); err == nil {
		c.newest, err = nc.JetStream()
	}
	if err == nil {
		err = c.open(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, c.Ended(err)
	}
	return c, nil
}

// Ended is err or, where it came of the connection's end, why that ended.
func (c *Client) Ended(err error) error {
	if why := c.nc.LastError(); errors.Is(err, nats.ErrConnectionClosed) && why != nil {
		return fmt.Errorf("%s: %w", c.nc.Opts.Url, refused(why))
	}
	return err
}

// open finds the buckets, which a hub makes.
func (c *Client) open(ctx context.Context) (err error) {
	for _, b := range []struct {
		name string
		kv   *jetstream.KeyValue
	}{{bucketGroups, &c.groups}, {bucketMembers, &c.members}, {bucketTokens, &c.tokens}, {bucketOrders, &c.orders}} {
		*b.kv, err = c.js.KeyValue(ctx, b.name)
		switch {
		case errors.Is(err, jetstream.ErrBucketNotFound) && c.access.seal != nil: // Hub makes it
		case errors.Is(err, jetstream.ErrBucketNotFound):
			return fmt.Errorf("%s: %w: no hub has run at these servers yet: nepcof hub", b.name, err)
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%s: the servers are there, and don't answer: do most of a cluster's run? (%w)", b.name, err)
		case err != nil:
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// Ready says why there is nothing to read or change yet.
func (c *Client) Ready() error {
	if c.groups == nil || c.members == nil || c.tokens == nil || c.orders == nil {
		return errors.New("no hub has run at these servers yet: nepcof hub")
	}
	return nil
}

// Tail gives a group's lines to f as they come, with the card's name, until ctx ends; of those that the card did not seal, refused is told the subject.
func (c *Client) Tail(ctx context.Context, group string, f func(card string, lines []byte), refused func(subject string, why error)) error {
	if err := CheckName("group", group); err != nil {
		return err
	}
	stream, err := c.js.Stream(ctx, streamLines+group)
	if err != nil {
		return fmt.Errorf("group %s: %w: it has no cards yet", group, err)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	defer messages.Stop()
	known := newSeals(c, group)
	for {
		m, err := messages.Next()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		switch b, err := known.open(ctx, m); {
		case err == nil:
			f(b.card, b.lines)
		case ctx.Err() == nil: // also where the card's key could not be read
			refused(m.Subject(), err)
		}
	}
}

// Close ends the connection, with what was written sent.
func (c *Client) Close() { c.nc.Drain() }

// change applies f to a group's document until nobody else has changed it in between.
func (c *Client) change(ctx context.Context, group string, f func(Group) (Group, error)) (Group, error) {
	for {
		g, revision, err := c.group(ctx, group)
		if err != nil {
			return g, err
		}
		if g, err = f(g); err != nil {
			return g, err
		}
		switch _, err = c.put(ctx, g, revision); {
		case err == nil:
			return g, nil
		case !changedMeanwhile(err):
			return g, err
		}
	}
}

// changedMeanwhile is true where a compare-and-swap found another value.
func changedMeanwhile(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		// The second is what servers of a cluster say where another write is under way.
		errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// put writes a group's document over the one of a revision (0: there is none), and returns its own.
func (c *Client) put(ctx context.Context, g Group, revision uint64) (uint64, error) {
	text, err := json.Marshal(g)
	if err != nil {
		return 0, err
	}
	return c.groups.Update(ctx, g.Name, text, revision)
}

// leaderTime is how long a stream's leader may take to answer: servers that lost one choose another within seconds.
const leaderTime = 10 * time.Second

// group is Group with its revision. It is read where it is written, by the stream's leader: any other server may not have what was written a moment ago,
// and who began a rollout would see the one before.
func (c *Client) group(ctx context.Context, name string) (Group, uint64, error) {
	if err := CheckName("group", name); err != nil {
		return Group{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTime)
	defer cancel()
	m, err := c.newest.GetLastMsg(streamGroups, subjectGroups+name, nats.Context(ctx))
	if errors.Is(err, nats.ErrMsgNotFound) {
		return Group{Version: version, Name: name}, 0, nil
	}
	if err != nil {
		return Group{}, 0, err
	}
	g, err := readGroup(name, m.Data)
	return g, m.Sequence, err
}

// Group reads a group's document; one that isn't there runs nothing.
func (c *Client) Group(ctx context.Context, name string) (Group, error) {
	g, _, err := c.group(ctx, name)
	return g, err
}

// readGroup reads the document of a group.
func readGroup(name string, data []byte) (g Group, err error) {
	switch err = json.Unmarshal(data, &g); {
	case err != nil:
		err = fmt.Errorf("group %s: no nepcof wrote its document: %w", name, err)
	case g.Version > version:
		err = fmt.Errorf("group %s: written by a newer nepcof (version %d of documents, %d is known here): bring this one up to date", name, g.Version, version)
	case g.Name != name:
		err = fmt.Errorf("group %s: its document is another group's (%.63q)", name, g.Name)
	}
	if r := g.Rollout; err == nil && r != nil && (r.Reached < 0 || r.Reached > len(r.Cards) || r.Stage < 0 || r.Stage >= len(r.Plan.Stages) ||
		r.State == Waiting && r.Stage+1 == len(r.Plan.Stages)) { // for what stage?
		err = fmt.Errorf("group %s: rollout %s is %s at stage %d of %d, with %d of %s: no nepcof wrote that", g.Name, r.ID, r.State, r.Stage, len(r.Plan.Stages), r.Reached, CountCards(len(r.Cards)))
	}
	return g, err
}

// Groups are all groups by name.
func (c *Client) Groups(ctx context.Context) (map[string]Group, error) {
	stream, err := c.js.Stream(ctx, streamGroups)
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subjectGroups+"*")) // the leader's, too
	if err != nil {
		return nil, err
	}
	groups := map[string]Group{}
	for subject := range info.State.Subjects {
		name := cutPrefix(subject, subjectGroups)
		if groups[name], err = c.Group(ctx, name); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// allTime is how long the servers may take to give all of a bucket.
const allTime = 30 * time.Second

// all gives every value of a bucket to f.
func all(ctx context.Context, kv jetstream.KeyValue, f func(jetstream.KeyValueEntry) error) error {
	ctx, cancel := context.WithTimeout(ctx, allTime)
	defer cancel()
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case e, open := <-w.Updates():
			if !open {
				return nats.ErrConnectionClosed // what came is not all
			}
			if e == nil {
				return nil
			}
			if err := f(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// key is a card's in buckets and subjects.
func key(group, card string) string { return group + "." + card }

// Members are the cards that were enrolled, by group and name.
func (c *Client) Members(ctx context.Context) (map[string]map[string]Member, error) {
	members := map[string]map[string]Member{}
	err := all(ctx, c.members, func(e jetstream.KeyValueEntry) error {
		var m Member
		if err := json.Unmarshal(e.Value(), &m); err != nil {
			return fmt.Errorf("%s: %w", e.Key(), err)
		}
		group, card, _ := cutKey(e.Key())
		if members[group] == nil {
			members[group] = map[string]Member{}
		}
		members[group][card] = m
		return nil
	})
	return members, err
}

// Cards is what the cards report, by group and name; those that never did are there with the zero time.
func (c *Client) Cards(ctx context.Context) (map[string]map[string]Status, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	cards := newRegister(members)
	stream, err := c.js.Stream(ctx, streamCards)
	if err != nil {
		return nil, err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: []string{subjectCards + ">"}})
	if err != nil {
		return nil, err
	}
	defer stream.DeleteConsumer(context.WithoutCancel(ctx), consumer.CachedInfo().Name) // else it would stay for minutes
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, allTime)
	defer cancel()
	defer context.AfterFunc(ctx, messages.Stop)()
	defer messages.Stop()
	// What is replaced meanwhile comes later, and others twice: what counts is of how many cards there was a report.
	told, all := map[string]bool{}, int(consumer.CachedInfo().NumPending)
	for len(told) < all {
		m, err := messages.Next()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the servers gave the reports of %d of %s: %w", len(told), CountCards(all), ctx.Err())
		}
		if err != nil {
			return nil, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		cards.take(m.Subject(), m.Data(), meta.Timestamp) // what isn't a card's own is left out
		told[m.Subject()] = true
		if meta.NumPending == 0 {
			break // one was removed, or all that is left was replaced in between
		}
	}
	if len(told) == all {
		return cards.groups, nil
	}
	// Of those that the consumer had no more, since they were replaced, each is asked for.
	for group, members := range members {
		for card := range members {
			subject := subjectCards + key(group, card)
			if told[subject] {
				continue
			}
			m, err := stream.GetLastMsgForSubject(ctx, subject)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			cards.take(subject, m.Data, m.Time)
		}
	}
	return cards.groups, nil
}

// register is what cards report, as far as it is theirs.
type register struct {
	members map[string]map[string]Member
	groups  map[string]map[string]Status
}

func newRegister(members map[string]map[string]Member) *register {
	r := &register{members: members, groups: map[string]map[string]Status{}}
	for group, cards := range members {
		for card := range cards {
			r.add(group, card, members[group][card])
		}
	}
	return r
}

// add enters a card that was enrolled.
func (r *register) add(group, card string, m Member) {
	if r.members[group] == nil {
		r.members[group] = map[string]Member{}
	}
	r.members[group][card] = m
	if r.groups[group] == nil {
		r.groups[group] = map[string]Status{}
	}
	if _, ok := r.groups[group][card]; !ok {
		r.groups[group][card] = Status{Group: group, Card: card}
	}
}

// take enters a card's report, if the card sealed it and it is newer than the last one.
func (r *register) take(subject string, data []byte, seen time.Time) error {
	group, card, ok := cutKey(cutPrefix(subject, subjectCards))
	m, member := r.members[group][card]
	if !ok || !member {
		return fmt.Errorf("%s: no card that was enrolled", subject)
	}
	var s Status
	if err := unseal(data, m.Public, &s); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	switch before := r.groups[group][card]; {
	case s.Version > version:
		return fmt.Errorf("%s: written by a newer nepcof", subject)
	case s.Group != group || s.Card != card:
		return fmt.Errorf("%s: tells of card %s of group %s", subject, s.Card, s.Group)
	case s.At.Before(earlier(before.At, before.Seen)): // a clock that was ahead, and was set right, silences no card
		return fmt.Errorf("%s: older than what was told before: was the card's clock set back?", subject)
	}
	if err := s.Agent.check(); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	if len(s.Phase) > maxWord || len(s.Wanted) > maxWord || len(s.Agent.Digest) > maxWord {
		return fmt.Errorf("%s: tells of a phase or a bundle of more than %d characters", subject, maxWord)
	}
	// They go, of many cards, into a group's document.
	s.Reason, s.Agent.Problem, s.Agent.Refused = short(s.Reason), short(s.Agent.Problem), short(s.Agent.Refused)
	s.Seen = seen.UTC()
	r.groups[group][card] = s
	return nil
}

// maxWord is above what a phase, or a SHA-256 in hex, comes to, in bytes.
const maxWord = 128

// remove forgets a card that was revoked.
func (r *register) remove(group, card string) {
	delete(r.members[group], card)
	delete(r.groups[group], card)
	if len(r.groups[group]) == 0 {
		delete(r.groups, group)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func cutPrefix(s, prefix string) string {
	if rest, ok := strings.CutPrefix(s, prefix); ok {
		return rest
	}
	return ""
}

func cutKey(k string) (group, card string, ok bool) {
	group, card, ok = strings.Cut(k, ".")
	return group, card, ok && group != "" && card != ""
}

// chunkTime is how long a chunk may be on its way to the servers. A bundle may take as long as its chunks do.
const chunkTime = time.Minute

// Upload gives a bundle to the servers for a group's cards. What is there already is not sent again.
func (c *Client) Upload(ctx context.Context, group string, a Artifact, data []byte, progress func(done, total int)) error {
	if err := errors.Join(CheckName("group", group), a.check()); err != nil {
		return err
	}
	n := a.chunks()
	for i := range n {
		progress(i, n)
		if err := c.uploadChunk(ctx, chunkSubject(group, a, i), data[i*chunkSize:min((i+1)*chunkSize, len(data))]); err != nil {
			return fmt.Errorf("chunk %d of %d of the bundle: %w", i+1, n, err)
		}
	}
	progress(n, n)
	return nil
}

// uploadChunk asks the stream's leader what is there: any other server may have what was removed a moment ago.
func (c *Client) uploadChunk(ctx context.Context, subject string, part []byte) error {
	ctx, cancel := context.WithTimeout(ctx, chunkTime)
	defer cancel()
	m, err := c.chunk(ctx, subject)
	if err != nil || m != nil && bytes.Equal(m.Data, part) {
		return err
	}
	_, err = c.js.Publish(ctx, subject, part)
	return err
}

func chunkSubject(group string, a Artifact, i int) string {
	return fmt.Sprintf("%s%s.%s.%d", subjectBundles, group, a.File, i)
}

// Rollout begins to bring a bundle to a group's cards. Back, if any, is the signed reason to run the group's present bundle after this one.
// It takes as long as the bundle is on its way to the servers, of which progress is told; all else has bounds of its own. With an error comes the group that it stands on.
func (c *Client) Rollout(ctx context.Context, group, by string, data []byte, b *bundle.Bundle, back string, plan Plan, progress func(done, total int)) (Group, error) {
	to := NewArtifact(data, b)
	begin := func(g Group, cards map[string]Status) (Group, error) {
		g.Version = version
		if !g.Stable.IsZero() {
			g.Stable.Back = back
		}
		now := c.clock.now()
		return g.Begin(now.Format("20060102-150405"), by, to, plan, cards, now)
	}
	c.Now(ctx) // so that the clock is the servers'
	for {
		cards, err := c.Cards(ctx)
		if err != nil {
			return Group{}, err
		}
		g, revision, err := c.group(ctx, group)
		if err != nil {
			return g, err
		}
		if g.Removal.has(to.File) { // then it is sent anew
			wait, cancel := context.WithTimeout(ctx, chunkTime)
			err := c.removed(wait, group, g.Removal)
			cancel()
			if err != nil {
				return g, err
			}
			continue
		}
		// What is refused isn't sent.
		if _, err := begin(g, cards[group]); err != nil {
			return g, err
		}
		if err := c.Upload(ctx, group, to, data, progress); err != nil {
			return g, err
		}
		if cards, err = c.Cards(ctx); err != nil {
			return g, err
		}
		next, err := begin(g, cards[group])
		if err != nil {
			return g, err
		}
		// Only over the document that was read before the bundle was seen to be there: else it may have been removed in between (Prune).
		switch _, err = c.put(ctx, next, revision); {
		case err == nil:
			return next, nil
		case !changedMeanwhile(err):
			return next, err
		}
	}
}

// Halt, Back and Approve are an operator's words on a group's rollout.
func (c *Client) Halt(ctx context.Context, group, reason string) (Group, error) {
	now := c.Now(ctx)
	return c.change(ctx, group, func(g Group) (Group, error) { return g.Halt(reason, now) })
}

func (c *Client) Back(ctx context.Context, group, reason string) (Group, error) {
	now := c.Now(ctx)
	return c.change(ctx, group, func(g Group) (Group, error) { return g.Back(reason, now) })
}

func (c *Client) Approve(ctx context.Context, group string) (Group, error) {
	cards, err := c.Cards(ctx)
	if err != nil {
		return Group{}, err
	}
	now := c.Now(ctx)
	return c.change(ctx, group, func(g Group) (Group, error) { return g.Approve(cards[group], now) })
}

// tokenLife is how long an enrolment token is good.
const tokenLife = 24 * time.Hour

// Token is what a card is enrolled with, once.
type Token struct {
	Version int    `json:"version"`
	Group   string `json:"group"`
	Card    string `json:"card"`
	ID      string `json:"id"`
	URL     string `json:"url"`
	CA      string `json:"ca"`    // PEM
	Seal    string `json:"seal"`  // public key of the hub's seal
	Creds   string `json:"creds"` // may ask for enrolment, nothing else
}

// Enrolled is when a card was enrolled; the zero time: it wasn't.
func (c *Client) Enrolled(ctx context.Context, group, card string) (time.Time, error) {
	if err := errors.Join(CheckName("group", group), CheckName("card", card)); err != nil {
		return time.Time{}, err
	}
	m, _, err := c.member(ctx, key(group, card))
	return m.Enrolled, err
}

// member is a card that was enrolled, and the revision that says so; 0: it wasn't.
func (c *Client) member(ctx context.Context, key string) (m Member, revision uint64, err error) {
	e, err := c.members.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return m, 0, nil
	}
	if err != nil {
		return m, 0, err
	}
	if err := json.Unmarshal(e.Value(), &m); err != nil {
		return m, 0, fmt.Errorf("%s: %w", key, err)
	}
	return m, e.Revision(), nil
}

// NewToken makes a token for a card's enrolment, which the folder's account must sign: a hub's folder does.
func (c *Client) NewToken(ctx context.Context, group, card, url string) (*Token, error) {
	if err := errors.Join(CheckName("group", group), CheckName("card", card)); err != nil {
		return nil, err
	}
	if c.access.users == nil || c.access.seal == nil {
		return nil, fmt.Errorf("%s: has no %s and %s: make tokens with a hub's folder", c.access.dir, fileCardsKey, fileSealKey)
	}
	ca, err := files.All(c.access.file(fileCA), 1<<20)
	if err != nil {
		return nil, err
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	id := public(user)
	token, err := userJWT(c.access.users, id, "enrol "+key(group, card), enrolPermissions(id), time.Now().Add(tokenLife))
	if err != nil {
		return nil, err
	}
	creds, err := credsOf(token, user)
	if err != nil {
		return nil, err
	}
	if _, err := c.tokens.Create(ctx, id, []byte(key(group, card))); err != nil {
		return nil, err
	}
	return &Token{version, group, card, id, url, string(ca), public(c.access.seal), string(creds)}, nil
}

// Revoke takes a card from the fleet: servers refuse its credentials, hubs and sinks its seal, and tokens for it that nobody has used are void.
// It takes the folder that InitAccess made. The card may be enrolled anew.
func (c *Client) Revoke(ctx context.Context, group, card string) error {
	if err := errors.Join(CheckName("group", group), CheckName("card", card)); err != nil {
		return err
	}
	k := key(group, card)
	var ids []string
	err := all(ctx, c.tokens, func(e jetstream.KeyValueEntry) error {
		if string(e.Value()) == k {
			ids = append(ids, e.Key())
		}
		return nil
	})
	if err != nil {
		return err
	}
	m, revision, err := c.member(ctx, k)
	if err != nil {
		return err
	}
	if revision == 0 && len(ids) == 0 {
		return fmt.Errorf("group %s has no card %s: nepcof cards lists them", group, card)
	}
	if revision != 0 {
		if err := c.access.refuse(c.access.cards, append(m.Before, m.Public)...); err != nil {
			return err
		}
		if err := errors.Join(c.members.Delete(ctx, k), c.orders.Delete(ctx, k)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := c.tokens.Delete(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// getSoon reads a value that was written before, maybe a moment ago: any server of a cluster answers, also one that doesn't have it yet.
func getSoon(ctx context.Context, kv jetstream.KeyValue, key string) (jetstream.KeyValueEntry, error) {
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		e, err := kv.Get(ctx, key)
		if !errors.Is(err, jetstream.ErrKeyNotFound) || wait > 400*time.Millisecond || ctx.Err() != nil {
			return e, err
		}
		pause(ctx, wait)
	}
}

// enrolment is what a card asks for and is given.
type enrolment struct {
	Public string `json:"public,omitempty"` // the card's
	JWT    string `json:"jwt,omitempty"`
	Error  string `json:"error,omitempty"`
}

// enrol answers one request. A token is used up by the first that holds.
func (c *Client) enrol(ctx context.Context, id string, request []byte) enrolment {
	fail := func(format string, args ...any) enrolment { return enrolment{Error: fmt.Sprintf(format, args...)} }
	var e enrolment
	if err := json.Unmarshal(request, &e); err != nil || !nkeys.IsValidPublicUserKey(e.Public) {
		return fail("no request of nepcof card")
	}
	t, err := getSoon(ctx, c.tokens, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fail("the token was used, or is too old: nepcof enrol makes another")
	}
	if err != nil {
		return fail("the hub can't look up the token now: %v", err)
	}
	group, card, _ := cutKey(string(t.Value()))
	answer, err := userJWT(c.access.users, e.Public, key(group, card), cardPermissions(group, card), time.Time{})
	if err != nil {
		return fail("%v", err)
	}
	// Used up before anything is given away.
	if err := c.tokens.Delete(ctx, id, jetstream.LastRevision(t.Revision())); err != nil {
		return fail("the token was used: nepcof enrol makes another")
	}
	if err := c.enter(ctx, key(group, card), e.Public); err != nil {
		return fail("%v", err)
	}
	return enrolment{JWT: answer}
}

// enter writes a card's key into the members, over that of an earlier enrolment under its name.
func (c *Client) enter(ctx context.Context, key, public string) error {
	for {
		before, revision, err := c.member(ctx, key)
		if err != nil {
			return err
		}
		m := Member{Version: version, Public: public, Enrolled: c.clock.now()}
		if revision != 0 {
			m.Before = append(before.Before, before.Public)
		}
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if revision == 0 {
			_, err = c.members.Create(ctx, key, text)
		} else {
			_, err = c.members.Update(ctx, key, text, revision)
		}
		if !changedMeanwhile(err) {
			return err
		}
	}
}
