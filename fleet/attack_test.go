package fleet

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"nepcoc/runtime/bundle"
)

// attacker is a connection with somebody's credentials, and what the servers held against it.
type attacker struct {
	*nats.Conn
	mu     sync.Mutex
	denied int
}

func (f *testFleet) attacker(creds []byte, inbox string) *attacker {
	f.Helper()
	pool, err := f.access.authorities()
	if err != nil {
		f.Fatal(err)
	}
	a := &attacker{}
	a.Conn, err = dial(f.urls, nats.UserCredentialBytes(creds), nats.CustomInboxPrefix(inbox), secure(pool), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			a.mu.Lock()
			a.denied++
			a.mu.Unlock()
		}
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	return a
}

func (a *attacker) denials() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.denied
}

// refuses tries a publication that the servers must refuse, in so many words.
func (a *attacker) refused(m *nats.Msg) error {
	before := a.denials()
	if err := a.PublishMsg(m); err != nil {
		return err
	}
	return a.awaits(before)
}

func (a *attacker) awaits(before int) error {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if a.Flush(); a.denials() > before {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the servers took it")
}

func (a *attacker) refusedSub(subject string) error {
	before := a.denials()
	s, err := a.SubscribeSync(subject)
	if err != nil {
		return nil
	}
	defer s.Unsubscribe()
	return a.awaits(before)
}

// What a card, an operator, a used token or a hub that was taken over can't do. Cards: mallory and alice of group g, bob of group h.
func TestAttacks(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	agents := map[string]*simAgent{}
	creds := map[string][]byte{}
	for _, k := range []string{"g.alice", "g.mallory", "h.bob"} {
		group, card, _ := cutKey(k)
		agents[k] = newSimAgent()
		stop := f.card(h.Client, group, card, agents[k], func(o *CardOptions) { o.Poll = time.Second })
		dir := filepath.Join(f.dir, "cards", group, card)
		var err error
		if creds[k], err = os.ReadFile(filepath.Join(dir, fileCardCreds)); err != nil {
			t.Fatal(err)
		}
		if k == "g.mallory" {
			stop() // the attacker has its place
		}
	}
	js, ctx := h.js, t.Context()
	data, good := signedBundle(t, 1, 5, signer)
	f.eventually(2*time.Minute, "reports", func() error {
		cards, err := h.Cards(ctx)
		if err == nil && (cards["g"]["alice"].Seen.IsZero() || cards["h"]["bob"].Seen.IsZero()) {
			err = errors.New("not yet")
		}
		return err
	})
	for _, group := range []string{"g", "h"} {
		plan := quick()
		plan.Timeout, plan.Stay = time.Hour, true
		if _, err := h.Rollout(ctx, group, "t", data, good, "", plan, quiet); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually(2*time.Minute, "the good bundle", func() error {
		for k, s := range agents {
			if k != "g.mallory" && s.Agent(ctx).Digest != good.Digest.String() {
				return errors.New(k)
			}
		}
		return nil
	})
	chunk := chunkSubject("h", NewArtifact(data, good), 0)
	mallory := f.attacker(creds["g.mallory"], inboxPrefix+"g.mallory")
	key, err := nkeys.ParseDecoratedUserNKey(creds["g.mallory"])
	if err != nil {
		t.Fatal(err)
	}
	msg := func(subject, reply string, data []byte, header ...string) *nats.Msg {
		m := &nats.Msg{Subject: subject, Reply: reply, Data: data, Header: nats.Header{}}
		for i := 0; i < len(header); i += 2 {
			m.Header.Set(header[i], header[i+1])
		}
		return m
	}
	forged, err := seal(Status{Version: version, Group: "g", Card: "alice", At: time.Now().Add(time.Hour), Phase: Refused, Reason: "forged"}, key)
	if err != nil {
		t.Fatal(err)
	}
	state := func(name string) jetstream.StreamState {
		t.Helper()
		s, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State
	}
	order := func(k string) []byte {
		t.Helper()
		e, err := h.Client.orders.Get(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		return e.Value()
	}
	ack := func(m *nats.Msg) error { // by a reply of one's own
		r, err := mallory.RequestMsg(m, time.Minute)
		if err != nil {
			return err
		}
		if bytes.Contains(r.Data, []byte(`"error"`)) {
			return fmt.Errorf("%s", r.Data)
		}
		return nil
	}
	must := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	health := func(name, group, card string) {
		t.Helper()
		mallory.Flush()
		time.Sleep(200 * time.Millisecond) // for what would be taken wrongly
		f.eventually(2*time.Minute, name+": a report", func() error {
			cards, err := h.Cards(ctx)
			s := cards[group][card]
			if s.Reason == "forged" {
				t.Errorf("%s: %s has another's report: %+v", name, card, s)
			}
			if err == nil && s.Wanted != NewArtifact(data, good).File { // it may have been replaced by what is none, until the card's next
				err = fmt.Errorf("%+v", s)
			}
			return err
		})
		h.mu.Lock()
		s := h.cards.groups[group][card]
		h.mu.Unlock()
		if s.Reason == "forged" {
			t.Errorf("%s: the hub believes %+v", name, s)
		}
	}

	// 1 to 10: what the servers refuse outright.
	for name, m := range map[string]*nats.Msg{
		"lines of another card":         msg(subjectLines+"g.alice", "", numberedLines(0, 1)),
		"lines of another group":        msg(subjectLines+"h.bob", "", numberedLines(0, 1)),
		"status of another card":        msg(subjectCards+"g.alice", "", forged),
		"an order":                      msg(subjectOrders+"g.mallory", "", order("g.alice")),
		"another's order":               msg(subjectOrders+"g.alice", "", order("g.mallory")),
		"a group's document":            msg("$KV."+bucketGroups+".g", "", []byte("{}")),
		"a member":                      msg("$KV."+bucketMembers+".g.alice", "", []byte("{}")),
		"a token":                       msg("$KV."+bucketTokens+".x", "", []byte("g.alice")),
		"the lead":                      msg("$KV."+bucketLeader+".hub", "", []byte("me")),
		"enrolment":                     msg(subjectEnrol+"x", mallory.NewInbox(), []byte("{}")),
		"a bundle's chunk":              msg(subjectBundles+"g.x.0", "", []byte("x")),
		"reading another's order":       msg(directGet+"KV_"+bucketOrders+"."+subjectOrders+"g.alice", mallory.NewInbox(), nil),
		"reading any order":             msg(directGet+"KV_"+bucketOrders, mallory.NewInbox(), []byte(`{"last_by_subj":"`+subjectOrders+`g.alice"}`)),
		"reading by wildcard":           msg(directGet+"KV_"+bucketOrders+"."+subjectOrders+"*.alice", mallory.NewInbox(), nil),
		"another group's bundle":        msg(directGet+streamBundles+"."+chunk, mallory.NewInbox(), nil),
		"a message of a stream":         msg("$JS.API.STREAM.MSG.GET.KV_"+bucketOrders, mallory.NewInbox(), []byte(`{"seq":1}`)),
		"a stream":                      msg("$JS.API.STREAM.CREATE.mine", mallory.NewInbox(), []byte(`{"name":"mine","subjects":["mine"]}`)),
		"a consumer":                    msg("$JS.API.CONSUMER.CREATE.KV_"+bucketOrders, mallory.NewInbox(), []byte(`{"stream_name":"KV_`+bucketOrders+`","config":{}}`)),
		"purging":                       msg("$JS.API.STREAM.PURGE."+streamLines+"g", mallory.NewInbox(), nil),
		"deleting":                      msg("$JS.API.STREAM.DELETE."+streamCards, mallory.NewInbox(), nil),
		"an answer to another":          msg(inboxPrefix+"g.alice.x", "", []byte("x")),
		"the system":                    msg("$SYS.REQ.SERVER.PING", mallory.NewInbox(), nil),
		"rolling up lines of all cards": msg(subjectLines+"g.alice", "", numberedLines(0, 1), "Nats-Rollup", "all"),
	} {
		must(name, mallory.refused(m))
	}
	for _, subject := range []string{">", inboxPrefix + ">", inboxPrefix + "g.alice.>", subjectOrders + "g.*", subjectOrders + "g.alice", subjectLines + ">", subjectCards + "g.alice", "$JS.ACK.>", "$KV.>", "_INBOX.>", "$SYS.>"} {
		must("subscribing to "+subject, mallory.refusedSub(subject))
	}
	health("publications", "g", "alice")

	// Headers that would let one message take the place of others.
	lines := state(streamLines + "g")
	for _, m := range []*nats.Msg{
		msg(subjectLines+"g.mallory", "", numberedLines(0, 1), "Nats-Rollup", "all"),
		msg(subjectCards+"g.mallory", "", forged, "Nats-Rollup", "all"),
	} {
		if err := ack(m); err == nil {
			t.Errorf("%s: a rollup is taken", m.Subject)
		}
	}
	if now := state(streamLines + "g"); now.FirstSeq < lines.FirstSeq || now.Msgs < lines.Msgs {
		t.Error("lines were rolled up")
	}
	health("rollup", "g", "alice")

	// Its own subject with another's name and health.
	must("own subject", ack(msg(subjectCards+"g.mallory", "", forged)))
	health("another's name", "g", "alice")
	h.mu.Lock()
	if s := h.cards.groups["g"]["mallory"]; s.Reason == "forged" {
		t.Errorf("a status with another's name is taken: %+v", s)
	}
	h.mu.Unlock()

	// Replies that point where the card may not write: the servers' own answers go there.
	before := map[string]jetstream.StreamState{}
	streams := []string{"KV_" + bucketOrders, "KV_" + bucketGroups, "KV_" + bucketMembers, streamCards, streamBundles, streamLines + "g"}
	for _, s := range streams {
		before[s] = state(s)
	}
	for _, s := range streams {
		for _, api := range []string{"$JS.API.STREAM.PURGE.", "$JS.API.STREAM.DELETE.", "$JS.API.STREAM.MSG.DELETE.", "$JS.API.STREAM.UPDATE.", "$JS.API.CONSUMER.CREATE."} {
			for range 3 {
				mallory.PublishMsg(msg(subjectLines+"g.mallory", api+s, numberedLines(0, 1)))
				mallory.PublishMsg(msg(subjectCards+"g.mallory", api+s, forged))
				mallory.PublishMsg(msg(directGet+"KV_"+bucketOrders+"."+subjectOrders+"g.mallory", api+s, nil))
			}
		}
	}
	mallory.Flush()
	time.Sleep(500 * time.Millisecond)
	for _, s := range streams {
		now := state(s)
		// Statuses are replaced by themselves.
		if s != streamCards && (now.FirstSeq > before[s].FirstSeq && s != "KV_"+bucketOrders || now.Msgs < before[s].Msgs) {
			t.Errorf("a reply changed %s: %+v, was %+v", s, now, before[s])
		}
	}
	for range 3 {
		mallory.PublishMsg(msg(subjectLines+"g.mallory", subjectOrders+"g.alice", numberedLines(0, 1)))
		mallory.PublishMsg(msg(directGet+"KV_"+bucketOrders+"."+subjectOrders+"g.mallory", subjectOrders+"g.alice", nil))
		mallory.PublishMsg(msg(subjectLines+"g.mallory", subjectCards+"g.alice", numberedLines(0, 1)))
		mallory.PublishMsg(msg(subjectLines+"g.mallory", subjectLines+"g.alice", numberedLines(0, 1)))
		mallory.PublishMsg(msg(subjectLines+"g.mallory", "$KV."+bucketMembers+".g.alice", numberedLines(0, 1)))
		mallory.PublishMsg(msg(subjectLines+"g.mallory", "$KV."+bucketGroups+".g", numberedLines(0, 1)))
		mallory.PublishMsg(msg(subjectLines+"g.mallory", "$KV."+bucketTokens+".x", numberedLines(0, 1)))
	}
	health("replies", "g", "alice")
	f.eventually(2*time.Minute, "alice's order", func() error {
		var o Order
		if err := unseal(order("g.alice"), public(f.access.seal), &o); err != nil {
			return err
		}
		if o.Card != "alice" || o.Artifact.File != NewArtifact(data, good).File {
			return fmt.Errorf("%+v", o)
		}
		return nil
	})
	if g, _, err := h.Client.group(ctx, "g"); err != nil || g.Name != "g" || g.Rollout == nil {
		t.Errorf("the group's document is %+v: %v", g, err)
	}
	if m, err := h.Members(ctx); err != nil || m["g"]["alice"].Public == "" {
		t.Errorf("members are %+v: %v", m, err)
	}

	// Lines of another's store, with a message id of its own and with another's seal.
	must("lines", ack(msg(subjectLines+"g.mallory", "", numberedLines(0, 1), headerStore, "alicestore", headerFirst, "0", headerSeal, "00", jetstream.MsgIDHeader, "alicestore:0")))
	counts, written := f.sink(h.Client, "g", 0, func(c SinkCounts) bool { return c.Refused > 0 && c.Lag == 0 })
	if counts.Lines != 0 || len(written) != 0 {
		t.Errorf("the sink took %+v: %v", counts, written)
	}

	f.attacksOnOrders(h, agents["g.alice"], data, good)
	f.attacksOnTokens(h)
	f.attacksByOperator(h, agents)
}

// attacksOnOrders are those of who has the hub's connection, and in the end its seal: the card and its agent must refuse.
func (f *testFleet) attacksOnOrders(h *Hub, alice *simAgent, data []byte, good *bundle.Bundle) {
	ctx := f.Context()
	a := NewArtifact(data, good)
	var last Order
	e, err := h.Client.orders.Get(ctx, "g.alice")
	if err != nil {
		f.Fatal(err)
	}
	if err := unseal(e.Value(), public(f.access.seal), &last); err != nil {
		f.Fatal(err)
	}
	runs := func() int { alice.mu.Lock(); defer alice.mu.Unlock(); return len(alice.runs) }
	ran := runs()
	send := func(o Order, by []byte) {
		f.Helper()
		h.nc.Publish(subjectOrders+"g.alice", by)
		h.nc.Flush()
		time.Sleep(300 * time.Millisecond)
	}
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	evil, evilBundle := signedBundle(f, 8, 9, stranger)
	oldData, oldBundle := signedBundle(f, 9, 4, signer)
	for _, d := range []struct {
		data []byte
		b    *bundle.Bundle
	}{{evil, evilBundle}, {oldData, oldBundle}} {
		if err := h.Upload(ctx, "g", NewArtifact(d.data, d.b), d.data, quiet); err != nil {
			f.Fatal(err)
		}
	}
	sealedBy := func(o Order, hub bool) []byte {
		k := newKey(f)
		if hub {
			k = f.access.seal
		}
		text, err := seal(o, k)
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	for name, o := range map[string]Order{"lower number": {version, "g", "alice", last.Number - 1, NewArtifact(oldData, oldBundle), ""}, "zero": {version, "g", "alice", 0, NewArtifact(evil, evilBundle), ""}} {
		if send(o, sealedBy(o, true)); runs() != ran {
			f.Errorf("%s: an older order is followed", name)
		}
	}
	o := Order{version, "g", "alice", last.Number + 1000, NewArtifact(evil, evilBundle), ""}
	if send(o, sealedBy(o, false)); runs() != ran {
		f.Error("an order of another seal is followed")
	}
	// From here the card takes the orders up, and what the agent won't run is reported.
	for i, artifact := range []Artifact{NewArtifact(evil, evilBundle), NewArtifact(oldData, oldBundle), {File: NewArtifact(evil, evilBundle).File, Digest: a.Digest + "0", Serial: 99, Size: int64(len(evil)), Back: "a forged reason"}} {
		o := Order{version, "g", "alice", last.Number + 2000 + uint64(i), artifact, ""}
		send(o, sealedBy(o, true))
		f.eventually(2*time.Minute, "refusal", func() error {
			h.mu.Lock()
			s := h.cards.groups["g"]["alice"]
			h.mu.Unlock()
			if s.Order != o.Number || s.Phase != Refused {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		if d := alice.Agent(ctx).Digest; d != a.Digest || runs() != ran {
			f.Errorf("bundle %d of an attacker runs: %s", i, d)
		}
	}
}

func (f *testFleet) attacksOnTokens(h *Hub) {
	ctx := f.Context()
	token, err := h.NewToken(ctx, "g", "eve", f.urls)
	if err != nil {
		f.Fatal(err)
	}
	// For another name: the name in the token's text is not what counts, and its credentials ask for nothing else.
	renamed := *token
	renamed.Card = "alice"
	before, err := h.Members(ctx)
	if err != nil {
		f.Fatal(err)
	}
	dir := filepath.Join(f.dir, "eve")
	if err := Enrol(ctx, dir, &renamed); err == nil {
		if creds, err := os.ReadFile(filepath.Join(dir, fileCardCreds)); err != nil {
			f.Error(err)
		} else if err := f.attacker(creds, inboxPrefix+"g.eve").refused(nats.NewMsg(subjectCards + "g.alice")); err != nil {
			f.Errorf("a token for eve makes alice: %v", err)
		}
	}
	if after, err := h.Members(ctx); err != nil || !reflect.DeepEqual(after["g"]["alice"], before["g"]["alice"]) {
		f.Errorf("alice is another: %v", err)
	}
	if err := Enrol(ctx, filepath.Join(f.dir, "again"), token); err == nil || !strings.Contains(err.Error(), "used") {
		f.Errorf("used twice: %v", err)
	}
	// Its credentials do no more than ask.
	used := f.attacker([]byte(token.Creds), inboxPrefix+"enrol."+token.ID)
	for _, subject := range []string{subjectEnrol + "other", subjectCards + "g.eve", subjectLines + "g.eve"} {
		if err := used.refused(nats.NewMsg(subject)); err != nil {
			f.Errorf("token to %s: %v", subject, err)
		}
	}
	// Too old: its credentials are.
	key := newKey(f)
	old, err := userJWT(f.access.users, public(key), "old", enrolPermissions(public(key)), time.Now().Add(-time.Minute))
	if err != nil {
		f.Fatal(err)
	}
	creds, err := credsOf(old, key)
	if err != nil {
		f.Fatal(err)
	}
	expired := *token
	expired.ID, expired.Creds = public(key), string(creds)
	if err := Enrol(ctx, filepath.Join(f.dir, "old"), &expired); err == nil {
		f.Error("an expired token enrols")
	}
	// Two at once: one of them.
	token, err = h.NewToken(ctx, "g", "twin", f.urls)
	if err != nil {
		f.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for i := range 4 {
		wait.Go(func() {
			if Enrol(ctx, filepath.Join(f.dir, fmt.Sprint("twin", i)), token) == nil {
				mu.Lock()
				good++
				mu.Unlock()
			}
		})
	}
	if wait.Wait(); good != 1 {
		f.Errorf("one token enrolled %d cards", good)
	}
}

// attacksByOperator are those of who has the commands' credentials: they change what groups run, and nothing else.
func (f *testFleet) attacksByOperator(h *Hub, agents map[string]*simAgent) {
	ctx := f.Context()
	creds, err := os.ReadFile(f.access.file(FileOperatorCreds))
	if err != nil {
		f.Fatal(err)
	}
	op := f.attacker(creds, "_INBOX")
	for _, subject := range []string{subjectOrders + "g.alice", subjectCards + "g.alice", subjectLines + "g.alice", "$KV." + bucketMembers + ".g.alice", "$KV." + bucketLeader + ".hub", "$KV." + bucketTokens + ".x",
		subjectEnrol + "x", "$JS.API.STREAM.PURGE.KV_" + bucketOrders, "$JS.API.STREAM.DELETE." + streamCards, "$JS.API.STREAM.UPDATE.KV_" + bucketOrders, "$JS.API.STREAM.CREATE.mine", inboxPrefix + "g.alice.x"} {
		if err := op.refused(nats.NewMsg(subject)); err != nil {
			f.Errorf("operator to %s: %v", subject, err)
		}
	}
	// A folder as operators have it does what the commands need.
	dir := filepath.Join(f.dir, "operator")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	for _, name := range OperatorFiles {
		data, err := os.ReadFile(f.access.file(name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			f.Fatal(err)
		}
	}
	a, err := OpenAccess(dir)
	if err != nil {
		f.Fatal(err)
	}
	c, err := a.Dial(ctx, f.urls, "operator")
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	if _, err := NewHub(ctx, c, HubOptions{}); err == nil {
		f.Error("an operator's folder makes a hub")
	}
	if _, err := c.NewToken(ctx, "g", "x", f.urls); err == nil {
		f.Error("an operator's folder makes a token")
	}
	if groups, err := c.Groups(ctx); err != nil || len(groups) != 2 {
		f.Errorf("%d groups: %v", len(groups), err)
	}
	data, b := signedBundle(f, 10, 10, signer)
	bob := agents["h.bob"]
	f.state(h.Client, "h", Done)
	if _, err := c.Rollout(ctx, "h", "operator", data, b, "", quick(), quiet); err != nil {
		f.Fatal(err)
	}
	f.state(c, "h", Done)
	if d := bob.Agent(ctx).Digest; d != b.Digest.String() {
		f.Errorf("bob runs %s", d)
	}
	// A document of the operator's making can't go back in number, and what it orders is held to its signature.
	evil, evilBundle := signedBundle(f, 8, 99, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize)))
	artifact := NewArtifact(evil, evilBundle)
	if err := c.Upload(ctx, "h", artifact, evil, quiet); err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(Group{Version: version, Name: "h", Stable: artifact})
	if err == nil {
		_, err = c.groups.Put(ctx, "h", text)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.eventually(2*time.Minute, "refusal", func() error {
		cards, err := c.Cards(ctx)
		if s := cards["h"]["bob"]; err != nil || s.Wanted != artifact.File || s.Phase != Refused {
			return fmt.Errorf("%+v: %v", s, err)
		}
		return nil
	})
	if d := bob.Agent(ctx).Digest; d != b.Digest.String() {
		f.Errorf("bob runs %s", d)
	}
}
