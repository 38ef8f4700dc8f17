// Package labels reads label files: CSV that names the class of each flow of a capture. The agent has no
// use for them, so they are no part of the runtime.
package labels

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/internal/textfile"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// Label is one row of a label file.
type Label struct {
	Key  flow.Key // direction of the flow's first packet
	Time int64    // of the first packet, nanoseconds since 1970; -1 where the file has no time
	// Names are the names of the flow's classes, one per column of labels; "" only
	// where there are several.
	Names []string
	// Packets is the number of packets, -1 where the file has none.
	Packets int
	// Group is what the column capture says: where the flow was recorded, for splits that keep recordings together.
	Group string
	Line  int
}

// Labels are the labels of a capture's flows.
type Labels struct {
	Rows []Label // in the file's order
	// Outputs are the outputs that the columns of labels speak of; "" is the column
	// called label, which names none.
	Outputs []string
	// Skipped counts rows of other protocols than TCP and UDP.
	Skipped int
	// Step is the step of the file's times in nanoseconds: a second where none has a fraction. 0
	// where the file has no times.
	Step int64

	byKey map[flow.Key][]int // by canonical key, the rows in order of time
}

// Columns are the names of the columns of labels.
func (l *Labels) Columns() []string {
	var names []string
	for _, o := range l.Outputs {
		if o == "" {
			names = append(names, "label")
		} else {
			names = append(names, labelPrefix+o)
		}
	}
	return names
}

// timeTolerance is the least by which a label's time may be off the packet's: label
// files have microseconds, captures may have nanoseconds, cut or rounded.
const timeTolerance = 1000

// maxLine bounds a line of a label file.
const maxLine = 64 << 10

// Read reads a label file; see Parse.
func Read(path string) (*Labels, error) {
	return files.Read(path, Parse)
}

// ReadSome is Read for files in which not every flow need have a label: its name is "" then. (For
// calibration and verification a row without a label is a mistake.)
func ReadSome(path string) (*Labels, error) {
	return files.Read(path, func(name string, r io.Reader) (*Labels, error) { return parse(name, r, true) })
}

// columns are the names of columns as they are compared (lower case, no spaces, underscores or
// hyphens), among them those that flow meters use.
var columns = map[string]string{
	"proto": "proto", "protocol": "proto",
	"src": "src", "srcip": "src", "sourceip": "src",
	"dst": "dst", "dstip": "dst", "destinationip": "dst",
	"sport": "sport", "srcport": "sport", "sourceport": "sport",
	"dport": "dport", "dstport": "dport", "destinationport": "dport",
	"time": "time", "timestamp": "time",
	"label": "label", "npkts": "npkts", "capture": "capture",
}

const labelPrefix = "label."

// column is our name of a column that a file has; others are as they are.
func column(head string) string {
	head = strings.TrimSpace(head)
	if len(head) > len(labelPrefix) && strings.EqualFold(head[:len(labelPrefix)], labelPrefix) {
		return labelPrefix + head[len(labelPrefix):]
	}
	if name, ok := columns[strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.ToLower(head))]; ok {
		return name
	}
	return head
}

// Parse reads labels of flows: CSV (or columns separated by tabs or semicolons; UTF-8
// or UTF-16) whose first line names the columns, in any case. Lines that begin with # are
// comments. There must be
//
//	proto        6, 0x06, tcp, 17, udp; rows of other protocols are skipped and counted
//	src, sport   address and port of the sender of the flow's first packet, or the
//	dst, dport   other way round
//	label        name of the class; of a model with several outputs, of the first
//	label.NAME   instead or besides, of the output of that name; may be empty
//
// and there may be time, of the first packet: see parseTime; npkts; and capture, see Label.Group. Others are
// ignored. Without time, a 5-tuple must be unique. The file may be packed as captures may. name is for messages.
func Parse(name string, r io.Reader) (*Labels, error) { return parse(name, r, false) }

