package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// agentMain stands for nepcod in the scripts: "selftest FILE --config C --json" judges a bundle by its signature and serial, and "run --config C" takes
// up what lies in its place, tells how it is at metrics.listen, and writes lines to the socket. It trusts the signer of number 1.
func agentMain() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 5 && args[0] == "selftest" && args[2] == "--config" && args[4] == "--json":
		var a *agent
		if a, err = openAgent(args[3]); err == nil {
			_, err = a.accepts(args[1])
		}
	case len(args) == 3 && args[0] == "run" && args[1] == "--config":
		var a *agent
		if a, err = openAgent(args[2]); err == nil {
			err = a.run()
		}
	default:
		err = fmt.Errorf("agent: %q", args)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "nepcod: %v\n", err)
		os.Exit(1)
	}
}

type agent struct {
	Bundle        string
	State         string
	AllowRollback string `yaml:"allow_rollback"`
	Output        struct{ To string }
	Metrics       struct{ Listen string }

	mu                        sync.Mutex
	digest, problem           string
	changed, refused, written int
}

func openAgent(config string) (*agent, error) {
	text, err := os.ReadFile(config)
	a := &agent{}
	if err == nil {
		err = yaml.Unmarshal(text, a)
	}
	return a, err
}

func (a *agent) accepts(file string) (*bundle.Bundle, error) {
	key := signer(1).Public().(ed25519.PublicKey)
	p := trust.Policy{Keys: []ed25519.PublicKey{key}, Now: time.Now()}
	var err error
	if p.State, err = trust.ReadState(a.State); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if text, err := os.ReadFile(a.AllowRollback); err == nil {
		if p.Rollback, err = trust.ReadRollback(key)(a.AllowRollback, bytes.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return files.Read(file, func(name string, r io.Reader) (*bundle.Bundle, error) {
		b, _, err := bundle.ReadAccepted(name, r, bundle.MaxFileSize, p.Accept)
		if err == nil && name == a.Bundle {
			err = p.After(b.Signature, b.Digest).Write(a.State)
		}
		return b, err
	})
}

func (a *agent) run() error {
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		problems := "[]"
		if a.problem != "" {
			problems = fmt.Sprintf("[%q]", a.problem)
		}
		fmt.Fprintf(w, `{"status":"ok","problems":%s,"bundle_digest":%q,"uptime_s":1}`, problems, a.digest)
	})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		bad := 0
		if a.problem != "" {
			bad = 1
		}
		fmt.Fprintf(w, "# TYPE nepcod_model_changes_total counter\nnepcod_model_changes_total{result=\"done\"} %d\nnepcod_model_changes_total{result=\"refused\"} %d\n"+
			"# TYPE nepcod_problem gauge\nnepcod_problem{kind=\"bundle\"} %d\n# TYPE nepcod_verdicts_total counter\nnepcod_verdicts_total{output=\"y\",label=\"a\"} %d\n", a.changed, a.refused, bad, a.written)
	})
	l, err := net.Listen("tcp", a.Metrics.Listen)
	if err != nil {
		return err
	}
	go http.Serve(l, nil)
	ctx, stop := untilSignal()
	defer stop()
	go a.lines(ctx)
	var seen time.Time
	for ctx.Err() == nil {
		if info, err := os.Stat(a.Bundle); err == nil && !info.ModTime().Equal(seen) {
			seen = info.ModTime()
			b, err := a.accepts(a.Bundle)
			a.mu.Lock()
			if err == nil {
				if a.digest != "" {
					a.changed++
				}
				a.digest, a.problem = b.Digest.String(), ""
			} else {
				a.refused++
				a.problem = fmt.Sprintf("the bundle was refused: %v", err)
			}
			a.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// lines writes a line now and then. Where the socket is away, it is tried again.
func (a *agent) lines(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := net.Dial("unix", a.Output.To[len("unix:"):])
		for err == nil && ctx.Err() == nil {
			a.mu.Lock()
			n := a.written
			a.written++
			a.mu.Unlock()
			_, err = fmt.Fprintf(c, "{\"n\":%d}\n", n)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
