package traffic

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestVersions reads contract files as they were written in each version: they
// define the same sequences, under the same hash, in every later version.
func TestVersions(t *testing.T) {
	for v := 1; v <= newest(); v++ {
		t.Run(fmt.Sprint(v), func(t *testing.T) { checkVersion(t, v) })
	}
}

func checkVersion(t *testing.T, version int) {
	dir := fmt.Sprintf("testdata/version%d", version)
	hashes, err := os.ReadFile(filepath.Join(dir, "hashes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(hashes)), "\n")
	for _, line := range lines {
		want, name, _ := strings.Cut(line, "  ")
		c, err := ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := c.Hash(); got != want {
			t.Errorf("%s: hash %s, was %s\n%s", name, got, want, c.Canonical())
		}
		if !strings.HasPrefix(string(c.Canonical()), fmt.Sprintf("nepco_traffic: %d\n", version)) {
			t.Errorf("%s: written in a later version:\n%s", name, c.Canonical())
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1+len(lines) {
		t.Errorf("%d hashes of %d files: %v", len(lines), len(files)-1, err)
	}
}

// TestLaterField: a field that came with a later version is asked for from that version on, refused
// before, and leaves the bytes and the hash of a contract alone that does not use it.
func TestLaterField(t *testing.T) {
	kept, old := fields, newest()
	t.Cleanup(func() { fields = kept })
	c := Default()
	hash, text := c.Hash(), string(c.Canonical())
	// A field of the next version; the name, which is in no canonical form, stands for its value.
	later := strField("later", func(c *Contract) *string { return &c.Name })
	later.since = old + 1
	fields = append(slices.Clone(fields), later)

	c.Name = ""
	if got := string(c.Canonical()); got != text || c.Hash() != hash {
		t.Errorf("a field that is not used changes a contract to\n%s\nfrom\n%s", got, text)
	}
	as := func(version int) string { // with every field up to the newest version's
		text := fmt.Sprintf("nepco_traffic: %d\n", version)
		for _, f := range kept {
			text += fmt.Sprintf("%s: %s\n", f.name, f.get(&c))
		}
		return text
	}
	c.Name = "on"
	used := string(c.Canonical())
	if want := as(old+1) + "later: on\n"; used != want || c.Hash() == hash {
		t.Errorf("written as\n%s\nwant\n%s", used, want)
	}
	if back, err := Parse("x.yaml", []byte(used)); err != nil || back.Name != "on" {
		t.Errorf("read back: %q, %v", back.Name, err)
	}
	for _, tc := range []struct{ text, want string }{
		{as(old) + "later: on\n", fmt.Sprintf("traffic contract: later came with nepco_traffic: %d, the file says %d: ", old+1, old)},
		{as(old + 1), "later is missing"},
		{as(old + 2), fmt.Sprintf("x.yaml:1: traffic contract: written for a newer program (nepco_traffic: %d; this program reads 1 to %d): update", old+2, old+1)},
		{as(0), "x.yaml:1: traffic contract: nepco_traffic: version 0 does not exist"},
	} {
		if _, err := Parse("x.yaml", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %s", err, tc.want)
		}
	}
	// The way out of the first refusal.
	if _, err := Parse("x.yaml", []byte(as(old+1)+"later: on\n")); err != nil {
		t.Error(err)
	}
}
