package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"nepcoc/internal/files"
)

// A bundle that is tried on a capture with the service's configuration changes nothing that the service remembers, unless the command line names the state.
func TestReplayLeavesState(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string][]byte{
		"m.nepco": bundleBytes(t, 0, "a"), "tried.nepco": bundleBytes(t, 1, "b"),
		"nepcod.yaml": []byte("bundle: " + at("m.nepco") + "\nstate: " + at("state.json") + "\noutput: {to: /dev/null}\nmetrics: {listen: ''}\n"),
	} {
		if err := files.Write(at(name), data); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"run", "--config", at("nepcod.yaml"), "--pcap", "../../examples/testbed/test.pcap"}, args...)
		if code := doMain(args, &out, &errs); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, errs.String())
		}
	}
	run("--bundle", at("tried.nepco"))
	for _, name := range []string{"state.json", "state.json.last-good"} {
		if _, err := os.Stat(at(name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	run("--state", at("state.json"))
	if kept, err := os.ReadFile(at("state.json.last-good")); err != nil || !bytes.Equal(kept, bundleBytes(t, 0, "a")) {
		t.Errorf("with --state nothing was kept: %v", err)
	}
}
