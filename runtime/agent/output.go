package agent

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"nepcoc/runtime/verdict"
)

// Format turns a record into lines, appended without the last newline.
type Format func(r *verdict.Record, b []byte) []byte

// Formats are the forms that verdicts are written in, by name.
var Formats = map[string]Format{
	"eve":  (*verdict.Record).AppendEVE,
	"json": (*verdict.Record).AppendJSON,
	"text": (*verdict.Record).AppendText,
}

// A chunk is the lines of some verdicts on their way out.
type chunk struct {
	buf  []byte
	ends []int // of each record, in buf
}

const chunkBytes = 32 << 10

// output writes lines on a goroutine of its own, so that whatever a disk or a
// reader does, packets go on: when all chunks are under way, workers drop what
// they have and count it.
type output struct {
	sink        recordWriter
	queue, free chan *chunk
	done, hurry chan struct{}
	complain    func(what string, err error)
	now         func() int64 // see Agent.now

	sent     atomic.Uint64 // records handed over
	written  atomic.Uint64 // records
	failed   atomic.Uint64 // records that the sink did not take
	tooLarge atomic.Uint64 // records that no datagram holds
	bytes    atomic.Uint64
	last     atomic.Pointer[error] // why the sink last failed
	failedAt atomic.Int64          // when it last did, 0 for never
	tookAt   atomic.Int64          // when it last took something after that
	began    atomic.Int64          // when the write that goes on began, 0 for none
}

func newOutput(sink io.Writer, chunks int, hurry chan struct{}, complain func(string, error), now func() int64) *output {
	o := &output{
		queue: make(chan *chunk, chunks), free: make(chan *chunk, chunks),
		done: make(chan struct{}), hurry: hurry, complain: complain, now: now,
	}
	var ok bool
	if o.sink, ok = sink.(recordWriter); !ok {
		o.sink = anyWriter{sink}
	}
	for range chunks {
		o.free <- new(chunk)
	}
	return o
}

// take gets an empty chunk; nil if there is none and waiting is out of the question.
func (o *output) take(wait bool) *chunk {
	if wait {
		select {
		case c := <-o.free:
			return c
		case <-o.hurry:
			return nil
		}
	}
	select {
	case c := <-o.free:
		return c
	default:
		return nil
	}
}

// send hands a chunk over. The queue has room for all there are.
func (o *output) send(c *chunk) {
	o.sent.Add(uint64(len(c.ends)))
	o.queue <- c
}

// run writes until the queue is closed.
func (o *output) run() {
	defer close(o.done)
	for c := range o.queue {
		o.began.Store(max(o.now(), 1))
		t := o.sink.writeRecords(c.buf, c.ends)
		o.began.Store(0)
		o.bytes.Add(uint64(t.bytes))
		failed := len(c.ends) - t.records - t.tooLarge
		if t.err != nil {
			o.last.Store(&t.err)
			o.complain("output", t.err)
		}
		switch {
		case failed > 0:
			o.failedAt.Store(max(o.now(), 1))
		case t.records > 0 && o.failedAt.Load() != 0:
			o.tookAt.Store(max(o.now(), 1))
		}
		o.written.Add(uint64(t.records))
		o.failed.Add(uint64(failed))
		o.tooLarge.Add(uint64(t.tooLarge))
		c.buf, c.ends = c.buf[:0], c.ends[:0]
		o.free <- c
	}
}

// problem says what is wrong with the sink: it has failed within the window and taken nothing
// since, or failed just now (one that takes every other write has no good moments in between), or what it was last given is
// still on its way. Empty where all is well.
func (o *output) problem(window time.Duration) string {
	now := o.now()
	if at := o.failedAt.Load(); at != 0 && (now-at <= int64(window/lossSamples) || o.tookAt.Load() <= at && now-at <= int64(window)) {
		return fmt.Sprintf("the output fails: %v", *o.last.Load())
	}
	if at := o.began.Load(); at != 0 && now-at > int64(stalledAfter) {
		return fmt.Sprintf("the output has taken nothing for %d s", (now-at)/int64(time.Second))
	}
	return ""
}

// taken is what became of records that a sink was given. Those that are neither
// counted in records nor too large for it are lost.
type taken struct {
	records, tooLarge int
	bytes             int
	err               error // why some were not taken
}

// recordWriter is a sink that knows where records end: the i-th, of one or several lines, ends at ends[i].
type recordWriter interface {
	writeRecords(b []byte, ends []int) taken
}

// anyWriter is a sink that does not.
type anyWriter struct{ io.Writer }

func (w anyWriter) writeRecords(b []byte, ends []int) taken {
	n, err := w.Write(b)
	return taken{records: whole(ends, n), bytes: n, err: err}
}

// whole is how many records end within the first n bytes.
func whole(ends []int, n int) int {
	k, _ := slices.BinarySearch(ends, n+1)
	return k
}
