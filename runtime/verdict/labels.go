package verdict

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"

	"nepcoc/internal/files"
	"nepcoc/runtime/flow"
)

// Label is one row of a label file.
type Label struct {
	Key  flow.Key // direction of the flow's first packet
	Time int64    // of the first packet, nanoseconds since 1970; -1 where the file has no time
	Name string
	// Packets is the number of packets, -1 where the file has none.
	Packets int
	Line    int
}

// Labels are the labels of a capture's flows.
type Labels struct {
	Rows  []Label            // in the file's order
	byKey map[flow.Key][]int // by canonical key, the rows in order of time
}

// timeTolerance is how far a label's time may be from the packet's: label
// files have microseconds, captures may have nanoseconds, cut or rounded.
const timeTolerance = 1000

// maxLine bounds a line of a label file.
const maxLine = 64 << 10

// ReadLabels reads a label file; see ParseLabels.
func ReadLabels(path string) (*Labels, error) {
	return files.Read(path, ParseLabels)
}

// ParseLabels reads labels of flows: CSV whose first line names the columns.
// proto (6, 17, TCP or UDP), src, sport, dst, dport and label must be there;
// time (seconds since 1970, of the first packet) and npkts may be; others are
// ignored. Without time, a 5-tuple must be unique. name is for messages.
func ParseLabels(name string, r io.Reader) (*Labels, error) {
	br := bufio.NewReaderSize(r, maxLine)
	if _, err := br.Peek(1); err == io.EOF {
		return nil, fmt.Errorf("%s: the file is empty: a label file begins with a line of column names", name)
	}
	cr := csv.NewReader(&lineLimit{r: br})
	cr.ReuseRecord = true
	head, err := cr.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, csvError(err))
	}
	col := map[string]int{}
	for i, h := range head {
		h = strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))
		if _, twice := col[h]; twice {
			return nil, fmt.Errorf("%s:1: column %q is there twice", name, h)
		}
		col[h] = i
	}
	for _, h := range []string{"proto", "src", "sport", "dst", "dport", "label"} {
		if _, ok := col[h]; !ok {
			return nil, fmt.Errorf("%s:1: no column %q: the first line must name the columns proto, src, sport, dst, dport, label, and if there is one, time", name, h)
		}
	}
	l := &Labels{byKey: map[flow.Key][]int{}}
	for {
		rec, err := cr.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, csvError(err))
		}
		line, _ := cr.FieldPos(0)
		row, err := parseRow(rec, col)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		row.Line = line
		if i, ok := l.Find(row.Key, row.Time); ok {
			return nil, fmt.Errorf("%s:%d: %s is labelled already, on line %d", name, line, row.Key, l.Rows[i].Line)
		}
		c, _ := row.Key.Canonical()
		rows := l.byKey[c]
		l.byKey[c] = slices.Insert(rows, l.from(rows, row.Time), len(l.Rows))
		l.Rows = append(l.Rows, row)
	}
	if len(l.Rows) == 0 {
		return nil, fmt.Errorf("%s: no labels, only the line of column names", name)
	}
	return l, nil
}

func parseRow(rec []string, col map[string]int) (row Label, err error) {
	get := func(h string) string { return strings.TrimSpace(rec[col[h]]) }
	var proto uint8
	switch p := strings.ToUpper(get("proto")); p {
	case "6", "TCP":
		proto = 6
	case "17", "UDP":
		proto = 17
	default:
		return row, fmt.Errorf("proto %q is neither TCP (6) nor UDP (17)", get("proto"))
	}
	end := func(a, p string) (netip.AddrPort, error) {
		addr, err := netip.ParseAddr(get(a))
		if err != nil || addr.Zone() != "" {
			return netip.AddrPort{}, fmt.Errorf("%s %q is not an IP address", a, get(a))
		}
		port, err := strconv.ParseUint(get(p), 10, 16)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%s %q is not a port (0..65535)", p, get(p))
		}
		return netip.AddrPortFrom(addr, uint16(port)), nil
	}
	src, err := end("src", "sport")
	if err != nil {
		return row, err
	}
	dst, err := end("dst", "dport")
	if err != nil {
		return row, err
	}
	if row.Key, err = flow.MakeKey(proto, src, dst); err != nil {
		return row, err
	}
	if row.Name = get("label"); row.Name == "" {
		return row, errors.New("the label is empty")
	}
	row.Name = strings.Clone(row.Name)
	row.Time, row.Packets = -1, -1
	if _, ok := col["time"]; ok {
		if row.Time, err = parseTime(get("time")); err != nil {
			return row, err
		}
	}
	if _, ok := col["npkts"]; ok {
		n, err := strconv.ParseUint(get("npkts"), 10, 31)
		if err != nil {
			return row, fmt.Errorf("npkts %q is not a number of packets", get("npkts"))
		}
		row.Packets = int(n)
	}
	return row, nil
}

// parseTime reads decimal seconds exactly: a float has not enough digits for
// today's nanoseconds.
func parseTime(s string) (int64, error) {
	sec, frac, _ := strings.Cut(s, ".")
	bad := fmt.Errorf("time %q is not in seconds since 1970, like 1700000000.250000", s)
	n, err := strconv.ParseUint(sec, 10, 33)
	if err != nil || len(frac) > 9 {
		return 0, bad
	}
	var ns uint64
	if frac != "" {
		if ns, err = strconv.ParseUint((frac + "000000000")[:9], 10, 32); err != nil {
			return 0, bad
		}
	}
	return int64(n*1e9 + ns), nil
}

// Find returns the label of the flow whose first packet, at time first, has
// this key (in either direction), as an index of Rows.
func (l *Labels) Find(key flow.Key, first int64) (row int, ok bool) {
	c, _ := key.Canonical()
	rows := l.byKey[c]
	if len(rows) > 0 && l.Rows[rows[0]].Time < 0 {
		return rows[0], true // a file without times: the 5-tuple is unique
	}
	if at := l.from(rows, first-timeTolerance); at < len(rows) && l.Rows[rows[at]].Time <= first+timeTolerance {
		return rows[at], true
	}
	return 0, false
}

// from is the place in rows, which are ordered by time, of the first one that
// is not before t.
func (l *Labels) from(rows []int, t int64) int {
	return sort.Search(len(rows), func(i int) bool { return l.Rows[rows[i]].Time >= t })
}

// Names are the distinct labels, sorted.
func (l *Labels) Names() []string {
	set := map[string]bool{}
	for i := range l.Rows {
		set[l.Rows[i].Name] = true
	}
	names := make([]string, 0, len(set))
	for n := range set {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// csvError says a CSV reader's error with its line, as our errors do.
func csvError(err error) error {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		if errors.Is(pe.Err, csv.ErrFieldCount) {
			return fmt.Errorf("line %d: not as many columns as the first line names", pe.Line)
		}
		return fmt.Errorf("line %d: %w", pe.Line, pe.Err)
	}
	return err
}

// lineLimit hands lines on and refuses a file whose lines are no text's.
type lineLimit struct {
	r    *bufio.Reader
	rest []byte
	line int
}

func (l *lineLimit) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		b, err := l.r.ReadSlice('\n')
		l.line++
		if err == bufio.ErrBufferFull {
			return 0, fmt.Errorf("line %d is longer than %d kB: not a label file", l.line, maxLine>>10)
		}
		if len(b) == 0 {
			return 0, err
		}
		l.rest = b
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
