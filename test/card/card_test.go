//go:build linux

// Package card tests the agent on a card: Debian for arm64 with systemd and sshd, emulated whole (make card-test).
package card

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nepcoc/internal/testcard"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if built.dir, err = os.MkdirTemp("", "nepcoc-card-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built.dir)
	return testcard.Main(m)
}

// built is what tests share of what is built here: commands, the package, bundles.
var built struct {
	dir string
	sync.Mutex
	done map[string]error
}

// once has make make the file name in the tests' folder, the first time, and returns its path.
func once(t *testing.T, name string, make func(path string) error) string {
	t.Helper()
	path := filepath.Join(built.dir, name)
	built.Lock()
	defer built.Unlock()
	if built.done == nil {
		built.done = map[string]error{}
	}
	err, tried := built.done[name]
	if !tried {
		err = make(path)
		built.done[name] = err
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return path
}

// here runs a command in the repository's root; its standard output is what is returned.
func here(t *testing.T, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = testfiles.Root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return string(out), err
}

// nepcoc is the path of the compiler.
func nepcoc(t *testing.T) string {
	t.Helper()
	return once(t, "nepcoc", func(path string) error {
		_, err := here(t, "go", "build", "-o", path, "./cmd/nepcoc")
		return err
	})
}

// deb is the path of the agent's package for the card.
func deb(t *testing.T) string {
	t.Helper()
	return once(t, "nepcod.deb", func(path string) error {
		out, err := here(t, "packaging/build-deb.sh", "-o", filepath.Dir(path), "arm64")
		if err != nil {
			return err
		}
		return os.Rename(strings.TrimSpace(out), path)
	})
}

// demo is the path of a bundle of the example model; others of the same model have other names, and so other digests.
func demo(t *testing.T, name string) string {
	t.Helper()
	tool := nepcoc(t)
	return once(t, name+".nepco", func(path string) error {
		_, err := here(t, tool, "compile", "examples/model/demo.onnx", "--calib", "examples/testbed/calib.pcap", "--name", name, "-o", path)
		return err
	})
}

// digest is a bundle's, in hex.
func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := bundle.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b.Digest.String()
}

const (
	bundlePath = "/var/lib/nepcod/model.nepco"
	eve        = "/var/log/nepcod/eve.json"
)

// install puts the package and the bundle named demo on a card, and starts the service. A card that has them is set back to that bundle, with no
// verdicts written.
func install(t *testing.T, c *testcard.Card) {
	t.Helper()
	if _, err := c.Do("test -e /usr/bin/nepcod", nil); err != nil {
		data, err := os.ReadFile(deb(t))
		if err != nil {
			t.Fatal(err)
		}
		c.Put(t, "/root/nepcod.deb", "644", data)
		c.Run(t, "dpkg --install /root/nepcod.deb && rm /root/nepcod.deb && systemctl enable nepcod")
	}
	data, err := os.ReadFile(demo(t, "demo"))
	if err != nil {
		t.Fatal(err)
	}
	c.Run(t, "systemctl stop nepcod; rm -rf /var/lib/nepcod/* "+eve)
	c.Put(t, bundlePath, "644", data)
	c.Run(t, "systemctl reset-failed nepcod; systemctl start nepcod")
	within(t, time.Minute, "the service has its bundle", func() error {
		return runs(c, digest(t, demo(t, "demo")))
	})
}

// installed is the shared card as install leaves it.
func installed(t *testing.T) *testcard.Card {
	t.Helper()
	c := testcard.Shared(t)
	install(t, c)
	return c
}

// within waits until f has nothing to complain about, for so long at most. Machines that emulate are slow: it may be long.
func within(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(300 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
	}
}

// metrics are the service's, by name with labels. A session with curl would take the card several times what the service does.
func metrics(c *testcard.Card) (map[string]string, error) {
	client := http.Client{
		Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c.Dial(9477) }, DisableKeepAlives: true},
		Timeout:   time.Minute,
	}
	resp, err := client.Get("http://card/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s", resp.Status)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			m[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return m, nil
}

// runs says why the service does not run the bundle of a digest, nil where it does.
func runs(c *testcard.Card, digest string) error {
	m, err := metrics(c)
	if err != nil {
		return err
	}
	for name := range m {
		if strings.HasPrefix(name, "nepcod_model_info{") {
			if strings.Contains(name, fmt.Sprintf("digest=%q", digest[:12])) || strings.Contains(name, fmt.Sprintf("digest=%q", digest)) {
				return nil
			}
			return fmt.Errorf("it runs %s, not digest %.12s", name, digest)
		}
	}
	return fmt.Errorf("no nepcod_model_info in %d metrics", len(m))
}
