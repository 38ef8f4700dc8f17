package cli

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// messages is standard error. Control characters, which speak to a terminal, are written as escapes there, and
// so are line breaks where they belong to a name of the command line, which could make up a message: whatever a file is
// called, whoever prints its name. (Quoting where each message is made was the alternative: it takes one that forgets to.)
type messages struct {
	w     io.Writer
	names *strings.Replacer // nil where no name needs it
}

// newMessages knows the arguments of the command line.
func newMessages(w io.Writer, args []string) *messages {
	var odd []string
	for _, a := range args {
		if name, value, ok := strings.Cut(a, "="); ok && strings.HasPrefix(name, "-") {
			odd = append(odd, value)
		}
		// Folders are named by themselves; files beside a model are called like it.
		odd = append(odd, a, filepath.Clean(a), filepath.Dir(a), filepath.Base(a), strings.TrimSuffix(a, filepath.Ext(a)))
	}
	odd = slices.DeleteFunc(odd, func(s string) bool { return !strings.ContainsFunc(s, unicode.IsControl) })
	m := &messages{w: w}
	if len(odd) > 0 {
		slices.SortFunc(odd, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
		var pairs []string
		for _, s := range odd {
			q := strconv.Quote(s)
			pairs = append(pairs, s, q[1:len(q)-1])
		}
		m.names = strings.NewReplacer(pairs...)
	}
	return m
}

func (m *messages) Write(b []byte) (int, error) {
	s := string(b)
	if m.names != nil {
		s = m.names.Replace(s)
	}
	_, err := io.WriteString(m.w, Escape(s))
	return len(b), err
}

// Unwrap is what it writes to.
func (m *messages) Unwrap() io.Writer { return m.w }

// Escape writes control characters but tabs and line breaks as Go does, and bytes that are no UTF-8.
func Escape(s string) string {
	odd := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, odd) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if odd(r) || r == utf8.RuneError && n == 1 {
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// Name is a file's name, or another that strangers chose, as a report on standard output has it.
func Name(name string) string {
	if q := strconv.Quote(name); strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name) {
		return q[1 : len(q)-1]
	}
	return name
}

// escapeJSON writes the control characters that JSON lets stand in strings as escapes.
func escapeJSON(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x7f && unicode.IsControl(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r >= 0x7f && unicode.IsControl(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
