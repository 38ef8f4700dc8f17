// Package cli is what the two commands share: exit codes, progress on a
// terminal, aligned tables. It must not import compiler: the agent uses it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes.
const (
	OK     = 0
	Failed = 1 // bad input, or a check that did not hold
	Usage  = 2 // wrong command line
)

// usageError marks a wrong command line.
type usageError struct{ error }

// UsageError makes err exit with Usage.
func UsageError(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// ErrSilent fails a command that has already said why.
var ErrSilent = errors.New("failed")

// Run executes a command line and returns the exit code. Errors go to stderr,
// as one message.
func Run(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd, err := root.ExecuteC()
	if err == nil {
		return OK
	}
	var usage usageError
	if errors.As(err, &usage) || isCobraUsage(err) {
		fmt.Fprintf(stderr, "%s: %v\nTry '%s --help'.\n", root.Name(), err, cmd.CommandPath())
		return Usage
	}
	if !errors.Is(err, ErrSilent) {
		fmt.Fprintf(stderr, "%s: %v\n", root.Name(), err)
	}
	return Failed
}

// isCobraUsage recognises cobra's own complaints, which have no type.
func isCobraUsage(err error) bool {
	for _, prefix := range []string{"unknown command", "accepts ", "requires at least", "required flag", "invalid argument", "if any flags in the group", "at least one of the flags"} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// Table writes rows with aligned columns; the first row is the head. Columns
// listed in right are aligned to the right.
func Table(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(tw, "  "+strings.Join(r, "\t"))
	}
	tw.Flush()
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Progress shows one line that is rewritten in place: on a terminal only, and
// only once a second has passed. A nil *Progress shows nothing.
type Progress struct {
	w     io.Writer
	start time.Time
	last  time.Time
	shown bool
}

// NewProgress shows progress on w if that is a terminal.
func NewProgress(w io.Writer) *Progress {
	if !IsTerminal(w) {
		return nil
	}
	return &Progress{w: w, start: time.Now()}
}

// Update tells what is going on; total 0 means that the end is not known.
func (p *Progress) Update(stage string, done, total int) {
	if p == nil {
		return
	}
	now := time.Now()
	if now.Sub(p.start) < time.Second || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	if total > 0 {
		stage = fmt.Sprintf("%s %d%%", stage, 100*done/total)
	}
	fmt.Fprintf(p.w, "\r\033[K%s (%.0f s)", stage, now.Sub(p.start).Seconds())
}

// Done clears the line.
func (p *Progress) Done() {
	if p != nil && p.shown {
		fmt.Fprint(p.w, "\r\033[K")
		p.shown = false
	}
}

// Bytes formats a size for people.
func Bytes(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// Percent formats a share; what is no number is undefined.
func Percent(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "undefined"
	}
	return fmt.Sprintf("%.2f %%", 100*x)
}
