//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/privilege"
	"nepcoc/runtime/trust"
)

// reader is who reads an agent's unix socket, and may go away.
type reader struct {
	path string
	l    *net.UnixListener
	mu   sync.Mutex
	text bytes.Buffer
	conn net.Conn
}

func (r *reader) open(t *testing.T) {
	t.Helper()
	os.Remove(r.path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	r.l = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conn = conn
			r.mu.Unlock()
			go func() {
				for s := bufio.NewScanner(conn); s.Scan(); {
					r.mu.Lock()
					r.text.Write(append(s.Bytes(), '\n'))
					r.mu.Unlock()
				}
			}()
		}
	}()
}

func (r *reader) close() {
	r.l.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		r.conn.Close()
	}
}

// until waits for a line, talking meanwhile.
func (r *reader) until(t *testing.T, p *process, pattern string, talk func()) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		text := r.text.String()
		r.mu.Unlock()
		if re.MatchString(text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %s in\n%s\n%s", pattern, text, p.stderr())
		}
		talk()
	}
}

// at is where a line stands in what was read, -1 where there is none.
func (r *reader) at(pattern string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := regexp.MustCompile(pattern).FindStringIndex(r.text.String()); i != nil {
		return i[0]
	}
	return -1
}

// Trust, trial, actions, the last good bundle and a socket that is connected to again, together under the sandbox: a bundle on trial decides nothing, one that stood its trial does,
// and what one had done whose key is revoked is undone while the rules of others stay.
func TestTogether(t *testing.T) {
	if privilege.LandlockABI() == 0 {
		testfiles.Missing(t, "no landlock here")
	}
	near, far := testnet.Hosts(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"etc", "models", "run", "lib"} {
		if err := os.Mkdir(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte, err error) {
		t.Helper()
		if err == nil {
			err = files.Write(at(name), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	key := func(n byte) (k ed25519.PrivateKey, public ed25519.PublicKey) {
		k = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
		return k, k.Public().(ed25519.PublicKey)
	}
	root, rootPublic := key(1)
	first, firstPublic := key(2)
	second, secondPublic := key(3)
	der, err := x509.MarshalPKIXPublicKey(rootPublic)
	write("etc/root.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err)
	list := func(serial uint64, revoked bool) {
		t.Helper()
		l := trust.KeyList{Serial: serial}
		if revoked {
			l.Revoke(secondPublic, "stolen")
		} else if serial > 1 {
			l.Add("second", secondPublic)
		}
		l.Add("first", firstPublic)
		note, err := l.Sign(root)
		write("etc/keys.note", note, err)
	}
	ship := func(k ed25519.PrivateKey, serial uint64, name string) *bundle.Bundle {
		t.Helper()
		b, err := testbundle.New(0, "class")
		if err != nil {
			t.Fatal(err)
		}
		b.Manifest.Name = name
		data, err := bundle.Encode(b, bundle.Options{Key: k, Statement: bundle.Statement{Serial: serial}})
		write("models/m.nepco", data, err)
		return b
	}
	list(1, false)
	labels := classify.Heads(ship(first, 10, "one"))[0].Labels
	r := &reader{path: at("run/eve.sock")}
	r.open(t)
	defer func() { r.close() }()
	write("etc/nepcod.yaml", fmt.Appendf(nil, `bundle: %s
trusted_keys: [%s]
key_list: %s
state: %s
interface: far
receive: {outgoing: true}
output: {to: "unix:%s"}
keep_unknown: {to: %s}
watch: 50ms
unknown_threshold: 0
probation: {time: 3s, latency: 1h, drops: 1, unknown: 1}
sandbox: {require: true}
actions:
  dry_run: false
  backend: nftables
  rules: [{labels: [%s], min_score: 0, do: drop, for: 1h}]
`, at("models/m.nepco"), at("etc/root.pub"), at("etc/keys.note"), at("lib/state.json"), r.path, at("lib/unknown.pcap"), strings.Join(labels, ", ")), nil)
	start := func() *process {
		p := nepcod(t, nil, nil, "run", "--config", at("etc/nepcod.yaml"))
		p.begin(t, far)
		return p
	}
	both := func(what string, a, b *net.UDPConn, want bool) {
		t.Helper()
		if x, y := passes(a, b, want), passes(b, a, want); x != want || y != want {
			t.Errorf("%s: there %v, back %v; both should be %v", what, x, y, want)
		}
	}
	event := func(port int, rest string) string { return fmt.Sprintf(`"(src|dest)_port":%d,.*%s`, port, rest) }
	p := start()
	a, b := udpFlow(t, near, far, 5001)
	r.until(t, p, event(5001, `"event":"begin","kind":"drop"`), func() { arrives(a, b) })
	both("a flow with a rule", a, b, false)

	// The reader goes, and comes back.
	r.close()
	r.open(t)
	c, d := udpFlow(t, near, far, 5002)
	arrives(c, d) // perhaps lost with the verdict
	time.Sleep(1100 * time.Millisecond)
	port := 5100
	r.until(t, p, `"src_port":51\d\d,`, func() { // each flow a verdict
		x, y := udpFlow(t, near, far, port)
		port++
		for range 4 {
			arrives(x, y)
		}
	})

	// Another key is added, and a bundle of it tried.
	list(2, false)
	ship(second, 11, "two")
	p.until(t, "the bundle is on trial")
	e, f := udpFlow(t, near, far, 5003)
	r.until(t, p, event(5003, `"bundle":"two"`), func() { arrives(e, f); arrives(f, e) })
	const stood = `"trial":\{"state":"stood"`
	r.until(t, p, stood, func() {})
	// A machine that stands still may have its verdict come behind the trial: then a rule is right.
	switch rule := r.at(event(5003, `"event":"begin","kind":"drop"`)); {
	case rule >= 0 && rule < r.at(stood):
		t.Error("a verdict of a bundle on trial made a rule")
	case rule < 0:
		both("a verdict of a bundle on trial", e, f, true)
	}
	g, h := udpFlow(t, near, far, 5004)
	r.until(t, p, event(5004, `"event":"begin".*"bundle":"two"`), func() { arrives(g, h) })
	both("a verdict of a bundle that stood it", g, h, false)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if s, err := trust.ReadState(at("lib/state.json")); err == nil && s.Serial == 11 && s.Trial == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%+v, %v", s, err)
		}
	}

	// Its key is revoked: its rule ends, that of the other stays.
	list(3, true)
	p.until(t, "returned to the bundle before")
	r.until(t, p, event(5004, `"event":"end".*"why":"withdrawn"`), func() {})
	both("a rule of a bundle whose key was revoked", g, h, true)
	both("a rule of the bundle before", a, b, false)
	ship(first, 9, "zero")
	p.until(t, "bundle refused.*serial 10 ran here before")
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	both("after the end", a, b, true)
	none := func() {
		t.Helper()
		if s := p.stderr(); regexp.MustCompile("not permitted|permission denied|function not implemented|does not hold").MatchString(s) {
			t.Errorf("something is out of reach:\n%s", s)
		}
	}
	none()

	// The next start finds the last good one that may run.
	if err := os.Remove(at("models/m.nepco")); err != nil {
		t.Fatal(err)
	}
	p = start()
	p.until(t, "the last good bundle runs.*m.nepco.*state.json.last-good.1")
	ship(first, 12, "three")
	p.until(t, "the bundle is on trial")
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	none()
}

// A bundle that is valid but far too slow for the traffic is refused with the figures; where that is only a warning, it is returned from by the
// watch. Either way most packets are read, and flows have verdicts of the bundle before.
func TestSlowBundle(t *testing.T) {
	encode := func(b *bundle.Bundle, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		data, err := bundle.Encode(b, bundle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good, slow := encode(testbundle.New(0, "good")), encode(testbundle.Slow(0, "slow", 1000, 1000))
	for over, want := range map[string]string{
		"refuse": `bundle refused.*too slow: it takes \S+ per flow here, and with the \S+ flows/s that come now`,
		"warn":   `returned to the bundle before.*(of packets are dropped|of verdicts take)`,
	} {
		t.Run(over, func(t *testing.T) {
			n, dir := testnet.New(t), t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			if err := files.Write(at("m.nepco"), good); err != nil {
				t.Fatal(err)
			}
			config := fmt.Sprintf("bundle: %s\nstate: %s\ninterface: %s\noutput: {to: %s}\nwatch: 50ms\nhealth: {window: 5s}\nprobation: {time: 15s, latency: 300ms, over_budget: %s}\nsandbox: {require: true}\n",
				at("m.nepco"), at("state.json"), testnet.Far, at("eve.json"), over)
			if err := files.Write(at("nepcod.yaml"), []byte(config)); err != nil {
				t.Fatal(err)
			}
			p := nepcod(t, nil, nil, "run", "--config", at("nepcod.yaml"))
			p.begin(t, n)
			send, stop := n.NewSender(t, testnet.Near), make(chan bool)
			var sending sync.WaitGroup
			sending.Go(func() {
				for i := uint32(0); ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					for k := range uint32(10) { // 10 flows of a packet each that decides
						send.Send(datagram(10*i+k, 1000))
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
			by := func(label string) int {
				t.Helper()
				eve, err := os.ReadFile(at("eve.json"))
				if err != nil {
					t.Fatal(err)
				}
				return bytes.Count(eve, []byte(`"label":"`+label))
			}
			more := func(n int) { // verdicts of the good one
				t.Helper()
				for end, before := time.Now().Add(2*time.Minute), by("good"); by("good") < before+n; time.Sleep(20 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%d verdicts of the bundle before, and %d when they were waited for:\n%s", by("good"), before, p.stderr())
					}
				}
			}
			more(500)
			time.Sleep(2 * time.Second) // a rate that can be seen
			if err := files.Write(at("m.nepco"), slow); err != nil {
				t.Fatal(err)
			}
			p.until(t, want)
			more(100)
			close(stop)
			sending.Wait()
			p.Process.Signal(syscall.SIGTERM)
			p.Wait()
			m := regexp.MustCompile(`(\d+) packets = .* (\d+) dropped in queues, (\d+) dropped by the kernel`).FindStringSubmatch(p.stderr())
			if m == nil {
				t.Fatal(p.stderr())
			}
			var counts [3]int // read, of them dropped before workers, dropped by the kernel
			for i := range counts {
				counts[i], _ = strconv.Atoi(m[1+i])
			}
			dropped, all := counts[1]+counts[2], counts[0]+counts[2]
			t.Logf("%d of %d packets dropped, %d verdicts of the bundle before, %d of the slow one", dropped, all, by("good"), by("slow"))
			if 4*dropped > 3*all || over == "refuse" && by("slow") > 0 {
				t.Errorf("%d of %d packets dropped, %d verdicts of the slow bundle", dropped, all, by("slow"))
			}
		})
	}
}

// datagram is an Ethernet frame with the first datagram of the nth flow.
func datagram(n uint32, payload int) []byte {
	b := make([]byte, 14+28+payload)
	copy(b[12:], []byte{8, 0, 0x45})
	ip := b[14:]
	binary.BigEndian.PutUint16(ip[2:], uint16(28+payload))
	ip[8], ip[9] = 64, 17
	copy(ip[12:], []byte{10, byte(n >> 24), byte(n >> 16), byte(n >> 8), 10, 200, 0, 1})
	binary.BigEndian.PutUint16(ip[20:], 1024+uint16(n&255))
	binary.BigEndian.PutUint16(ip[22:], 53)
	binary.BigEndian.PutUint16(ip[24:], uint16(8+payload))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum))
	for i := range payload {
		ip[28+i] = byte(i) ^ byte(n)
	}
	return b
}
