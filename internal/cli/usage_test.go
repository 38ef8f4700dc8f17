package cli_test

import (
	"errors"
	"io"
	"testing"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
)

// What stops a command line before its command begins is wrong usage; what a command says is so only
// where it says it is, in whatever words.
func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		err  error
		want int
	}{
		{args: []string{"sub", "--need", "1", "x"}, want: cli.OK},
		{args: []string{"sub", "--need", "1"}, want: cli.Usage},
		{args: []string{"sub", "--need", "1", "x", "y"}, want: cli.Usage},
		{args: []string{"sub", "x"}, want: cli.Usage},
		{args: []string{"sub", "--need", "1", "x", "--one", "a", "--two", "b"}, want: cli.Usage},
		{args: []string{"sub", "--need", "many", "x"}, want: cli.Usage},
		{args: []string{"sub", "--frobnicate"}, want: cli.Usage},
		{args: []string{"frobnicate"}, want: cli.Usage},
		{args: []string{"completion", "tcsh"}, want: cli.OK}, // cobra's own, which prints its help
		{args: []string{"sub", "--need", "1", "x"}, err: errors.New("accepts y: no such file"), want: cli.Failed},
		{args: []string{"sub", "--need", "1", "x"}, err: errors.New("required flags.pcap: no capture"), want: cli.Failed},
		{args: []string{"sub", "--need", "1", "x"}, err: cli.UsageError("--need: odd"), want: cli.Usage},
		{args: []string{"sub", "--need", "1", "x"}, err: cli.ErrSilent, want: cli.Failed},
	} {
		root := &cobra.Command{Use: "tool"}
		sub := &cobra.Command{Use: "sub", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { return tc.err }}
		sub.Flags().Int("need", 0, "")
		sub.MarkFlagRequired("need")
		sub.Flags().String("one", "", "")
		sub.Flags().String("two", "", "")
		sub.MarkFlagsMutuallyExclusive("one", "two")
		root.AddCommand(sub)
		if code := cli.Run(root, tc.args, io.Discard, io.Discard); code != tc.want {
			t.Errorf("%q, %v: exit code %d, want %d", tc.args, tc.err, code, tc.want)
		}
	}
}
