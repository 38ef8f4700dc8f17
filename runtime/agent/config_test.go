package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
)

func TestConfig(t *testing.T) {
	c, err := agent.ParseConfig("test", []byte("bundle: m.nepco\ninterface: p0\nworkers: 12\nreceive: {threads: 2, block_size: 131072, retire: 5ms}\nunknown_threshold: 0.4\nalerts: [Tor]\noutput: {to: 'unix:/run/x', format: json}\nmetrics: {listen: ':9477'}\nactive_timeout: 1m\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Workers != 12 || c.Receive.Threads != 2 || c.Receive.Retire != 5*time.Millisecond || *c.UnknownThreshold != 0.4 || c.Alerts[0] != "Tor" ||
		*c.ActiveTimeout != time.Minute || c.Receive.Blocks == 0 || !c.Receive.Promiscuous || c.Drain != agent.DefaultDrain {
		t.Errorf("%+v", c)
	}
	if _, err := agent.ParseConfig("empty", nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for _, tc := range []struct{ text, want string }{
		{"bundel: x", "line 1: field bundel not found"},
		{"workers: many", "line 1: cannot unmarshal"},
		{"workers: 0", "workers: 0 is not within 1..1024"},
		{"flows: 1000000000", "flows: "},
		{"queue: 1", "queue: "},
		{"receive: {threads: 0}", "receive.threads: "},
		{"receive: {block_size: 4096}", "receive: block_size 4096"},
		{"unknown_threshold: 1.5", "unknown_threshold: 1.5"},
		{"unknown_threshold: .nan", "unknown_threshold: NaN"},
		{"drain: 1ns", "drain: "},
		{"active_timeout: -1s", "active_timeout: "},
		{"output: {format: xml}", `output.format: "xml"`},
		{"metrics: {listen: nine}", "metrics.listen: "},
		{"bundle: a\n---\nbundle: b", "more than one document"},
		{"bundle: [", "test: yaml"},
		{"bundle: &a [*a, *a]", "test: "},
		{strings.Repeat("#", 70000), "more than"},
	} {
		if _, err := agent.ParseConfig("test", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "test: ") {
			t.Errorf("%.40q: %v, want %q", tc.text, err, tc.want)
		}
	}
	if _, err := agent.ReadConfig(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file, no error")
	}
}

// The configuration that the package installs is good, and shows every field
// with its default.
func TestPackagedConfig(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(testfiles.Root(t), "packaging", "nepcod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.ParseConfig("nepcod.yaml", data); err != nil {
		t.Error(err)
	}
	var all strings.Builder
	for l := range strings.Lines(string(data)) {
		// Optional fields stand commented out.
		if rest, ok := strings.CutPrefix(l, "#"); ok && !strings.HasPrefix(rest, " ") {
			l = rest
		}
		all.WriteString(l)
	}
	if _, err := agent.ParseConfig("nepcod.yaml, all fields", []byte(all.String())); err != nil {
		t.Error(err)
	}
	for _, field := range []string{
		"bundle", "trusted_keys", "interface", "receive", "threads", "block_size", "blocks", "retire", "snaplen", "promiscuous", "outgoing", "tunnels", "vlans", "interfaces", "community_id_seed",
		"workers", "flows", "queue", "active_timeout", "unknown_threshold", "alerts", "output", "to", "format", "metrics", "listen", "watch", "drain",
	} {
		if !strings.Contains(all.String(), field+":") {
			t.Errorf("field %s is not shown", field)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("bundle: x\nworkers: 3\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := agent.ParseConfig("fuzz", data)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
