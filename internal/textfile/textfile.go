// Package textfile reads text that people made with other programs: UTF-8, with
// or without a byte order mark, or UTF-16. Reader hands on UTF-8, whatever the
// file had.
package textfile

import (
	"bufio"
	"errors"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// NotUTF8 is the way out for text of another encoding, which can't be told from
// its bytes.
const NotUTF8 = "save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 OLD > NEW)"

// Reader decodes r. UTF-16 is told by its byte order mark, or by a zero in one of
// the first two bytes. Bytes that are no UTF-8 are handed on as they are.
func Reader(r io.Reader) io.Reader {
	br := bufio.NewReader(r)
	head, _ := br.Peek(3)
	switch {
	case len(head) == 3 && string(head) == "\xef\xbb\xbf":
		br.Discard(3)
	case len(head) >= 2 && head[0] == 0xff && head[1] == 0xfe:
		br.Discard(2)
		return &utf16Reader{r: br}
	case len(head) >= 2 && head[0] == 0xfe && head[1] == 0xff:
		br.Discard(2)
		return &utf16Reader{r: br, big: true}
	case len(head) >= 2 && (head[0] == 0) != (head[1] == 0):
		return &utf16Reader{r: br, big: head[0] == 0}
	}
	return br
}

type utf16Reader struct {
	r    *bufio.Reader
	big  bool
	rest []byte // decoded, not read yet
	next rune   // a unit read ahead, if peek
	peek bool
	err  error
}

var errHalf = errors.New("UTF-16 text ends in the middle of a character")

func (u *utf16Reader) unit() (rune, error) {
	if u.peek {
		u.peek = false
		return u.next, nil
	}
	var b [2]byte
	if _, err := io.ReadFull(u.r, b[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = errHalf
		}
		return 0, err
	}
	if u.big {
		b[0], b[1] = b[1], b[0]
	}
	return rune(b[0]) | rune(b[1])<<8, nil
}

func (u *utf16Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(u.rest) < len(p) {
		r, err := rune(0), u.err
		if err == nil {
			r, err = u.unit()
		}
		if u.err = err; err != nil {
			if len(u.rest) > 0 {
				break // said by the next call
			}
			return 0, err
		}
		if utf16.IsSurrogate(r) {
			low, err := u.unit()
			pair := utf8.RuneError
			if err == nil {
				pair = utf16.DecodeRune(r, low)
			}
			if pair == utf8.RuneError && err == nil {
				u.next, u.peek = low, true // of its own
			}
			r = pair
		}
		u.rest = utf8.AppendRune(u.rest, r)
	}
	n := copy(p, u.rest)
	u.rest = append(u.rest[:0], u.rest[n:]...)
	return n, nil
}
