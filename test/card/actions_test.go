//go:build linux

package card

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nepcoc/internal/testcard"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// The tests of runtime/act run in the card's kernel, which has both tc flower and nftables: none of them skips there.
func TestActionsInKernel(t *testing.T) {
	t.Parallel()
	failed := ""
	t.Cleanup(func() { // behind all that is told of a card whose test fails
		if failed != "" {
			t.Logf("on the card:\n%s", failed)
		}
	})
	c := testcard.Shared(t)
	tests := once(t, "act.test", func(path string) error {
		// Compiled as the package is, whose packages it shares.
		_, err := here(t, "env", "GOOS=linux", "GOARCH=arm64", "go", "test", "-c", "-trimpath", "-o", path, "./runtime/act")
		return err
	})
	data, err := os.ReadFile(tests)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(t, "/root/act.test", "755", data)
	t.Cleanup(func() { c.Do("rm -f /root/act.test", nil) })
	// What is missing there is no reason to skip: CI=true. -test.short: 1000 rules instead of 10,000, of which flower's take minutes.
	out, err := c.Do("cd /root && CI=true ./act.test -test.v -test.short -test.timeout 20m", nil)
	text := string(out)
	if err != nil || strings.Contains(text, "--- SKIP") {
		failed = regexp.MustCompile(`(?m)^ *(=== (RUN|NAME|PAUSE|CONT)|--- PASS).*\n`).ReplaceAllString(text, "")
		t.Errorf("some failed or skipped: %v", err)
	}
	kernel := 0
	for _, m := range regexp.MustCompile(`(?m)^    --- PASS: (\w+)/flower `).FindAllStringSubmatch(text, -1) {
		if strings.Contains(text, "    --- PASS: "+m[1]+"/nftables ") {
			kernel++
		}
	}
	if kernel < 10 {
		t.Errorf("only %d tests passed with each of the kernel's two backends", kernel)
	}
	t.Logf("%d passed, of them %d tests with each of the kernel's two backends; TestMany:", strings.Count(text, "--- PASS"), kernel)
	for _, m := range regexp.MustCompile(`(?m)\d+ rules in force after .*`).FindAllString(text, -1) {
		t.Log(m)
	}
}

// dropIn is what docs/actions.md gives the unit for actions.
func dropIn(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "actions.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?m)^    \[Service\]\n(    .*\n)+`).FindString(string(text))
	if block == "" {
		t.Fatal("docs/actions.md has no drop-in for the unit")
	}
	return strings.ReplaceAll(block, "    ", "")
}

// flowName is a flow's name in lines of nepcod actions list, with its VLAN where it has one, and without.
func flowName(k flow.Key) (withTag, plain string) {
	k, _ = k.Canonical()
	plain = k.String()
	return fmt.Sprintf("%s vlan=%d", plain, k.VLAN[0]), plain
}

