package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/runtime/bundle"
)

// A flag that takes one value is refused where it is given twice, by whichever name; lists add up.
func TestFlagsOnce(t *testing.T) {
	var got struct {
		s    string
		n    int
		b    bool
		list []string
		view bundle.ViewOverride
	}
	for line, want := range map[string]int{
		"sub -s a": cli.OK, "sub -s a --string b": cli.Usage, "sub -s a -s a": cli.Usage, "sub -n 1 -n 2": cli.Usage,
		"sub --bool --bool=false": cli.Usage, "sub --tunnels --tunnels=false": cli.Usage,
		"sub --list a --list b -n 1 --bool --tunnels": cli.OK, "--all x sub": cli.OK, "--all x sub --all y": cli.Usage,
	} {
		got.list = nil
		root := &cobra.Command{Use: "tool"}
		root.PersistentFlags().String("all", "", "")
		sub := &cobra.Command{Use: "sub", RunE: func(*cobra.Command, []string) error { return nil }}
		fl := sub.Flags()
		fl.StringVarP(&got.s, "string", "s", "", "")
		fl.IntVarP(&got.n, "number", "n", 0, "")
		fl.BoolVar(&got.b, "bool", false, "")
		fl.StringArrayVar(&got.list, "list", nil, "")
		cli.ViewFlags(fl, &got.view, cli.AsOff)
		root.AddCommand(sub)
		var stderr bytes.Buffer
		if code := cli.Run(root, strings.Fields(line), &stderr, &stderr); code != want {
			t.Errorf("%s: exit code %d, want %d: %s", line, code, want, stderr.String())
		}
		if want == cli.Usage && !strings.Contains(stderr.String(), "given already") {
			t.Errorf("%s: %s", line, stderr.String())
		}
		if strings.Contains(line, "--list") && len(got.list) != 2 {
			t.Errorf("%s: list %q", line, got.list)
		}
	}
}
