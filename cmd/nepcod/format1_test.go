package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFormat1Selftests: the agent proves the bundles of version 1 that it can serve; see
// runtime/bundle/format_test.go.
func TestFormat1Selftests(t *testing.T) {
	const corpus = "../../runtime/bundle/testdata/format1"
	for name, args := range map[string][]string{
		"demo": nil, "raw": nil, "signed": {"--trusted-key", filepath.Join(corpus, "signer.pem")},
	} {
		args = append([]string{"selftest", filepath.Join(corpus, name+".nepco")}, args...)
		if out, err := exec.Command("nepcod", args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
