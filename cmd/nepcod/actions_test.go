//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// udpFlow is a flow between two hosts and a socket at each end.
func udpFlow(t *testing.T, near, far *testnet.Net, port int) (a, b *net.UDPConn) {
	t.Helper()
	dial := func(n *testnet.Net, at, to string) (c *net.UDPConn) {
		n.Do(func() {
			l, err := net.ResolveUDPAddr("udp", at)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := (&net.Dialer{LocalAddr: l}).Dial("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			c = conn.(*net.UDPConn)
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	x, y := fmt.Sprintf("%s:%d", testnet.NearAddress, port), fmt.Sprintf("%s:%d", testnet.FarAddress, port+2000)
	return dial(near, x, y), dial(far, y, x)
}

// passes says whether what one end sends comes out of the other: where it should, it is sent again for a minute.
func passes(from, to *net.UDPConn, should bool) bool {
	for end := time.Now().Add(time.Minute); ; {
		if ok := arrives(from, to); ok || !should || time.Now().After(end) {
			return ok
		}
	}
}

// arrives says whether what one end sends comes out of the other soon.
func arrives(from, to *net.UDPConn) bool {
	text := []byte(fmt.Sprint(time.Now().UnixNano()) + strings.Repeat("x", 300))
	from.Write(text)
	to.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	buf := make([]byte, 1000)
	for {
		n, err := to.Read(buf)
		if err != nil {
			return false
		}
		if bytes.Equal(buf[:n], text) {
			return true
		}
	}
}

// Verdicts of live traffic become rules: a flow of a chosen label stops both ways within a second of its verdict while one on the allow list goes
// on. However the agent ends, what it has done is undone: by kill -9 at the next start or by flush, by SIGTERM at once.
func TestActions(t *testing.T) {
	near, far := testnet.Hosts(t)
	dir := t.TempDir()
	file, out, config := filepath.Join(dir, "model.nepco"), filepath.Join(dir, "eve.json"), filepath.Join(dir, "nepcod.yaml")
	if err := files.Write(file, bundleBytes(t, 0, "class")); err != nil {
		t.Fatal(err)
	}
	bun, err := bundle.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	labels := classify.Heads(bun)[0].Labels
	dryRun := false
	configure := func(allow string) {
		t.Helper()
		err := os.WriteFile(config, []byte(fmt.Sprintf(`bundle: %s
interface: far
receive: {outgoing: true}
output: {to: %s}
unknown_threshold: 0
actions:
  dry_run: %v
  backend: nftables
  rules: [{labels: [%s], min_score: 0, do: drop, for: 1h}]
  allow: {ports: [%s]}
`, file, out, dryRun, strings.Join(labels, ", "), allow)), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	configure(`"5050"`)
	start := func() *process {
		p := nepcod(t, nil, nil, "run", "--config", config)
		p.begin(t, far)
		return p
	}
	command := func(args ...string) string {
		var text bytes.Buffer
		p := nepcod(t, &text, nil, args...)
		far.Do(func() {
			if err := p.Run(); err != nil {
				t.Fatalf("%v: %v: %s", args, err, p.stderr())
			}
		})
		return text.String()
	}
	// events waits for an action's event of a flow from the near host's port.
	event := func(port int, want string) {
		t.Helper()
		re := regexp.MustCompile(fmt.Sprintf(`"(src|dest)_port":%d,.*"action":\{%s`, port, want))
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
			text, _ := os.ReadFile(out)
			if re.Match(text) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no %s of port %d in\n%s", want, port, text)
			}
		}
	}
	// both says so where other than both ways, or than none, pass.
	both := func(when string, a, b *net.UDPConn, want bool) {
		t.Helper()
		if x, y := passes(a, b, want), passes(b, a, want); x != want || y != want {
			t.Errorf("%s: there %v, back %v; both should be %v", when, x, y, want)
		}
	}
	// talk goes on until the agent has something to say.
	talk := func(a, b *net.UDPConn) {
		for range 6 {
			arrives(a, b)
			arrives(b, a)
		}
	}

	p := start()
	a, b := udpFlow(t, near, far, 5001)
	c, d := udpFlow(t, near, far, 5050)
	talk(a, b)
	talk(c, d)
	event(5001, `"event":"begin","kind":"drop"`)
	both("with a rule", a, b, false)
	both("on the allow list", c, d, true)
	if s := command("actions", "list"); !strings.Contains(s, "1 rule in force") || !strings.Contains(s, "drop nftables UDP 10.9.0.1:5001 > 10.9.0.2:7001 label=class") {
		t.Error(s)
	}
	p.Process.Kill()
	p.Wait()
	both("after kill -9, since nobody has undone the rule", a, b, false)
	// Who does nothing takes nothing away that may be another's, and says so.
	dryRun = true
	configure(`"5050", "5001"`)
	p = start()
	p.until(t, "actions: rules are in force that this agent has not made.* rules=1")
	p.Process.Kill()
	p.Wait()
	both("after a dry run's start", a, b, false)
	dryRun = false
	configure(`"5050", "5001"`) // or the next agent would judge the flow by its first packet, and drop it again
	p = start()
	event(5001, `"event":"end","kind":"drop",.*"why":"restart"`)
	both("after a start", a, b, true)
	e, f := udpFlow(t, near, far, 5002)
	talk(e, f)
	event(5002, `"event":"begin"`)
	p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.stderr())
	}
	event(5002, `"event":"end","kind":"drop",.*"why":"exit"`)
	both("after SIGTERM", e, f, true)
	p = start()
	g, h := udpFlow(t, near, far, 5003)
	talk(g, h)
	event(5003, `"event":"begin"`)
	q := nepcod(t, nil, nil, "actions", "list", "--iface", "nosuch0")
	far.Do(func() { err = q.Run() })
	if err == nil || !strings.Contains(q.stderr(), "actions list: --iface nosuch0: ") {
		t.Errorf("an interface that there is not: %v: %s", err, q.stderr())
	}
	if s := command("actions", "flush"); !regexp.MustCompile(`\n[1-9] rules? undone`).MatchString(s) {
		t.Error(s)
	}
	both("after flush", g, h, true)
	event(5003, `"event":"end","kind":"drop",.*"why":"flushed"`)
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()

	// The rule's begin and end have the number of the verdict, in whatever order the agent's parts come to write.
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]map[string]int{}
	for line := range bytes.Lines(text) {
		var v struct {
			FlowID json.Number `json:"flow_id"`
			Type   string      `json:"event_type"`
			Port   int         `json:"src_port"`
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if id := v.FlowID.String(); v.Port == 5002 {
			if types[id] == nil {
				types[id] = map[string]int{}
			}
			types[id][v.Type]++
		}
	}
	whole := false
	for _, n := range types {
		whole = whole || n["flow"] > 0 && n["nepco"] >= 2
	}
	if !whole {
		t.Errorf("events of the second flow: %v", types)
	}
}

// docs/actions.md has an example that is a configuration.
func TestActionsDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "actions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	c, err := agent.ParseConfig("docs/actions.md", []byte(example))
	if err != nil || !ok || len(c.Actions.Rules) != 4 || !c.Actions.Acts() || c.Actions.Rules[0].For != 5*time.Minute {
		t.Errorf("%+v, %v", c.Actions, err)
	}
}
