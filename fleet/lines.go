package fleet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Lines leave a card in batches. A batch's headers say where its lines stand among all that the store ever took, so that whoever reads them
// sees what is missing and what came twice.
const (
	headerStore = "Nepco-Store" // the store's random name: numbers count within it, and no other card can guess a message id
	headerFirst = "Nepco-First" // number of the first line, from 0
	headerSeal  = "Nepco-Seal"  // the card's signature over the subject, store, number and lines, in hex
)

// Bounds of a batch: lines wait for others up to batchTime, and are sent when they have batchBytes.
const (
	batchBytes = 64 << 10
	batchTime  = time.Second
)

// Store keeps an agent's lines on disk until the fleet's servers have them: an embedded NATS server's stream, bounded, of which the oldest
// lines are dropped and counted.
type Store struct {
	log    *slog.Logger
	server *server.Server // nil: not ours
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string
	mark   string // subject of what has been sent: "SENT DROPPED"

	dir    string
	bytes  int64
	broken atomic.Bool // the server can't write any more
	closed atomic.Bool
	engine sync.RWMutex // held while server, nc, js and stream are used by others than who adds, or are exchanged

	adding sync.Mutex // held while a batch gets its number and is stored
	unsure *nats.Msg  // the last batch, if whether it was stored isn't known
	added  chan struct{}
	mu     sync.Mutex
	counts Lines
}

// storeSubject is what batches have in a card's own server, markSubject what has been sent of them.
const storeSubject, markSubject = "lines.", "sent."

// OpenStore opens a card's store, in a folder, of up to so many bytes: of fewer, which the log says, where the disk has no room for them.
func OpenStore(ctx context.Context, dir string, bytes int64, log *slog.Logger) (*Store, error) {
	st := &Store{log: log, dir: dir, bytes: bytes, added: make(chan struct{}, 1)}
	return st, st.begin(ctx)
}