// ruled are the flows that there are rules for in the card's kernel, as nepcod actions list names them.
func ruled(t *testing.T, c *testcard.Card) map[string]bool {
	t.Helper()
	flows := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^drop \S+ ((TCP|UDP) \S+ > \S+( vlan=\d+)?) `).FindAllStringSubmatch(c.Run(t, "nepcod actions list"), -1) {
		flows[m[1]] = true
	}
	return flows
}

// passed replays a capture into p0 of a card that passes frames on to p1, and counts those that come there by flow, and those that
// were sent. Frames that the capture cut count nowhere: nftables takes no packet for TCP or UDP that is shorter than its IP header says.
func passed(t *testing.T, c *testcard.Card, path string) (sent, came map[flow.Key]int) {
	t.Helper()
	key := func(frame []byte) (flow.Key, bool) {
		var p capture.Packet
		f := capture.Frame{Data: frame, Link: 1, Length: len(frame)}
		if capture.Decode(&f, &p) != capture.KindOK {
			return flow.Key{}, false
		}
		size := int(binary.BigEndian.Uint16(p.IP[2:]))
		if p.V6 {
			size = 40 + int(binary.BigEndian.Uint16(p.IP[4:]))
		}
		if size > len(p.IP) {
			return flow.Key{}, false
		}
		k, _ := flow.KeyOf(&p).Canonical()
		return k, true
	}
	sent, came = map[flow.Key]int{}, map[flow.Key]int{}
	file, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var f capture.Frame
	all := 0
	for {
		if err := file.Next(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if k, ok := key(f.Data); ok {
			sent[k]++
			all++
		}
	}
	var mu sync.Mutex
	n := 0
	c.P1.Listen(func(frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		if k, ok := key(frame); ok {
			came[k]++
			n++
		}
	})
	defer c.P1.Listen(nil)
	if err := c.P0.Replay(t.Context(), path, 0); err != nil {
		t.Fatal(err)
	}
	// All that comes has come when nothing has for a while: for 20 s, where of a flow only some have, since the card may stand still.
	last := -1
	for idle, most := 0, 0; idle <= most; idle++ {
		time.Sleep(500 * time.Millisecond)
		mu.Lock()
		if n != last {
			last, idle, most = n, 0, 4
			for k, n := range came {
				if n != sent[k] {
					most = 40
				}
			}
		}
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	return sent, came
}

// The packaged service with actions: flows of a chosen label are dropped, both ways, while others pass through the card, until their rules'
// time is over, or the service's, however that ends. It keeps one capability.
func TestActionsOfService(t *testing.T) {
	t.Parallel()
	c := installed(t)
	c.Run(t, `cp -p /etc/nepcod/nepcod.yaml /root/yaml.before && mkdir -p /etc/systemd/system/nepcod.service.d
ip link add br0 type bridge && ip link set br0 up && for p in p0 p1; do ip link set $p master br0 up && bridge link set dev $p learning off && tc qdisc replace dev $p root pfifo limit 10000; done`)
	t.Cleanup(func() {
		c.Do(`systemctl stop nepcod; nepcod actions flush; rm -rf /etc/systemd/system/nepcod.service.d; cat /root/yaml.before > /etc/nepcod/nepcod.yaml
for p in p0 p1; do tc qdisc del dev $p root; done; ip link del br0; systemctl daemon-reload; systemctl reset-failed nepcod; systemctl start nepcod`, nil)
	})
	unit := dropIn(t)
	c.Put(t, "/etc/systemd/system/nepcod.service.d/actions.conf", "644", []byte(unit))
	up := func() {
		t.Helper()
		within(t, 2*time.Minute, "the service is up", func() error { return runs(c, digest(t, demo(t, "demo"))) })
	}
	start := func(backend, limit string) {
		t.Helper()
		c.Run(t, "systemctl stop nepcod; rm -f "+eve+"; cat /root/yaml.before > /etc/nepcod/nepcod.yaml")
		if _, err := c.Do("cat >> /etc/nepcod/nepcod.yaml", strings.NewReader(fmt.Sprintf(
			"\nactions:\n  dry_run: false\n  backend: %s\n  rules_per_second: 10000\n  rules: [{labels: [PostgreSQL], min_score: 0.5, do: drop, for: %s}]\n", backend, limit))); err != nil {
			t.Fatal(err)
		}
		c.Run(t, "systemctl daemon-reload; systemctl start nepcod")
		up()
	}
	sent, frames := asSent(t, filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	// rules replays the capture, and returns what there are rules for then.
	rules := func() (flows map[string]bool) {
		t.Helper()
		before := 0.0
		if m, err := metrics(c); err == nil {
			before = total(m, "nepcod_kernel_packets_total")
		}
		if err := c.P0.Replay(t.Context(), sent, 0); err != nil {
			t.Fatal(err)
		}
		within(t, 2*time.Minute, "all frames are received", func() error { return count(c, "nepcod_kernel_packets_total", int(before)+frames) })
		within(t, time.Minute, "there are rules", func() error {
			if flows = ruled(t, c); len(flows) < 10 {
				return fmt.Errorf("%d", len(flows))
			}
			return nil
		})
		return flows
	}
	none := func(when string) {
		t.Helper()
		if flows := ruled(t, c); len(flows) > 0 {
			t.Errorf("%s there are rules for %v", when, flows)
		}
	}
	ended := func(why string) int {
		return strings.Count(string(c.Get(t, eve)), fmt.Sprintf(`"why":%q`, why))
	}

	for _, backend := range []string{"flower", "nftables"} {
		start(backend, "30m")
		status := c.Run(t, "cat /proc/$(systemctl show -p MainPID --value nepcod)/status")
		for _, want := range []string{"CapEff:\t0000000000001000", "CapPrm:\t0000000000001000", "CapAmb:\t0000000000000000", "Seccomp:\t2", "NoNewPrivs:\t1"} {
			if !strings.Contains(status, want+"\n") {
				t.Errorf("with actions the service has not %q:\n%s", want, status)
			}
		}
		before := rules()
		all, came := passed(t, c, sent)
		after := ruled(t, c)
		dropped, through := 0, 0
		for k, n := range all {
			tagged, plain := flowName(k)
			was, is := before[tagged] || before[plain], after[tagged] || after[plain]
			switch {
			case was && came[k] > 0:
				t.Errorf("%s: there is a rule for %s, and %d of %d frames pass", backend, plain, came[k], n)
			case was:
				dropped++
			case !is && came[k] != n:
				t.Errorf("%s: there is no rule for %s, and %d of %d frames pass", backend, plain, came[k], n)
			case !is:
				through++
			}
		}
		if dropped < 10 || through < 300 {
			t.Errorf("%s: %d flows dropped, %d passed", backend, dropped, through)
		}
		c.Run(t, "systemctl stop nepcod")
		none("after the service's end")
		// Some may have begun since they were listed.
		if n, begun := ended("exit"), strings.Count(string(c.Get(t, eve)), `"action":{"event":"begin"`); n != begun || n < len(after) {
			t.Errorf("%d of %d rules ended with the service, by its events; %d were in force before", n, begun, len(after))
		}
		var slowest float64
		for _, m := range regexp.MustCompile(`"action":\{"event":"begin".*"latency_us":([0-9.]+)`).FindAllStringSubmatch(string(c.Get(t, eve)), -1) {
			us, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, us)
		}
		t.Logf("%s: %d flows dropped, all frames of %d others passed; the slowest rule was in force %.1f ms after its verdict", backend, dropped, through, slowest/1e3)
	}

	start("flower", "10s")
	if err := c.P0.Replay(t.Context(), sent, 0); err != nil {
		t.Fatal(err)
	}
	within(t, 3*time.Minute, "all rules end by their time", func() error {
		begun, over := strings.Count(string(c.Get(t, eve)), `"action":{"event":"begin"`), ended("time")
		if left := len(ruled(t, c)); begun < 10 || over < begun || left > 0 {
			return fmt.Errorf("%d began, %d ended, %d are there", begun, over, left)
		}
		return nil
	})

	kill := "systemctl kill -s KILL nepcod"
	killed := func() {
		t.Helper()
		was := c.Run(t, "systemctl show -p MainPID --value nepcod")
		c.Run(t, kill)
		within(t, 2*time.Minute, "systemd starts the service again", func() error {
			if pid := c.Run(t, "systemctl show -p MainPID --value nepcod"); pid == was || pid == "0" {
				return fmt.Errorf("process %s", pid)
			}
			return nil
		})
		up()
	}
	// The unit's own flush, which needs no next start with actions.
	start("flower", "10m")
	rules()
	c.Run(t, "sed -i 's|^  dry_run: false|  dry_run: true|' /etc/nepcod/nepcod.yaml")
	killed()
	none("after kill -9 and a start with a dry run")

	// The next start's, where the unit does nothing.
	lines := slices.DeleteFunc(strings.Split(unit, "\n"), func(l string) bool { return strings.HasPrefix(l, "ExecStopPost=") })
	c.Put(t, "/etc/systemd/system/nepcod.service.d/actions.conf", "644", []byte(strings.Join(lines, "\n")))
	start("flower", "10m")
	n := len(rules())
	killed()
	none("after kill -9 and a start")
	within(t, time.Minute, "what the start took away is told", func() error {
		if got := ended("restart"); got < n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
}
