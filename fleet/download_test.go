package fleet

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A bundle that was fetched in part is fetched on, also after another order came or the card began anew; what a crash left in its place is found out
// and fetched again; and nothing is left of other bundles.
func TestDownload(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)()
	dir := filepath.Join(f.dir, "cards", "g", "c")
	c, err := OpenCard(CardOptions{Dir: dir, Runner: newSimAgent()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.nc.Close()
	data, b := bigBundle(t, 1, 1, 4*chunkSize)
	a := NewArtifact(data, b)
	if err := h.Upload(t.Context(), "g", a, data, quiet); err != nil {
		t.Fatal(err)
	}
	whole := func() {
		t.Helper()
		name, err := c.download(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
	}
	whole()
	name := filepath.Join(dir, "ordered-"+a.File+".nepco")
	other := filepath.Join(dir, "ordered-0123.nepco")
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Not what was fetched: the card doesn't refuse the bundle for that.
	write(name, bytes.Repeat([]byte{1}, 2*chunkSize))
	write(other, nil)
	if _, err := c.download(t.Context(), a); !errors.Is(err, errAway) {
		t.Errorf("with wrong bytes from before: %v", err)
	}
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is left of another bundle: %v", err)
	}
	whole()
	// Longer than the bundle.
	write(name, append(bytes.Clone(data), 1))
	whole()
	// Another order is looked at first.
	write(name, data[:2*chunkSize+1])
	c.orders <- nil
	if _, err := c.download(t.Context(), a); !errors.Is(err, errAway) {
		t.Errorf("with another order: %v", err)
	}
	<-c.orders
	// What is there isn't asked for again: the servers don't have it any more.
	stream, err := h.js.Stream(t.Context(), streamBundles)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(chunkSubject("g", a, i))); err != nil {
			t.Fatal(err)
		}
	}
	whole() // Of what could not be written nothing stays in the card's folder.
	a2 := a
	a2.File = strings.Repeat("0", 64)
	full := filepath.Join(dir, "ordered-"+a2.File+".nepco")
	if err := os.Symlink("/dev/full", full); err != nil {
		t.Fatal(err)
	}
	if _, err := c.download(t.Context(), a2); err == nil || errors.Is(err, errAway) {
		t.Errorf("into a full disk: %v", err)
	}
	if _, err := os.Lstat(full); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what could not be written is still there: %v", err)
	}
}

// An enrolment that a crash cut short is no obstacle to the next.
func TestEnrolAfterCrash(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	dir := filepath.Join(f.dir, "cards", "g", "c")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, fileCard), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	f.reported(h.Client, "g", 1)
}
