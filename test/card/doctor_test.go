//go:build linux

package card

import (
	"strconv"
	"strings"
	"testing"
)

// Both doctors find nothing that fails on a card whose service runs: nepcod's there, nepcoc's from here.
func TestDoctor(t *testing.T) {
	t.Parallel()
	c := installed(t)
	look := func(what, out string, err error, checks ...string) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		found := map[string]string{}
		for line := range strings.Lines(out) {
			status, rest, _ := strings.Cut(line, "  ")
			check, _, _ := strings.Cut(strings.TrimSpace(rest), "  ")
			found[check] = status
		}
		for _, check := range checks {
			if s := strings.TrimSpace(found[check]); s != "ok" && s != "warn" {
				t.Errorf("%s says %q of %s", what, s, check)
			}
		}
		if strings.Contains("\n"+out, "\nfail") || t.Failed() {
			t.Errorf("%s:\n%s", what, out)
		}
		t.Logf("%s: %d ok, %d warn", what, strings.Count("\n"+out, "\nok "), strings.Count("\n"+out, "\nwarn "))
	}
	out, err := c.Do("nepcod doctor", nil)
	look("nepcod doctor", string(out), err, "configuration", "rights", "bundle", "interface", "ring memory", "disk")
	args := []string{"doctor", "root@127.0.0.1:/var/lib/nepcod", "--port", strconv.Itoa(c.Port), "--identity", c.Key(), "--timeout", "5m"}
	for _, o := range c.SSHOptions() {
		args = append(args, "--ssh-option", o)
	}
	text, err := here(t, nepcoc(t), args...)
	look("nepcoc doctor", text, err, "ssh", "scp", "login", "card", "folder", "nepcod", "card: bundle", "card: interface")
}