func parse(name string, r io.Reader, some bool) (*Labels, error) {
	packed := bufio.NewReaderSize(r, filekind.Head)
	head, _ := packed.Peek(filekind.Head)
	head = slices.Clone(head)
	r, err := capture.Unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	raw := bufio.NewReaderSize(r, filekind.Head)
	inside, _ := raw.Peek(filekind.Head)
	br := bufio.NewReaderSize(textfile.Reader(raw), maxLine)
	if _, err := br.Peek(1); err == io.EOF {
		return nil, fmt.Errorf("%s: the file is empty: a label file begins with a line of column names", name)
	}
	if k := filekind.Of(name, inside); k != nil && k.ID != filekind.Labels && k.ID != filekind.Text {
		return nil, fmt.Errorf("%s: not a label file%s", name, filekind.Hint(name, head))
	}
	cr := csv.NewReader(&lineLimit{r: br})
	cr.ReuseRecord, cr.Comment, cr.Comma = true, '#', separator(br)
	cr.TrimLeadingSpace = cr.Comma != '\t' // else empty columns go
	first, err := cr.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, csvError(err))
	}
	line, _ := cr.FieldPos(0)
	p := rowParser{col: map[string]int{}, decimalComma: cr.Comma != ',', some: some}
	for i, h := range first {
		h = column(h)
		if _, twice := p.col[h]; twice {
			return nil, fmt.Errorf("%s:%d: column %q is there twice", name, line, h)
		}
		p.col[h] = i
		if output, ok := strings.CutPrefix(h, labelPrefix); ok || h == "label" {
			if h == "label" {
				output = ""
			}
			p.labels, p.outputs = append(p.labels, h), append(p.outputs, output)
		}
	}
	for _, h := range []string{"proto", "src", "sport", "dst", "dport"} {
		if _, ok := p.col[h]; !ok {
			return nil, fmt.Errorf("%s:%d: no column %q: the first line must name the columns proto, src, sport, dst, dport, label, and if there is one, time", name, line, h)
		}
	}
	if p.labels == nil {
		return nil, fmt.Errorf("%s:%d: no column %q (or label.NAME of an output)", name, line, "label")
	}
	l := &Labels{Outputs: p.outputs, byKey: map[flow.Key][]int{}}
	for {
		rec, err := cr.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, csvError(err))
		}
		line, _ := cr.FieldPos(0)
		row, step, err := p.row(rec)
		if err == errOtherProtocol {
			l.Skipped++
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		if row.Line = line; step > 0 && (l.Step == 0 || step < l.Step) {
			l.Step = step
		}
		c, _ := row.Key.Canonical()
		l.byKey[c] = append(l.byKey[c], len(l.Rows))
		l.Rows = append(l.Rows, row)
	}
	if len(l.Rows) == 0 {
		if l.Skipped > 0 {
			return nil, fmt.Errorf("%s: no labels of TCP or UDP flows, only %s of other protocols", name, plural.Of(l.Skipped, "row"))
		}
		return nil, fmt.Errorf("%s: no labels, only the line of column names", name)
	}
	return l, l.sort(name)
}

// separator tells what a file's columns are separated by, from its first line.
func separator(br *bufio.Reader) rune {
	text, _ := br.Peek(maxLine)
	for line := range bytes.Lines(text) {
		if t := bytes.TrimSpace(line); len(t) == 0 || t[0] == '#' {
			continue
		}
		best := ','
		for _, sep := range ";\t" {
			if bytes.Count(line, []byte(string(sep))) > bytes.Count(line, []byte(string(best))) {
				best = sep
			}
		}
		return best
	}
	return ','
}

// sort puts the rows of each 5-tuple in order of time and refuses a file that
// contradicts itself. Within one second of a file that has whole seconds, two labels may be those of
// two flows: see Find.
func (l *Labels) sort(name string) error {
	var first, second *Label // the contradiction that comes first in the file
	for _, rows := range l.byKey {
		slices.SortStableFunc(rows, func(a, b int) int {
			return cmp.Compare(l.Rows[a].Time, l.Rows[b].Time)
		})
		for i := 1; i < len(rows) && l.Step < 1e9; i++ {
			a, b := &l.Rows[rows[i-1]], &l.Rows[rows[i]]
			if a.Line > b.Line {
				a, b = b, a
			}
			if distance(a.Time, b.Time) <= timeTolerance && !slices.Equal(a.Names, b.Names) && (second == nil || b.Line < second.Line) {
				first, second = a, b
			}
		}
	}
	if second != nil {
		return fmt.Errorf("%s:%d: %s is labelled already, on line %d", name, second.Line, second.Key, first.Line)
	}
	return nil
}

// rowParser reads rows by the columns of the first line.
type rowParser struct {
	col             map[string]int
	labels, outputs []string // of columns of labels, of the outputs that they speak of
	decimalComma    bool     // 0,5 is a number: commas separate no columns
	some            bool     // labels may be empty
	groups          map[string]string
}

var errOtherProtocol = errors.New("not TCP or UDP")

// protocols are the names of what is skipped, by IANA's register or as tools print them.
var protocols = []string{"ICMP", "ICMP6", "ICMPV6", "IPV6-ICMP", "IGMP", "SCTP", "GRE", "ESP", "AH", "OSPF", "OSPFIGP", "PIM", "DCCP", "UDPLITE",
	"IP", "IPIP", "IPV6", "IPENCAP", "HOPOPT", "VRRP", "EIGRP", "RSVP", "L2TP", "ARP"}

