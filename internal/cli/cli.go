// Package cli is what the two commands share: exit codes, progress on a
// terminal, aligned tables. It must not import compiler: the agent uses it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"nepcoc/internal/files"
)

// Exit codes.
const (
	OK     = 0
	Failed = 1 // bad input, or a check that did not hold
	Usage  = 2 // wrong command line
)

// ExitCodes is what help says of them: what OK and Failed mean for a command.
func ExitCodes(ok, failed string) string {
	return "Exit codes: 0 " + ok + "; 1 " + failed + "; 2 wrong command line."
}

// usageError marks a wrong command line.
type usageError struct{ error }

// UsageError makes err exit with Usage.
func UsageError(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// Group is a part of a program's help: its commands under a title.
type Group struct {
	ID, Title string
	Commands  []*cobra.Command
}

// AddGroups adds a program's commands, in groups.
func AddGroups(root *cobra.Command, groups ...Group) {
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.ID, Title: g.Title})
		for _, c := range g.Commands {
			c.GroupID = g.ID
			root.AddCommand(c)
		}
	}
}

// ExactArgs wants one argument for each name.
func ExactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return UsageError("%s: %s is missing", cmd.Name(), names[len(args)])
		case len(args) > len(names):
			return UsageError("%s: unexpected argument %q", cmd.Name(), args[len(names)])
		}
		return nil
	}
}

// ErrSilent fails a command that has already said why.
var ErrSilent = errors.New("failed")

// Run executes a command line and returns the exit code. Errors go to stderr,
// as one message; that standard output did not take everything is one.
func Run(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	FlagsOnce(root)
	began := false
	onBegin(root, func() { began = true })
	out := &output{w: stdout}
	stderr = newMessages(stderr, args)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if err := noZeros(cmd); err != nil {
			return err
		}
		return stdinOnce(cmd, args)
	}
	// A reader that goes away is an error of writing like others, not the end
	// of the process without a word. Caught, not ignored: programs that we start
	// would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	cmd, err := root.ExecuteC()
	if err == nil {
		out.close()
	}
	// Cobra's own complaints have no type, but come before the command does.
	wrongLine := err != nil && !began && out.err == nil
	if out.err != nil && (err == nil || errors.Is(err, ErrSilent)) {
		err = out.err
	}
	if err == nil {
		return OK
	}
	var usage usageError
	if wrongLine || errors.As(err, &usage) {
		fmt.Fprintf(stderr, "%s: %v\nTry '%s --help'.\n", root.Name(), err, cmd.CommandPath())
		return Usage
	}
	if !errors.Is(err, ErrSilent) {
		fmt.Fprintf(stderr, "%s: %v\n", root.Name(), err)
	}
	return Failed
}

// output is standard output. It keeps the first error of writing to it, so that a
// full disk or a closed pipe fails every command, whether its printing looks at
// errors or not.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	return n, o.failed(err)
}

// Unwrap is what it writes to.
func (o *output) Unwrap() io.Writer { return o.w }

// close is where some file systems first say that there was no room.
func (o *output) close() {
	if f, ok := o.w.(*os.File); ok {
		o.failed(f.Close())
	}
}

func (o *output) failed(err error) error {
	if err != nil {
		err = fmt.Errorf("standard output: %w", files.Reason(err))
		if o.err == nil {
			o.err = err
		}
	}
	return err
}

// Unchecked is a command's standard output for a writer that accounts for what
// it could not write itself.
func Unchecked(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.w
	}
	return w
}

// stdinOnce refuses a command line that reads standard input twice: the second
// time it would be empty.
func stdinOnce(cmd *cobra.Command, args []string) error {
	var uses []string
	for _, a := range args {
		if files.IsStdin(a) {
			uses = append(uses, a)
		}
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name == OutputFlag {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if files.IsStdin(v) {
				uses = append(uses, "--"+f.Name+" "+v)
			}
		}
	})
	if len(uses) > 1 {
		return UsageError("standard input can be read once, not as %s: give a file", strings.Join(uses, " and as "))
	}
	return nil
}

// noZeros refuses a 0 that would silently mean a default: of a whole number whose default is none, 0 is
// how commands see that it was not given.
func noZeros(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "int" && f.DefValue == "0" && f.Value.String() == "0" && err == nil {
			err = UsageError("--%s 0: want 1 or more, or leave it out for the default", f.Name)
		}
	})
	return err
}

// OutputFlag is the name of every command's flag for the file that it writes.
const OutputFlag = "output"

// onBegin has f called before a command's own code.
func onBegin(cmd *cobra.Command, f func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			f()
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		onBegin(sub, f)
	}
}

// Table writes rows with aligned columns; the first row is the head.
func Table(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(tw, "  "+strings.Join(r, "\t"))
	}
	tw.Flush()
}

// unwrap is what a writer of this package writes to.
func unwrap(w io.Writer) io.Writer {
	for {
		u, ok := w.(interface{ Unwrap() io.Writer })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := unwrap(w).(*os.File)
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
	return &Progress{w: unwrap(w), start: time.Now()}
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
	switch {
	case total > 0:
		stage = fmt.Sprintf("%s %d%%", stage, 100*done/total)
	case done > 0:
		stage = fmt.Sprintf("%s %d", stage, done)
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
