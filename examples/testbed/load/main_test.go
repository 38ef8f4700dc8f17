package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every label that a port can give has clients, and every client a port.
func TestLabelsMatchPorts(t *testing.T) {
	f, err := os.Open("../ports.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want, got []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) == 3 && (fields[0] == "tcp" || fields[0] == "udp") {
			want = append(want, fields[2])
		}
	}
	for _, c := range clients {
		got = append(got, c.label)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("labels (-ports +clients):\n%s", diff)
	}
}

// The seed fixes every request; another seed draws others.
func TestPlan(t *testing.T) {
	lines := func(seed uint64) []string {
		tasks, err := plan(seed, 5, "HTTP,DNS", "/tmp")
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, task := range tasks {
			out = append(out, strings.Join(task.argv, " ")+task.stdin)
		}
		return out
	}
	if diff := cmp.Diff(lines(1), lines(1)); diff != "" {
		t.Errorf("same seed, other requests:\n%s", diff)
	}
	if len(lines(1)) != 10 || slices.Equal(lines(1), lines(2)) {
		t.Errorf("seeds 1 and 2 give %d and %d requests, want 10 different ones", len(lines(1)), len(lines(2)))
	}
	if _, err := plan(1, 1, "Gopher", "/tmp"); err == nil || err.Error() != `no clients for label "Gopher"` {
		t.Errorf("unknown label: error %v", err)
	}
}
