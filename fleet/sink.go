package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"nepcoc/internal/files"
)

// SinkOptions are of one sink: the files of one group's lines.
type SinkOptions struct {
	Group string
	Dir   string
	// Size is when a new file is begun, in bytes; Keep how many full ones are kept, 0: all.
	Size int64
	Keep int
	Log  *slog.Logger
}

// Check says all that is wrong with what an operator asks for.
func (o *SinkOptions) Check() error {
	err := CheckName("group", o.Group)
	if o.Size < 0 || o.Keep < 0 {
		err = errors.Join(err, fmt.Errorf("size of a file: %d, files to keep: %d; neither can be negative", o.Size, o.Keep))
	}
	return err
}

// Sink writes a group's lines to files, lines.ndjson being the one that grows, each line once. Of what is written, a checkpoint says up to where and up to
// which message; what stands behind it after a crash is cut off and read from the stream again.
type Sink struct {
	o                SinkOptions
	c                *Client
	seals            seals
	refusals, unread seldom
	f                *os.File
	w                *bufio.Writer
	mark             checkpoint
	pending          uint64
	dirty            bool
}

// checkpoint is what a sink must not forget.
type checkpoint struct {
	Version int `json:"version"`
	// Message is the last one in the stream that has been written, Size the file's then.
	Message uint64 `json:"message"`
	Size    int64  `json:"size"`
	// Next is the number of the line that comes next, by card and store.
	Next map[string]map[string]place `json:"next"`
	// Counts, of all since the sink began.
	Lines, Again, Missing, Refused uint64
}

// place is where lines of a store go on: the line that comes next, and the message that said so.
type place struct {
	Line    uint64 `json:"line"`
	Message uint64 `json:"message"`
}

// UnmarshalJSON reads a line's number alone, too: so it was written first.
func (p *place) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &p.Line) == nil {
		return nil
	}
	type plain place
	return json.Unmarshal(text, (*plain)(p))
}

// maxStores is how many stores of a card are remembered: it has a new one after each enrolment, and could make up as many as it likes.
const maxStores = 8

// next notes where a store's lines go on, and forgets the card's oldest store where there are too many.
func (c *checkpoint) next(card, store string, p place) {
	stores := c.Next[card]
	if stores == nil {
		stores = map[string]place{}
		c.Next[card] = stores
	}
	stores[store] = p
	for len(stores) > maxStores {
		oldest := store
		for name, at := range stores {
			if at.Message < stores[oldest].Message {
				oldest = name
			}
		}
		delete(stores, oldest)
	}
}

const (
	sinkFile       = "lines.ndjson"
	sinkCheckpoint = "checkpoint.json"
)

// sinkSync is how often what was written is made to last.
var sinkSync = time.Second // changed by tests only

// SinkCounts tell how a sink is.
type SinkCounts struct {
	Lines   uint64 `json:"lines"`   // written
	Again   uint64 `json:"again"`   // came twice, and were left out
	Missing uint64 `json:"missing"` // were dropped on the cards' side, or by the stream's bounds
	Refused uint64 `json:"refused"` // batches that no card of the group sealed
	Lag     uint64 `json:"lag"`     // messages in the stream that aren't written yet
}

// OpenSink opens a sink's files, cut to the last checkpoint.
func OpenSink(c *Client, o SinkOptions) (*Sink, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sink{o: o, c: c, seals: newSeals(c, o.Group), mark: checkpoint{Version: version, Next: map[string]map[string]place{}}}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, err
	}
	name := filepath.Join(o.Dir, sinkCheckpoint)
	text, err := files.All(name, 256<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.begin()
	}
	if err == nil {
		err = json.Unmarshal(text, &s.mark)
	}
	switch {
	case err != nil:
	case s.mark.Version > version:
		err = errors.New("written by a newer nepcof: bring this one up to date")
	case s.mark.Version < 1 || s.mark.Size < 0 || s.mark.Next == nil:
		err = errors.New("no nepcof wrote that")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: without it lines would come twice; bring it back, or name another folder", name, err)
	}
	return s, s.open(s.mark.Size)
}

