package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var quietLog = slog.New(slog.DiscardHandler)

// numbered are n lines from a number on.
func numberedLines(from, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "{\"n\":%d}\n", from+i)
	}
	return b.Bytes()
}

func openStore(t testing.TB, dir string, size int64) *Store {
	t.Helper()
	s, err := OpenStore(t.Context(), dir, size, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A card whose disk has no room for all lines keeps as many as go in, in a store that was made and in one that was there.
func TestStoreOnSmallDisk(t *testing.T) {
	dir := t.TempDir()
	var told bytes.Buffer
	for _, size := range []int64{1 << 50, 1 << 20, 1 << 50} {
		told.Reset()
		s, err := OpenStore(t.Context(), dir, size, slog.New(slog.NewTextHandler(&told, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Add(t.Context(), numberedLines(0, 3)); err != nil {
			t.Error(err)
		}
		has := s.stream.CachedInfo().Config.MaxBytes
		s.Close()
		if warned := strings.Contains(told.String(), fmt.Sprintf("wanted_bytes=%d kept_bytes=%d", size, has)); warned != (size > 1<<20) || has > size || has < 1<<20 {
			t.Errorf("of %d bytes it keeps %d: %s", size, has, told.String())
		}
	}
}

// A store is refused with words where not even the least goes in.
func TestStoreWithoutRoom(t *testing.T) {
	s, err := start(&server.Options{DontListen: true, JetStream: true, JetStreamMaxStore: LeastStore / 2, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if _, err := newStore(t.Context(), s, "lines", 1<<30, quietLog); err == nil || !strings.HasPrefix(err.Error(), "the disk has no room for lines") {
		t.Error(err)
	}
}

// Numbers go on across restarts: with batches that wait, when all have been sent, and where the oldest were dropped; and counts do.
func TestStoreNumbers(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	dir, stop := filepath.Join(f.dir, "lines"), func() {}
	n := 0
	add := func(s *Store, lines int) {
		t.Helper()
		if err := s.Add(t.Context(), numberedLines(n, lines)); err != nil {
			t.Fatal(err)
		}
		n += lines
	}
	s := openStore(t, dir, 1<<20)
	add(s, 3)
	add(s, 4)
	s.Close()
	s = openStore(t, dir, 1<<20)
	if got := s.Lines(); got != (Lines{Stored: 7}) {
		t.Fatalf("%+v", got)
	}
	run := func() {
		t.Helper()
		change := func(o *CardOptions) { o.Lines = s }
		if n := len(dirs(t, filepath.Join(f.dir, "cards", "g", "c"))); n == 0 {
			stop = f.card(h.Client, "g", "c", newSimAgent(), change)
		} else {
			stop = f.start(filepath.Join(f.dir, "cards", "g", "c"), newSimAgent(), change)
		}
	}
	sent := func(want Lines) {
		t.Helper()
		f.eventually(2*time.Minute, "lines", func() error {
			if got := s.Lines(); got != want {
				return fmt.Errorf("%+v, want %+v", got, want)
			}
			return nil
		})
	}
	run()
	sent(Lines{Stored: 7, Sent: 7})
	stop()
	s.Close()
	s = openStore(t, dir, 1<<20)
	if got := s.Lines(); got != (Lines{Stored: 7, Sent: 7}) {
		t.Fatalf("after all was sent: %+v", got)
	}
	s.Close()
	// A small one drops the oldest.
	s = openStore(t, dir, 4<<10)
	for range 40 {
		add(s, 20)
	}
	s.Close()
	s = openStore(t, dir, 4<<10)
	run()
	f.eventually(2*time.Minute, "lines", func() error {
		if got := s.Lines(); got.Sent+got.Dropped != uint64(n) || got.Dropped == 0 || got.Stored != uint64(n) {
			return fmt.Errorf("%+v of %d", got, n)
		}
		return nil
	})
	stop()
	want := s.Lines()
	s.Close()
	s = openStore(t, dir, 4<<10)
	defer s.Close()
	if got := s.Lines(); got != want {
		t.Errorf("%+v, was %+v", got, want)
	}
	// What the sink has is what was sent, and it counts what wasn't.
	counts, lines := f.sink(h.Client, "g", 0, func(c SinkCounts) bool { return c.Lines == want.Sent })
	if counts.Missing != want.Dropped || counts.Again != 0 || counts.Refused != 0 {
		t.Errorf("%+v, of %+v", counts, want)
	}
	if got := lines["c"]; len(got) != int(want.Sent) || !slices.IsSorted(got) {
		t.Errorf("%d lines, %v", len(got), got)
	}
}

func dirs(t *testing.T, name string) []os.DirEntry {
	t.Helper()
	d, _ := os.ReadDir(name)
	return d
}

// A batch of which it isn't known whether it was stored takes no number that another has.
func TestStoreUnsure(t *testing.T) {
	s := openStore(t, t.TempDir(), 1<<20)
	defer s.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Add(t.Context(), numberedLines(0, 2)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := s.Add(ended, numberedLines(0, 3)); err == nil {
			t.Error("stored, though there was no time")
		}
	}
	if err := s.Add(t.Context(), numberedLines(0, 5)); err != nil {
		t.Fatal(err)
	}
	info, err := s.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(0)
	for i := info.State.FirstSeq; i <= info.State.LastSeq; i++ {
		m, err := s.stream.GetMsg(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if first(m.Header) != next {
			t.Fatalf("batch %d has number %d, want %d", i, first(m.Header), next)
		}
		next += countLines(m.Data)
	}
	if s.Lines().Stored != next || next != 2+3+5 { // of the twenty the first, which may have arrived
		t.Errorf("%+v, stored are %d", s.Lines(), next)
	}
}

// slowDisk stores, or (every second time) doesn't, and gives no answer, a few times.
type slowDisk struct {
	jetstream.JetStream
	times int
}

func (d *slowDisk) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	d.times--
	if d.times >= 0 && d.times%2 == 1 {
		return nil, nats.ErrTimeout
	}
	ack, err := d.JetStream.PublishMsg(ctx, m, opts...)
	if d.times >= 0 {
		return nil, nats.ErrTimeout
	}
	return ack, err
}

// Lines for which the disk gives no answer in time are stored once, whether it had them or not, and who sent them doesn't notice.
func TestStoreSlow(t *testing.T) {
	s := openStore(t, t.TempDir(), 1<<20)
	defer s.Close()
	for i := range 4 {
		s.js = &slowDisk{s.js, i}
		if err := s.Take(t.Context(), bytes.NewReader(numberedLines(5*i, 5))); err != nil {
			t.Fatal(err)
		}
		s.js = s.js.(*slowDisk).JetStream
	}
	o, err := s.gather(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := numberedLines(0, 20); o.first != 0 || o.end != 20 || !bytes.Equal(o.lines, want) || s.Lines().Stored != 20 {
		t.Errorf("lines %d to %d, %+v: %s", o.first, o.end, s.Lines(), o.lines)
	}
}

// sink runs a sink until its counts are enough, and gives them and each card's numbers as written.
func (f *testFleet) sink(c *Client, group string, size int64, enough func(SinkCounts) bool) (SinkCounts, map[string][]int) {
	f.Helper()
	dir := filepath.Join(f.dir, "sink", group)
	s, err := OpenSink(c, SinkOptions{Group: group, Dir: dir, Size: size})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.Context(), 3*time.Minute)
	defer cancel()
	var last SinkCounts
	if err := s.Run(ctx, func(c SinkCounts) {
		if last = c; enough(c) {
			cancel()
		}
	}); err != nil {
		f.Fatal(err)
	}
	if !enough(last) {
		f.Errorf("the sink has %+v", last)
	}
	return last, sunk(f, dir)
}

// sunk reads a sink's files: the numbers of each card's lines.
func sunk(t testing.TB, dir string) map[string][]int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "lines-*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	lines := map[string][]int{}
	for _, name := range append(names, filepath.Join(dir, sinkFile)) {
		r, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		in := bufio.NewScanner(r)
		for in.Scan() {
			var line struct {
				Card string `json:"nepco_card"`
				N    *int   `json:"n"`
			}
			if err := json.Unmarshal(in.Bytes(), &line); err != nil {
				t.Fatalf("%s: %v: %q", name, err, in.Bytes())
			}
			if line.N != nil {
				lines[line.Card] = append(lines[line.Card], *line.N)
			}
		}
	}
	return lines
}

// times is how often a test does something: by an environment variable, else so often.
func times(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return usual
}

// A sink keeps as many full files as it is told to, the newest, beside the one that grows.
func TestSinkKeeps(t *testing.T) {
	for keep, want := range map[int]int{0: 5, 1: 1, 3: 3} {
		dir := t.TempDir()
		s, err := OpenSink(nil, SinkOptions{Dir: dir, Size: 1, Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(5) {
			s.line("c", []byte("{}"))
			s.mark.Message, s.dirty = i+1, true
			if err := s.keep(); err != nil {
				t.Fatal(err)
			}
		}
		s.f.Close()
		full, err := filepath.Glob(filepath.Join(dir, "lines-*.ndjson"))
		if err != nil || len(full) != want || !strings.HasSuffix(full[len(full)-1], "5.ndjson") {
			t.Errorf("of %d to keep: %v, %v", keep, full, err)
			continue
		}
		if text, err := os.ReadFile(full[0]); err != nil || string(text) != "{\"nepco_card\":\"c\"}\n" {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// A sink that was killed as it gave a full file its number, and killed again before its next checkpoint, has each line once.
func TestSinkKilledTwice(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := openStore(t, filepath.Join(f.dir, "lines"), 1<<20)
	defer s.Close()
	f.card(h.Client, "g", "c", newSimAgent(), func(o *CardOptions) { o.Lines = s })
	all := func(n int) {
		t.Helper()
		if err := s.Add(t.Context(), numberedLines(n-100, 100)); err != nil {
			t.Fatal(err)
		}
		if _, lines := f.sink(h.Client, "g", 1, func(c SinkCounts) bool { return c.Lines == uint64(n) }); len(lines["c"]) != n || lines["c"][n-1] != n-1 {
			t.Errorf("%d lines were sent, the files have %v", n, lines["c"])
		}
	}
	all(100)
	dir := filepath.Join(f.dir, "sink", "g")
	full, err := filepath.Glob(filepath.Join(dir, "lines-*.ndjson"))
	if err != nil || len(full) != 1 {
		t.Fatal(full, err)
	}
	// The checkpoint is the full file's, and the one that grows has what no checkpoint knows of.
	info, err := os.Stat(full[0])
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := filepath.Join(dir, sinkCheckpoint)
	text, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(text), `"size":0`, fmt.Sprintf(`"size":%d`, info.Size()), 1)
	if older == string(text) {
		t.Fatalf("%s", text)
	}
	var grown strings.Builder
	for i := range 100 {
		fmt.Fprintf(&grown, "{\"nepco_card\":\"c\",\"n\":%d}\n", 100+i)
	}
	if err := errors.Join(os.WriteFile(checkpoint, []byte(older), 0o600), os.WriteFile(filepath.Join(dir, sinkFile), []byte(grown.String()), 0o600)); err != nil {
		t.Fatal(err)
	}
	all(200)
}

// A sink that is killed at any moment, rotating as it goes, has each line once in the end.
func TestSinkKilled(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	s := openStore(t, filepath.Join(f.dir, "lines"), 64<<20)
	defer s.Close()
	f.card(h.Client, "g", "c", newSimAgent(), func(o *CardOptions) { o.Lines = s })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	total := make(chan int, 1)
	go func() {
		n := 0
		for ctx.Err() == nil {
			if err := s.Add(t.Context(), numberedLines(n, 10)); err != nil {
				t.Error(err)
				break
			}
			n += 10
			pause(ctx, 2*time.Millisecond)
		}
		total <- n
	}()
	f.eventually(2*time.Minute, "the stream", func() error {
		if s.Lines().Sent == 0 {
			return errors.New("nothing sent")
		}
		return nil
	})
	dir := filepath.Join(f.dir, "sink", "g")
	written := func() (n int64) {
		for _, d := range dirs(t, dir) {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return n
	}
	for i := range times("NEPCO_SINK_KILLS", 6) {
		p := f.process(role{Kind: "sink", Size: 5000, Sync: 3 * time.Millisecond})
		before := written()
		f.eventually(2*time.Minute, "the sink writes", func() error {
			if written() == before {
				return fmt.Errorf("nothing new, kill %d: %s", i, p.out.String())
			}
			return nil
		})
		time.Sleep(rand.N(30 * time.Millisecond))
		if p.kill(); p.out.String() != "" {
			t.Fatalf("kill %d: %s", i, p.out.String())
		}
	}
	cancel()
	n := <-total
	counts, lines := f.sink(h.Client, "g", 5000, func(c SinkCounts) bool { return c.Lines == uint64(n) })
	if counts.Missing+counts.Again+counts.Refused > 0 {
		t.Errorf("%+v", counts)
	}
	got := lines["c"]
	for i, k := range got {
		if i != k {
			t.Fatalf("line %d is number %d", i, k)
		}
	}
	if len(got) != n {
		t.Errorf("%d lines of %d", len(got), n)
	}
	if files := dirs(t, dir); len(files) < 4 {
		t.Errorf("%d files: nothing was rotated", len(files))
	}
}
