package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
)

// configured starts the three servers of packaging/fleet/nats-cluster.conf, as NATS' own program reads it: in place of its machines and folders, the loopback and f's.
func configured(t *testing.T) *testFleet {
	t.Helper()
	f := newFleetFolder(t, 3)
	folder := filepath.Join(f.dir, "fleet")
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "packaging", "fleet", "nats-cluster.conf"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a", "b", "c"}
	for i, name := range names {
		replace := []string{"server_name: a", "server_name: " + name, "0.0.0.0:4222", fmt.Sprintf("127.0.0.1:%d", f.ports[2*i]), "0.0.0.0:6222", fmt.Sprintf("127.0.0.1:%d", f.ports[2*i+1]),
			"/etc/nats/", folder + "/", "/var/lib/nats", filepath.Join(f.dir, "store"+name), `include "nats-access.conf"`, `include "fleet/nats-access.conf"`}
		routes := []string{}
		for j := range names {
			if j != i {
				routes = append(routes, fmt.Sprintf(`"tls://127.0.0.1:%d"`, f.ports[2*j+1]))
			}
		}
		replace = append(replace, `"tls://b.example:6222", "tls://c.example:6222"`, strings.Join(routes, ", "))
		for k := 0; k < len(replace); k += 2 {
			if !strings.Contains(string(text), replace[k]) {
				t.Fatalf("nats-cluster.conf has no %s", replace[k])
			}
		}
		conf := filepath.Join(f.dir, name+".conf")
		if err := os.WriteFile(conf, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		// As nats-server -t does: fields that it doesn't know are errors.
		o := &server.Options{CheckConfig: true}
		if err := o.ProcessConfigFile(conf); err != nil {
			t.Fatal(err)
		}
		if o, err = server.ProcessConfigFile(conf); err != nil {
			t.Fatal(err)
		}
		o.NoSigs, o.NoLog = true, true
		s, err := start(o)
		if err != nil {
			t.Fatal(err)
		}
		f.servers = append(f.servers, s)
		f.urls += fmt.Sprintf(",tls://127.0.0.1:%d", f.ports[2*i])
	}
	f.urls = strings.TrimPrefix(f.urls, ",")
	f.Cleanup(func() {
		for _, s := range f.servers {
			s.Shutdown()
			s.WaitForShutdown()
		}
	})
	return f
}

// A card that was revoked, and operators whose credentials were, are cut off and refused by the hub's own server, and by a cluster that reloads its
// configuration; all others go on.
func TestRevoke(t *testing.T) {
	accountsEvery = 50 * time.Millisecond
	for _, kind := range []string{"own server", "cluster"} {
		if kind == "cluster" && testing.Short() {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			var f *testFleet
			take := func() {}
			if kind == "cluster" {
				f = configured(t)
				take = func() {
					for _, s := range f.servers {
						if err := s.Reload(); err != nil {
							t.Error(err)
						}
					}
				}
			} else {
				f = newFleet(t, 1)
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan bool)
				go func() { defer close(ended); f.access.KeepAccounts(ctx, f.servers[0], quietLog) }()
				defer func() { stop(); <-ended }()
			}
			h, _ := f.hub("a")
			ctx := t.Context()
			var agents []*simAgent
			var stopLost func()
			for _, name := range []string{"good", "lost"} {
				agents = append(agents, newSimAgent())
				stopLost = f.card(h.Client, "g", name, agents[len(agents)-1], nil)
			}
			reported := func() error {
				cards, err := h.Cards(ctx)
				for name, s := range cards["g"] {
					if err == nil && time.Since(s.Seen) > 10*time.Second {
						err = errors.New(name)
					}
				}
				return err
			}
			f.eventually(2*time.Minute, "reports", reported)
			// It was enrolled again, under its name: the key of before is one that a thief may have.
			folder := filepath.Join(f.dir, "cards", "g", "lost")
			earlier, err := os.ReadFile(filepath.Join(folder, fileCardCreds))
			if err == nil {
				stopLost()
				err = os.RemoveAll(folder)
			}
			if err != nil {
				t.Fatal(err)
			}
			f.card(h.Client, "g", "lost", agents[1], nil)
			f.eventually(2*time.Minute, "reports by the new key", func() error {
				cards, err := h.Cards(ctx)
				if s := cards["g"]["lost"]; err == nil && time.Since(s.Seen) > 5*time.Second {
					err = errors.New("none yet")
				}
				return err
			})
			if when, err := h.Enrolled(ctx, "g", "lost"); err != nil || when.IsZero() {
				t.Errorf("enrolled at %v: %v", when, err)
			}
			lost, err := os.ReadFile(filepath.Join(folder, fileCardCreds))
			if err != nil {
				t.Fatal(err)
			}
			mallory := f.attacker(lost, inboxPrefix+"g.lost")
			old, err := files.All(f.access.file(FileOperatorCreds), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			former := f.attacker(old, "_INBOX")
			token, err := h.NewToken(ctx, "g", "lost", f.urls)
			if err != nil {
				t.Fatal(err)
			}
			// A rollout that is under way doesn't wait for a card that leaves.
			data, b := signedBundle(t, 1, 1, signer)
			leave := make(chan bool) // until then the card does not run the bundle, and the rollout waits for it
			defer close(leave)
			agents[1].act = func(string, *Agent) { <-leave }
			plan := quick()
			plan.Timeout, plan.Stages = time.Hour, []Stage{{Percent: 100}}
			if _, err := h.Rollout(ctx, "g", "t", data, b, "", plan, quiet); err != nil {
				t.Fatal(err)
			}

			if err := h.Revoke(ctx, "g", "lost"); err != nil {
				t.Fatal(err)
			}
			if err := f.access.RevokeOperator(); err != nil {
				t.Fatal(err)
			}
			take()
			for name, c := range map[string]*attacker{"card": mallory, "operator": former} {
				f.eventually(2*time.Minute, name+" is cut off", func() error {
					if c.IsConnected() {
						return errors.New("it is connected")
					}
					return nil
				})
			}
			for name, creds := range map[string][]byte{"card": lost, "card of before": earlier, "operator": old} {
				pool, err := f.access.authorities()
				if err != nil {
					t.Fatal(err)
				}
				if c, err := nats.Connect(f.urls, nats.UserCredentialBytes(creds), secure(pool)); err == nil {
					c.Close()
					t.Errorf("the %s's credentials are taken", name)
				}
			}
			if err := Enrol(ctx, filepath.Join(f.dir, "again"), token); err == nil {
				t.Error("a token of before enrols it anew")
			}
			if err := h.Revoke(ctx, "g", "lost"); err == nil {
				t.Error("revoked twice")
			}
			f.eventually(2*time.Minute, "the hub forgets it", func() error {
				h.mu.Lock()
				defer h.mu.Unlock()
				if _, ok := h.cards.groups["g"]["lost"]; ok {
					return errors.New("it is there")
				}
				return nil
			})
			if r := f.state(h.Client, "g", Done); len(r.Away) != 1 || len(r.Missing) > 0 {
				t.Errorf("%+v", r)
			}
			// All others go on, and new ones come in: the new credentials of operators, and the card with a new key.
			f.eventually(2*time.Minute, "reports of all others", reported)
			a, err := OpenAccess(f.access.dir)
			if err != nil {
				t.Fatal(err)
			}
			creds, err := files.All(a.file(FileOperatorCreds), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if op := f.attacker(creds, "_INBOX"); !op.IsConnected() {
				t.Error("the new operator's credentials are refused")
			}
			if err := os.RemoveAll(filepath.Join(f.dir, "cards", "g", "lost")); err != nil {
				t.Fatal(err)
			}
			f.card(h.Client, "g", "lost", newSimAgent(), nil)
			f.eventually(2*time.Minute, "the card that was enrolled anew", func() error {
				cards, err := h.Cards(ctx)
				if s := cards["g"]["lost"]; err == nil && (s.Seen.IsZero() || s.Phase != Running) {
					err = fmt.Errorf("%+v", s)
				}
				return err
			})
		})
	}
}
