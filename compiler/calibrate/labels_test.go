package calibrate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// testbed is the example's capture: 441 flows of 22 classes, and the text of its
// label file.
func testbed(t *testing.T) (s *calibrate.Set, csv string, outputs []bundle.OutputInfo) {
	t.Helper()
	dir := filepath.Join(testfiles.Root(t), "examples")
	c, err := traffic.Load(filepath.Join(dir, "model", "demo.contract.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = calibrate.FromCapture([]string{filepath.Join(dir, "testbed", "test.pcap")}, c, bundle.View{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "testbed", "test.csv"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(filepath.Join(dir, "model", "demo.labels.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return s, string(text), []bundle.OutputInfo{{Name: "logits", Labels: strings.Fields(string(names))}, {Name: "other", Labels: []string{"yes", "no"}}}
}

// The same labels, as other tools write them: the same class for every flow.
func TestLabelFiles(t *testing.T) {
	s, _, outputs := testbed(t)
	plain := func(name string) string { return testfiles.Path(t, "cases", "18-label-csv", name+".csv") }
	if _, err := s.Label(plain("plain"), outputs); err != nil {
		t.Fatal(err)
	}
	want := s.LabelsOf("logits", true)
	for _, name := range []string{"comment", "crlf", "float-ports", "header-case", "icmp-row", "label-case", "no-time", "plain", "proto-0x", "proto-name-lower",
		"quoted", "spaces-header", "swapped-direction", "time-exp", "time-float64", "time-in-us", "time-s", "tsv", "utf16", "v6-long"} {
		t.Run(name, func(t *testing.T) {
			found, err := s.Label(plain(name), outputs)
			if err != nil {
				t.Fatal(err)
			}
			if l := found[0]; l.Labelled != 441 || l.Flows != 441 || len(l.Why) != 0 {
				t.Errorf("%+v", l)
			}
			if !reflect.DeepEqual(s.LabelsOf("logits", true), want) {
				t.Error("other classes than in plain.csv")
			}
		})
	}
	for _, name := range []string{"time-plus3h", "label-index", "empty", "header-only"} {
		if found, err := s.Label(plain(name), outputs); err == nil {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// A column of an output that gives any number of labels has several of them, or says that there
// are none.
func TestSeveralLabels(t *testing.T) {
	s, csv, outputs := testbed(t)
	outputs = append(outputs, bundle.OutputInfo{Name: "tags", Kind: bundle.KindLabels, Labels: []string{"mail", "login", "udp"}})
	tags := []string{"udp|mail", "-", "login", "Mail | login", "mail|x"}
	want := [][]int{{0, 2}, {}, {1}, {0, 1}, nil}
	var b strings.Builder
	b.WriteString("proto,src,sport,dst,dport,time,label.tags\n")
	for i, r := range strings.Split(strings.TrimSpace(csv), "\n")[1:] {
		b.WriteString(strings.Join(strings.Split(r, ",")[:6], ",") + "," + tags[i%len(tags)] + "\n")
	}
	path := filepath.Join(t.TempDir(), "labels.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	found, err := s.Label(path, outputs)
	if err != nil {
		t.Fatal(err)
	}
	count := func(all [][]int, l []int) (n int) {
		for _, x := range all {
			if reflect.DeepEqual(x, l) {
				n++
			}
		}
		return n
	}
	labels := s.LabelsOf("tags", false)
	if len(found) != 1 || found[0].Labelled != 441-count(labels, nil) || len(found[0].Why) != 1 || !strings.Contains(found[0].Why[0], `"x"`) {
		t.Errorf("%+v", found)
	}
	for _, l := range want {
		if n := count(labels, l); n != 441/len(tags) && n != 441/len(tags)+1 {
			t.Errorf("%d flows have the labels %d", n, l)
		}
	}
}

// What does not fit is said apart, and doing what the message says helps.
func TestLabelsThatDoNotFit(t *testing.T) {
	s, csv, outputs := testbed(t)
	rows := strings.Split(strings.TrimSpace(csv), "\n")[1:]
	const timeColumn, labelColumn = 5, 6
	change := func(f func(i int, fields []string)) string {
		var b strings.Builder
		b.WriteString("proto,src,sport,dst,dport,time,label,npkts,capture\n")
		for i, r := range rows {
			fields := strings.Split(r, ",")
			if f(i, fields); fields[0] != "" {
				b.WriteString(strings.Join(fields, ",") + "\n")
			}
		}
		return b.String()
	}
	later := func(seconds int) func(int, []string) {
		return func(i int, f []string) {
			sec, frac, _ := strings.Cut(f[timeColumn], ".")
			n := 0
			fmt.Sscan(sec, &n)
			f[timeColumn] = fmt.Sprintf("%d.%s", n+seconds, frac)
		}
	}
	withoutTime := func(text string) string {
		var b strings.Builder
		for line := range strings.Lines(text) {
			f := strings.Split(line, ",")
			b.WriteString(strings.Join(slices.Delete(f, timeColumn, timeColumn+1), ","))
		}
		return b.String()
	}
	for _, tc := range []struct {
		name, text string
		labelled   int
		why        []string
		wayOut     func(string) string // makes all 441 labelled
	}{
		{"time zone", change(later(-3600)), 0, []string{"441 flows: the time is 1h0m0s earlier than the capture's, always (line 4 has 2026-11-23T06:38:15.566316Z, the flow's first packet 2026-11-23T07:38:15.566316Z)", "a time zone: write times in UTC or with their zone", "leave the column time out"}, withoutTime},
		{"clock", change(later(77)), 0, []string{"441 flows: the time is 1m17s later than the capture's, always", "another clock"}, withoutTime},
		{"no order", change(func(i int, f []string) { later(100+i*i)(i, f) }), 0, []string{"of another time, off by 1m40s to 53h", "leave the column time out"}, withoutTime},
		{"translated", change(func(i int, f []string) { f[2] = "9" }), 0, []string{"441 flows: no row has the addresses and ports (the first is TCP 10.77.2.2:51190 > 10.77.2.1:5432, at 2026-11-23T07:38:15.566316Z", "before translation?"}, nil},
		{"names", change(func(i int, f []string) { f[labelColumn] = "x" + f[labelColumn] }), 0, []string{`441 flows have a label that is no class of the model: "x`, "17 more", "compile the model with the names"}, nil},
		{"milliseconds, cut short", change(func(i int, f []string) {
			if i > 0 {
				f[0] = ""
			}
			later(0)(i, f)
		}), 1, []string{"440 flows: no row"}, nil},
		{"half of each", change(func(i int, f []string) {
			switch i % 3 {
			case 1:
				later(3600)(i, f)
			case 2:
				f[labelColumn] = "Pigeon"
			}
		}), 147, []string{"147 flows: the time is 1h0m0s later", `147 flows have a label that is no class of the model: "Pigeon"`}, nil},
		{"ambiguous", change(func(i int, f []string) {
			f[timeColumn], _, _ = strings.Cut(f[timeColumn], ".")
			if i == 0 {
				f[8] += "\n" + strings.Join(f[:labelColumn], ",") + ",DNS,1,x"
			}
		}), 440, []string{"1 flow: several rows with other labels are as near as the file's times tell, which have steps of 1s", "fractions of a second"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "l.csv")
			try := func(text string) string {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				found, err := s.Label(path, outputs)
				if err != nil {
					if tc.labelled != 0 || !strings.Contains(err.Error(), path+": labels none of the 441 flows") {
						t.Error(err)
					}
					return err.Error()
				}
				if found[0].Labelled != tc.labelled {
					t.Errorf("%d labelled, want %d", found[0].Labelled, tc.labelled)
				}
				return strings.Join(found[0].Why, "\n")
			}
			got := try(tc.text)
			for _, w := range tc.why {
				if !strings.Contains(got, w) {
					t.Errorf("does not say %q:\n%s", w, got)
				}
			}
			if tc.wayOut != nil {
				tc.labelled = 441
				if got := try(tc.wayOut(tc.text)); got != "" {
					t.Errorf("the way out: %s", got)
				}
			}
		})
	}
}

// A column per output.
func TestLabelColumns(t *testing.T) {
	s, csv, outputs := testbed(t)
	label := func(head, extra string) ([]calibrate.Labelling, error) {
		path := filepath.Join(t.TempDir(), "l.csv")
		lines := strings.Split(strings.TrimSpace(csv), "\n")
		for i := range lines {
			lines[i] += extra
		}
		lines[0] = head
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		return s.Label(path, outputs)
	}
	found, err := label("proto,src,sport,dst,dport,time,label,npkts,capture,label.other", ",yes")
	if err != nil || len(found) != 2 || found[1].Output != "other" || found[1].Labelled != 441 {
		t.Fatalf("%+v, %v", found, err)
	}
	if l := s.LabelsOf("other", false); len(l) != 441 || !reflect.DeepEqual(l, slices.Repeat([][]int{{0}}, 441)) || slices.MaxFunc(s.LabelsOf("logits", true), slices.Compare)[0] != 21 {
		t.Errorf("%v", l)
	}
	for head, want := range map[string]string{
		"proto,src,sport,dst,dport,time,label.logits,npkts,capture,label":  "both columns label and label.logits",
		"proto,src,sport,dst,dport,time,label,npkts,capture,label.nothing": "column label.nothing is of no output of the model: it has logits, other",
		"proto,src,sport,dst,dport,time,label.other,npkts,capture,x":       "labels none of the 441 flows",
	} {
		if _, err := label(head, ",yes"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", head, err)
		}
	}
	outputs[1].Labels = nil
	if _, err := label("proto,src,sport,dst,dport,time,label.other,npkts,capture", ""); err == nil || !strings.Contains(err.Error(), "output other has no class names") {
		t.Error(err)
	}
}
