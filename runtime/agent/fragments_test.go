package agent_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// cut makes fragments of an IPv4 frame, in order, of size bytes each but for the last.
func cut(frame []byte, id uint16, size int) (fragments [][]byte) {
	head, data := frame[:34], frame[34:]
	for at := 0; at < len(data); at += size {
		part := data[at:min(at+size, len(data))]
		b := append(slices.Clone(head), part...)
		binary.BigEndian.PutUint16(b[16:], uint16(20+len(part)))
		binary.BigEndian.PutUint16(b[18:], id)
		field := uint16(at / 8)
		if at+size < len(data) {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(b[20:], field)
		fragments = append(fragments, b)
	}
	return fragments
}

// Fragments in any order, some of them twice, get the verdicts that they get in
// order, whatever the number of workers.
func TestFragmentsInAnyOrder(t *testing.T) {
	const flows, each = 256, 4
	var sorted, shuffled [][]byte
	for i := range uint32(flows) {
		sorted = append(sorted, cut(udp(i, 136), uint16(i), 40)...)
	}
	r := rand.New(rand.NewPCG(1, 2))
	twice := 0
	for group := range slices.Chunk(sorted, 20*each) {
		group = slices.Clone(group)
		for range 10 {
			group = append(group, group[r.IntN(20*each)%len(group)])
			twice++
		}
		r.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
		shuffled = append(shuffled, group...)
	}
	memory := func(frames [][]byte) *capture.Memory {
		mem := new(capture.Memory)
		for i, b := range frames {
			mem.Add(&capture.Frame{Data: b, Time: int64(i) * 1000, Length: len(b), Link: capture.LinkEthernet})
		}
		return mem
	}
	verdicts := func(lines []string) (out []string) {
		for _, l := range lines {
			var v struct {
				Src, Label    string
				Sport, Tokens int
				Score         float64
				Packets       [2]int
			}
			if err := json.Unmarshal([]byte(l), &v); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%+v", v))
		}
		slices.Sort(out)
		return out
	}
	m := testModel(t, 0, "class")
	want := verdicts(expected(t, m.Bundle, memory(sorted)))
	if len(want) != flows {
		t.Fatalf("%d flows", len(want))
	}
	for _, workers := range []int{1, 3} {
		got, report := runAgent(t, t.Context(), agent.Options{
			Sources: []capture.Source{memory(shuffled)}, Model: m, Workers: workers, Lossless: true, Queue: 2, Chunks: 2,
		})
		if v := verdicts(got); !slices.Equal(v, want) {
			t.Errorf("%d workers: %s", workers, difference(v, want))
		}
		if report.Flow.Held != 0 || report.Flow.Frames[capture.IgnoredDuplicateFragment] != uint64(twice) || report.Flow.Joined() != flows*each {
			t.Errorf("%d workers: %d duplicates, want %d; %s", workers, report.Flow.Frames[capture.IgnoredDuplicateFragment], twice, report)
		}
	}
}
