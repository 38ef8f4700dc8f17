package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		args string
		want int
	}{
		{"version", exitOK}, {"--help", exitOK}, {"", exitOK},
		{"selftest /nonexistent.nepco", exitFailed},
		{"selftest", exitUsage}, {"selftest a b", exitUsage}, {"selftest --bogus x", exitUsage}, {"bogus", exitUsage}, {"version x", exitUsage},
	} {
		var stdout, stderr bytes.Buffer
		if got := doMain(strings.Fields(tc.args), nil, &stdout, &stderr); got != tc.want {
			t.Errorf("nepcod %s: exit code %d, want %d: %s", tc.args, got, tc.want, stderr.String())
		}
	}
}
