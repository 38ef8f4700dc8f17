package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"nepcoc/internal/golden"
)

// The example model's bundle, what inspect shows of it, and its verdicts on
// the example capture. Whoever changes a number of these changes verdicts on
// cards: read the difference.
func TestGolden(t *testing.T) {
	b, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "demo.nepco")
	if err := os.WriteFile(bundle, b, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command("nepcoc", args...).Output()
		if err != nil {
			t.Fatalf("nepcoc %v: %v", args, err)
		}
		return out
	}
	files := map[string][]byte{
		"demo.sha256":          fmt.Appendf(nil, "%x\n", sha256.Sum256(b)),
		"demo.inspect.txt":     run("inspect", bundle),
		"demo.verdicts.ndjson": run("run", bundle, "../../examples/testbed/test.pcap", "--json"),
	}
	// Of flows of four protocols, what their verdicts stand on: an HTTP request, a TLS hello, a DNS answer, an SSH version.
	for name, flow := range map[string]string{"http": "35", "tls": "25", "dns": "81", "ssh": "10"} {
		files["explain."+name+".txt"] = run("explain", bundle, "../../examples/testbed/test.pcap", "--flow", flow)
	}
	// Verdicts stay what they are when the bundle becomes another.
	files["demo.verdicts.ndjson"] = regexp.MustCompile(`"digest":"[0-9a-f]{12}"`).ReplaceAll(files["demo.verdicts.ndjson"], []byte(`"digest":"DIGEST"`))
	var known []string
	for name, got := range files {
		known = append(known, name)
		golden.File(t, filepath.Join("testdata", "golden", name), got)
	}
	golden.Orphans(t, filepath.Join("testdata", "golden"), known...)
}
