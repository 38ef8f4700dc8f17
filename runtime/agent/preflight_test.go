package agent_test

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
)

// An address that an agent serves is free once that ends; one that anything else serves is not.
func TestPreflightBesideAnAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.nepco")
	if err := testbundle.Write(file, testBundle(t, 0, "class"), bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Sources: []capture.Source{new(capture.Memory)}, Model: testModel(t, 0, "class"), Sink: new(strings.Builder)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		handler http.Handler
		good    bool
	}{{a.Handler(), true}, {http.NotFoundHandler(), false}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: tc.handler}
		go server.Serve(l)
		defer server.Close()
		c := agent.DefaultConfig()
		c.Bundle, c.Metrics.Listen = file, l.Addr().String()
		m, notes, err := c.Preflight()
		if (err == nil) != tc.good || m == nil {
			t.Errorf("an agent there: %v: %v", tc.good, err)
		}
		if said := strings.Contains(strings.Join(notes, "\n"), "an agent that runs serves "+c.Metrics.Listen); said != tc.good {
			t.Errorf("notes: %q", notes)
		}
	}
}
