package flow_test

import (
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// BenchmarkInput is the packet path without inference, over a capture in
// memory: decode, fragments, flow table, tokens. The goal is 3 M packets/s.
func BenchmarkInput(b *testing.B) {
	hosts := traffic.Default()
	hosts.Accept = traffic.AcceptHosts
	stream, err := traffic.Named("nepco-stream")
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name     string
		mem      func(testing.TB) *capture.Memory
		contract traffic.Contract
	}{
		{"traffic", trainPackets, traffic.Default()}, {"traffic/hosts", trainPackets, hosts}, {"traffic/stream", trainPackets, stream},
		{"synthetic-64k-flows", syntheticPackets, traffic.Default()}, {"synthetic-64k-flows/hosts", syntheticPackets, hosts}, {"synthetic-64k-flows/stream", syntheticPackets, stream},
	} {
		b.Run(bench.name, func(b *testing.B) {
			mem := bench.mem(b)
			enc, err := traffic.NewEncoder(bench.contract)
			if err != nil {
				b.Fatal(err)
			}
			verdicts := 0
			in, err := flow.NewInput(flow.Options{Encoder: enc, Ready: func(*flow.Flow) { verdicts++ }})
			if err != nil {
				b.Fatal(err)
			}
			var f capture.Frame
			b.ReportAllocs()
			packets := 0
			cpu := testfiles.CPUTime()
			for b.Loop() {
				mem.Rewind()
				for mem.Next(&f) == nil {
					in.Frame(&f)
				}
				in.Flush()
				packets += mem.Len()
			}
			cpu = testfiles.CPUTime() - cpu
			b.ReportMetric(float64(packets)/cpu.Seconds()/1e6, "Mpackets/cpu-s")
			b.ReportMetric(float64(packets)/b.Elapsed().Seconds()/1e6, "Mpackets/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
			b.ReportMetric(float64(verdicts)/float64(packets), "verdicts/packet")
		})
	}
}

func trainPackets(t testing.TB) *capture.Memory {
	src, err := capture.Open(testfiles.Path(t, "traffic", "train.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	mem := new(capture.Memory)
	if err := mem.ReadAll(src); err != nil {
		t.Fatal(err)
	}
	return mem
}

// syntheticPackets is 64 Ki flows of 12 packets each, interleaved: more flow
// state than a core's caches hold.
func syntheticPackets(testing.TB) *capture.Memory {
	mem := new(capture.Memory)
	const flows, each = 1 << 16, 12
	payload := make([]byte, 200)
	for n := range each {
		for i := range flows {
			p := pkt{src: [4]byte{10, 1, byte(i >> 8), byte(i)}, dst: [4]byte{10, 2, 0, 1}, sport: uint16(1024 + i%60000), dport: 443, proto: capture.ProtoTCP, payload: payload}
			if n%2 == 1 {
				p = p.reverse()
			}
			mem.Add(&capture.Frame{Data: p.ethernet(), Time: int64(n*flows+i) * 1000, Length: 300, Link: capture.LinkEthernet})
		}
	}
	return mem
}

// BenchmarkFile reads a capture file without doing anything with the frames.
func BenchmarkFile(b *testing.B) {
	path := testfiles.Path(b, "traffic", "train.pcap")
	packets := 0
	var f capture.Frame
	b.ReportAllocs()
	for b.Loop() {
		src, err := capture.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		for src.Next(&f) == nil {
			packets++
		}
		src.Close()
	}
	b.ReportMetric(float64(packets)/b.Elapsed().Seconds()/1e6, "Mpackets/s")
}
