package main

import (
	"bytes"
	"cmp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// No flag of any command takes its last value in silence.
func TestEveryFlagOnce(t *testing.T) {
	values := map[string]string{"bool": "true", "string": "a", "int": "1", "float64": "0.5", "uint16": "1", "duration": "1s", "active-timeout": "1s"}
	for _, cmd := range newRoot().Commands() {
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
