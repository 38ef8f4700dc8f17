package main

import (
	"bytes"
	"strings"
	"testing"

	"nepcoc/internal/cli"
)

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		args string
		want int
	}{
		{"version", cli.OK}, {"--help", cli.OK}, {"", cli.OK},
		{"selftest /nonexistent.nepco", cli.Failed},
		{"selftest", cli.Usage}, {"selftest a b", cli.Usage}, {"selftest --bogus x", cli.Usage}, {"bogus", cli.Usage}, {"version x", cli.Usage},
	} {
		var stdout, stderr bytes.Buffer
		if got := doMain(strings.Fields(tc.args), &stdout, &stderr); got != tc.want {
			t.Errorf("nepcod %s: exit code %d, want %d: %s", tc.args, got, tc.want, stderr.String())
		}
	}
}
