package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// backNote is the signed reason to run a bundle again after a serial.
func backNote(t *testing.T, from uint64, to *bundle.Bundle) string {
	t.Helper()
	text, err := trust.Rollback{From: from, To: to.Signature.Serial, Digest: to.Digest.String(), Reason: "test"}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// whole says whether all of a bundle is in the servers for a group, or nothing of it; anything else is an error.
func whole(t *testing.T, c *Client, group string, a Artifact, data []byte) bool {
	t.Helper()
	there := 0
	for i := range a.chunks() {
		m, err := c.chunk(t.Context(), chunkSubject(group, a, i))
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			there++
			if string(m.Data) != string(data[i*chunkSize:min((i+1)*chunkSize, len(data))]) {
				t.Fatalf("chunk %d is another", i)
			}
		}
	}
	if there != 0 && there != a.chunks() {
		t.Fatalf("%d of %d chunks are there", there, a.chunks())
	}
	return there > 0
}

// usesOf are what the bundles in the servers are needed for, by file.
func usesOf(t *testing.T, c *Client, group string) map[string][]Use {
	t.Helper()
	list, err := c.Bundles(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string][]Use{}
	for _, s := range list {
		uses[s.File] = s.Uses
		if s.Group != group || s.Put.IsZero() || s.Removing || (s.Bundle != nil) != (len(s.Uses) > 0 && s.Uses[0] != UseOrder) || s.Bundle != nil && s.Size != s.Bundle.Size {
			t.Errorf("%+v", s)
		}
	}
	return uses
}

