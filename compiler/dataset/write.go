package dataset

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"nepcoc/internal/npy"
	"nepcoc/internal/version"
)

// Meta is what a stored set says of itself: the array "meta" holds it as JSON.
type Meta struct {
	Version  int    `json:"nepco_set"`
	Contract string `json:"contract"` // YAML
	Hash     string `json:"contract_hash"`
	Vocab    int    `json:"vocab"`
	// Tunnels, VLANs, Interfaces and ActiveTimeout are the view, see bundle.View; the last two since version 2.
	Tunnels       bool           `json:"tunnels"`
	VLANs         bool           `json:"vlans"`
	Interfaces    bool           `json:"interfaces"`
	ActiveTimeout time.Duration  `json:"active_timeout_ns"`
	Program       string         `json:"made_by"`
	Left          map[string]int `json:"left_out,omitempty"`
	// Shard and Shards say which part of a set the file is, from 1 on.
	Shard  int `json:"shard"`
	Shards int `json:"shards,omitempty"`
}

// Write writes a set in NumPy's .npz form. The first axis counts the n flows:
//
//	tokens   [n, length]  uint16, or int32 where ids are larger; padded as the contract says
//	mask     [n, length]  uint8, 1 where a token is no padding
//	numbers  [n, count]   uint16, what stands beside the sequence, where the contract has numbers
//	label    [n]          int32, index of labels; -1: none
//	group    [n]          int32, index of groups
//	split    [n]          uint8, index of splits
//	time     [n]          int64, of the first packet, nanoseconds since 1970
//	proto    [n]          uint8, 6 or 17
//	address  [n, 2, 16]   uint8: client, server; IPv4 as ::ffff:a.b.c.d
//	port     [n, 2]       uint16
//	packets, bytes [n, 2] int64: from the client, from the server, up to the verdict
//	payload  [n]          uint16, bytes of payload among the tokens
//	marks    [n]          uint16, bits as in docs/marks.md's order
//	labels, groups, splits     names
//	meta                  JSON, see Meta
//
// The same set gives the same bytes.
func (s *Set) Write(w io.Writer, m Meta) error {
	m.Version, m.Program = Version, "nepcoc "+version.Version
	m.Contract, m.Hash, m.Vocab = string(s.Contract.YAML()), s.Contract.Hash(), s.Contract.Vocab()
	m.Tunnels, m.VLANs, m.Interfaces, m.ActiveTimeout = s.View.Tunnels, s.View.VLANs, s.View.Interfaces, s.View.ActiveTimeout
	m.Left = s.Left
	meta, err := json.Marshal(m)
	if err != nil {
		return err
	}
	z := &npzWriter{z: zip.NewWriter(w)}
	n, length := len(s.Flows), s.Contract.Length
	row := make([]byte, 0, 4*length)
	wide := m.Vocab > 1<<16
	kind := "<u2"
	if wide {
		kind = "<i4"
	}
	pad := uint32(s.Contract.Pad)
	z.array("tokens", kind, []int{n, length}, func(w *bufio.Writer) {
		for i := range s.Flows {
			row = row[:0]
			for p := range length {
				id := pad
				if p < len(s.Flows[i].Tokens) {
					id = uint32(s.Flows[i].Tokens[p])
				}
				if wide {
					row = binary.LittleEndian.AppendUint32(row, id)
				} else {
					row = binary.LittleEndian.AppendUint16(row, uint16(id))
				}
			}
			w.Write(row)
		}
	})
	z.array("mask", "|u1", []int{n, length}, func(w *bufio.Writer) {
		for i := range s.Flows {
			row = append(row[:0], make([]byte, length)...)
			for p := range s.Flows[i].Tokens {
				row[p] = 1
			}
			w.Write(row)
		}
	})
	each := func(name, kind string, shape []int, put func(b []byte, f *Flow) []byte) {
		z.array(name, kind, append([]int{n}, shape...), func(w *bufio.Writer) {
			for i := range s.Flows {
				row = put(row[:0], &s.Flows[i])
				w.Write(row)
			}
		})
	}
	le := binary.LittleEndian
	if count := s.Contract.NumberCount(); count > 0 {
		each("numbers", "<u2", []int{count}, func(b []byte, f *Flow) []byte {
			for _, x := range f.Numbers {
				b = le.AppendUint16(b, uint16(x))
			}
			return b
		})
	}
	each("label", "<i4", nil, func(b []byte, f *Flow) []byte { return le.AppendUint32(b, uint32(int32(f.Label))) })
	each("group", "<i4", nil, func(b []byte, f *Flow) []byte { return le.AppendUint32(b, uint32(f.Group)) })
	each("split", "|u1", nil, func(b []byte, f *Flow) []byte { return append(b, byte(f.Split)) })
	each("time", "<i8", nil, func(b []byte, f *Flow) []byte { return le.AppendUint64(b, uint64(f.First)) })
	each("proto", "|u1", nil, func(b []byte, f *Flow) []byte { return append(b, f.Key.Proto) })
	each("address", "|u1", []int{2, 16}, func(b []byte, f *Flow) []byte {
		src, dst := f.Key.SrcAddr().Addr().As16(), f.Key.DstAddr().Addr().As16()
		return append(append(b, src[:]...), dst[:]...)
	})
	each("port", "<u2", []int{2}, func(b []byte, f *Flow) []byte {
		return le.AppendUint16(le.AppendUint16(b, f.Key.SrcPort), f.Key.DstPort)
	})
	each("packets", "<i8", []int{2}, func(b []byte, f *Flow) []byte {
		return le.AppendUint64(le.AppendUint64(b, f.Packets[0]), f.Packets[1])
	})
	each("bytes", "<i8", []int{2}, func(b []byte, f *Flow) []byte {
		return le.AppendUint64(le.AppendUint64(b, f.Bytes[0]), f.Bytes[1])
	})
	each("payload", "<u2", nil, func(b []byte, f *Flow) []byte { return le.AppendUint16(b, uint16(f.Payload)) })
	each("marks", "<u2", nil, func(b []byte, f *Flow) []byte { return le.AppendUint16(b, uint16(f.Marks)) })
	each("largest", "<u2", nil, func(b []byte, f *Flow) []byte { return le.AppendUint16(b, f.Largest) })
	each("repeats", "|u1", nil, func(b []byte, f *Flow) []byte { return append(b, f.Repeats) })
	z.text("labels", s.Labels)
	z.text("groups", s.Groups)
	z.text("splits", s.Splits)
	z.text("meta", []string{string(meta)})
	return z.close()
}