// begin makes the first checkpoint, before there is a line: a file of lines without one isn't this sink's to cut.
func (s *Sink) begin() error {
	name := filepath.Join(s.o.Dir, sinkFile)
	if info, err := os.Lstat(name); err == nil && (info.Size() > 0 || !info.Mode().IsRegular()) {
		return fmt.Errorf("%s: is there, without %s, which says up to where it was written: bring that back, move the lines elsewhere, or name another folder", name, sinkCheckpoint)
	}
	if err := s.write(); err != nil {
		return err
	}
	return s.open(0)
}

// open opens the file that grows, cut to a size.
func (s *Sink) open(size int64) error {
	f, err := os.OpenFile(filepath.Join(s.o.Dir, sinkFile), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if full, _ := os.Stat(s.numbered()); full != nil && full.Size() == size {
		size = 0 // a crash came between the file's new name and the checkpoint: the one that grows has nothing of it
	}
	if err == nil && info.Size() < size {
		err = fmt.Errorf("%s: its size is %d, and was %d as it was written: it was cut by somebody else; bring it back, or move it and %s elsewhere to begin anew with all that the servers still have", f.Name(), info.Size(), size, sinkCheckpoint)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, 0)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f, s.w, s.mark.Size = f, bufio.NewWriterSize(f, 1<<20), size
	return nil
}

// Counts tell how the sink is. Only Run's caller may ask, between its calls of tell.
func (s *Sink) counts() SinkCounts {
	m := &s.mark
	return SinkCounts{m.Lines, m.Again, m.Missing, m.Refused, s.pending}
}

// Run writes lines until ctx ends, and calls tell about each second.
func (s *Sink) Run(ctx context.Context, tell func(SinkCounts)) error {
	defer func() { s.f.Close() }() // that of then
	for {
		err := s.read(ctx, tell)
		if keep := s.keep(); keep != nil {
			return keep
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				err = fmt.Errorf("group %s has no cards yet: %w", s.o.Group, err)
			}
			s.unread.warn(s.o.Log, "lines can't be read from the servers", "why", err)
			if err := s.reopen(); err != nil {
				return err
			}
		}
		pause(ctx, silence/8)
	}
}

// reopen goes back to the checkpoint.
func (s *Sink) reopen() error { s.f.Close(); return s.open(s.mark.Size) }

// silence is how long a sink goes without a sign of its consumer before it makes another.
const silence = 2 * time.Second

func (s *Sink) read(ctx context.Context, tell func(SinkCounts)) error {
	// What isn't answered soon has nobody who could: the servers may be choosing who leads.
	asking, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	stream, err := s.c.js.Stream(asking, streamLines+s.o.Group)
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(asking, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: s.mark.Message + 1,
		InactiveThreshold: 30 * time.Second})
	if err != nil {
		return err
	}
	messages := make(chan jetstream.Msg, 1024)
	// An ordered consumer finds back to its place by itself, but takes its time. Another, from where the files end, is there at once.
	lost := make(chan error, 1)
	cc, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(1024), jetstream.PullExpiry(10*silence), jetstream.PullHeartbeat(silence/2), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		select {
		case lost <- err:
		default:
		}
	}))
	if err != nil {
		return err
	}
	connection := s.c.nc.StatusChanged(nats.CONNECTED)
	defer s.c.nc.RemoveStatusListener(connection)
	defer func() {
		cc.Stop()
		for { // let the callback go
			select {
			case <-messages:
			case <-cc.Closed():
				return
			}
		}
	}()
	tick := time.NewTicker(sinkSync)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-messages:
			if err := s.take(ctx, m); err != nil {
				return err
			}
		case err := <-lost:
			return err
		case <-connection:
			return errors.New("the connection was lost, and is back")
		case <-tick.C:
			if err := s.keep(); err != nil {
				return err
			}
			tell(s.counts())
		}
	}
}

