package verdict

import (
	"strings"
	"testing"
)

// Where a flow was seen stands in its events, as Suricata writes it, and only where there is something to say.
func TestWhere(t *testing.T) {
	r := record(t)
	for _, line := range []string{string(r.AppendJSON(nil)), string(r.AppendEVE(nil))} {
		if strings.Contains(line, "vlan") || strings.Contains(line, "tunnel") {
			t.Error(line)
		}
	}
	r.VLAN, r.Level, r.Key.Tunnel = [2]uint16{100, 7}, 2, 4711
	for _, line := range []string{string(r.AppendJSON(nil)), string(r.AppendEVE(nil))} {
		for _, want := range []string{`,"vlan":[100,7],`, `,"tunnel":{"id":4711,"level":2},`} {
			if !strings.Contains(line, want) {
				t.Errorf("%s is not in %s", want, line)
			}
		}
	}
	r.VLAN = [2]uint16{100}
	if line := string(r.AppendEVE(nil)); !strings.Contains(line, `"event_type":"flow","vlan":[100],`) {
		t.Error(line)
	}
}

// The seed is part of what is hashed: the ids are those of the definition's other implementations.
func TestCommunityIDSeed(t *testing.T) {
	k := key(t, 6, "128.232.110.120:34855", "66.35.250.204:80")
	for seed, want := range map[uint16]string{0: "1:LQU9qZlK+B5F3KDmev6m5PMibrg=", 1: "1:3V71V58M3Ksw/yuFALMcW0LAHvc="} {
		if got := string(AppendCommunityID(nil, seed, k)); got != want {
			t.Errorf("seed %d: %s, want %s", seed, got, want)
		}
	}
}
