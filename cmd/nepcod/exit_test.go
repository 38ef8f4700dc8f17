package main

import (
	"bytes"
	"cmp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

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

// No flag of any command takes its last value in silence.
func TestEveryFlagOnce(t *testing.T) {
	values := map[string]string{"bool": "true", "string": "a", "int": "1", "float64": "0.5", "uint16": "1", "duration": "1s", "active-timeout": "1s"}
	for _, cmd := range newRoot(nil).Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if _, list := f.Value.(pflag.SliceValue); list || f.Name == "help" {
				return
			}
			value := cmp.Or(values[f.Name], values[f.Value.Type()], "1")
			flag := "--" + f.Name + "=" + value
			var out, errs bytes.Buffer
			if code := doMain([]string{cmd.Name(), flag, flag}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "given already") {
				t.Errorf("%s %s %s: exit code %d: %s", cmd.Name(), flag, flag, code, errs.String())
			}
		})
	}
}
