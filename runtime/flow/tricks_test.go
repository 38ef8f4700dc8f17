package flow_test

import (
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

func hostsContract(stream bool) traffic.Contract {
	name := "nepco-bytes"
	if stream {
		name = "nepco-stream"
	}
	c, _ := traffic.Named(name)
	c.Accept = traffic.AcceptHosts
	return c
}

func TestPrintTricks(t *testing.T) {
	for _, dir := range []string{"tricks", "01-tcp-port-reuse", "40-direction-midstream", "02-tso-zero-length"} {
		files := testfiles.Glob(t, filepath.Join("cases", dir, "*.pcap"))
		for _, f := range files {
			for _, stream := range []bool{false, true} {
				flows, n, err := runFile(t, hostsContract(stream), f)
				if err != nil {
					t.Error(err)
				}
				t.Logf("%s stream=%v: %d flows; repeats %d outside %d refused %d malformed %d", filepath.Base(f), stream, len(flows), n.Repeats, n.Outside, n.Refused(), n.Malformed())
				for _, f := range flows {
					t.Logf("     %s %d packets, used %d, %s, %v, payload %d", f.key, f.packets, f.used, f.reason, flow.Marks(f.marks).Names(), f.payload)
				}
			}
		}
	}
}