// begin starts the store's server and opens what it has.
func (s *Store) begin(ctx context.Context) error {
	own, err := startTelling(&server.Options{ServerName: "nepcof-card", DontListen: true, JetStream: true, SyncAlways: true, StoreDir: s.dir, NoSigs: true, NoLog: true},
		s.log, func(string) { s.broken.Store(true) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	s.server = own
	if err := s.connect(ctx, own, "lines", s.bytes); err != nil {
		own.Shutdown()
		own.WaitForShutdown()
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	return nil
}

// renew begins anew with what is on the disk.
func (s *Store) renew(ctx context.Context) error {
	s.engine.Lock()
	defer s.engine.Unlock()
	s.nc.Close()
	s.server.Shutdown()
	s.server.WaitForShutdown()
	s.broken.Store(false)
	counts := s.Lines()
	err := s.begin(ctx)
	s.mu.Lock()
	s.counts = counts // what was counted holds; whether the last batch was stored shows when it is stored again
	s.mu.Unlock()
	if err != nil {
		s.broken.Store(true)
	}
	return err
}

// newStore opens a stream of that name in a server of this process.
func newStore(ctx context.Context, s *server.Server, name string, bytes int64, log *slog.Logger) (*Store, error) {
	st := &Store{log: log, added: make(chan struct{}, 1)}
	if err := st.connect(ctx, s, name, bytes); err != nil {
		return nil, err
	}
	return st, nil
}

func (s *Store) connect(ctx context.Context, in *server.Server, name string, bytes int64) (err error) {
	if s.nc, err = inside(in); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.nc); err == nil {
		err = s.open(ctx, name, bytes)
	}
	if err != nil {
		s.nc.Close()
	}
	return err
}

func (s *Store) open(ctx context.Context, name string, bytes int64) error {
	var has int64
	c := jetstream.StreamConfig{Name: name, Subjects: []string{storeSubject + name}, Discard: jetstream.DiscardOld, Metadata: map[string]string{"store": randomName()}}
	stream, err := s.js.Stream(ctx, name)
	switch {
	case err == nil:
		c = stream.CachedInfo().Config
		has = c.MaxBytes
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	}
	if has != bytes || !c.AllowDirect { // without it, batches are read by way of JSON
		c.AllowDirect = true
		c.MaxBytes, err = fitting(bytes, max(has, LeastStore), func(n int64) (err error) {
			c.MaxBytes = n
			stream, err = s.js.CreateOrUpdateStream(ctx, c)
			return err
		})
		if isNoRoom(err) {
			return fmt.Errorf("the disk has no room for lines (bytes to keep: %d, at least: %d): free some, or name another folder", bytes, LeastStore)
		}
		if err != nil {
			return err
		}
		if c.MaxBytes != bytes {
			s.log.Warn("the disk has no room for all lines", "wanted_bytes", bytes, "kept_bytes", c.MaxBytes)
		}
	}
	s.stream, s.name = stream, c.Metadata["store"]
	if s.counts.Stored, err = s.stored(ctx); err != nil {
		return err
	}
	s.mark = markSubject + name
	marks, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: name + "-sent", Subjects: []string{s.mark}, MaxMsgs: 1})
	if err != nil {
		return err
	}
	switch m, err := marks.GetLastMsgForSubject(ctx, s.mark); {
	case err == nil:
		if _, err := fmt.Sscan(string(m.Data), &s.counts.Sent, &s.counts.Dropped); err != nil {
			return fmt.Errorf("%s: %w", s.mark, err)
		}
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	// The last batch always stays. Where it is gone, or older than what was sent, numbers would be given twice, and sinks leave out lines whose numbers they have.
	if n := s.counts; has != 0 && (n.Stored == 0 || n.Stored < n.Sent+n.Dropped) {
		return s.anew(ctx)
	}
	return nil
}

// anew begins a store under another name where one was damaged.
func (s *Store) anew(ctx context.Context) error {
	if s.counts != (Lines{}) {
		s.log.Error("the store of lines was damaged: what waited in it is lost, and it begins anew", "had", s.counts.Stored, "sent", s.counts.Sent, "dropped", s.counts.Dropped)
	}
	c := s.stream.CachedInfo().Config
	c.Metadata = maps.Clone(c.Metadata)
	c.Metadata["store"] = randomName()
	err := s.stream.Purge(ctx)
	if err == nil {
		s.stream, err = s.js.UpdateStream(ctx, c)
	}
	if err != nil {
		return err
	}
	s.name, s.counts = c.Metadata["store"], Lines{}
	return s.keepMark(ctx)
}

// LeastStore is the least that a card's store is made with, in bytes: the largest line fits, and servers take less than one for no bound at all.
const LeastStore = 1 << 20

// noRoom is the servers' code for a stream that may become larger than what they have left.
const noRoom jetstream.ErrorCode = 10047

func isNoRoom(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == noRoom
}

// fitting makes a stream that may become n bytes and returns n. Servers reserve them: where their disks have less it is half, and half again, down to least.
func fitting(n, least int64, make func(n int64) error) (int64, error) {
	for {
		err := make(n)
		if !isNoRoom(err) || n <= least {
			return n, err
		}
		n = max(n/2, least)
	}
}

// stored is how many lines the store ever took: where the last batch, which always stays, ended.
func (s *Store) stored(ctx context.Context) (uint64, error) {
	last, err := s.stream.GetLastMsgForSubject(ctx, storeSubject+s.stream.CachedInfo().Config.Name)
	switch {
	case err == nil:
		return first(last.Header) + countLines(last.Data), nil
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return 0, nil
	}
	return 0, err
}

func countLines(data []byte) uint64 { return uint64(bytes.Count(data, []byte("\n"))) }

func first(h nats.Header) uint64 {
	n, _ := strconv.ParseUint(h.Get(headerFirst), 10, 64)
	return n
}

// randomName is one that nobody else has or can guess: 32 hexadecimal digits.
func randomName() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Close ends the store; what it took is on disk.
func (s *Store) Close() {
	s.closed.Store(true)
	s.engine.Lock()
	defer s.engine.Unlock()
	s.nc.Close()
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
}

// Lines are the store's counts.
func (s *Store) Lines() Lines {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Add stores whole lines, each with its end: they are on disk when it returns without an error. A disk that doesn't answer in time is no reason to lose lines:
// it is tried again until ctx ends or the store is closed, and who sends lines waits.
func (s *Store) Add(ctx context.Context, lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	return s.add(ctx, lines, 0)
}

// add stores lines after so many that are left out, which leaves a gap in the numbers: it is on disk, too, if no lines follow.
func (s *Store) add(ctx context.Context, lines []byte, leftOut uint64) error {
	s.adding.Lock()
	defer s.adding.Unlock()
	// No number is given twice: of two batches with the same, the servers would take one.
	if s.unsure != nil {
		if err := s.put(ctx, s.unsure); err != nil {
			return err
		}
	}
	m := &nats.Msg{Subject: storeSubject + s.stream.CachedInfo().Config.Name, Header: nats.Header{}, Data: lines}
	m.Header.Set(headerFirst, strconv.FormatUint(s.Lines().Stored+leftOut, 10))
	m.Header.Set(jetstream.MsgIDHeader, randomName()) // of two tries that both arrive, one is stored
	return s.put(ctx, m)
}

// put stores a batch. Where it fails, whether it was stored isn't known, and it goes before the next.
func (s *Store) put(ctx context.Context, m *nats.Msg) error {
	s.unsure = m
	for wait := time.Second / 8; ; wait = min(2*wait, 4*time.Second) {
		err := s.publish(ctx, m)
		if err == nil {
			break
		}
		if ctx.Err() != nil || s.closed.Load() {
			return err
		}
		s.log.Error("lines wait for the disk", "why", err)
		if pause(ctx, wait); !s.broken.Load() {
			continue
		}
		if err := s.renew(ctx); err != nil {
			s.log.Error("lines wait for the disk", "why", err)
			pause(ctx, wait)
		}
	}
	s.unsure = nil
	s.mu.Lock()
	s.counts.Stored = first(m.Header) + countLines(m.Data)
	s.mu.Unlock()
	select {
	case s.added <- struct{}{}:
	default:
	}
	return nil
}

// publish has the server store a message. One that can't write doesn't answer.
func (s *Store) publish(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	_, err := s.js.PublishMsg(ctx, m)
	return err
}

// sealed is what a card signs of a batch.
func sealed(subject, store string, first uint64, lines []byte) []byte {
	b := append([]byte(subject+" "+store+" "), binary.BigEndian.AppendUint64(nil, first)...)
	return append(b, lines...)
}

// batch is what one message carries.
type batch struct {
	card, store string
	first       uint64 // number of its first line
	lines       []byte
}

// seals knows the keys of a group's cards, and holds messages to them.
type seals struct {
	c     *Client
	group string
	keys  map[string]nkeys.KeyPair // by card
}

func newSeals(c *Client, group string) seals { return seals{c, group, map[string]nkeys.KeyPair{}} }

// errForged is of lines that no card of the group sealed.
var errForged = errors.New("the card did not seal them")

// storeForm is a store's name, maxLineNumber above what any card comes to: a number that is sealed can still be a lie.
var storeForm = regexp.MustCompile("^[0-9a-f]{32}$")

const maxLineNumber = 1 << 60

// open reads a message that its subject's card sealed. An error that isn't errForged says nothing about it.
func (s seals) open(ctx context.Context, m jetstream.Msg) (b batch, err error) {
	_, b.card, _ = cutKey(cutPrefix(m.Subject(), subjectLines))
	b.store, b.first, b.lines = m.Headers().Get(headerStore), first(m.Headers()), m.Data()
	signature, err := hex.DecodeString(m.Headers().Get(headerSeal))
	if err != nil {
		return b, fmt.Errorf("%w: %w", errForged, err)
	}
	if !storeForm.MatchString(b.store) || b.first > maxLineNumber || len(b.lines) == 0 || b.lines[len(b.lines)-1] != '\n' {
		return b, fmt.Errorf("%w: no nepcof card sends such a message", errForged)
	}
	holds := func() bool {
		k, ok := s.keys[b.card]
		return ok && k.Verify(sealed(m.Subject(), b.store, b.first, b.lines), signature) == nil
	}
	if holds() {
		return b, nil
	}
	// It may have been enrolled, or enrolled anew.
	e, err := getSoon(ctx, s.c.members, key(s.group, b.card))
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return b, fmt.Errorf("%w: no such card was enrolled", errForged)
	}
	if err != nil {
		return b, err
	}
	var member Member
	err = json.Unmarshal(e.Value(), &member)
	if err == nil {
		s.keys[b.card], err = nkeys.FromPublicKey(member.Public)
	}
	if err != nil {
		delete(s.keys, b.card)
		return b, fmt.Errorf("%w: %w", errForged, err)
	}
	if !holds() {
		return b, errForged
	}
	return b, nil
}

// forward sends what is stored to the fleet's servers until ctx ends, one batch after the other, so that they arrive in order.
func (c *Card) forward(ctx context.Context) {
	var said seldom
	for ctx.Err() == nil {
		if err := c.forwardAll(ctx); err != nil && ctx.Err() == nil {
			said.warn(c.o.Log, "lines can't be read from the store", "why", err)
		}
		pause(ctx, time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// keepSent is after how many batches the store lets go of what has been sent, and keepTime after how long without another: each time is a write to the disk.
// A card that loses its power sends so much again.
const (
	keepSent = 16
	keepTime = 10 * time.Second
)

// outgoing are batches of the store that stand one after the other, as one message.
type outgoing struct {
	first, end uint64 // numbers of the first line, and of the one after the last
	lines      []byte
	batches    int
	sequence   uint64 // of the last batch in the store
}

// gather reads what a sequence of the store begins with, with what stands next and fits: what waited through an outage leaves in few messages. There may be nothing.
func (s *Store) gather(ctx context.Context, sequence uint64) (o outgoing, err error) {
	s.engine.RLock()
	defer s.engine.RUnlock()
	subject := storeSubject + s.stream.CachedInfo().Config.Name
	for {
		m, err := s.stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(subject)) // or the first one after it
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return o, nil
		}
		if err != nil {
			return o, err
		}
		number := first(m.Header)
		if o.batches == 0 {
			o.first, o.end = number, number
		} else if number != o.end || len(o.lines)+len(m.Data) > batchBytes {
			return o, nil
		}
		o.lines = append(o.lines, m.Data...)
		o.end += countLines(m.Data)
		o.batches++
		o.sequence = m.Sequence
		sequence = m.Sequence + 1
	}
}

func (c *Card) forwardAll(ctx context.Context) (err error) {
	s := c.o.Lines
	var sequence uint64 // up to where the store has been sent
	batches := 0        // of them, not let go yet
	letGo := func(ctx context.Context) error {
		if batches == 0 {
			return nil
		}
		err := s.markSent(ctx)
		if err == nil { // the last batch stays: it says where numbers go on
			err = s.purge(ctx, sequence)
		}
		batches = 0
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTime)
		defer cancel()
		err = errors.Join(err, letGo(last))
	}()
	for {
		o, err := s.gather(ctx, sequence+1)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case o.batches == 0:
			select {
			case <-s.added:
			case <-time.After(keepTime):
				if err := letGo(ctx); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			}
			continue
		}
		if n := s.Lines(); o.end > n.Sent+n.Dropped { // else it was sent before this process began
			if len(o.lines) > 0 && !c.deliver(ctx, &o) { // lines that were left out are told of by what follows
				return nil
			}
			s.sent(o.first, o.end)
		}
		sequence = o.sequence
		if batches += o.batches; batches >= keepSent {
			if err := letGo(ctx); err != nil {
				return err
			}
		}
	}
}

