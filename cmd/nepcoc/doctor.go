package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/version"
)

// cardFinding is what was found of one thing, in the form that nepcod doctor uses.
type cardFinding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn or fail
	Seen   string `json:"seen"`
	WayOut string `json:"way_out,omitempty"`
}

func newDoctor() *cobra.Command {
	var s shipment
	var asJSON bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "doctor [USER@HOST[:DIR]]",
		Short: "Say whether bundles can be shipped from here, and what holds on a card",
		Long: `doctor looks at what ship needs: ssh and scp here; with a card, whether ssh logs in by itself, the card's
processor, its disk and its nepcod, and what nepcod doctor says there. Each line is ok, warn or fail. It changes nothing.
` + exitCodes,
		Example: `  nepcoc doctor
  nepcoc doctor ubuntu@192.168.100.2:/var/lib/nepcod`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < time.Second || limit > time.Hour {
				return cli.UsageError("--timeout %v is not within 1s..1h", limit)
			}
			list := localFindings(cmd.Context())
			if len(args) == 1 {
				if err := s.parse(args[0]); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), limit)
				defer cancel()
				list = append(list, s.examine(ctx)...)
			}
			failed := false
			for _, f := range list {
				failed = failed || f.Status == "fail"
			}
			if asJSON {
				if err := cli.JSON(cmd.OutOrStdout(), map[string]any{"ok": !failed, "findings": list}); err != nil {
					return err
				}
			} else {
				for _, f := range list {
					fmt.Fprintf(cmd.OutOrStdout(), "%-4s  %-21s  %s\n", cli.Name(f.Status), cli.Name(f.Check), cli.Name(f.Seen))
					if f.WayOut != "" {
						fmt.Fprintf(cmd.OutOrStdout(), "%29s-> %s\n", "", cli.Name(f.WayOut))
					}
				}
			}
			if failed {
				return cli.ErrSilent
			}
			return nil
		},
	}
	fl := cmd.Flags()
	s.flags(fl)
	fl.StringVar(&s.config, "config", "", "configuration of the service on the card (default: nepcod's)")
	fl.DurationVar(&limit, "timeout", time.Minute, "how long all of it may take on the card")
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// localFindings look at the programs that ship uses.
func localFindings(ctx context.Context) (list []cardFinding) {
	for _, name := range []string{"ssh", "scp"} {
		path, err := exec.LookPath(name)
		if err != nil {
			list = append(list, cardFinding{name, "fail", "not in PATH", "install openssh-client"})
			continue
		}
		seen := path
		if name == "ssh" {
			if r := command(ctx, "", path, "-V"); r.err == nil {
				seen += ", " + strings.TrimSpace(string(r.errors)+string(r.out))
			}
		}
		list = append(list, cardFinding{name, "ok", seen, ""})
	}
	return list
}

// doctorScript runs on the card, fed to sh on standard input; it says its own findings as NAME=VALUE, then what nepcod doctor says.
const doctorScript = `dir=%s agent=%s config=%s
echo "machine=$(uname -m)"
run=
[ "$(id -u)" = 0 ] || { sudo -n true 2> /dev/null && run="sudo -n"; }
if $run test -d "$dir"; then echo "free=$($run df -Pk "$dir" | awk 'NR == 2 { print $4 }')"; { [ -w "$dir" ] && echo "writable=yes"; } || { [ -n "$run" ] && $run test -w "$dir" && echo "writable=sudo"; }; fi
` + findAgent + `
command -v "$agent" > /dev/null || exit 0
echo "version=$("$agent" version < /dev/null | head -n 1)"
"$agent" doctor --help > /dev/null 2>&1 < /dev/null || exit 0
echo doctor=
$run "$agent" doctor --json ${config:+--config "$config"} < /dev/null
exit 0
`

// examine looks at a card.
func (s *shipment) examine(ctx context.Context) (list []cardFinding) {
	add := func(check, status, wayOut, seen string, args ...any) {
		list = append(list, cardFinding{check, status, fmt.Sprintf(seen, args...), wayOut})
	}
	ssh, err := openSSH("ssh")
	if err != nil {
		return nil // said already
	}
	// Nobody is asked for a password: what is to be seen is whether ship can run without anybody.
	args := append([]string{"-o", "BatchMode=yes"}, s.common("-p")...)
	r := command(ctx, fmt.Sprintf(doctorScript, s.dir, s.agent, s.config), ssh, append(args, "--", s.login, "sh -s")...)
	if r.err != nil {
		why, wayOut := r.why().Error(), "ssh-copy-id "+s.login+" puts your key there; ssh -v "+s.login+" says more"
		if ctx.Err() != nil {
			why, wayOut = "the card did not answer within --timeout", "look at the card, or allow more time"
		}
		add("login", "fail", wayOut, "%s: %s", s.login, why)
		return list
	}
	add("login", "ok", "", "%s, by key, without being asked", s.login)
	said, report, _ := strings.Cut(string(r.out), "\ndoctor=\n")
	values := map[string]string{}
	for line := range strings.Lines(said) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[name] = value
	}
	if m := values["machine"]; m == "aarch64" || m == "x86_64" {
		add("card", "ok", "", "%s", m)
	} else {
		add("card", "warn", "nepcod is built for aarch64 and x86_64", "%s", m)
	}
	free, err := strconv.ParseInt(values["free"], 10, 64) // KiB
	switch {
	case err != nil:
		add("folder", "fail", "mkdir it there, or name another", "%s: there is none", s.dir)
	case free < 32<<10:
		add("folder", "fail", "make room", "%s: %d MiB free", s.dir, free>>10)
	case values["writable"] == "":
		add("folder", "warn", "log in as who may write there, or by sudo", "%s: %s can't write there", s.dir, s.login)
	case values["writable"] == "sudo":
		add("folder", "ok", "", "%s: %d MiB free, to be written by ship --sudo", s.dir, free>>10)
	default:
		add("folder", "ok", "", "%s: %d MiB free", s.dir, free>>10)
	}
	switch v := values["version"]; {
	case v == "":
		add("nepcod", "fail", "make dist; scp dist/arm64/nepcod there, or say where it is with --nepcod", "neither in %s nor in PATH", s.dir)
	case !strings.Contains(v, version.Version):
		add("nepcod", "warn", "install the same version: bundles of a newer one are refused", "%s; here is %s", v, version.Version)
	default:
		add("nepcod", "ok", "", "%s", v)
	}
	if values["version"] == "" {
		return list
	}
	var there struct {
		Findings []cardFinding `json:"findings"`
	}
	// Whatever the card says is a stranger's text; a status that is none of ours must not pass for a good one.
	if err := json.Unmarshal([]byte(report), &there); err != nil || len(there.Findings) == 0 {
		why := "it says nothing"
		if report != "" {
			why = fmt.Sprintf("it gave no report: %v", err)
		}
		add("nepcod doctor", "warn", "log in and run it there; versions before 0.2.0 have none", "%s", why)
	}
	for _, f := range there.Findings {
		if f.Status != "ok" && f.Status != "warn" {
			f.Status = "fail"
		}
		f.Check = "card: " + f.Check
		list = append(list, f)
	}
	return list
}
