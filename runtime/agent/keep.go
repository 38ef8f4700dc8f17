package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// KeepConfig says whether flows whose verdict is unknown are kept, as a capture to be labelled: packets of strangers, as far as
// the contract takes them. Nothing is kept unless To is a file.
type KeepConfig struct {
	To string `yaml:"to"`
	// Size is how many bytes a file may have; the Files latest are kept: NAME.pcap, NAME.1.pcap and so on.
	Size  int64 `yaml:"size"`
	Files int   `yaml:"files"`
}

// DefaultKeep is what holds where a file is named.
var DefaultKeep = KeepConfig{Size: 64 << 20, Files: 4}

// Bounds of KeepConfig.
const (
	minKeepSize  = 64 << 10
	maxKeepSize  = 1 << 40
	maxKeepFiles = 1000
)

// Validate says all that is wrong with the fields, each error beginning with its field.
func (c *KeepConfig) Validate() error {
	var errs []error
	if c.Size < minKeepSize || c.Size > maxKeepSize {
		errs = append(errs, fmt.Errorf("size: %s %s not within %d..%d", plural.Of(c.Size, "byte"), plural.Verb(c.Size, "is", "are"), minKeepSize, int64(maxKeepSize)))
	}
	if c.Files < 1 || c.Files > maxKeepFiles {
		errs = append(errs, fmt.Errorf("files: %d is not within 1..%d", c.Files, maxKeepFiles))
	}
	return errors.Join(errs...)
}

// Bounds of what a worker holds of flows without a verdict: packets of each, and bytes of all.
const (
	keptPackets = 64
	keptBytes   = 16 << 20
)

// keeper remembers the packets of a table's flows until their verdict. It is for one goroutine.
type keeper struct {
	flows map[uint64]*kept
	free  []*kept
	bytes *int // of all tables of a worker
}

// kept are a flow's packets, as records of a capture file.
type kept struct {
	records []byte
	times   []int // where each record begins
}

// joined notes a packet. A flow for which there is no room, at its beginning or later, is not kept.
func (k *keeper) joined(seq uint64, first bool, p *capture.Packet) {
	f := k.flows[seq]
	if f == nil {
		if !first {
			return
		}
		if n := len(k.free); n > 0 {
			f, k.free = k.free[n-1], k.free[:n-1]
		} else {
			f = new(kept)
		}
		k.flows[seq] = f
	}
	if len(f.times) == keptPackets {
		return
	}
	if *k.bytes+recordHeader+ethernet+len(p.IP) > keptBytes {
		k.give(k.take(seq))
		return
	}
	f.times = append(f.times, len(f.records))
	had := len(f.records)
	f.records = appendRecord(f.records, p)
	*k.bytes += len(f.records) - had
}

// take gives a flow's packets, and forgets them; nil where there are none.
func (k *keeper) take(seq uint64) *kept {
	f := k.flows[seq]
	if f == nil {
		return nil
	}
	delete(k.flows, seq)
	*k.bytes -= len(f.records)
	return f
}

// give lets a flow's memory be used again, unless it is much.
func (k *keeper) give(f *kept) {
	if len(k.free) < 1024 && cap(f.records) <= 16<<10 {
		f.records, f.times = f.records[:0], f.times[:0]
		k.free = append(k.free, f)
	}
}

// keep makes a table remember packets, and those of a flow whose verdict is unknown be written.
func (w *worker) keep(opt *flow.Options) {
	k := &keeper{flows: map[uint64]*kept{}, bytes: &w.kept}
	opt.Joined = k.joined
	ready, shed := opt.Ready, opt.Shed
	opt.Ready = func(f *flow.Flow) {
		w.unknown = false
		ready(f)
		if p := k.take(f.Seq); p != nil {
			if w.unknown {
				w.a.kept.send(p, w.a.opt.Lossless)
			}
			k.give(p)
		}
	}
	if shed != nil {
		opt.Shed = func(f *flow.Flow) {
			shed(f)
			if p := k.take(f.Seq); p != nil {
				k.give(p)
			}
		}
	}
}

// The form of a capture file: pcap with times in nanoseconds, of Ethernet. Addresses of the link layer are the packet's, where it had some.
const (
	pcapHeader   = 24
	recordHeader = 16
	ethernet     = 14
)

func appendHeader(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, 0xa1b23c4d)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint32(b, 0), 0)
	return le.AppendUint32(le.AppendUint32(b, 262144), 1)
}

func appendRecord(b []byte, p *capture.Packet) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(p.Time/1e9))
	b = le.AppendUint32(b, uint32(p.Time%1e9))
	b = le.AppendUint32(b, uint32(ethernet+len(p.IP)))
	b = le.AppendUint32(b, uint32(ethernet+p.Length))
	b = append(b, p.MAC[:]...)
	kind := uint16(0x0800)
	if p.V6 {
		kind = 0x86dd
	}
	return append(binary.BigEndian.AppendUint16(b, kind), p.IP...)
}