// deliver sends lines until the servers have them, or (false) ctx ends.
func (c *Card) deliver(ctx context.Context, o *outgoing) bool {
	for wait := time.Second / 4; ; {
		if c.nc.IsConnected() {
			err := c.send(ctx, o)
			if err == nil {
				return true
			}
			c.o.Log.Debug("lines wait", "why", err)
			wait = min(2*wait, 2*time.Second)
		}
		if pause(ctx, wait); ctx.Err() != nil {
			return false
		}
	}
}

// sent counts lines that have arrived, and those before them that were dropped.
func (s *Store) sent(begin, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end <= s.counts.Sent+s.counts.Dropped {
		return // again
	}
	s.counts.Dropped += begin - min(begin, s.counts.Sent+s.counts.Dropped)
	s.counts.Sent = end - s.counts.Dropped
}

// keepMark writes what has been sent, before it is let go.
func (s *Store) keepMark(ctx context.Context) error {
	n := s.Lines()
	_, err := s.js.Publish(ctx, s.mark, fmt.Appendf(nil, "%d %d", n.Sent, n.Dropped))
	return err
}

// markSent is keepMark for others than who opens the store.
func (s *Store) markSent(ctx context.Context) error {
	s.engine.RLock()
	defer s.engine.RUnlock()
	return s.keepMark(ctx)
}

