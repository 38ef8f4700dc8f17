package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"nepcoc/internal/files"
)

// socketSink writes to a unix socket, and connects again when the reader
// has gone away; what comes while there is none is lost and counted.
type socketSink struct {
	network, path string // unix or unixgram
	conn          net.Conn
	tried         time.Time
	last          error
}

const socketRetry = time.Second

var socketTimeout = time.Second // changed by tests only

func (s *socketSink) connect() error {
	if s.conn != nil {
		return nil
	}
	if time.Since(s.tried) < socketRetry {
		return s.last
	}
	s.tried = time.Now()
	conn, err := net.DialTimeout(s.network, s.path, socketTimeout)
	if err != nil {
		s.last = s.failed(err)
		return s.last
	}
	s.conn = conn
	return nil
}

func (s *socketSink) failed(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	err = fmt.Errorf("%s: %w", s.path, barred(s.path, files.Reason(err)))
	if errors.Is(err, syscall.EPROTOTYPE) {
		other := sockets[0].prefix
		if s.network == sockets[0].network {
			other = sockets[1].prefix
		}
		err = fmt.Errorf("%w: a socket of the other kind: %s%s", err, other, s.path)
	}
	return err
}

// drop gives a connection up.
func (s *socketSink) drop(err error) error {
	s.conn.Close()
	s.conn, s.last = nil, s.failed(err)
	return s.last
}

// write sends b. To a reader that has gone and takes nothing of it, it does so once more where another stands in its place; the
// connection is given up after an error, but for a datagram that is too large.
func (s *socketSink) write(b []byte) (int, error) {
	for again := true; ; again = false {
		n, err := s.conn.Write(b)
		if err == nil || errors.Is(err, syscall.EMSGSIZE) {
			return n, err
		}
		gone := slices.ContainsFunc(goneErrors, func(e syscall.Errno) bool { return errors.Is(err, e) })
		err = s.drop(err)
		if n > 0 || !gone || !again || s.connect() != nil {
			return n, err
		}
		s.conn.SetWriteDeadline(time.Now().Add(socketTimeout))
	}
}

// goneErrors are those of a reader that has gone.
var goneErrors = []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ENOTCONN}

// Write takes b as one record.
func (s *socketSink) Write(b []byte) (int, error) {
	t := s.writeRecords(b, []int{len(b)})
	return t.bytes, t.err
}

func (s *socketSink) writeRecords(b []byte, ends []int) (t taken) {
	if t.err = s.connect(); t.err != nil {
		return t
	}
	// A reader that stands still is one that has gone away.
	s.conn.SetWriteDeadline(time.Now().Add(socketTimeout))
	if s.network == "unixgram" {
		return s.datagrams(b, ends)
	}
	n, err := s.write(b) // half a line is never continued
	return taken{records: whole(ends, n), bytes: n, err: err}
}

// datagrams sends each line by itself, its newline with it, as Suricata does.
func (s *socketSink) datagrams(b []byte, ends []int) (t taken) {
	start := 0
	for _, end := range ends {
		record := b[start:end]
		start = end
		for line := range bytes.Lines(record) {
			n, err := s.write(line)
			t.bytes += n
			switch {
			case errors.Is(err, syscall.EMSGSIZE):
				t.tooLarge++
				t.records--
				t.err = fmt.Errorf("%s: a line of %d bytes is more than a datagram holds", s.path, len(line))
			case err != nil:
				t.err = err
				return t
			default:
				continue
			}
			break
		}
		t.records++
	}
	return t
}

func (s *socketSink) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
