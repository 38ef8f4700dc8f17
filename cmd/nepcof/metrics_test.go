package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"nepcoc/fleet"
	"nepcoc/internal/testfiles"
)

// docs/fleet-page.md has the sink's metrics, each and no other.
func TestSinkMetrics(t *testing.T) {
	names := func(pattern string, text []byte) (list []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
			list = append(list, string(m[1]))
		}
		slices.Sort(list)
		return list
	}
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "fleet-page.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	sinkMetrics(&out, "racks", &fleet.SinkCounts{Lines: 7})
	served := names(`(?m)^(nepcof_\w+)\{group="racks"\} \d+$`, out.Bytes())
	if written := names("`(nepcof_sink_\\w+)`", text); !slices.Equal(served, written) || len(served) == 0 {
		t.Errorf("served %q\nwritten %q", served, written)
	}
}
