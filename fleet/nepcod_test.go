package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// nepcodFiles are an agent's configuration, and a program in place of nepcod that refuses files with "bad" in them, files with "old" without a note, and
// all where the note of its configuration is none.
func nepcodFiles(t *testing.T, address string, rollback bool) (dir, program, config string) {
	t.Helper()
	dir = t.TempDir()
	program, config = filepath.Join(dir, "nepcod"), filepath.Join(dir, "nepcod.yaml")
	script := "#!/bin/sh\nback=$(sed -n 's/^allow_rollback: //p' \"$4\")\n" +
		"if [ -e \"$back\" ] && ! grep -q note \"$back\"; then echo \"nepcod: allow_rollback: $back: its signature does not hold\" >&2; exit 1; fi\n" +
		"if grep -q bad \"$2\"; then echo \"nepcod: $2: golden vector 3 differs\" >&2; exit 1; fi\n" +
		"if grep -q old \"$2\" && ! [ -e \"$back\" ]; then echo \"nepcod: $2: serial 2 ran here before\" >&2; exit 1; fi\n"
	text := fmt.Sprintf("bundle: %s/model.nepco\nworkers: 3\noutput: {to: \"unix:%s/sock\"}\nmetrics: {listen: %q}\n", dir, dir, address)
	if rollback {
		text += fmt.Sprintf("allow_rollback: %s/back\n", dir)
	}
	for name, content := range map[string]string{program: script, config: text} {
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, program, config
}

// What the agent's configuration lacks is said, all of it, with the way out.
func TestOpenNepcod(t *testing.T) {
	_, program, config := nepcodFiles(t, ":9477", false)
	if _, err := OpenNepcod(program, config, filepath.Dir(config)+"/sock"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(config, []byte("workers: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := OpenNepcod(program+"x", config, "/run/sock")
	for _, want := range []string{"bundle:", "metrics.listen:", "output.to:", "unix:/run/sock", program + "x"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A bundle is placed where the agent looks, behind the reason to go back, and only where the agent's judgement allows it.
func TestNepcodPlace(t *testing.T) {
	for _, rollback := range []bool{true, false} {
		dir, program, config := nepcodFiles(t, "127.0.0.1:1", rollback)
		n, err := OpenNepcod(program, config, "")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "ordered")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("bad")
		if err := n.Check(t.Context(), file); err == nil || err.Error() != "nepcod selftest: golden vector 3 differs" {
			t.Errorf("%v", err)
		}
		if err := n.Place(t.Context(), file, "note"); err == nil {
			t.Error("placed what the agent refuses")
		}
		if _, err := os.Stat(filepath.Join(dir, "model.nepco")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
		os.Remove(filepath.Join(dir, "back"))
		write("old")
		if err := n.Check(t.Context(), file); err == nil {
			t.Error("an old bundle is taken")
		}
		err = n.Place(t.Context(), file, "note")
		placed, _ := os.ReadFile(filepath.Join(dir, "model.nepco"))
		if rollback && (err != nil || string(placed) != "old") || !rollback && (err == nil || !strings.Contains(err.Error(), "has no allow_rollback") || placed != nil) {
			t.Errorf("allow_rollback %v: %v, placed %q", rollback, err, placed)
		}
	}
}

// A reason to go back that does not hold never lies where the agent reads it, not for a moment: what lay there stays, and a bundle that needs none is placed.
func TestNepcodPlaceBadNote(t *testing.T) {
	for _, before := range []string{"", "note of before"} {
		dir, program, config := nepcodFiles(t, "127.0.0.1:1", true)
		n, err := OpenNepcod(program, config, "")
		if err != nil {
			t.Fatal(err)
		}
		back, model, file := filepath.Join(dir, "back"), filepath.Join(dir, "model.nepco"), filepath.Join(dir, "ordered")
		if before != "" {
			if err := os.WriteFile(back, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, bundle := range []string{"bad", "old", "new"} {
			if err := os.WriteFile(file, []byte(bundle), 0o600); err != nil {
				t.Fatal(err)
			}
			err := n.Place(t.Context(), file, "README")
			refused := bundle == "bad" || bundle == "old" && before == ""
			if refused && (err == nil || err.Error() != "nepcod selftest: allow_rollback: its signature does not hold") || !refused && err != nil {
				t.Errorf("%s: %v", bundle, err)
			}
			if placed, _ := os.ReadFile(model); (string(placed) == bundle) == refused {
				t.Errorf("%s: placed %q", bundle, placed)
			}
			if got, _ := os.ReadFile(back); string(got) != before {
				t.Errorf("%s: the reason is %q", bundle, got)
			}
		}
		if left, err := filepath.Glob(filepath.Join(dir, "back-*")); len(left) > 0 || err != nil {
			t.Error(left, err)
		}
	}
}

// Counts are since the bundle in use was taken up; a refusal is told of the bundle that was placed, not of one before.
func TestNepcodAgent(t *testing.T) {
	var health, metrics atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, health.Load())
			return
		}
		fmt.Fprint(w, metrics.Load())
	}))
	defer server.Close()
	dir, program, config := nepcodFiles(t, server.Listener.Addr().String(), true)
	n, err := OpenNepcod(program, config, "")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(digest string, uptime, done, refused, flows int, problem string) {
		bundle := 0
		problems := `"the interface is down"`
		if problem != "" {
			bundle, problems = 1, problems+`,"`+problem+`"`
		}
		health.Store(fmt.Sprintf(`{"status":"degraded","problems":[%s],"bundle_digest":%q,"uptime_s":%d}`, problems, digest, uptime))
		metrics.Store(fmt.Sprintf(`# TYPE nepcod_packets_total counter
nepcod_packets_total{kind="ok"} %d
nepcod_packets_total{kind="ignored_arp"} %d
# TYPE nepcod_packets_dropped_total counter
nepcod_packets_dropped_total{where="kernel"} %d
# TYPE nepcod_verdicts_total counter
nepcod_verdicts_total{output="o",label="a"} %d
# TYPE nepcod_verdicts_unknown_total counter
nepcod_verdicts_unknown_total{output="o"} %d
# TYPE nepcod_drift gauge
nepcod_drift 1
# TYPE nepcod_problem gauge
nepcod_problem{kind="bundle"} %d
# TYPE nepcod_model_changes_total counter
nepcod_model_changes_total{result="done"} %d
nepcod_model_changes_total{result="refused"} %d
# TYPE nepcod_decision_latency_seconds histogram
nepcod_decision_latency_seconds_bucket{le="0.001"} %d
nepcod_decision_latency_seconds_bucket{le="1"} %d
nepcod_decision_latency_seconds_bucket{le="+Inf"} %d
nepcod_decision_latency_seconds_sum 1
nepcod_decision_latency_seconds_count %d
`, 10*flows, flows, flows, 2*flows, flows, bundle, done, refused, min(flows, 100), flows, flows, flows))
	}
	serve("A", 100, 0, 0, 100, "")
	if a := n.Agent(t.Context()); a.Digest != "A" || a.Packets != 1100 || a.Dropped != 100 || a.Verdicts["a"] != 200 || a.Unknown != 100 || !a.Drift || a.Problem != "the interface is down" || a.Refused != "" || !(a.Latency < 0.001) {
		t.Errorf("%+v", a)
	}
	serve("B", 110, 1, 0, 100, "")
	if a := n.Agent(t.Context()); a.Digest != "B" || a.Packets != 0 || a.Flows() != 0 || a.Latency != 0 {
		t.Errorf("%+v", a)
	}
	serve("B", 120, 1, 1, 150, "the bundle is refused: old")
	if a := n.Agent(t.Context()); a.Packets != 550 || a.Verdicts["a"] != 100 || !(a.Latency > 0.9) || a.Refused != "the bundle is refused: old" {
		t.Errorf("%+v", a)
	}
	// Another is placed: what was said of the one before is no answer.
	file := filepath.Join(dir, "ordered")
	if err := os.WriteFile(file, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Place(t.Context(), file, ""); err != nil {
		t.Fatal(err)
	}
	if a := n.Agent(t.Context()); a.Refused != "" {
		t.Errorf("%+v", a)
	}
	serve("B", 121, 1, 2, 150, "the bundle is refused: new")
	if a := n.Agent(t.Context()); a.Refused != "the bundle is refused: new" {
		t.Errorf("%+v", a)
	}
	// The agent starts anew, with counts from zero.
	serve("B", 0, 0, 0, 10, "")
	time.Sleep(10 * time.Millisecond)
	n.begun = n.begun.Add(-time.Hour)
	if a := n.Agent(t.Context()); a.Packets != 110 {
		t.Errorf("%+v", a)
	}
	server.Close()
	if a := n.Agent(t.Context()); a.Digest != "" || !strings.Contains(a.Problem, "does not answer") {
		t.Errorf("%+v", a)
	}
}

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	for _, tc := range []struct {
		now, before map[float64]float64
		want        float64
	}{
		{nil, nil, 0},
		{map[float64]float64{1: 0, inf: 0}, nil, 0},
		{map[float64]float64{1: 100, 2: 100, inf: 100}, nil, 0.99},
		{map[float64]float64{1: 0, 2: 100, inf: 100}, nil, 1.99},
		{map[float64]float64{1: 100, 2: 200, inf: 200}, map[float64]float64{1: 100, 2: 100, inf: 100}, 1.99},
		{map[float64]float64{1: 0, 2: 0, inf: 100}, nil, 2},
	} {
		if got := quantile(tc.now, tc.before, 0.99); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%v, %v: %g, want %g", tc.now, tc.before, got, tc.want)
		}
	}
}

// Lines come from agents that start later, start anew, and two at once; a socket that a crash left is no obstacle, a file in its place is.
func TestStoreListen(t *testing.T) {
	store, err := OpenStore(t.Context(), filepath.Join(t.TempDir(), "lines"), 1<<20, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	socket := filepath.Join(t.TempDir(), "sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Listen(ctx, socket, func(err error) { t.Error(err) }) }()
	connect := func() (c net.Conn) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if c, err = net.Dial("unix", socket); err == nil {
				return c
			}
		}
		t.Fatal(err)
		return nil
	}
	a, b := connect(), connect()
	for range 100 {
		fmt.Fprint(a, "{}\n")
		fmt.Fprint(b, "{}\n")
	}
	a.Close()
	a = connect()
	fmt.Fprint(a, "{}\nhalf")
	a.Close()
	b.Close()
	for end := time.Now().Add(2 * time.Minute); store.Lines().Stored < 201 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if got := store.Lines().Stored; got != 201 {
		t.Errorf("%d lines", got)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", info, err)
	}
	if err := store.Listen(ctx, socket, nil); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("%v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Listen(t.Context(), socket, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
}
