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
	args := []string{"ship", bundle, "root@127.0.0.1:/var/lib/nepcod", "--port", strconv.Itoa(c.Port), "--identity", c.Key()}
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
