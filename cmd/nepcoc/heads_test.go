package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"net/http/httptest"

	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/onnx"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/internal/testfiles"
	"nepcoc/passes"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// heads are what the example's network is given new heads for: what each label says of a
// protocol.
var heads = map[string][]struct {
	label string
	of    []string
}{
	"cleartext": {{"cleartext", []string{"FTP", "HTTP", "IMAP", "LDAP", "POP3", "SMTP", "MySQL", "PostgreSQL", "Redis", "MQTT"}}},
	"tags": {
		{"mail", []string{"IMAP", "POP3", "SMTP"}},
		{"store", []string{"MySQL", "PostgreSQL", "Redis", "Memcached", "LDAP"}},
		{"udp", []string{"DNS", "NTP", "QUIC", "RADIUS", "SNMP", "STUN", "Syslog", "TFTP", "SIP"}},
		{"login", []string{"FTP", "SSH", "RADIUS", "LDAP"}},
	},
}

// features runs the example's network up to its last hidden layer over a capture.
func features(t *testing.T, model string, s *calibrate.Set) [][][]float32 {
	t.Helper()
	g, _, _, err := compiler.Front(model, onnx.Options{}, passes.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := calibrate.Float(g, s.Inputs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// logistic fits a linear head by gradient descent.
func logistic(x [][]float32, y []bool) (w []float32, b float32) {
	n := len(x[0])
	grad, weights := make([]float64, n+1), make([]float64, n+1)
	for range 300 {
		clear(grad)
		for i, row := range x {
			z := weights[n]
			for k, v := range row {
				z += weights[k] * float64(v)
			}
			d := 1 / (1 + math.Exp(-z))
			if y[i] {
				d--
			}
			for k, v := range row {
				grad[k] += d * float64(v)
			}
			grad[n] += d
		}
		for k := range weights {
			weights[k] -= 2 * grad[k] / float64(len(x))
		}
	}
	for _, v := range weights[:n] {
		w = append(w, float32(v))
	}
	return w, float32(weights[n])
}

// A detector with one output, a model with independent labels and one with two heads, trained on the
// example's features: the verdicts of run, of the agent's events and metrics and of verify are the same, and
// their accuracy is the float model's within 0.5 points.
func TestTrainedHeads(t *testing.T) {
	root := testfiles.Root(t)
	testbed, dir := filepath.Join(root, "examples", "testbed"), t.TempDir()
	demo, err := os.ReadFile(filepath.Join(root, "examples", "model", "demo.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	contract := filepath.Join(root, "examples", "model", "demo.contract.yaml")
	c, err := traffic.Load(contract)
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(filepath.Join(root, "examples", "model", "demo.labels.txt"))
	if err != nil {
		t.Fatal(err)
	}
	classes := strings.Fields(string(names))
	set := func(name string) (*calibrate.Set, []string) {
		s, err := calibrate.FromCapture([]string{filepath.Join(testbed, name+".pcap")}, c, bundle.View{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Label(filepath.Join(testbed, name+".csv"), []bundle.OutputInfo{{Name: "logits", Labels: classes}}); err != nil {
			t.Fatal(err)
		}
		var labels []string
		for _, l := range s.LabelsOf("logits", true) {
			labels = append(labels, classes[l[0]])
		}
		return s, labels
	}
	train, protocols := set("calib")
	test, truth := set("test")

	trunk := m.Reopen(demo, "/head/Gemm")
	trunk.Output("/Tanh_output_0", m.F32)
	write := func(name string, model *m.Model) string {
		path := filepath.Join(dir, name+".onnx")
		if err := os.WriteFile(path, model.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	x := features(t, write("trunk", trunk), train)[0]

	// add appends a head, with a sigmoid or without, and declares its output.
	add := func(g *m.Model, output string, sigmoid bool) {
		var w, b []float32
		for _, h := range heads[output] {
			var y []bool
			for _, p := range protocols {
				y = append(y, slices.Contains(h.of, p))
			}
			weights, bias := logistic(x, y)
			w, b = append(w, weights...), append(b, bias)
		}
		n := len(b)
		node := func(op string, attrs m.Attrs, in ...string) string {
			out := output
			if op == "Gemm" && sigmoid {
				out = output + "_logits"
			}
			g.Node("", op, attrs, in, []string{out})
			return out
		}
		z := node("Gemm", m.Attrs{"transB": 1}, "/Tanh_output_0", g.Const(m.Tensor{Dims: []int{n, 64}, Data: w}), g.Const(m.Tensor{Dims: []int{n}, Data: b}))
		if sigmoid {
			node("Sigmoid", nil, z)
		}
		g.Output(output, m.F32)
	}
	for _, tc := range []struct {
		name    string
		outputs map[string]bool // with a sigmoid
		flags   []string
		both    bool // keeps the classes
	}{
		{"logit", map[string]bool{"cleartext": false}, []string{"--output", "cleartext=binary:other,cleartext@0.5"}, false},
		{"sigmoid", map[string]bool{"cleartext": true}, []string{"--output", "cleartext=binary:other,cleartext@0.7"}, false},
		{"labels", map[string]bool{"tags": true}, []string{"--output", "tags=labels:mail,store,udp,login@0.5,0.4,0.5,0.6"}, false},
		{"heads", map[string]bool{"cleartext": true}, []string{"--output", "cleartext=binary:other,cleartext@0.5", "--labels", filepath.Join(root, "examples", "model", "demo.labels.txt")}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if testing.Short() && tc.name != "heads" {
				t.Skip("one of them will do")
			}
			drop := []string{"/head/Gemm"}
			if tc.both {
				drop = nil
			}
			g := m.Reopen(demo, drop...)
			if tc.both {
				g.Output("logits", m.F32)
			}
			for output, sigmoid := range tc.outputs {
				add(g, output, sigmoid)
			}
			model, file := write(tc.name, g), filepath.Join(dir, tc.name+".nepco")
			args := append([]string{"compile", model, "--min-payload", "0", "--contract", contract, "--calib", filepath.Join(testbed, "calib.pcap"), "-o", file}, tc.flags...)
			if out, err := exec.Command("nepcoc", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			b, err := bundle.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}

			// Right verdicts, and the float model's: lines of output=label,... per flow.
			front := features(t, model, test)
			labels := make(map[string][][]string)
			floats := make(map[string][][]string)
			for o := range b.Manifest.Outputs {
				info := &b.Manifest.Outputs[o]
				for i, p := range truth {
					var want, got []string
					switch info.Kind {
					case bundle.KindClasses:
						want, got = []string{p}, []string{classes[calibrate.ArgMax(front[o][i])]}
					default:
						for k, h := range heads[info.Name] {
							z := float64(front[o][i][k])
							if !tc.outputs[info.Name] {
								z = 1 / (1 + math.Exp(-z))
							}
							if slices.Contains(h.of, p) {
								want = append(want, h.label)
							}
							if z >= info.Thresholds[k] {
								got = append(got, h.label)
							}
						}
						if info.Kind == bundle.KindBinary {
							if want == nil {
								want = []string{"other"}
							}
							if got == nil {
								got = []string{"other"}
							}
						}
					}
					labels[info.Name], floats[info.Name] = append(labels[info.Name], want), append(floats[info.Name], got)
				}
			}

			// run and the agent say the same of each flow.
			run, err := exec.Command("nepcoc", "run", file, filepath.Join(testbed, "test.pcap"), "--json").Output()
			if err != nil {
				t.Fatal(err)
			}
			ints := verdictsOf(t, b, bytes.Split(bytes.TrimSpace(run), []byte("\n")), false)
			loaded, err := agent.NewModel(b)
			if err != nil {
				t.Fatal(err)
			}
			src, err := capture.Open(filepath.Join(testbed, "test.pcap"))
			if err != nil {
				t.Fatal(err)
			}
			var eve bytes.Buffer
			a, err := agent.New(agent.Options{Sources: []capture.Source{src}, Model: loaded, Lossless: true, Sink: &eve, Format: agent.Formats["eve"]})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			events := verdictsOf(t, b, bytes.Split(bytes.TrimSpace(eve.Bytes()), []byte("\n")), true)
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			counted := map[string]int{}
			for _, s := range regexp.MustCompile(`(?m)^nepcod_verdicts_total\{label="(\w+)",output="(\w+)"\} (\d+)$`).FindAllStringSubmatch(w.Body.String(), -1) {
				counted[s[2]+"/"+s[1]], _ = strconv.Atoi(s[3])
			}
			var report struct {
				Outputs []struct {
					Name           string
					Float, Integer struct{ Accuracy float64 }
				}
			}
			csv := labelFile(t, filepath.Join(dir, tc.name+".csv"), labels, test)
			if tc.name == "labels" {
				said, err := exec.Command("nepcoc", "verify", file, "--pcap", filepath.Join(testbed, "test.pcap"), "--random", "0").Output()
				if err != nil || !strings.Contains(string(said), "not judged") || !strings.Contains(string(said), "belonging isn't judged") {
					t.Errorf("%v: of belonging is said: %s", err, said)
				}
				if said, err = exec.Command("nepcoc", "inspect", file).Output(); err != nil || !strings.Contains(string(said), "belonging not judged") {
					t.Errorf("%v: of belonging inspect says: %s", err, said)
				}
			}
			out, err := exec.Command("nepcoc", "verify", file, "--model", model, "--pcap", filepath.Join(testbed, "test.pcap"), "--labels", csv, "--json", "--random", "8").Output()
			if err != nil || json.Unmarshal(out, &report) != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for o := range b.Manifest.Outputs {
				name := b.Manifest.Outputs[o].Name
				if !slices.EqualFunc(ints[name], events[name], slices.Equal) {
					t.Errorf("%s: events differ from the lines of run", name)
				}
				right := func(v [][]string) (n float64) {
					for i := range v {
						if slices.Equal(v[i], labels[name][i]) {
							n++
						}
					}
					return n / float64(len(v))
				}
				f, i := right(floats[name]), right(ints[name])
				t.Logf("%s: accuracy %.4f float, %.4f integer", name, f, i)
				if math.Abs(f-i) > 0.005 || f < 0.8 {
					t.Errorf("%s: accuracy %.4f float, %.4f integer", name, f, i)
				}
				if r := report.Outputs[o]; r.Name != name || math.Abs(r.Float.Accuracy-f) > 1e-9 || math.Abs(r.Integer.Accuracy-i) > 1e-9 {
					t.Errorf("%s: verify says %+v, want %g and %g", name, r, f, i)
				}
				want := map[string]int{}
				for _, v := range ints[name] {
					for _, l := range v {
						want[l]++
					}
				}
				if len(want) < 2 {
					t.Errorf("%s: verdicts %v", name, want)
				}
				for l, n := range want {
					if counted[name+"/"+l] != n {
						t.Errorf("metrics: %s of %s %d, want %d", l, name, counted[name+"/"+l], n)
					}
				}
			}
		})
	}
}

// verdictsOf reads the labels of each output off JSON lines, in the order of the lines.
func verdictsOf(t *testing.T, b *bundle.Bundle, lines [][]byte, eve bool) map[string][][]string {
	t.Helper()
	type output struct {
		Output string
		Label  string
		Labels []struct{ Label string }
	}
	type record struct {
		output
		Outputs []output
	}
	all := make(map[string][][]string)
	for _, l := range lines {
		var event struct {
			record
			Nepco record
		}
		if err := json.Unmarshal(l, &event); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		r := event.record
		if eve {
			r = event.Nepco
		}
		if len(b.Manifest.Outputs) == 1 {
			r.Outputs = []output{r.output}
			r.Outputs[0].Output = b.Manifest.Outputs[0].Name
		}
		for _, o := range r.Outputs {
			var given []string
			if o.Label != "" {
				given = append(given, o.Label)
			}
			for _, g := range o.Labels {
				given = append(given, g.Label)
			}
			all[o.Output] = append(all[o.Output], given)
		}
	}
	return all
}

// labelFile writes a label file with a column per output.
func labelFile(t *testing.T, to string, labels map[string][][]string, s *calibrate.Set) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("proto,src,sport,dst,dport,time")
	var names []string
	for name := range labels {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, n := range names {
		b.WriteString(",label." + n)
	}
	b.WriteString("\n")
	for i := range s.Flows {
		f := &s.Flows[i]
		fmt.Fprintf(&b, "%s,%s,%d,%s,%d,%d.%09d", f.Key.ProtoName(), f.Key.SrcAddr().Addr(), f.Key.SrcAddr().Port(), f.Key.DstAddr().Addr(), f.Key.DstAddr().Port(), f.First/1e9, f.First%1e9)
		for _, n := range names {
			text := strings.Join(labels[n][i], "|")
			if text == "" {
				text = "-"
			}
			b.WriteString("," + text)
		}
		b.WriteString("\n")
	}
	if err := os.WriteFile(to, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}
