// Command load makes the testbed's traffic: it runs real client programs (curl, dig, psql ...) in the
// client namespaces, with requests drawn from a seed. Bounded by -count and -deadline.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"time"
)

// task is one run of one client program.
type task struct {
	label string
	argv  []string
	stdin string
}

// tally counts how often the clients of a label ran and failed. A failed client is not an error of the
// run: some requests are meant to fail (a wrong password, a name that doesn't exist).
type tally struct {
	ran, failed int
	last        string
}

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	seed := flag.Uint64("seed", 1, "seed of the requests")
	count := flag.Int("count", 10, "client runs per label")
	only := flag.String("only", "", "comma-separated labels (default all)")
	files := flag.String("files", ".", "folder with the SSH key \"id\"; scratch files go there too")
	deadline := flag.Duration("deadline", 10*time.Minute, "stop after this time")
	workers := flag.Int("workers", 4, "clients running at the same time")
	flag.Parse()

	tasks, err := plan(*seed, *count, *only, *files)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *deadline)
	defer cancel()

	queue := make(chan task)
	results := make(map[string]*tally)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range *workers {
		wg.Go(func() {
			for t := range queue {
				err := t.run(ctx)
				mu.Lock()
				r := results[t.label]
				if r == nil {
					r = new(tally)
					results[t.label] = r
				}
				r.ran++
				if err != nil {
					r.failed++
					r.last = fmt.Sprintf("%s: %v", strings.Join(t.argv[4:], " "), err)
				}
				mu.Unlock()
			}
		})
	}
feed:
	for _, t := range tasks {
		select {
		case queue <- t:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	wg.Wait()

	var names []string
	for name := range results {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		r := results[name]
		fmt.Fprintf(out, "%-11s %4d clients ran, %d exited with an error", name, r.ran, r.failed)
		if r.failed > 0 {
			fmt.Fprintf(out, " (last: %.200q)", r.last)
		}
		fmt.Fprintln(out)
	}
	return ctx.Err()
}

// plan draws every request, then shuffles, so that the labels' flows interleave in the capture.
func plan(seed uint64, count int, only, files string) ([]task, error) {
	r := newRequests(seed, files)
	var tasks []task
	wanted := make(map[string]bool)
	for _, name := range strings.FieldsFunc(only, func(c rune) bool { return c == ',' }) {
		wanted[name] = true
	}
	all := len(wanted) == 0
	for _, c := range clients {
		if !all && !wanted[c.label] {
			continue
		}
		delete(wanted, c.label)
		for i := range count {
			// Every label speaks from every client host and both address families.
			host := 1 + i%3
			r.pick(host, c.udp)
			argv, stdin := c.request(r)
			prefix := []string{"ip", "netns", "exec", fmt.Sprintf("c%d", host)}
			tasks = append(tasks, task{label: c.label, argv: append(prefix, argv...), stdin: stdin})
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("no clients for label %q", name)
	}
	r.rng.Shuffle(len(tasks), func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	return tasks, nil
}

// run ends the client after a few seconds, whatever it waits for.
func (t task) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.argv[0], t.argv[1:]...)
	cmd.Stdin = strings.NewReader(t.stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// requests is the state from which requests are drawn.
type requests struct {
	rng   *rand.Rand
	words []string
	files string
	addr  string // server address for the client host at hand
}

func newRequests(seed uint64, files string) *requests {
	r := &requests{rng: rand.New(rand.NewPCG(seed, 0x6e65)), files: files}
	// Names are made of syllables by the seed, so the words of one split are not those of another.
	syllables := strings.Fields("ba co di fu ge hi jo ka lu me ni op pra qui ro se ta ul ve wa xi yo zu ster lin ton mar net")
	for range 200 {
		var w strings.Builder
		for range 1 + r.rng.IntN(4) {
			w.WriteString(syllables[r.rng.IntN(len(syllables))])
		}
		r.words = append(r.words, w.String())
	}
	return r
}

// pick chooses the address family. TCP over IPv6 is rare from hosts 1 and 2: with Linux's usual options
// the three packets of a handshake take 232 of a short contract's 255 bytes, and a classifier never sees
// the payload. Some such flows stay in, because that is how networks are.
func (r *requests) pick(host int, udp bool) {
	share := 0.05
	if udp || host == 3 {
		share = 0.35
	}
	r.addr = fmt.Sprintf("10.77.%d.1", host)
	if r.rng.Float64() < share {
		r.addr = fmt.Sprintf("fd77:%d::1", host)
	}
}

func (r *requests) v6() bool { return strings.Contains(r.addr, ":") }

// url is the address as URLs write it.
func (r *requests) url() string {
	if r.v6() {
		return "[" + r.addr + "]"
	}
	return r.addr
}

func (r *requests) word() string { return r.one(r.words...) }

func (r *requests) one(choices ...string) string { return choices[r.rng.IntN(len(choices))] }

func (r *requests) chance(p float64) bool { return r.rng.Float64() < p }

func (r *requests) number(n int) string { return fmt.Sprint(r.rng.IntN(n)) }

// text is up to n bytes of words.
func (r *requests) text(n int) string {
	n = 1 + r.rng.IntN(n)
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(r.word())
		b.WriteByte(' ')
	}
	return b.String()[:n]
}

func (r *requests) path() string {
	if r.chance(0.4) {
		return "/f" + r.one("10", "300", "1200", "9000", "60000") + ".txt"
	}
	p := "/" + r.word()
	for r.chance(0.4) {
		p += "/" + r.word()
	}
	if r.chance(0.3) {
		p += "?" + r.word() + "=" + r.number(100000)
	}
	return p
}