// take writes one message's lines, as far as they are new.
func (s *Sink) take(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	b, err := s.seals.open(ctx, m)
	if err != nil && !errors.Is(err, errForged) {
		return err // the message is read again
	}
	s.pending, s.dirty = meta.NumPending, true
	defer func() { s.mark.Message = meta.Sequence.Stream }()
	if err != nil {
		s.mark.Refused++
		s.refusals.warn(s.o.Log, "lines refused", "subject", m.Subject(), "why", err)
		return nil
	}
	card, store, number, lines := b.card, b.store, b.first, b.lines
	last, known := s.mark.Next[card][store]
	next := last.Line
	end := number + countLines(lines)
	switch {
	case known && end <= next:
		s.mark.Again += end - number
		return nil
	case number > next:
		// The first that a sink sees of a store may stand anywhere, if it began later.
		if known || s.mark.Message > 0 {
			s.mark.Missing += number - next
			s.line(card, fmt.Appendf(nil, `{"event_type":"nepco_gap","timestamp":%q,"missing":%d}`, meta.Timestamp.UTC().Format(eveTime), number-next))
		}
	}
	for line := range bytes.Lines(lines) {
		// A card that isn't sure whether lines have arrived sends them again, maybe with others.
		if number++; known && number <= next {
			s.mark.Again++
			continue
		}
		s.line(card, bytes.TrimSuffix(line, []byte("\n")))
		s.mark.Lines++
	}
	s.mark.next(card, store, place{end, meta.Sequence.Stream})
	return nil
}

// eveTime is how agents write times.
const eveTime = "2006-01-02T15:04:05.000000-0700"

// cardKey is what a line in the files says its card with.
const cardKey = "nepco_card"

// line writes one line with the card's name in front, which the agent doesn't know. What is no JSON object, or names a card itself, becomes text in one.
func (s *Sink) line(card string, line []byte) {
	rest, object := bytes.CutPrefix(line, []byte("{"))
	if !object || !utf8.Valid(line) || !json.Valid(line) || names(line, cardKey) {
		quoted, _ := json.Marshal(string(line))
		rest = fmt.Appendf(nil, `"event_type":"nepco_other","line":%s}`, quoted)
	}
	comma := ","
	if bytes.Equal(bytes.TrimSpace(rest), []byte("}")) {
		comma = ""
	}
	fmt.Fprintf(s.w, `{"%s":%q%s`, cardKey, card, comma)
	s.w.Write(rest)
	s.w.WriteByte('\n')
}

// names is true for a JSON object that has the key itself, however it is written: of two equal keys most readers take the last.
func names(object []byte, key string) bool {
	if !bytes.ContainsRune(object, '\\') && !bytes.Contains(bytes.ToLower(object), []byte(key)) {
		return false
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(object, &keys) != nil {
		return true
	}
	for k := range keys {
		if strings.EqualFold(k, key) { // some readers don't mind case
			return true
		}
	}
	return false
}

// keep makes what was written last, and begins a new file where this one is full.
func (s *Sink) keep() error {
	if !s.dirty {
		return nil
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	size, err := s.f.Seek(0, 1)
	if err != nil {
		return err
	}
	s.mark.Size, s.dirty = size, false
	if s.o.Size > 0 && size >= s.o.Size {
		return s.rotate()
	}
	return s.write()
}

func (s *Sink) write() error {
	text, err := json.Marshal(s.mark)
	if err != nil {
		return err
	}
	return files.Write(filepath.Join(s.o.Dir, sinkCheckpoint), text)
}

// numbered is the name of a full file: the last message's in it.
func (s *Sink) numbered() string {
	return filepath.Join(s.o.Dir, fmt.Sprintf("lines-%020d.ndjson", s.mark.Message))
}

// rotate gives the file its number and begins another. A crash in between leaves a checkpoint that is the numbered file's, which open sees.
func (s *Sink) rotate() error {
	if err := s.write(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(s.o.Dir, sinkFile), s.numbered()); err != nil {
		return err
	}
	s.f.Close()
	if err := s.open(0); err != nil {
		return err
	}
	if err := s.write(); err != nil {
		return err
	}
	if s.o.Keep == 0 {
		return nil
	}
	old, err := filepath.Glob(filepath.Join(s.o.Dir, "lines-*.ndjson"))
	if err != nil {
		return err
	}
	for _, name := range old[:max(0, len(old)-s.o.Keep)] {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
