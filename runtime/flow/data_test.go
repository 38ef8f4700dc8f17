package flow_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"nepcoc/compiler/labels"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// seen is what the tests keep of one flow.
type seen struct {
	key     flow.Key
	first   int64
	packets uint64 // when it was closed
	used    uint64 // at its verdict
	reason  flow.Reason
	tokens  []int32
	valid   int
	marks   flow.Marks
	payload int
}

// runSource classifies nothing, but sees every flow, and checks what must hold
// on any input.
func runSource(t testing.TB, c traffic.Contract, capacity int, src capture.Source) ([]seen, *flow.Counters, error) {
	t.Helper()
	if capacity == 0 {
		capacity = 1 << 13 // more than any test holds, and quick to make
	}
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	bySeq := map[uint64]int{}
	closed := map[uint64]bool{}
	var flows []seen
	in, err := flow.NewInput(flow.Options{
		Encoder:  enc,
		Capacity: capacity,
		Ready: func(f *flow.Flow) {
			if _, twice := bySeq[f.Seq]; twice {
				t.Errorf("flow %d, %s: a second verdict", f.Seq, f.Key)
			}
			bySeq[f.Seq] = len(flows)
			flows = append(flows, seen{key: f.Key, first: f.First, used: f.Packets[0] + f.Packets[1], reason: f.Reason, tokens: bytes32(f.Tokens), valid: f.Valid, marks: f.Marks, payload: f.Payload})
		},
		Closed: func(f *flow.Flow) {
			i, ok := bySeq[f.Seq]
			if !ok || closed[f.Seq] {
				t.Errorf("flow %d, %s: closed without a verdict, or twice", f.Seq, f.Key)
				return
			}
			closed[f.Seq] = true
			flows[i].packets = f.Packets[0] + f.Packets[1]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingSource{Source: src}
	err = in.Run(counted)
	n := in.Counters()
	if err := n.Check(counted.n, in.Undecided()); err != nil {
		t.Error(err)
	}
	var packets uint64
	for _, f := range flows {
		packets += f.packets
	}
	if packets != n.Joined() || uint64(len(flows)) != n.Flows || n.Closed != n.Flows || in.Open() != 0 {
		t.Errorf("%d packets in %d flows, counted %d in %d (%d closed, %d open)", packets, len(flows), n.Joined(), n.Flows, n.Closed, in.Open())
	}
	return flows, n, err
}

type countingSource struct {
	capture.Source
	n uint64
}

func (s *countingSource) Next(f *capture.Frame) error {
	err := s.Source.Next(f)
	if err == nil {
		s.n++
	}
	return err
}

func bytes32(v []int32) []int32 { return append([]int32(nil), v...) }

func runFile(t testing.TB, c traffic.Contract, path string) ([]seen, *flow.Counters, error) {
	t.Helper()
	src, err := capture.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	return runSource(t, c, 0, src)
}

func TestManifestFlows(t *testing.T) {
	data, err := os.ReadFile(testfiles.Path(t, "captures", "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var files []struct {
		File    string
		Packets int  `json:"readable_packets"`
		Flows   *int `json:"tcp_udp_flows"`
		Expect  string
	}
	if err := json.Unmarshal(data, &files); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(f.File, func(t *testing.T) {
			flows, n, err := runFile(t, traffic.Default(), testfiles.Path(t, "captures", f.File))
			if n == nil {
				if f.Packets != 0 {
					t.Fatal(err)
				}
				return
			}
			if n.Read() != uint64(f.Packets) {
				t.Errorf("%d packets, want %d (%s)", n.Read(), f.Packets, f.Expect)
			}
			if f.Flows != nil && len(flows) != *f.Flows {
				t.Errorf("%d flows, want %d (%s)", len(flows), *f.Flows, f.Expect)
			}
			for k, v := range n.Frames {
				if v > 0 {
					t.Logf("%s: %d", capture.Kind(k), v)
				}
			}
		})
	}
}

func TestEveryLabelledFlow(t *testing.T) {
	for _, split := range []string{"train", "valid", "test", "calib"} {
		t.Run(split, func(t *testing.T) {
			truth, err := labels.Read(testfiles.Path(t, "traffic", split+".csv"))
			if err != nil {
				t.Fatal(err)
			}
			flows, n, err := runFile(t, traffic.Default(), testfiles.Path(t, "traffic", split+".pcap"))
			if err != nil {
				t.Fatal(err)
			}
			found := make([]int, len(truth.Rows))
			for _, f := range flows {
				i, m := truth.Find(f.key, f.first)
				if m != labels.Fits {
					t.Fatalf("%s at %d has no row", f.key, f.first)
				}
				found[i]++
				row := truth.Rows[i]
				if f.key != row.Key && f.key != row.Key.Reverse() || f.first/1000 != row.Time/1000 || int(f.packets) != row.Packets {
					t.Errorf("line %d: %s, %d, %d packets; the flow is %s, %d, %d packets", row.Line, row.Key, row.Time, row.Packets, f.key, f.first, f.packets)
				}
			}
			for _, f := range flows {
				// What comes after FIN or RST belongs to the flow: the linger
				// must be long enough for it.
				if f.reason == flow.ReasonClosed && f.used != f.packets {
					t.Errorf("%s: closed after %d of %d packets", f.key, f.used, f.packets)
				}
			}
			for i, k := range found {
				if k != 1 {
					t.Errorf("line %d: %d flows", truth.Rows[i].Line, k)
				}
			}
			t.Logf("%d rows, %d flows, %d frames; verdicts %v", len(truth.Rows), len(flows), n.Read(), n.Verdicts)
		})
	}
}

// TestTokensEqualTraining: the sequences that the shared models were trained
// and measured on, row for row.
func TestTokensEqualTraining(t *testing.T) {
	for _, tc := range []struct{ contract, model string }{{"nepco", "nepco"}, {"nepco-bytes", "nepco-small"}} {
		for _, split := range []string{"test", "calib"} {
			t.Run(tc.model+"."+split, func(t *testing.T) {
				c, err := traffic.Named(tc.contract)
				if err != nil {
					t.Fatal(err)
				}
				truth, err := labels.Read(testfiles.Path(t, "traffic", split+".csv"))
				if err != nil {
					t.Fatal(err)
				}
				npz := testfiles.Path(t, "models", tc.model+"."+split+".npz")
				src, seg := readInt64(t, npz, "src.npy"), readInt64(t, npz, "seg.npy")
				if len(src) != len(truth.Rows)*c.Length || len(seg) != len(src) {
					t.Fatalf("%d and %d values for %d rows of %d", len(src), len(seg), len(truth.Rows), c.Length)
				}
				flows, _, err := runFile(t, c, testfiles.Path(t, "traffic", split+".pcap"))
				if err != nil {
					t.Fatal(err)
				}
				equal := 0
				for _, f := range flows {
					i, m := truth.Find(f.key, f.first)
					if m != labels.Fits {
						t.Fatalf("%s has no row", f.key)
					}
					same := true
					for p, id := range f.tokens {
						valid := int64(0)
						if p < f.valid {
							valid = 1
						}
						same = same && src[i*c.Length+p] == int64(id) && seg[i*c.Length+p] == valid
					}
					if same {
						equal++
					} else {
						t.Errorf("line %d (%s, %s, decided by %s): other tokens", truth.Rows[i].Line, f.key, truth.Rows[i].Names[0], f.reason)
					}
				}
				if equal != len(truth.Rows) {
					t.Errorf("%d of %d rows equal", equal, len(truth.Rows))
				}
			})
		}
	}
}

// readInt64 reads an int64 array out of an npz, which is a zip of npy files.
func readInt64(t *testing.T, path, name string) []int64 {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint16(data[8:]))
	if head := string(data[10 : 10+n]); !strings.Contains(head, "'<i8'") {
		t.Fatal(fmt.Errorf("%s: %s", name, head))
	}
	v := make([]int64, (len(data)-10-n)/8)
	if err := binary.Read(bytes.NewReader(data[10+n:]), binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
	return v
}
