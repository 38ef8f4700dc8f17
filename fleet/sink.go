package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"nepcoc/internal/files"
)

// SinkOptions are of one sink: the files of one group's lines.
type SinkOptions struct {
	Group string
	Dir   string
	// Size is when a new file is begun, in bytes; Keep how many are kept, 0: all.
	Size int64
	Keep int
	Log  *slog.Logger
}

// Sink writes a group's lines to files, lines.ndjson being the one that grows, each line once. Of what is written, a checkpoint says up to where and up to
// which message; what stands behind it after a crash is cut off and read from the stream again.
type Sink struct {
	o       SinkOptions
	c       *Client
	keys    map[string]nkeys.KeyPair // by card
	f       *os.File
	w       *bufio.Writer
	mark    checkpoint
	pending uint64
	dirty   bool
}

// checkpoint is what a sink must not forget.
type checkpoint struct {
	Version int `json:"version"`
	// Message is the last one in the stream that has been written, Size the file's then.
	Message uint64 `json:"message"`
	Size    int64  `json:"size"`
	// Next is the number of the line that comes next, by card and store.
	Next map[string]map[string]uint64 `json:"next"`
	// Counts, of all since the sink began.
	Lines, Again, Missing, Refused uint64
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
	s := &Sink{o: o, c: c, keys: map[string]nkeys.KeyPair{}, mark: checkpoint{Version: version, Next: map[string]map[string]uint64{}}}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, err
	}
	name := filepath.Join(o.Dir, sinkCheckpoint)
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &s.mark)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil && s.mark.Version > version {
		err = errors.New("written by a newer nepcof")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: without it lines would come twice", name, err)
	}
	return s, s.open(s.mark.Size)
}

// open opens the file that grows, cut to a size.
func (s *Sink) open(size int64) error {
	f, err := os.OpenFile(filepath.Join(s.o.Dir, sinkFile), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	full, _ := os.Stat(s.numbered())
	if err == nil && info.Size() == 0 && full != nil && full.Size() == size {
		size = 0 // a crash came between the file's new name and the checkpoint
	}
	if err == nil && info.Size() < size {
		err = fmt.Errorf("%s: has %d bytes, and %d were written: it was cut by somebody else; remove %s to go on with what comes next", f.Name(), info.Size(), size, sinkCheckpoint)
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
			s.o.Log.Warn("lines can't be read from the servers", "why", err)
			if err := s.reopen(); err != nil {
				return err
			}
		}
		pause(ctx, time.Second)
	}
}

// reopen goes back to the checkpoint.
func (s *Sink) reopen() error { s.f.Close(); return s.open(s.mark.Size) }

func (s *Sink) read(ctx context.Context, tell func(SinkCounts)) error {
	stream, err := s.c.js.Stream(ctx, streamLines+s.o.Group)
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: s.mark.Message + 1})
	if err != nil {
		return err
	}
	messages := make(chan jetstream.Msg, 1024)
	cc, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(1024))
	if err != nil {
		return err
	}
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
	_, card, _ := cutKey(cutPrefix(m.Subject(), subjectLines))
	store, number, lines := m.Headers().Get(headerStore), first(m.Headers()), m.Data()
	err = s.genuine(ctx, card, m.Subject(), store, number, lines, m.Headers().Get(headerSeal))
	if err != nil && !errors.Is(err, errForged) {
		return err // the message is read again
	}
	s.pending, s.dirty = meta.NumPending, true
	defer func() { s.mark.Message = meta.Sequence.Stream }()
	if err != nil {
		s.mark.Refused++
		s.o.Log.Warn("lines refused", "subject", m.Subject(), "why", err)
		return nil
	}
	next, known := s.mark.Next[card][store]
	switch {
	case known && number < next:
		s.mark.Again += countLines(lines)
		return nil
	case number > next:
		// The first that a sink sees of a store may stand anywhere, if it began later.
		if known || s.mark.Message > 0 {
			s.mark.Missing += number - next
			s.line(card, fmt.Appendf(nil, `{"event_type":"nepco_gap","timestamp":%q,"missing":%d}`, meta.Timestamp.UTC().Format(time.RFC3339Nano), number-next))
		}
	}
	for line := range bytes.Lines(lines) {
		s.line(card, bytes.TrimSuffix(line, []byte("\n")))
		s.mark.Lines++
	}
	if s.mark.Next[card] == nil {
		s.mark.Next[card] = map[string]uint64{}
	}
	s.mark.Next[card][store] = number + countLines(lines)
	return nil
}

// line writes one line with the card's name in front, which the agent doesn't know. What is no JSON object becomes one.
func (s *Sink) line(card string, line []byte) {
	rest, object := bytes.CutPrefix(line, []byte("{"))
	if !object || !json.Valid(line) {
		quoted, _ := json.Marshal(string(line))
		rest = fmt.Appendf(nil, `"event_type":"nepco_other","line":%s}`, quoted)
	}
	comma := ","
	if bytes.Equal(bytes.TrimSpace(rest), []byte("}")) {
		comma = ""
	}
	fmt.Fprintf(s.w, `{"nepco_card":%q%s`, card, comma)
	s.w.Write(rest)
	s.w.WriteByte('\n')
}

// errForged is of lines that no card of the group sealed.
var errForged = errors.New("the card did not seal them")

// genuine says why lines aren't a card's own; an error that isn't errForged says nothing about them.
func (s *Sink) genuine(ctx context.Context, card, subject, store string, number uint64, lines []byte, seal string) error {
	signature, err := hex.DecodeString(seal)
	if err != nil {
		return fmt.Errorf("%w: %w", errForged, err)
	}
	holds := func() bool {
		k, ok := s.keys[card]
		return ok && k.Verify(sealed(subject, store, number, lines), signature) == nil
	}
	if holds() {
		return nil
	}
	// It may have been enrolled, or enrolled anew.
	e, err := getSoon(ctx, s.c.members, key(s.o.Group, card))
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return fmt.Errorf("%w: no such card was enrolled", errForged)
	}
	if err != nil {
		return err
	}
	var m Member
	err = json.Unmarshal(e.Value(), &m)
	if err == nil {
		s.keys[card], err = nkeys.FromPublicKey(m.Public)
	}
	if err != nil {
		delete(s.keys, card)
		return fmt.Errorf("%w: %w", errForged, err)
	}
	if !holds() {
		return errForged
	}
	return nil
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
	for _, name := range old[:max(0, len(old)-s.o.Keep+1)] {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