// What a group runs, a rollout brings or the way back leads to stays in the servers; all else goes, with an operator's credentials, and can be rolled out again.
func TestPrune(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	f.reported(h.Client, "g", 1)
	folder := filepath.Join(f.dir, "operator")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range OperatorFiles {
		text, err := os.ReadFile(filepath.Join(f.dir, "fleet", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	access, err := OpenAccess(folder)
	if err != nil {
		t.Fatal(err)
	}
	operator, err := access.Dial(t.Context(), f.urls, "operator")
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()

	var files [][]byte
	var bundles []*bundle.Bundle
	var artifacts []Artifact
	for i := range 4 {
		data, b := signedBundle(t, i+1, uint64(i+1), signer)
		files, bundles, artifacts = append(files, data), append(bundles, b), append(artifacts, NewArtifact(data, b))
	}
	roll := func(i int, plan Plan) {
		t.Helper()
		back := ""
		if i > 0 {
			back = backNote(t, uint64(i+1), bundles[i-1])
		}
		if _, err := operator.Rollout(t.Context(), "g", "t", files[i], bundles[i], back, plan, quiet); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want ...[]Use) {
		t.Helper()
		uses := usesOf(t, operator, "g")
		for i, a := range artifacts {
			got, there := uses[a.File]
			if is := i < len(want) && want[i] != nil; is != there || is && !slices.Equal(got, want[i]) || is != whole(t, operator, "g", a, files[i]) {
				t.Errorf("%s: bundle %d is there: %v, for %q; want %q", what, i+1, there, got, want)
			}
		}
	}
	// The order that is in force, by the hub's own view, is that of the group's document.
	ordered := func(i int) {
		t.Helper()
		f.eventually(time.Minute, "an order", func() error {
			orders, err := operator.ordered(t.Context())
			if err == nil && !orders["g"][artifacts[i].File] {
				err = fmt.Errorf("%v", orders)
			}
			return err
		})
	}
	prune := func(want ...int) {
		t.Helper()
		gone, err := operator.Prune(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		var names, wanted []string
		for _, s := range gone {
			names = append(names, s.Group+"."+s.File)
		}
		for _, i := range want {
			wanted = append(wanted, "g."+artifacts[i].File)
		}
		if !slices.Equal(names, wanted) {
			t.Errorf("removed %q, not %q", names, wanted)
		}
	}
	none := []Use{}
	roll(0, quick())
	f.state(operator, "g", Done)
	prune()
	expect("the first", []Use{UseStable, UseOrder})
	roll(1, quick())
	f.state(operator, "g", Done)
	expect("the second", []Use{UseBack}, []Use{UseStable, UseOrder})
	long := quick()
	long.Bake = time.Hour
	roll(2, long)
	ordered(2)
	expect("the third, on its way", none, []Use{UseStable, UseBack}, []Use{UseRollout, UseOrder})
	prune(0)
	expect("pruned on the way", nil, []Use{UseStable, UseBack}, []Use{UseRollout, UseOrder})
	if _, err := operator.Halt(t.Context(), "g", "t"); err != nil {
		t.Fatal(err)
	}
	prune()
	if _, err := operator.Back(t.Context(), "g", "t"); err != nil {
		t.Fatal(err)
	}
	if r := f.state(operator, "g", Returned); len(r.Missing) > 0 || f.status(operator, "g", "c").Agent.Digest != artifacts[1].Digest {
		t.Errorf("%+v", r)
	}
	expect("back", nil, []Use{UseStable, UseOrder}, none)
	prune(2)
	expect("pruned after the way back", nil, []Use{UseStable, UseOrder})
	// What was removed is sent again.
	roll(2, quick())
	f.state(operator, "g", Done)
	expect("the third again", nil, []Use{UseBack}, []Use{UseStable, UseOrder})
	prune()
	// What came in part only, or for a group without cards.
	for _, group := range []string{"g", "nobody"} {
		if _, err := operator.js.Publish(t.Context(), chunkSubject(group, artifacts[3], 7), []byte("part")); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := operator.Prune(t.Context(), "nobody"); err != nil || len(gone) != 1 || gone[0].Group != "nobody" || gone[0].Size != 4 {
		t.Errorf("%+v, %v", gone, err)
	}
	prune(3)
	expect("at the end", nil, []Use{UseBack}, []Use{UseStable, UseOrder})
}

// status is what a card reports.
func (f *testFleet) status(c *Client, group, card string) Status {
	f.Helper()
	cards, err := c.Cards(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return cards[group][card]
}

// A bundle that is removed between its being sent and its rollout's beginning is sent again: no rollout begins without its bundle.
func TestPruneAmidRollout(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	f.reported(h.Client, "g", 1)
	data, b := signedBundle(t, 1, 1, signer)
	a := NewArtifact(data, b)
	times := 0
	_, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), func(done, total int) {
		if done != total {
			return
		}
		if times++; times > 3 {
			return
		}
		if !whole(t, h.Client, "g", a, data) {
			t.Error("sent, and not there")
		}
		if gone, err := h.Prune(t.Context(), "g"); err != nil || len(gone) != 1 || whole(t, h.Client, "g", a, data) {
			t.Errorf("%+v, %v", gone, err)
		}
	})
	if err != nil || times != 4 {
		t.Fatalf("sent %d times: %v", times, err)
	}
	f.state(h.Client, "g", Done)
	if !whole(t, h.Client, "g", a, data) {
		t.Error("the group's bundle is gone")
	}
}

// Rollouts and removals that all happen at once: each rollout ends well, and what it needs is there.
func TestPruneAtOnce(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	f.reported(h.Client, "g", 1)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			c := f.client("pruner")
			for ctx.Err() == nil {
				if _, err := c.Prune(ctx, "g"); err != nil && ctx.Err() == nil {
					t.Log(err) // servers that stood still
				}
			}
		})
	}
	end := func() { stop(); wg.Wait() }
	defer end()
	var before []byte
	var old *bundle.Bundle
	for i := range 5 {
		data, b := signedBundle(t, i+1, uint64(i+1), signer)
		back := ""
		if old != nil {
			back = backNote(t, uint64(i+1), old)
		}
		if _, err := h.Rollout(t.Context(), "g", "t", data, b, back, quick(), quiet); err != nil {
			t.Fatal(err)
		}
		f.state(h.Client, "g", Done)
		if !whole(t, h.Client, "g", NewArtifact(data, b), data) || old != nil && !whole(t, h.Client, "g", NewArtifact(before, old), before) {
			t.Fatalf("rollout %d: a bundle that is needed is gone", i+1)
		}
		before, old = data, b
	}
	end()
	if _, err := h.Prune(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if uses := usesOf(t, h.Client, "g"); len(uses) != 2 {
		t.Errorf("left are %q", uses)
	}
}

// What a document asks to be removed and needs itself stays, as does what no bundle's name is, and what was put there after the removal had begun.
func TestRemovalBounds(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	data, b := signedBundle(t, 1, 1, signer)
	a := NewArtifact(data, b)
	other, b2 := signedBundle(t, 2, 2, signer)
	a2 := NewArtifact(other, b2)
	for _, x := range []struct {
		a    Artifact
		data []byte
	}{{a, data}, {a2, other}} {
		if err := h.Upload(t.Context(), "g", x.a, x.data, quiet); err != nil {
			t.Fatal(err)
		}
	}
	_, last, err := h.stored(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *Removal) entry[Group] {
		t.Helper()
		g, revision, err := h.group(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		g.Version, g.Stable, g.Removal = version, a, r
		if revision, err = h.put(t.Context(), g, revision); err != nil {
			t.Fatal(err)
		}
		wait, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := h.removed(wait, "g", r); err != nil {
			t.Fatal(err)
		}
		return entry[Group]{g, revision}
	}
	ask(&Removal{Files: []string{a.File, "*", ">", ""}, Begun: begun, Last: last})
	if !whole(t, h.Client, "g", a, data) || !whole(t, h.Client, "g", a2, other) {
		t.Error("what is needed, or what nobody named, is gone")
	}
	old := ask(&Removal{Files: []string{a2.File}, Begun: begun, Last: last})
	if whole(t, h.Client, "g", a2, other) {
		t.Error("what was to be removed is there")
	}
	// A hub that slept does it once more, after the bundle was sent again.
	if err := h.Upload(t.Context(), "g", a2, other, quiet); err != nil {
		t.Fatal(err)
	}
	if err := h.remove(t.Context(), old); !changedMeanwhile(err) {
		t.Errorf("an old document was replaced: %v", err)
	}
	if !whole(t, h.Client, "g", a2, other) {
		t.Error("what came later is gone")
	}
}

// Without a hub that leads bundles stay, Prune says so, and the hub that comes does it.
func TestPruneWithoutHub(t *testing.T) {
	f := newFleet(t, 1)
	_, end := f.hub("a")
	end()
	c := f.client("operator")
	data, b := signedBundle(t, 1, 1, signer)
	a := NewArtifact(data, b)
	if err := c.Upload(t.Context(), "g", a, data, quiet); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type answer struct {
		gone []Stored
		err  error
	}
	pruned := make(chan answer, 1)
	go func() {
		gone, err := c.Prune(ctx, "g")
		pruned <- answer{gone, err}
	}()
	listed := func(what string, ok func([]Stored) bool) {
		t.Helper()
		f.eventually(time.Minute, what, func() error {
			list, err := c.Bundles(t.Context(), "")
			if err == nil && !ok(list) {
				err = fmt.Errorf("%+v", list)
			}
			return err
		})
	}
	listed("the mark", func(list []Stored) bool { return len(list) == 1 && list[0].Removing })
	cancel()
	if a := <-pruned; !errors.Is(a.err, context.Canceled) || len(a.gone) > 0 {
		t.Errorf("%+v", a)
	}
	if !whole(t, c, "g", a, data) {
		t.Error("it is gone")
	}
	f.hub("b")
	listed("the removal", func(list []Stored) bool { return len(list) == 0 })
}
