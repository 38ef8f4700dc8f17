package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"nepcoc/internal/files"
)

// socketSink writes to a unix socket, and connects again when the reader
// has gone away; what comes meanwhile is lost and counted.
type socketSink struct {
	network, path string // unix or unixgram
	conn          net.Conn
	tried         time.Time
	last          error
}

const (
	socketRetry   = time.Second
	socketTimeout = time.Second
)

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
	err = fmt.Errorf("%s: %w", s.path, files.Reason(err))
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
	n, err := s.conn.Write(b)
	if err != nil {
		err = s.drop(err) // half a line is never continued
	}
	return taken{records: whole(ends, n), bytes: n, err: err}
}

// datagrams sends each line by itself, its newline with it, as Suricata does.
func (s *socketSink) datagrams(b []byte, ends []int) (t taken) {
	start := 0
	for _, end := range ends {
		record := b[start:end]
		start = end
		for line := range bytes.Lines(record) {
			n, err := s.conn.Write(line)
			t.bytes += n
			switch {
			case errors.Is(err, syscall.EMSGSIZE):
				t.tooLarge++
				t.records--
				t.err = fmt.Errorf("%s: a line of %d bytes is more than a datagram holds", s.path, len(line))
			case err != nil:
				t.err = s.drop(err)
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
