package fleet

import (
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

func newKey(t testing.TB) nkeys.KeyPair {
	t.Helper()
	k, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// bare is a card without a connection that placed artifact n, which its agent runs: what it is ordered to run it need not fetch.
func bare(t *testing.T, dir string, hub nkeys.KeyPair, n int) *Card {
	t.Helper()
	s := newSimAgent()
	s.agent.Digest = runnable(n).Digest
	c := &Card{cardFile: cardFile{version, "g", "c", "", "", public(hub)}, o: CardOptions{Dir: dir, Runner: s, Log: quietLog}, wake: make(chan struct{}, 1)}
	if err := c.recall(); err != nil {
		t.Fatal(err)
	}
	c.state.Placed = runnable(n).File
	return c
}

func runnable(n int) Artifact {
	a := artifact(n)
	a.File = strings.Repeat(string(rune('a'+n)), 64)
	return a
}

// A card follows the hub's orders with rising numbers for itself, and no others, also after it began anew.
func TestOrders(t *testing.T) {
	hub, dir := newKey(t), t.TempDir()
	c := bare(t, dir, hub, 1)
	good := Order{version, "g", "c", 10, runnable(1), ""}
	send := func(o Order, by nkeys.KeyPair) Status {
		t.Helper()
		text, err := seal(o, by)
		if err != nil {
			t.Fatal(err)
		}
		c.take(t.Context(), text)
		return c.now
	}
	if s := send(good, hub); s.Phase != Placed || s.Order != 10 || s.Wanted != good.Artifact.File {
		t.Fatalf("%+v", s)
	}
	change := func(f func(*Order)) Order { o := good; o.Number, o.Artifact = 11, runnable(2); f(&o); return o }
	wrong := map[string]func() Status{
		"lower number":      func() Status { return send(change(func(o *Order) { o.Number = 9 }), hub) },
		"the same, another": func() Status { return send(change(func(o *Order) { o.Number = 10 }), hub) },
		"other card":        func() Status { return send(change(func(o *Order) { o.Card = "d" }), hub) },
		"other group":       func() Status { return send(change(func(o *Order) { o.Group = "h" }), hub) },
		"newer version":     func() Status { return send(change(func(o *Order) { o.Version++ }), hub) },
		"no file":           func() Status { return send(change(func(o *Order) { o.Artifact.File = "../../x" }), hub) },
		"no size":           func() Status { return send(change(func(o *Order) { o.Artifact.Size = -1 }), hub) },
		"huge":              func() Status { return send(change(func(o *Order) { o.Artifact.Size = 1 << 60 }), hub) },
		"other key":         func() Status { return send(change(func(*Order) {}), newKey(t)) },
		"no seal":           func() Status { c.take(t.Context(), []byte("{}")); return c.now },
		"cut": func() Status {
			text, _ := seal(change(func(*Order) {}), hub)
			c.take(t.Context(), text[:len(text)-2])
			return c.now
		},
		"a report as an order": func() Status {
			text, _ := seal(Status{Version: version, Group: "g", Card: "c", Order: 99}, hub)
			c.take(t.Context(), text)
			return c.now
		},
	}
	for range 2 {
		for name, f := range wrong {
			if s := f(); s.Order != 10 || c.state.Order != good {
				t.Errorf("%s: order %d is followed: %+v", name, s.Order, c.state.Order)
			}
		}
		c = bare(t, dir, hub, 1) // from what it remembered
		c.now.Order = 10
	}
	// The same again is no news.
	if send(good, hub); c.state.Order != good {
		t.Error(c.state.Order)
	}
	// Of the next, what the agent runs isn't asked for again, but what was placed over it is: there is no connection here.
	next := Order{version, "g", "c", 12, runnable(1), ""}
	if s := send(next, hub); s.Phase != Placed || s.Order != 12 {
		t.Errorf("%+v", s)
	}
}

// A card reads back what it must not forget, and doesn't run without it.
func TestCardState(t *testing.T) {
	hub, dir := newKey(t), t.TempDir()
	c := bare(t, dir, hub, 1)
	if err := c.remember(Order{version, "g", "c", 10, runnable(1), ""}); err != nil {
		t.Fatal(err)
	}
	c.refuse(strings.NewReader("").UnreadByte())
	if c = bare(t, dir, hub, 1); c.state.Refused == "" {
		t.Error("a refusal is forgotten")
	}
	if err := c.remember(Order{version, "g", "c", 11, runnable(1), ""}); err != nil {
		t.Fatal(err)
	}
	if c = bare(t, dir, hub, 1); c.state.Refused != "" || c.state.Order.Number != 11 {
		t.Errorf("%+v", c.state)
	}
}

// What unseal takes is what the key's owner sealed, byte for byte.
func FuzzUnseal(f *testing.F) {
	key := newKey(f)
	text, err := seal(Order{version, "g", "c", 10, artifact(1), ""}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, public(key))
	f.Add(text[1:], public(key))
	f.Add([]byte("e30.e30"), public(key))
	f.Add([]byte("."), "")
	f.Fuzz(func(t *testing.T, data []byte, pub string) {
		var o Order
		if err := unseal(data, pub, &o); err == nil && pub == public(key) && (string(data) != string(text) || o.Number != 10) {
			// base64 ignores line breaks and the last bits: what was signed is the same.
			if o != (Order{version, "g", "c", 10, artifact(1), ""}) {
				t.Fatalf("%q is taken as %+v", data, o)
			}
		}
	})
}
