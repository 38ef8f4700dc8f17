package dataset_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nepcoc/compiler/dataset"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

func stored(t *testing.T, set *dataset.Set, m dataset.Meta) string {
	t.Helper()
	var b bytes.Buffer
	if err := set.Write(&b, m); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "set.npz")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// A set says by what it was made, and one that was made otherwise than its reader reads is refused by what differs.
func TestFits(t *testing.T) {
	set := testbed(t, "nepco-stream", "calib")
	set.View = bundle.View{Tunnels: true, ActiveTimeout: 30 * time.Second}
	set, err := dataset.Open(stored(t, set, dataset.Meta{}))
	if err != nil {
		t.Fatal(err)
	}
	other, err := traffic.Load("nepco")
	if err != nil {
		t.Fatal(err)
	}
	longer := set.Contract
	longer.ClientBytes--
	renamed := set.Contract
	renamed.Name = "another name"
	for name, c := range map[string]struct {
		contract traffic.Contract
		view     bundle.View
		want     []string // nothing: it fits
	}{
		"itself":           {set.Contract, set.View, nil},
		"renamed":          {renamed, set.View, nil},
		"tunnels":          {set.Contract, bundle.View{ActiveTimeout: 30 * time.Second}, []string{"x.npz: made with --tunnels=true, and app.nepco reads packets with --tunnels=false", "nepcoc tokens --contract app.nepco"}},
		"VLANs":            {set.Contract, bundle.View{Tunnels: true, VLANs: true, ActiveTimeout: 30 * time.Second}, []string{"--vlans=false", "--vlans=true"}},
		"interfaces":       {set.Contract, bundle.View{Tunnels: true, Interfaces: true, ActiveTimeout: 30 * time.Second}, []string{"--interfaces=false", "--interfaces=true"}},
		"active timeout":   {set.Contract, bundle.View{Tunnels: true}, []string{"--active-timeout=30s", "--active-timeout=0s"}},
		"one choice":       {longer, set.View, []string{"client_bytes is 128 there and 127 here"}},
		"another contract": {other, set.View, []string{"made by the traffic contract nepco-stream, and app.nepco reads nepco (", "more choices differ", "nepcoc tokens --contract app.nepco"}},
	} {
		err := set.Fits("x.npz", dataset.ForBundle("app.nepco", c.contract, c.view))
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: want %q", name, err, want)
			}
		}
	}
	if got, want := dataset.Args("my.yaml", set.View), "--contract my.yaml --tunnels=true --active-timeout=30s"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What was edited into nonsense is refused: classes of one name, or of none.
func TestClassNames(t *testing.T) {
	for _, name := range []string{"", "DNS"} {
		set := testbed(t, "nepco-stream", "calib")
		set.Labels[3] = name
		if _, err := dataset.Open(stored(t, set, dataset.Meta{})); err == nil || !strings.Contains(err.Error(), "its class 3 is called") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Sets of version 1, which knew neither interfaces nor an active timeout, open with neither.
func TestVersion1(t *testing.T) {
	set, err := dataset.Open("testdata/version1.npz")
	if err != nil {
		t.Fatal(err)
	}
	if set.View != (bundle.View{Tunnels: true}) || len(set.Flows) != 4 || set.Contract.Name != "nepco-stream" {
		t.Errorf("%+v of %s, view %+v", set, set.Contract.Name, set.View)
	}
	if len(set.Notes) != 1 || !strings.Contains(set.Notes[0], "shards are not given") {
		t.Errorf("notes %q", set.Notes)
	}
	if _, err := dataset.Open("testdata/version1.npz", "testdata/version1.npz"); err == nil || !strings.Contains(err.Error(), "is given already") {
		t.Errorf("one shard twice: %v", err)
	}
	whole := stored(t, testbed(t, "nepco-stream", "calib"), dataset.Meta{Shard: 1, Shards: 1})
	if _, err := dataset.Open("testdata/version1.npz", whole); err == nil || !strings.Contains(err.Error(), "--tunnels=false") {
		t.Errorf("shards of two views: %v", err)
	}
	other := testbed(t, "nepco-stream", "calib")
	other.Labels[0] = "other"
	if _, err := dataset.Open(whole, stored(t, other, dataset.Meta{Shard: 1, Shards: 1})); err == nil || !strings.Contains(err.Error(), "its classes differ") {
		t.Errorf("shards of two sets: %v", err)
	}
}

// What a set holds is held to what teaching and training need, by row or name.
func TestDamaged(t *testing.T) {
	for _, c := range []struct {
		damage func(s *dataset.Set)
		want   string
	}{
		{func(s *dataset.Set) { s.Flows[1].Tokens = nil }, "row 1: the mask is not 1 of the first tokens"},
		{func(s *dataset.Set) { s.Labels[1] = "a\x1b[31m" }, "class 1"},
		{func(s *dataset.Set) { s.Labels[1] = s.Labels[0] }, "as no other may be"},
	} {
		set := testbed(t, "nepco-stream", "calib")
		c.damage(set)
		if _, err := dataset.Open(stored(t, set, dataset.Meta{})); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: want %q", err, c.want)
		}
	}
}

// Shards of a longer set that was there before are not taken for this one's.
func TestOtherShards(t *testing.T) {
	set := testbed(t, "nepco-stream", "calib")
	a, b := stored(t, set, dataset.Meta{Shard: 1, Shards: 2}), stored(t, set, dataset.Meta{Shard: 3, Shards: 3})
	if _, err := dataset.Open(a, b); err == nil || !strings.Contains(err.Error(), "one of 3 shards, and "+a+" of 2") {
		t.Error(err)
	}
}
