//go:build linux

package card

import (
	"strconv"
	"testing"
	"time"

	"nepcoc/internal/testcard"
)

// ship has nepcoc ship a bundle to a card's service.
func ship(t *testing.T, c *testcard.Card, bundle string) (string, error) {
	return shipAs(t, c, "root", bundle)
}

// shipAs is ship with another login, and more options.
func shipAs(t *testing.T, c *testcard.Card, login, bundle string, options ...string) (string, error) {
	args := append([]string{"ship", bundle, login + "@127.0.0.1:/var/lib/nepcod", "--port", strconv.Itoa(c.Port), "--identity", c.Key()}, options...)
	for _, o := range c.SSHOptions() {
		args = append(args, "--ssh-option", o)
	}
	return here(t, nepcoc(t), args...)
}

// shipped is a bundle of another model than the demo's, with the name that the service's has.
func shipped(t *testing.T) string {
	t.Helper()
	return demo(t, "model")
}

// nepcoc ship, over real ssh, ends with the service on the new bundle; it leaves nothing else.
func TestShip(t *testing.T) {
	t.Parallel()
	c := installed(t)
	if out, err := ship(t, c, shipped(t)); err != nil {
		t.Fatal(err)
	} else {
		t.Log(out)
	}
	within(t, 2*time.Minute, "the service runs what was shipped", func() error { return runs(c, digest(t, shipped(t))) })
	if out := c.Run(t, "ls -A /var/lib/nepcod/ /root | grep -F .part || true; systemctl show -p NRestarts --value nepcod"); out != "0" {
		t.Errorf("left there, and restarts: %s", out)
	}
}

// With --sudo a login without rights in the service's folder ships: the service, which has an account of its own, reads the bundle.
func TestShipSudo(t *testing.T) {
	t.Parallel()
	c := installed(t)
	c.Run(t, `useradd -m -s /bin/sh maintainer && mkdir -m 700 /home/maintainer/.ssh && cp /root/.ssh/authorized_keys /home/maintainer/.ssh/ && chown -R maintainer: /home/maintainer/.ssh
echo 'maintainer ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/maintainer && chmod 440 /etc/sudoers.d/maintainer`)
	t.Cleanup(func() { c.Do("rm -f /etc/sudoers.d/maintainer; userdel -r maintainer", nil) })
	if out, err := shipAs(t, c, "maintainer", shipped(t)); err == nil {
		t.Errorf("without --sudo it was shipped:\n%s", out)
	} else {
		t.Log(err)
	}
	if out, err := shipAs(t, c, "maintainer", shipped(t), "--sudo"); err != nil {
		t.Fatal(err)
	} else {
		t.Log(out)
	}
	within(t, 2*time.Minute, "the service runs what was shipped", func() error { return runs(c, digest(t, shipped(t))) })
	const want = "644 root\nnepcod"
	out := c.Run(t, "ls -A /var/lib/nepcod/ /home/maintainer | grep -F .part; stat -c '%a %U' "+bundlePath+"; stat -c %U /proc/$(systemctl show -p MainPID --value nepcod)")
	if out != want {
		t.Errorf("parts left there, the bundle's rights, the service's user: %q, want %q", out, want)
	}
}