// purge lets batches go that are before one in the store.
func (s *Store) purge(ctx context.Context, sequence uint64) error {
	s.engine.RLock()
	defer s.engine.RUnlock()
	return s.stream.Purge(ctx, jetstream.WithPurgeSequence(sequence))
}

// send brings lines to the servers, and waits for their word that they have them. A message's id says all of what is in it: another time the same lines
// may leave with others.
func (c *Card) send(ctx context.Context, o *outgoing) error {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	out := &nats.Msg{Subject: subjectLines + key(c.Group, c.cardFile.Card), Header: nats.Header{}, Data: o.lines}
	signature, err := c.key.Sign(sealed(out.Subject, c.o.Lines.name, o.first, out.Data))
	if err != nil {
		return err
	}
	out.Header.Set(headerStore, c.o.Lines.name)
	out.Header.Set(headerFirst, strconv.FormatUint(o.first, 10))
	out.Header.Set(headerSeal, hex.EncodeToString(signature))
	out.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s:%d-%d", c.o.Lines.name, o.first, o.end))
	reply, err := c.nc.RequestMsgWithContext(ctx, out)
	if err != nil {
		return err
	}
	if !bytes.Contains(reply.Data, []byte(`"stream"`)) || bytes.Contains(reply.Data, []byte(`"error"`)) {
		return fmt.Errorf("the servers did not take lines: %.200s", reply.Data)
	}
	return nil
}