// npzWriter writes arrays into a zip archive, deflated.
type npzWriter struct {
	z   *zip.Writer
	err error
}

func (z *npzWriter) array(name, kind string, shape []int, data func(w *bufio.Writer)) {
	if z.err != nil {
		return
	}
	w, err := z.z.Create(name + ".npy")
	if err != nil {
		z.err = err
		return
	}
	b := bufio.NewWriterSize(w, 64<<10)
	if z.err = npy.WriteHeader(b, kind, shape); z.err != nil {
		return
	}
	data(b)
	z.err = b.Flush()
}

// text writes strings as NumPy's fixed-width Unicode, four bytes a character.
func (z *npzWriter) text(name string, list []string) {
	width := 1
	for _, s := range list {
		width = max(width, utf8.RuneCountInString(s))
	}
	z.array(name, fmt.Sprintf("<U%d", width), []int{len(list)}, func(w *bufio.Writer) {
		b := make([]byte, 0, 4*width)
		for _, s := range list {
			b = b[:0]
			for _, r := range s {
				b = binary.LittleEndian.AppendUint32(b, uint32(r))
			}
			w.Write(append(b, make([]byte, 4*width-len(b))...))
		}
	})
}

func (z *npzWriter) close() error {
	if z.err != nil {
		return z.err
	}
	return z.z.Close()
}
