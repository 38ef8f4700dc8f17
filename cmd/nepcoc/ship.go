package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/interrupt"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
)

func newShip() *cobra.Command {
	var s shipment
	var asJSON bool
	atOnce := 4
	cmd := &cobra.Command{
		Use:   "ship BUNDLE USER@HOST[:DIR] [USER@HOST[:DIR] ...]",
		Short: "Copy a bundle to cards and prove it there",
		Long: `ship copies a bundle with the system's scp under a temporary name, has nepcod
prove on the card that it runs there and that the service accepts it, and only then gives it its name: a running
agent's bundle is replaced by one that works there, or not at all. With several cards each stands for itself, and the exit code is 1 where one failed.

It uses the system's scp and ssh, so your keys, agent and ssh_config hold. DIR
must exist; without it the bundle goes to the home folder. nepcod is looked for in DIR (by root only where that is root's), then in PATH. With --sudo the copy goes to the home folder,
and what follows is done by root: for folders of the service such as /var/lib/nepcod. The bundle keeps the rights and the owner
of the one that it replaces.
` + exitCodes,
		Example: `  nepcoc ship model.nepco ubuntu@192.168.100.2:/opt/nepco
  nepcoc ship model.nepco ubuntu@card1:/var/lib/nepcod ubuntu@card2:/var/lib/nepcod --sudo
  nepcoc ship model.nepco root@card --port 2222 --identity ~/.ssh/card --nepcod /usr/sbin/nepcod`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.bundle = args[0]
			if files.IsStdin(s.bundle) {
				return cli.UsageError("scp copies files: give the bundle's name")
			}
			if atOnce < 1 || atOnce > 64 {
				return cli.UsageError("--parallel %d is not within 1..64", atOnce)
			}
			if s.timeout < time.Second || s.timeout > time.Hour {
				return cli.UsageError("--timeout %v is not within 1s..1h", s.timeout)
			}
			cards := make([]shipment, len(args)-1)
			for i, to := range args[1:] {
				cards[i] = s
				if err := cards[i].parse(to); err != nil {
					return err
				}
				for _, o := range cards[:i] {
					if o.login == cards[i].login && o.dir == cards[i].dir {
						return cli.UsageError("%s is named twice", to)
					}
				}
			}
			if len(cards) > 1 {
				return shipAll(cmd, cards, atOnce, asJSON)
			}
			r, err := cards[0].ship(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	fl := cmd.Flags()
	s.flags(fl)
	fl.StringVar(&s.config, "config", "", "configuration of the service on the card, which has to accept the bundle (default: /etc/nepcod/nepcod.yaml where that names the bundle's path)")
	fl.BoolVar(&s.sudo, "sudo", false, "have root prove the bundle and put it in its place, by sudo on the card, which must not ask for a password")
	fl.DurationVar(&s.timeout, "timeout", 2*time.Minute, "how long each step may take: the copy, the proof")
	fl.IntVar(&atOnce, "parallel", atOnce, "with several cards: how many at once")
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// shipAll ships to several cards, so many at once, and prints a line for each.
func shipAll(cmd *cobra.Command, cards []shipment, atOnce int, asJSON bool) error {
	type outcome struct {
		Host   string      `json:"host"`
		Dir    string      `json:"dir"`
		OK     bool        `json:"ok"`
		Error  string      `json:"error,omitempty"`
		Report *shipReport `json:"report,omitempty"`
	}
	all := make([]outcome, len(cards))
	places := make(chan bool, atOnce)
	var running sync.WaitGroup
	for i := range cards {
		running.Go(func() {
			places <- true
			defer func() { <-places }()
			o := &all[i]
			o.Host, o.Dir = cards[i].login, cards[i].dir
			var err error
			if o.Report, err = cards[i].ship(cmd.Context()); err != nil {
				o.Error = err.Error()
			}
			o.OK = err == nil
		})
	}
	running.Wait()
	failed := 0
	for _, o := range all {
		if !o.OK {
			failed++
		}
	}
	if asJSON {
		if err := cli.JSON(cmd.OutOrStdout(), all); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, o := range all {
			what := "failed: " + o.Error
			if o.OK {
				what = fmt.Sprintf("%.12s proved, kernels %s", o.Report.Digest, cli.Name(o.Report.SelfTest.Kernels))
				if o.Report.SelfTest.Config != "" {
					what += ", accepted by the service"
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", o.Host, o.Dir, what)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s did not take %s", failed, plural.Of(len(cards), "card"), cards[0].bundle)
	}
	return nil
}

// shipment is one bundle on its way.
type shipment struct {
	bundle, identity, agent string
	config                  string
	login                   string // user@host, as ssh takes it
	scpHost                 string // the same, as it stands before scp's colon
	dir                     string
	port                    int
	options                 []string
	sudo                    bool
	timeout                 time.Duration // of each step
}

// flags are those of how a card is reached.
func (s *shipment) flags(fl *pflag.FlagSet) {
	fl.IntVar(&s.port, "port", 0, "port of the SSH server (default: what ssh uses)")
	fl.StringVar(&s.identity, "identity", "", "private key to log in with (default: what ssh uses)")
	fl.StringVar(&s.agent, "nepcod", "", "path of nepcod on the card")
	fl.StringArrayVar(&s.options, "ssh-option", nil, "option for ssh and scp, as after their -o, such as ProxyJump=host; may be repeated")
}

// plainPath is what paths on the card may look like: older scp hands them to a
// shell there.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9._/+,@%=-]*$`)

var address = regexp.MustCompile(`^((?:[^@:\[\]]+@)?)(\[[0-9A-Fa-f:.%a-z]+\]|[^@:\[\]]+)(?::(.*))?$`)

// parse takes USER@HOST[:DIR] apart; an IPv6 address stands in brackets.
func (s *shipment) parse(to string) error {
	m := address.FindStringSubmatch(to)
	if m == nil || strings.HasPrefix(to, "-") || strings.HasPrefix(m[2], "-") {
		return cli.UsageError("%q is not USER@HOST[:DIR] (an IPv6 address in brackets)", to)
	}
	s.login, s.scpHost, s.dir = m[1]+strings.Trim(m[2], "[]"), m[1]+m[2], m[3]
	s.dir = path.Clean(s.dir) // "" is "."
	for _, p := range []string{s.dir, s.agent, s.config, filepath.Base(s.bundle)} {
		if !plainPath.MatchString(p) || strings.HasPrefix(p, "-") {
			return cli.UsageError("%q: paths on the card may hold letters, digits and ._/+,@%%=- only", p)
		}
	}
	if s.port < 0 || s.port > 65535 {
		return cli.UsageError("--port %d is not within 1..65535", s.port)
	}
	return nil
}

// shipReport is what came of it.
type shipReport struct {
	Bundle string `json:"bundle"`
	Digest string `json:"digest"`
	Bytes  int64  `json:"bytes"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	// SelfTest is what nepcod found on the card.
	SelfTest selfTest `json:"selftest"`
}

// selfTest is the part of nepcod's report that is shown.
type selfTest struct {
	Digest    string `json:"digest"`
	Config    string `json:"config,omitempty"` // that accepts it
	Kernels   string `json:"kernels"`
	Vectors   int    `json:"golden_vectors"`
	OK        bool   `json:"ok"`
	Executors []struct {
		Name  string  `json:"name"`
		Equal int     `json:"equal"`
		P50US float64 `json:"p50_us"`
	} `json:"executors"`
}

// Exit codes of ssh: its own for errors of its own, else remoteScript's.
const (
	sshFailed    = 255
	agentMissing = 127 // what a shell says of a command it can't find
	notProved    = 3
	tooLong      = 4
)

// removeTimeout bounds how long a copy that failed is tried to be removed, and graceTime how much longer than the card a step is waited for here: what
// is given up here first may still be done there.
const removeTimeout, graceTime = 15 * time.Second, 10 * time.Second

// serviceConfig is the service's configuration on a card, as the package places it.
const serviceConfig = "/etc/nepcod/nepcod.yaml"

// findAgent is how the card's shell finds nepcod where none is named: in the folder, else in PATH. Root, or who runs it by sudo ($run), takes no program out of a folder
// that is another's: that of the service is its account's.
const findAgent = `if [ -z "$agent" ]; then
	agent=nepcod
	if [ -x "$dir/nepcod" ] && { { [ -z "$run" ] && [ "$(id -u)" != 0 ]; } || [ "$($run stat -Lc %%u "$dir" "$dir/nepcod" | sort -u)" = 0 ]; }; then
		agent=$dir/nepcod
	fi
fi`

// remoteScript runs on the card, fed to sh on standard input so that the
// user's login shell parses nothing. Its values are plainPath. from is where scp has put the copy, which then is brought beside the bundle, for a rename to replace that at once; a
// reader of the folder sees the old or the new one, with the old one's rights, after a power failure, too.
//
// Relative names of the service's configuration are of the folder that the service runs in, which systemd says. Root's copy is a new file, made with its rights and never
// followed through a link: the folder may be that of an account which has been taken over, and would be given another file.
const remoteScript = `from=%s dir=%s part=%s name=%s agent=%s config=%s seconds=%d settings=%s
trap 'rm -f "$from" "$dir/$part"' EXIT
trap 'exit 1' HUP INT TERM
run=
` + findAgent + `
agent=$(command -v "$agent") || exit 127
case $agent in /*) ;; *) agent=$PWD/$agent ;; esac
in=.
if [ -z "$config" ] && [ -e "$settings" ]; then
	if [ ! -r "$settings" ]; then
		echo "$settings: may not be read, and says whether the service takes this bundle: ship --sudo" >&2
		exit 3
	fi
	service=$(sed -n "s/^[\"']\{0,1\}bundle[\"']\{0,1\} *: *[\"']\{0,1\}\([^\"'[:space:]]*\).*/\1/p" "$settings" | head -n 1)
	runs=$(systemctl show -p WorkingDirectory --value nepcod.service 2> /dev/null)
	runs=${runs#[-!]}
	case $service in "" | /*) ;; *) service=${runs:-/}/$service ;; esac
	if [ -n "$service" ] && { [ "$dir/$name" -ef "$service" ] ||
		{ [ "${service##*/}" = "$name" ] && [ "$(cd "$dir" && pwd -P)" = "$(cd "${service%%/*}/" 2> /dev/null && pwd -P)" ]; }; }; then
		config=$settings in=${runs:-/}
	fi
fi
if [ -f "$dir/$name" ]; then like=$dir/$name mode=$(stat -Lc %%a "$dir/$name" 2> /dev/null); else like= mode=; fi
mode=$((0${mode:-644} & 0666))
if [ "$from" != "$dir/$part" ]; then
	rm -f "$dir/$part"
	(umask "$(printf %%o $((0666 & ~mode)))" && set -C && cat "$from" > "$dir/$part") || exit 1
else
	chmod "$(printf %%o $mode)" "$dir/$part" || exit 1
fi
limit=
if command -v timeout > /dev/null; then limit="timeout $seconds"; fi
at=$(cd "$dir" && pwd)/$part
(cd "$in" && exec $limit "$agent" selftest --json ${config:+--config "$config"} "$at" < /dev/null)
case $? in 0) ;; 124) exit 4 ;; *) exit 3 ;; esac
if [ "$(id -u)" = 0 ]; then
	chown -h --reference="${like:-$dir}" "$dir/$part" 2> /dev/null || :
fi
sync "$dir/$part" 2> /dev/null || sync
if [ -d "$dir/$name" ]; then
	echo "$dir/$name: is a folder, into which a bundle would be moved: remove it" >&2
	exit 1
fi
mv -f "$dir/$part" "$dir/$name" || exit 1
sync "$dir" 2> /dev/null || sync # the new name, too
`

func (s *shipment) ship(ctx context.Context) (*shipReport, error) {
	// What is no file can't be read here and then copied, and may never end.
	if info, err := os.Stat(s.bundle); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is %s, not a file: ship reads it twice", s.bundle, files.KindOf(info.Mode()))
	}
	b, err := bundle.ReadFile(s.bundle)
	if err != nil {
		return nil, err
	}
	scp, err := openSSH("scp")
	if err != nil {
		return nil, err
	}
	ssh, err := openSSH("ssh")
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(s.bundle)
	if err != nil {
		return nil, err
	}
	r := &shipReport{Bundle: s.bundle, Digest: b.Digest.String(), Bytes: info.Size(), Host: s.login, Path: path.Join(s.dir, filepath.Base(s.bundle))}
	// Named by its contents: two at a time do no harm, and what an
	// interrupted copy leaves is overwritten by the next.
	part := fmt.Sprintf(".%s.%.12s.part", filepath.Base(s.bundle), r.Digest)
	// From here on a copy may be there. Whatever happens, none is left.
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	at := path.Join(s.dir, part)
	from, shell, remover := at, "sh -s", fmt.Sprintf("rm -f %s\n", at)
	if s.sudo { // the login's home, where ssh begins
		// A name for each folder: several may be of one machine.
		from = fmt.Sprintf("./.%s.%.12s.%08x.part", filepath.Base(s.bundle), r.Digest, crc32.ChecksumIEEE([]byte(s.dir)))
		shell, remover = "sudo -n sh -s", fmt.Sprintf("rm -f %s; sudo -n rm -f %s\n", from, at)
	}
	to := append(s.common("-p"), "--", s.login)
	remove := func() error {
		ctx, stop := context.WithTimeout(context.Background(), removeTimeout)
		defer stop()
		return command(ctx, remover, ssh, append(to, "sh -s")...).err
	}
	rest := func() string {
		if remove() != nil {
			return fmt.Sprintf(" (if a part of the copy is there, it is %s)", from)
		}
		return ""
	}
	var running sync.Mutex // held while a program runs
	on := func(limit time.Duration, stdin, name string, args ...string) result {
		running.Lock()
		defer running.Unlock()
		ctx, stop := context.WithTimeout(ctx, limit)
		defer stop()
		r := command(ctx, stdin, name, args...)
		r.late = ctx.Err() == context.DeadlineExceeded
		return r
	}
	defer interrupt.Undo(func() {
		kill()
		running.Lock() // what still copies would copy again
		remove()
	})()
	copied := on(s.timeout, "", scp, append(s.common("-P"), "--", s.bundle, s.scpHost+":"+from)...)
	switch {
	case copied.late:
		return nil, fmt.Errorf("%s: scp to %s took longer than %v (--timeout)%s", s.bundle, s.login, s.timeout, rest())
	case copied.err != nil:
		return nil, fmt.Errorf("%s: scp to %s: %w: does the folder %s exist there, has it room, and does ssh log in by itself?%s", s.bundle, s.login, copied.why(), path.Dir(from), rest())
	}
	script := fmt.Sprintf(remoteScript, from, s.dir, part, filepath.Base(s.bundle), s.agent, s.config, int64(s.timeout/time.Second), serviceConfig)
	proved := on(s.timeout+graceTime, script, ssh, append(to, shell)...)
	switch {
	case proved.code == tooLong:
		return nil, fmt.Errorf("%s: the self-test on %s took longer than %v (--timeout), nothing was replaced there", s.bundle, s.login, s.timeout)
	case proved.late:
		return nil, fmt.Errorf("%s: %s did not answer for %v (--timeout)%s: look which bundle is there", s.bundle, s.login, s.timeout+graceTime, rest())
	case proved.code == sshFailed:
		return nil, fmt.Errorf("%s: ssh to %s: %w%s", s.bundle, s.login, proved.why(), rest())
	case proved.code == agentMissing:
		rest() // what is missing may be sudo
		return nil, fmt.Errorf("%s: no nepcod on %s, neither in %s nor in PATH: copy it there (make dist; scp dist/arm64/nepcod %s:%s), or say where it is with --nepcod",
			s.bundle, s.login, s.dir, s.scpHost, s.dir)
	case proved.code == notProved:
		return nil, fmt.Errorf("%s: the self-test on %s failed, nothing was replaced there: %w", s.bundle, s.login, proved.why())
	case proved.err != nil:
		return nil, fmt.Errorf("%s: on %s: %w%s", s.bundle, s.login, proved.why(), rest())
	}
	if err := json.Unmarshal(proved.out, &r.SelfTest); err != nil {
		return nil, fmt.Errorf("%s: nepcod on %s gave no report: %w: is it of this version?", s.bundle, s.login, err)
	}
	if !r.SelfTest.OK || r.SelfTest.Digest != r.Digest {
		return nil, fmt.Errorf("%s: %s has digest %.12q, not %.12s...: did the file change while it was copied?", s.bundle, s.login, r.SelfTest.Digest, r.Digest)
	}
	return r, nil
}

// common are the arguments that ssh and scp share, but for the name of the
// port's. The first of several values holds, so the user's come first.
func (s *shipment) common(port string) []string {
	var args []string
	for _, o := range s.options {
		args = append(args, "-o", o)
	}
	if s.port != 0 {
		args = append(args, port, strconv.Itoa(s.port))
	}
	if s.identity != "" {
		args = append(args, "-i", s.identity)
	}
	return append(args, "-o", "ConnectTimeout=10")
}

// openSSH finds a program of OpenSSH's client.
func openSSH(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("ship needs OpenSSH's %s, which is not in PATH: install openssh-client, or copy the bundle by other means and run nepcod selftest there", name)
	}
	return p, nil
}

// result is what a program did.
type result struct {
	out, errors []byte
	code        int
	err         error
	late        bool // its time was over
}

func command(ctx context.Context, stdin, name string, args ...string) result {
	cmd := exec.CommandContext(ctx, name, args...)
	// Not killed: scp would leave its ssh behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second
	var out, errs bounded // the other end may say whatever it likes
	cmd.Stdout, cmd.Stderr = &out, &errs
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	err := cmd.Run()
	return result{out: out.kept, errors: errs.kept, code: cmd.ProcessState.ExitCode(), err: err}
}

// maxSaid is how many bytes of a program's output are kept; a report has some kilobytes.
const maxSaid = 1 << 20

// bounded keeps the beginning of what is written to it.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), maxSaid-len(b.kept))]...)
	return len(p), nil
}

// maxReason bounds what is repeated of another program's messages.
const maxReason = 500

// why is what the program said on standard error, as one line; its exit
// status where it said nothing.
func (r result) why() error {
	said := strings.Join(strings.FieldsFunc(string(r.errors), func(c rune) bool { return c == '\n' || c == '\r' }), "; ")
	if said == "" {
		return r.err
	}
	if len(said) > maxReason {
		said = strings.ToValidUTF8(said[:maxReason], "") + " ..."
	}
	return errors.New(cli.Name(said)) // nobody there speaks to this terminal
}

func (r *shipReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s (%.12s, %s) is on %s as %s\n", cli.Name(r.Bundle), r.Digest, cli.Bytes(r.Bytes), r.Host, r.Path)
	for _, e := range r.SelfTest.Executors {
		fmt.Fprintf(w, "  %-10s %d of %s equal there, median %.1f us\n", cli.Name(e.Name), e.Equal, plural.Of(r.SelfTest.Vectors, "golden vector"), e.P50US)
	}
	fmt.Fprintf(w, "  kernels    %s\n", cli.Name(r.SelfTest.Kernels))
	if r.SelfTest.Config != "" {
		fmt.Fprintf(w, "  accepted   by the service of %s\n", cli.Name(r.SelfTest.Config))
	}
}