// shift moves the times of a flow's records.
func (f *kept) shift(by int64) {
	for _, at := range f.times {
		b := f.records[at:]
		t := int64(binary.LittleEndian.Uint32(b))*1e9 + int64(binary.LittleEndian.Uint32(b[4:])) + by
		binary.LittleEndian.PutUint32(b, uint32(t/1e9))
		binary.LittleEndian.PutUint32(b[4:], uint32(t%1e9))
	}
}

// within are the first records that have so many bytes at most.
func (f *kept) within(size int64) []byte {
	n := len(f.records)
	for i := len(f.times) - 1; i >= 0 && int64(n) > size; i-- {
		n = f.times[i]
	}
	return f.records[:n]
}

// keepFile writes flows to a file on a goroutine of its own; what comes while too many wait is dropped and counted.
type keepFile struct {
	c        KeepConfig
	f        *os.File
	size     int64
	queue    chan []byte
	free     chan []byte
	done     chan struct{}
	complain func(string, error)

	written, dropped atomic.Uint64 // flows
}

// keepQueue is how many flows may wait for the disk.
const keepQueue = 256

func newKeepFile(c KeepConfig, complain func(string, error)) (*keepFile, error) {
	k := &keepFile{c: c, queue: make(chan []byte, keepQueue), free: make(chan []byte, keepQueue), done: make(chan struct{}), complain: complain}
	return k, c.check()
}

// check says why flows could not be kept, without writing anything: a file begins with the first flow, or each start would push an older
// file out.
func (c *KeepConfig) check() error {
	if c.To == "" {
		return nil
	}
	if info, err := os.Lstat(c.To); files.IsStdout(c.To) || err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("keep_unknown: %s is no regular file, of which older ones could be kept beside it", c.To)
	}
	if err := files.Writable(c.To); err != nil {
		return fmt.Errorf("keep_unknown: %w", err)
	}
	return nil
}

// name is that of the i-th latest file.
func (k *keepFile) name(i int) string {
	if i == 0 {
		return k.c.To
	}
	ext := filepath.Ext(k.c.To)
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(k.c.To, ext), i, ext)
}

// begin begins a file with a flow's records. Only when they are written do those that are there become older by one, and the oldest goes: a
// full disk must not push them out.
func (k *keepFile) begin(b []byte) error {
	if err := k.c.check(); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(k.c.To), filepath.Base(k.c.To)+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("keep_unknown: %w", barred(k.c.To, err))
	}
	text := append(appendHeader(nil), b...)
	if _, err = f.Write(text); err == nil {
		err = k.rotate(f.Name())
	}
	if err != nil {
		return fmt.Errorf("keep_unknown: %w", errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	was := k.f
	if k.f, k.size = f, int64(len(text)); was != nil {
		if err := was.Close(); err != nil {
			return fmt.Errorf("keep_unknown: %w", err)
		}
	}
	return nil
}

// rotate makes the file of a name the latest.
func (k *keepFile) rotate(latest string) error {
	for i := k.c.Files - 1; i >= 0; i-- {
		var err error
		if i == k.c.Files-1 {
			err = os.Remove(k.name(i))
		} else {
			err = os.Rename(k.name(i), k.name(i+1))
		}
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return os.Rename(latest, k.c.To)
}

// write appends whole records, or nothing.
func (k *keepFile) write(b []byte) error {
	if _, err := k.f.Write(b); err != nil {
		back := k.f.Truncate(k.size)
		if back == nil {
			_, back = k.f.Seek(k.size, io.SeekStart)
		}
		if back != nil { // the next flow begins another file
			k.f.Close()
			k.f = nil
		}
		return fmt.Errorf("keep_unknown: %w", errors.Join(err, back))
	}
	k.size += int64(len(b))
	return nil
}

// send hands a flow over, copied.
func (k *keepFile) send(p *kept, wait bool) {
	p.shift(wallShift(wait))
	var b []byte
	select {
	case b = <-k.free:
	default:
	}
	b = append(b[:0], p.within(k.c.Size-pcapHeader)...)
	if wait {
		k.queue <- b
		return
	}
	select {
	case k.queue <- b:
	default:
		k.dropped.Add(1)
	}
}

// wallShift is what packet times are moved by: those of files stay.
func wallShift(lossless bool) int64 {
	if lossless {
		return 0
	}
	return capture.WallOffset()
}

// add writes a flow's records, in another file where this one has no room for them.
func (k *keepFile) add(b []byte) error {
	if k.f == nil || k.size+int64(len(b)) > k.c.Size {
		return k.begin(b)
	}
	return k.write(b)
}

// run writes until the queue is closed.
func (k *keepFile) run() {
	defer close(k.done)
	for b := range k.queue {
		if err := k.add(b); err != nil {
			k.dropped.Add(1)
			k.complain("keep", err)
		} else {
			k.written.Add(1)
		}
		select {
		case k.free <- b:
		default:
		}
	}
	if k.f != nil {
		if err := k.f.Close(); err != nil {
			k.complain("keep", err)
		}
	}
}