func (p *rowParser) row(rec []string) (row Label, step int64, err error) {
	get := func(h string) string { return strings.TrimSpace(rec[p.col[h]]) }
	proto, err := protocol(get("proto"))
	if err != nil {
		return row, 0, err
	}
	end := func(a, port string) (netip.AddrPort, error) {
		addr, err := netip.ParseAddr(get(a))
		if err != nil || addr.Zone() != "" {
			return netip.AddrPort{}, fmt.Errorf("%s %q is not an IP address", a, get(a))
		}
		n, err := strconv.ParseUint(p.whole(get(port)), 10, 16)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%s %q is not a port (0..65535)", port, get(port))
		}
		return netip.AddrPortFrom(addr, uint16(n)), nil
	}
	src, err := end("src", "sport")
	if err != nil {
		return row, 0, err
	}
	dst, err := end("dst", "dport")
	if err != nil {
		return row, 0, err
	}
	if row.Key, err = flow.MakeKey(proto, src, dst); err != nil {
		return row, 0, err
	}
	for _, h := range p.labels {
		name := get(h)
		if name == "" && len(p.labels) == 1 && !p.some {
			return row, 0, errors.New("the label is empty")
		}
		if !utf8.ValidString(name) {
			return row, 0, fmt.Errorf("label %q is not UTF-8: %s", name, textfile.NotUTF8)
		}
		row.Names = append(row.Names, strings.Clone(name))
	}
	row.Time, row.Packets = -1, -1
	if _, ok := p.col["time"]; ok {
		text := get("time")
		if p.decimalComma {
			text = strings.Replace(text, ",", ".", 1)
		}
		if row.Time, step, err = parseTime(text); err != nil {
			return row, 0, err
		}
	}
	if _, ok := p.col["npkts"]; ok {
		n, err := strconv.ParseUint(p.whole(get("npkts")), 10, 31)
		if err != nil {
			return row, 0, fmt.Errorf("npkts %q is not a number of packets", get("npkts"))
		}
		row.Packets = int(n)
	}
	if _, ok := p.col["capture"]; ok {
		row.Group = p.group(get("capture"))
	}
	return row, step, nil
}

// group is a name of a group, one string for all of its rows.
func (p *rowParser) group(name string) string {
	if p.groups == nil {
		p.groups = map[string]string{}
	}
	g, ok := p.groups[name]
	if !ok {
		g = strings.Clone(name)
		p.groups[g] = g
	}
	return g
}

// whole takes the fraction off a whole number that was written with one: tables with gaps
// are stored as floats.
func (p *rowParser) whole(s string) string {
	if p.decimalComma {
		s = strings.Replace(s, ",", ".", 1)
	}
	if n, frac, ok := strings.Cut(s, "."); ok && strings.Trim(frac, "0") == "" {
		return n
	}
	return s
}

func protocol(s string) (uint8, error) {
	switch name := strings.ToUpper(s); {
	case name == "TCP":
		return 6, nil
	case name == "UDP":
		return 17, nil
	case slices.Contains(protocols, name):
		return 0, errOtherProtocol
	}
	digits, base := strings.TrimSuffix(s, ".0"), 10
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 8)
	switch {
	case err != nil:
		return 0, fmt.Errorf("proto %q is neither TCP (6, 0x06) nor UDP (17, 0x11), nor another protocol's number or name", s)
	case n != 6 && n != 17:
		return 0, errOtherProtocol
	}
	return uint8(n), nil
}

// Match is how a flow fits a label file.
type Match int

// The ways in which a flow fits.
const (
	Fits      Match = iota
	NoTuple         // no row has its addresses and ports
	OtherTime       // such rows have other times
	Ambiguous       // rows with different labels are as near in time as the file's step
)

// Find returns the label of the flow whose first packet, at time first, has
// this key (in either direction), as an index of Rows. Unless there is no such
// 5-tuple, it is the row whose time is nearest.
func (l *Labels) Find(key flow.Key, first int64) (row int, m Match) {
	c, _ := key.FiveTuple().Canonical()
	rows := l.byKey[c]
	if len(rows) == 0 {
		return -1, NoTuple
	}
	if l.Step == 0 {
		return rows[0], Fits // a file without times: the 5-tuple is unique
	}
	tolerance := max(timeTolerance, l.Step)
	off := func(i int) uint64 { return distance(l.Rows[rows[i]].Time, first) }
	from, near := l.from(rows, first-tolerance), 0
	if near = l.from(rows, first); near == len(rows) || near > 0 && off(near-1) < off(near) {
		near--
	}
	if off(near) > uint64(tolerance) {
		return rows[near], OtherTime
	}
	for ; from < len(rows) && l.Rows[rows[from]].Time <= first+tolerance; from++ {
		if !slices.Equal(l.Rows[rows[from]].Names, l.Rows[rows[near]].Names) && l.Step > timeTolerance {
			return rows[near], Ambiguous
		}
	}
	return rows[near], Fits
}

func distance(a, b int64) uint64 {
	if a < b {
		a, b = b, a
	}
	return uint64(a) - uint64(b)
}

// Unique says that no 5-tuple has more than one row: the file needs no times.
func (l *Labels) Unique() bool { return len(l.byKey) == len(l.Rows) }

// from is the place in rows, which are ordered by time, of the first one that
// is not before t.
func (l *Labels) from(rows []int, t int64) int {
	return sort.Search(len(rows), func(i int) bool { return l.Rows[rows[i]].Time >= t })
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