// maxLine bounds a line, in bytes: servers take messages of up to 1 MiB.
const maxLine = 512 << 10

// readLine reads a line with its end; nil for one that is longer than maxLine, which is read over.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for long := false; ; {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// Take stores the lines that r gives, until it ends: those that come within batchTime, or up to batchBytes, as one batch. A line that is longer
// than a batch may be goes alone, one that is longer than maxLine is dropped and counted; one without its end, after a crash of who wrote it, is left out.
func (s *Store) Take(ctx context.Context, r io.Reader) error {
	lines, done := make(chan []byte, 64), make(chan struct{})
	defer close(done)
	var broken error
	go func() {
		defer close(lines)
		in := bufio.NewReaderSize(r, batchBytes)
		for {
			line, err := readLine(in)
			if err == nil {
				select {
				case lines <- line:
					continue
				case <-done:
					return
				}
			}
			if err != io.EOF {
				broken = err
			}
			return
		}
	}()
	var batch []byte
	tick := time.NewTicker(batchTime)
	defer tick.Stop()
	flush := func() error {
		err := s.Add(ctx, batch)
		batch = nil
		return err
	}
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return errors.Join(flush(), broken)
			}
			if len(batch)+len(line) > batchBytes || line == nil {
				if err := flush(); err != nil {
					return err
				}
			}
			if line == nil {
				if err := s.add(ctx, nil, 1); err != nil {
					return err
				}
			}
			batch = append(batch, line...)
		case <-tick.C:
			if err := flush(); err != nil {
				return err
			}
		}
	}
}
