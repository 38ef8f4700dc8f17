package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A count that is given as 0 never means its default: whatever command it belongs to, it is refused.
func TestNoZeroIsADefault(t *testing.T) {
	n := 0
	for _, cmd := range newRoot().Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "int" || f.DefValue != "0" && f.Name != "flows" {
				return
			}
			n++
			args := []string{cmd.Name(), "x", "--" + f.Name, "0"}
			switch cmd.Name() {
			case "compile":
				args = append(args, "--calib", "y", "-o", "z")
			case "run", "ship", "explain", "drift":
				args = append(args, "y")
			}
			var out, errs bytes.Buffer
			if code := doMain(args, &out, &errs); code != 2 || !strings.Contains(errs.String(), "--"+f.Name+" 0") {
				t.Errorf("%v: exit code %d: %s", args, code, errs.String())
			}
		})
	}
	if n < 6 {
		t.Errorf("%d flags", n)
	}
}
