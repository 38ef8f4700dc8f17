package explain_test

import (
	"slices"
	"testing"

	"nepcoc/compiler/explain"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

const testbed = "../../examples/testbed/test.pcap"

func source(t *testing.T) *capture.Memory {
	t.Helper()
	src, err := capture.Open(testbed)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var mem capture.Memory
	if err := mem.ReadAll(src); err != nil {
		t.Fatal(err)
	}
	return &mem
}

func contracts(t *testing.T) map[string]traffic.Contract {
	plain, err := traffic.Named("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	shares := plain
	shares.FirstLayer, shares.BytesPerPacket, shares.HeaderBytes = traffic.LayerEthernet, 90, 50
	shares.Blank = []traffic.Blank{traffic.BlankMAC, traffic.BlankTCPSeq, traffic.BlankTCPOptions, traffic.BlankTLSRandom}
	shares.PacketTokens = []traffic.PacketToken{traffic.TokenDirection, traffic.TokenLength}
	payload := plain
	payload.FirstLayer, payload.Blank = traffic.LayerPayload, []traffic.Blank{traffic.BlankTLSSNI}
	stream, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	stream.Blank = []traffic.Blank{traffic.BlankTLSRandom, traffic.BlankTLSSNI}
	return map[string]traffic.Contract{"plain": plain, "shares": shares, "payload": payload, "stream": stream}
}

// What is said to enter, in its order, with zeros for what is said to be blanked, is what the tokens hold; and every byte of
// a packet is in one field.
func TestFlow(t *testing.T) {
	mem := source(t)
	for name, c := range contracts(t) {
		mem.Rewind()
		flows, _, err := flow.Collect(mem, c)
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]int{}
		for n := 1; n <= len(flows); n += len(flows)/25 + 1 {
			mem.Rewind()
			r, err := explain.Explain(mem, explain.Options{Contract: c, Flow: n})
			if err != nil {
				t.Fatal(err)
			}
			var bytes []int32
			for _, p := range append(r.Flow.Packets, r.Flow.Sides...) {
				at := 0
				for _, f := range p.Fields {
					if f.From != at || f.To <= f.From {
						t.Fatalf("%s, flow %d: field %s of %d to %d follows %d", name, n, f.Name, f.From, f.To, at)
					}
					at = f.To
					said[f.State] += f.To - f.From
					for _, b := range p.Bytes[f.From:f.To] {
						switch f.State {
						case "enters":
							bytes = append(bytes, int32(b))
						case "blanked":
							bytes = append(bytes, 0)
						}
					}
				}
				if at != len(p.Bytes) {
					t.Fatalf("%s, flow %d: %d of %d bytes have a name", name, n, at, len(p.Bytes))
				}
			}
			var want []int32
			facts := int32(c.ValueOffset) + 256
			for _, id := range flows[n-1].Tokens[:flows[n-1].Valid] {
				if id >= int32(c.ValueOffset) && id < facts {
					want = append(want, id-int32(c.ValueOffset))
				}
			}
			if !slices.Equal(bytes, want) {
				t.Fatalf("%s, flow %d: %d bytes enter by the dump, the tokens hold %d\n%v\n%v", name, n, len(bytes), len(want), bytes, want)
			}
		}
		if said["enters"] == 0 || said["blanked"] == 0 || name != "stream" && said["left out"] == 0 {
			t.Errorf("%s: %v", name, said)
		}
	}
}

// The figures of a capture, counted once more.
func TestFigures(t *testing.T) {
	mem := source(t)
	for name, c := range contracts(t) {
		mem.Rewind()
		flows, _, err := flow.Collect(mem, c)
		if err != nil {
			t.Fatal(err)
		}
		tokens, full, budget := uint64(0), 0, 0
		for _, f := range flows {
			tokens += uint64(f.Valid)
			switch f.Reason {
			case flow.ReasonTokens:
				full++
			case flow.ReasonPackets, flow.ReasonEnough:
				budget++
			}
		}
		mem.Rewind()
		r, err := explain.Explain(mem, explain.Options{Contract: c})
		if err != nil {
			t.Fatal(err)
		}
		if r.Flows != len(flows) || r.Tokens != tokens || r.Full != full || r.Budget != budget {
			t.Errorf("%s: %+v, want %d flows, %d tokens, %d full, %d by budget", name, r, len(flows), tokens, full, budget)
		}
		if r.Cut > full+budget || r.Handshake > r.Empty || r.PayloadTokens > r.Tokens || r.PayloadTokens == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	mem.Rewind()
	if _, err := explain.Explain(mem, explain.Options{Contract: traffic.Default(), Flow: 1 << 20}); err == nil {
		t.Error("a flow that is not there is shown")
	}
}
