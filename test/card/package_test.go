//go:build linux

package card

import (
	"strings"
	"testing"
)

// The package installs, its service runs, and under the hardening that its unit says.
func TestPackage(t *testing.T) {
	t.Parallel()
	c := installed(t)
	if out := c.Run(t, "systemctl is-active nepcod && systemctl is-enabled nepcod && dpkg --verify nepcod"); out != "active\nenabled" {
		t.Errorf("the service is %q", out)
	}
	status := map[string]string{}
	for line := range strings.Lines(c.Run(t, "cat /proc/$(systemctl show -p MainPID --value nepcod)/status")) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	const (
		netRaw = "0000000000002000" // 1 << CAP_NET_RAW, which the unit gives
		none   = "0000000000000000" // given up once the sockets are open
	)
	for name, want := range map[string]string{"CapBnd": netRaw, "CapEff": none, "CapPrm": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"} {
		if status[name] != want {
			t.Errorf("%s of the service is %q, want %q", name, status[name], want)
		}
	}
	if uid := strings.Fields(status["Uid"]); len(uid) == 0 || uid[0] == "0" {
		t.Errorf("the service runs as uid %v", uid)
	}
	// 0 is safest, 10 unsafe.
	t.Log(c.Run(t, "systemd-analyze security --no-pager --threshold=25 nepcod.service | tail -n 1"))
	c.Run(t, "systemd-analyze security --no-pager --threshold=25 nepcod.service > /dev/null")
	if out := c.Run(t, "nepcod selftest --config /etc/nepcod/nepcod.yaml "+bundlePath); !strings.Contains(out, "dotprod") {
		t.Errorf("the self-test says nothing of the dot product:\n%s", out)
	}
}
