package load

import (
	"bytes"
	"os"
	"testing"
	"time"

	"nepcoc/runtime/capture"
)

// Whatever a capture holds, each frame that is sent of it is a whole packet between an instance's hosts.
func FuzzScript(f *testing.F) {
	data, err := os.ReadFile(testCapture(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:4096], uint32(7))
	unreachable := ip4(2, 1, protoICMP, 0, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)...), 2)
	for _, p := range [][]byte{ip4(1, 2, capture.ProtoUDP, 0x2000, udpBody(4000, 53, 32), 0), unreachable, ip6(1, 2, capture.ProtoUDP, udpBody(1, 2, 9), 6)} {
		file := append([]byte{}, data[:24]...)
		file[20] = byte(capture.LinkRaw)
		for range 2 {
			file = append(file, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(p)), 0, 0, 0, byte(len(p)), 0, 0, 0)
			file = append(file, p...)
		}
		f.Add(file, uint32(1<<31))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint32) {
		src, err := capture.NewFile("fuzz", bytes.NewReader(data))
		if err != nil {
			return
		}
		s, err := ReadScript(src, Options{Gap: time.Millisecond, Idle: time.Minute, Tunnels: n%2 == 0})
		if err != nil {
			return
		}
		s.Fit(1 << 16)
		for i := range s.Flows {
			f := &s.Flows[i]
			if len(f.packets) == 0 || f.Length() < 0 {
				t.Fatalf("flow %d: %+v", i, f)
			}
			for k := range f.packets {
				r := &f.packets[k]
				b := r.frame(nil, n)
				var p capture.Packet
				kind := capture.Decode(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet}, &p)
				if kind != capture.KindOK && kind != capture.IgnoredICMP && kind != capture.IgnoredICMPv6 || len(p.IP) != p.Length {
					t.Fatalf("flow %d, packet %d: %v, %d of %d bytes", i, k, kind, len(p.IP), p.Length)
				}
				first, second := Addresses(n, p.V6)
				if r.reverse {
					first, second = second, first
				}
				if string(p.Src()) != string(first.AsSlice()) || string(p.Dst()) != string(second.AsSlice()) {
					t.Fatalf("flow %d, packet %d: wrong hosts", i, k)
				}
			}
		}
	})
}

// No event upsets the judge, and what it counts adds up.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"event_type":"flow","src_ip":"198.18.0.0","dest_ip":"198.19.0.0","nepco":{"label":"a","tokens":3,"latency_us":5,"decided":"tokens"}}`))
	f.Add([]byte(`{"event_type":"nepco","src_ip":"2001:2:0:b::","dest_ip":"2001:2:0:a::","nepco":{"outputs":[{"output":"x","labels":[{"label":"b"}]}],"tokens":0}}`))
	s := &Script{Flows: []Flow{{want: []Verdict{{Labels: "a"}, {Labels: "b", Wait: time.Hour}}, compared: true}, {want: []Verdict{{Labels: "x=[b]"}}}}}
	f.Fuzz(func(t *testing.T, line []byte) {
		j := s.NewJudge(&Sent{Flows: 5}, time.Millisecond)
		for range 3 {
			j.Event(line)
		}
		if v := j.Verdicts(time.Minute); v.Expected != 3*2+2 || v.Expected != v.Right+v.Different+v.NotCompared+v.Lost+v.Waiting || v.Late > v.Timed {
			t.Fatalf("%+v", v)
		}
	})
}
