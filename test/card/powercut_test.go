//go:build linux

package card

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"nepcoc/internal/testcard"
	"nepcoc/internal/testfiles"
)

// changeBundles is a script that puts two bundles in the service's place in turn, as fast as it can, as nepcoc ship does
// on the card and docs/bluefield.md by hand.
const changeBundles = `cd /var/lib/nepcod
while :; do for b in a b; do
	cp /root/$b.nepco .new.part && sync .new.part && mv -f .new.part model.nepco
	sleep 0.$((RANDOM % 10))
done; done`

// Power cuts at random moments, while bundles change, by script and by nepcoc ship, and verdicts are written: after each the card comes
// up with a whole bundle, one of those that were put there, in service; and with whole lines of verdicts. The disk loses what was not
// written: the card's file system is told not to write files because they are renamed (see build.sh).
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	cuts := 1
	if s := os.Getenv("NEPCOC_CUTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("NEPCOC_CUTS: %v", err)
		}
		cuts = n
	}
	c := testcard.Own(t)
	install(t, c)
	digests := []string{digest(t, demo(t, "demo"))}
	for name, path := range map[string]string{"a": demo(t, "demo"), "b": demo(t, "other")} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c.Put(t, "/root/"+name+".nepco", "644", data)
	}
	digests = append(digests, digest(t, demo(t, "other")), digest(t, shipped(t)))
	c.Run(t, "sed -i 's|^watch: .*|watch: 200ms|' /etc/nepcod/nepcod.yaml && systemctl restart nepcod && sync")

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	testbed := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
	var dropped, restarts float64
	torn := 0
	for cut := range cuts {
		within(t, 2*time.Minute, "the service is up", func() error { _, err := metrics(c); return err })
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan bool, 3)
		go func() { // verdicts
			for ctx.Err() == nil {
				c.P0.Replay(ctx, testbed, 20)
			}
			done <- true
		}()
		go func() { // changes
			if cut%2 == 0 {
				c.Do(changeBundles, nil)
			} else {
				for ctx.Err() == nil {
					ship(t, c, shipped(t))
				}
			}
			done <- true
		}()
		time.Sleep(time.Second/2 + time.Duration(r.Int64N(int64(4*time.Second))))
		if m, err := metrics(c); err == nil {
			dropped += total(m, "nepcod_packets_dropped_total")
		}
		time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
		stop()
		c.PowerCut()
		<-done
		<-done
		if err := c.Start(); err != nil {
			t.Fatalf("after power cut %d: %v\n%s", cut+1, err, c.Console())
		}
		within(t, 3*time.Minute, fmt.Sprintf("after power cut %d the service runs a bundle", cut+1), func() error {
			var err error
			for _, d := range digests {
				if err = runs(c, d); err == nil {
					return nil
				}
			}
			return err
		})
		out := c.Run(t, "nepcod selftest --config /etc/nepcod/nepcod.yaml "+bundlePath+" > /dev/null && systemctl show -p NRestarts --value nepcod")
		n, err := strconv.ParseFloat(out, 64)
		if err != nil {
			t.Fatal(err)
		}
		restarts += n
		text := c.Get(t, eve)
		if i := bytes.LastIndexByte(text, '\n') + 1; i < len(text) {
			torn++
			text = text[:i]
		}
		for i, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
			if len(line) > 0 && !json.Valid(line) {
				t.Errorf("after power cut %d line %d of the verdicts is torn: %.200q", cut+1, i+1, line)
			}
		}
		t.Logf("cut %d: up with a whole bundle, %d lines of verdicts, %g restarts of the service", cut+1, bytes.Count(text, []byte("\n")), n)
		c.Run(t, "systemctl stop nepcod; rm -f "+eve+" /var/lib/nepcod/.*.part; systemctl start nepcod")
	}
	if torn > 0 {
		t.Errorf("%d times the verdicts ended in a torn line that the service had not taken away", torn)
	}
	t.Logf("%d power cuts; %g packets dropped while packets came at twenty times their pace, %g restarts by systemd", cuts, dropped, restarts)
}
