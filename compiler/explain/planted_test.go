package explain_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/explain"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// The models of testdata/planted.py are trained on flows of two datagrams whose payload is random, in which one thing tells the
// classes apart. A third class, which has nothing of it, is in the training only. What follows makes such flows, with another generator.

var (
	markers = [][]byte{{0xde, 0xad, 0xbe, 0xef}, {0xca, 0xfe, 0xba, 0xbe}}
	ttls    = []byte{64, 128}
)

// planted is a flow, and where in its first packet the marker stands.
type planted struct {
	frames [2][]byte
	class  int
	at     int
}

// payload is random bytes with decoys of all markers and, where it is not nil, the marker at at.
func payload(rng *rand.Rand, marker []byte) (b []byte, at int) {
	b = make([]byte, 64)
	for i := range b {
		b[i] = byte(1 + rng.IntN(255))
	}
	slots := rng.Perm(8)
	for k, slot := range slots[:4] {
		decoy := bytes.Clone(markers[k%2])
		if i, x := rng.IntN(4), byte(1+rng.IntN(255)); decoy[i] != x {
			decoy[i] = x
			copy(b[8*slot+rng.IntN(5):], decoy)
		}
	}
	at = 8*slots[6] + rng.IntN(5)
	copy(b[at:], marker)
	return b, at
}

func flowsOf(seed uint64, n int, marked bool) (list []planted) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		f := planted{class: rng.IntN(2)}
		for side := range 2 {
			marker := markers[f.class]
			if !marked || side == 1 {
				marker = nil
			}
			body, at := payload(rng, marker)
			ttl := byte(1 + rng.IntN(255))
			if !marked {
				ttl = ttls[f.class]
			}
			if side == 0 {
				f.at = 28 + at
			}
			ports := []uint16{uint16(10000 + i), 9999}
			ends := [][]byte{{10, 0, 0, 1}, {10, 0, 0, 2}}
			ip := append([]byte{0x45, 0, 0, byte(28 + len(body)), byte(rng.IntN(256)), byte(rng.IntN(256)), 0x40, 0, ttl, 17, 0, 0}, ends[side]...)
			ip = append(ip, ends[1-side]...)
			ip = binary.BigEndian.AppendUint16(ip, ports[side])
			ip = binary.BigEndian.AppendUint16(ip, ports[1-side])
			ip = append(append(ip, 0, byte(8+len(body)), 0, 0), body...)
			f.frames[side] = append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0}, ip...)
		}
		list = append(list, f)
	}
	return list
}

// pcap writes flows as a capture.
func pcap(t *testing.T, flows []planted) string {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint32(le.AppendUint32(b, 65535), 1)
	for i, f := range flows {
		for side, frame := range f.frames {
			b = le.AppendUint32(le.AppendUint32(b, uint32(1700000000+i)), uint32(side))
			b = le.AppendUint32(le.AppendUint32(b, uint32(len(frame))), uint32(len(frame)))
			b = append(b, frame...)
		}
	}
	path := filepath.Join(t.TempDir(), "planted.pcap")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func compiled(t *testing.T, model, calib, contract string) *bundle.Bundle {
	t.Helper()
	c, err := traffic.Named(contract)
	if err != nil {
		t.Fatal(err)
	}
	r, err := compiler.Compile(context.Background(), compiler.Options{Model: model, Calib: calib, Target: "host", Contract: &c, MaxDisagreement: compiler.DefaultMaxDisagreement})
	if err != nil {
		t.Fatal(err)
	}
	return r.Bundle
}

func verdicts(t *testing.T, b *bundle.Bundle, path string) (list []*explain.Verdict) {
	t.Helper()
	src, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	e, err := explain.New(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verdicts(src, explain.Select{}, func(v *explain.Verdict) error {
		list = append(list, v)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// Of a model that goes by a marker anywhere in the payload, the bytes named are those of the marker, no more and no fewer.
func TestMarker(t *testing.T) {
	b := compiled(t, "testdata/marker.onnx", pcap(t, flowsOf(2, 100, true)), "nepco-bytes")
	flows := flowsOf(3, 200, true)
	exactly, right := 0, 0
	for _, v := range verdicts(t, b, pcap(t, flows)) {
		f, o := &flows[v.Number-1], &v.Outputs[0]
		if o.Label == []string{"0", "1"}[f.class] {
			right++
		}
		if len(o.Ranges) == 1 && o.Ranges[0].Packet == 1 && o.Ranges[0].Side == "client" && o.Ranges[0].Offset == f.at && o.Ranges[0].Length == 4 {
			exactly++
		}
	}
	t.Logf("%d of %d flows are classified rightly, of %d exactly the marker is named", right, len(flows), exactly)
	if exactly < len(flows)*95/100 || right < len(flows)*95/100 {
		t.Error("below 95 %")
	}
}

// Of a model that goes by the hop limit alone, the hop limit is named. It has to be found among 180 bytes, so the constant bytes around it may count as
// much now and then.
func TestHopLimit(t *testing.T) {
	b := compiled(t, "testdata/ttl.onnx", pcap(t, flowsOf(2, 100, false)), "nepco-bytes")
	flows := flowsOf(3, 200, false)
	named, first := 0, 0
	for _, v := range verdicts(t, b, pcap(t, flows)) {
		o := &v.Outputs[0]
		if slices.ContainsFunc(o.Fields, func(f explain.FieldShare) bool { return f.Name == "ip.ttl" }) {
			named++
		}
		if len(o.Fields) > 0 && o.Fields[0].Name == "ip.ttl" {
			first++
		}
	}
	t.Logf("of %d flows, ip.ttl is named in %d, and has the largest share in %d", len(flows), named, first)
	if named < len(flows)*95/100 || first < len(flows)*80/100 {
		t.Error("the hop limit is not what is named")
	}
}
