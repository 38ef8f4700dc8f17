package evasion

import (
	"path/filepath"
	"slices"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// What leaves the hosts' view of a flow alone leaves every token of the stream view alone.
func TestStreamViewIsTheHosts(t *testing.T) {
	c, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")}
	if dir := testfiles.Dir(t); dir != "" {
		files = append(files, filepath.Join(dir, "traffic", "test.pcap"))
	}
	for _, file := range files {
		flows, err := Load(file, 12)
		if err != nil {
			t.Fatal(err)
		}
		classes := make([]int, len(flows))
		for i, f := range flows {
			classes[i] = int(min(f.Key.DstPort, f.Key.SrcPort))
		}
		for _, tr := range Transforms {
			t.Run(filepath.Base(filepath.Dir(file))+"/"+tr.Name, func(t *testing.T) {
				n, bad := 0, 0
				for i := range flows {
					f := &flows[i]
					if !tr.Applies(f) || !f.Whole() {
						continue
					}
					base, err := See(c, f.Packets, f.First)
					if err != nil {
						t.Fatal(err)
					}
					if base.Marks&(flow.MarkOneSided|flow.MarkLost) != 0 {
						continue // marked for it: what its hosts took can't be known
					}
					got, err := See(c, tr.Run(f, Other(flows, classes, i), uint64(i)), f.First)
					if err != nil {
						t.Fatal(err)
					}
					n++
					switch equal := slices.Equal(base.Tokens, got.Tokens); {
					case tr.Depends && (equal || got.Marks != 0):
					case !equal || tr.Depends:
						if bad++; bad <= 3 {
							t.Errorf("flow %d, %s: marks %v, %d flows\n%v\nbase %v\n%v", i, f.Key, got.Marks.Names(), got.Flows, got.Tokens, base.Marks.Names(), base.Tokens)
						}
					}
				}
				if n == 0 {
					t.Error("applies to no flow")
				}
				t.Logf("%d flows, %d with other tokens", n, bad)
			})
		}
	}
}
