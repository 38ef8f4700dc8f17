//go:build linux

package testcard

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nepcoc/internal/interrupt"
	"nepcoc/internal/testfiles"
)

// Env names the environment variable with the folder of the built card; without it, tests that need one skip.
const Env = "NEPCOC_CARD"

var shared struct {
	sync.Mutex // of the test that has the card
	card       *Card
	err        error
}

// Main is for TestMain: it runs the tests and takes down what is left of cards, also when a signal ends them.
func Main(m *testing.M) int {
	interrupt.Watch()
	code := m.Run()
	if shared.card != nil {
		shared.card.Close()
	}
	return code
}

// Shared is the card of all tests of a package, which must call Main; it is booted by the first of them. The test has it to itself until it ends, also
// where tests run in parallel, and leaves it as it was found, and on. The console's end is logged where the test fails.
func Shared(t testing.TB) *Card {
	t.Helper()
	built := built(t)
	shared.Lock()
	t.Cleanup(shared.Unlock)
	if shared.card == nil && shared.err == nil {
		shared.card, shared.err = boot(built)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	onFailure(t, shared.card)
	return shared.card
}

// Own is a card for one test, for power cuts and what else others should not see.
func Own(t testing.TB) *Card {
	t.Helper()
	c, err := boot(built(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	onFailure(t, c)
	return c
}

func built(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(Env)
	if dir == "" {
		t.Skipf("needs the emulated card: make card-test (sets %s)", Env)
	}
	for _, tool := range []string{"qemu-system-aarch64", "qemu-img"} {
		testfiles.Tool(t, tool)
	}
	if _, err := os.Stat(filepath.Join(dir, "recipe")); err != nil {
		testfiles.Missing(t, "no emulated card in %s: make card", dir)
	}
	return dir
}

func boot(built string) (*Card, error) {
	c, err := New(built)
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(c.Console()))
		c.Close()
		return nil, err
	}
	return c, nil
}

// onFailure logs the end of the console, and of the card's journal, where the test fails.
func onFailure(t testing.TB, c *Card) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		journal, err := c.Do("journalctl --no-pager -n 40 -o short-monotonic", nil)
		t.Logf("the card's journal (%v):\n%s", err, journal)
		t.Logf("the card's console:\n%s", tail(c.Console()))
	})
}

// tail is the last lines of a text.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// Run runs a shell script on the card as root and returns its standard output, without the last end of line; the test ends where it fails.
func (c *Card) Run(t testing.TB, script string) string {
	t.Helper()
	out, err := c.Do(script, nil)
	if err != nil {
		t.Fatalf("on the card: %s: %v\n%s", script, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// Put writes a file on the card, with mode such as "644", not atomically.
func (c *Card) Put(t testing.TB, name, mode string, data []byte) {
	t.Helper()
	script := fmt.Sprintf("cat > '%s' && chmod %s '%s'", name, mode, name)
	if _, err := c.Do(script, bytes.NewReader(data)); err != nil {
		t.Fatalf("%s on the card: %v", name, err)
	}
}

// Get is what a file on the card holds.
func (c *Card) Get(t testing.TB, name string) []byte {
	t.Helper()
	out, err := c.Do("cat '"+name+"'", nil)
	if err != nil {
		t.Fatalf("%s on the card: %v", name, err)
	}
	return out
}
