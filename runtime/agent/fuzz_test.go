package agent_test

import (
	"encoding/binary"
	"io"
	"testing"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// FuzzFrames runs raw frames through the whole pipeline. Whatever they are, all
// are accounted for (Run checks it) and the agent goes on.
//
// The input is frames, each behind a link type, a step of time and a length.
func FuzzFrames(f *testing.F) {
	frame := func(link byte, data []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{link, 1}, uint16(len(data))), data...)
	}
	f.Add(append(frame(0, udp(1, 20)), frame(0, udp(2, 300))...))
	f.Add(frame(1, udp(1, 20)[14:]))
	f.Add(frame(2, []byte{0x60, 0, 0, 0, 0, 8, 44, 64}))
	links := []capture.LinkType{capture.LinkEthernet, capture.LinkRaw, capture.LinkSLL, capture.LinkSLL2, capture.LinkNull, 9999}
	m, err := agent.NewModel(testBundle(f, 0, "class"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mem := new(capture.Memory)
		now := int64(0)
		for len(data) >= 4 {
			link, step, n := data[0], data[1], int(binary.BigEndian.Uint16(data[2:]))
			data = data[4:]
			n = min(n, len(data))
			now += int64(int8(step)) * 1e9
			mem.Add(&capture.Frame{Data: data[:n], Time: now, Length: n, Link: links[int(link)%len(links)]})
			data = data[n:]
		}
		a, err := agent.New(agent.Options{
			Sources: []capture.Source{mem}, Model: m, Workers: 2, FlowsPerWorker: 8, Queue: 2, Chunks: 2, Lossless: true, Sink: io.Discard,
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Run(t.Context())
		if err != nil || r.Read != uint64(mem.Len()) || r.Flow.Decided() != r.Flow.Flows || r.Written != r.Flow.Flows {
			t.Errorf("%s: %v", r, err)
		}
	})
}
