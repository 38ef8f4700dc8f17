package dataset_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nepcoc/compiler/dataset"
	"nepcoc/compiler/labels"
	"nepcoc/compiler/npz"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// testbed is a set of the repository's own captures.
func testbed(t testing.TB, contract string, splits ...string) *dataset.Set {
	t.Helper()
	c, err := traffic.Load(contract)
	if err != nil {
		t.Fatal(err)
	}
	opt := dataset.Options{Source: dataset.Source{Contract: c}}
	var paths []string
	for _, s := range splits {
		paths = append(paths, "../../examples/testbed/"+s+".pcap")
		l, err := labels.ReadSome("../../examples/testbed/" + s + ".csv")
		if err != nil {
			t.Fatal(err)
		}
		opt.Labels = append(opt.Labels, l)
	}
	set, err := dataset.Read(paths, opt)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The tokens are those that the shared models were trained and tested on, row for row.
func TestModelsTokens(t *testing.T) {
	for _, m := range []struct{ contract, model string }{{"nepco", "nepco"}, {"nepco-bytes", "nepco-small"}} {
		for _, split := range []string{"test", "calib"} {
			t.Run(m.model+"/"+split, func(t *testing.T) {
				f, err := npz.Open(testfiles.Path(t, "models/"+m.model+"."+split+".npz"))
				if err != nil {
					t.Fatal(err)
				}
				c, err := traffic.Load(m.contract)
				if err != nil {
					t.Fatal(err)
				}
				l, err := labels.Read(testfiles.Path(t, "traffic/"+split+".csv"))
				if err != nil {
					t.Fatal(err)
				}
				set, err := dataset.Read([]string{testfiles.Path(t, "traffic/"+split+".pcap")}, dataset.Options{Source: dataset.Source{Contract: c}, Labels: []*labels.Labels{l}})
				if err != nil {
					t.Fatal(err)
				}
				src, err := f.Array("src")
				if err != nil {
					t.Fatal(err)
				}
				want := src.Data.([]int64)
				if len(set.Flows) != src.Shape[0] || len(set.Flows) != len(l.Rows) {
					t.Fatalf("%d flows, want %d", len(set.Flows), src.Shape[0])
				}
				for i := range set.Flows {
					row, _ := l.Find(set.Flows[i].Key, set.Flows[i].First)
					if got := set.Labels[set.Flows[i].Label]; got != l.Rows[row].Names[0] || l.Rows[row].Group != set.Groups[set.Flows[i].Group] {
						t.Fatalf("flow %d is %s of %s", i, got, set.Groups[set.Flows[i].Group])
					}
					for p := range c.Length {
						id := int64(c.Pad)
						if p < len(set.Flows[i].Tokens) {
							id = int64(set.Flows[i].Tokens[p])
						}
						if id != want[row*c.Length+p] {
							t.Fatalf("flow %d, position %d: token %d, want %d", i, p, id, want[row*c.Length+p])
						}
					}
				}
			})
		}
	}
}

// What is written is what is read, by us and by NumPy; and the same set gives the same bytes.
func TestStored(t *testing.T) {
	beside := filepath.Join(t.TempDir(), "beside.yaml")
	c, err := traffic.Named("nepco")
	c.Packets, c.Numbers = 8, []traffic.Number{traffic.NumberLength, traffic.NumberGap}
	if err == nil {
		err = os.WriteFile(beside, c.YAML(), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, contract := range []string{"nepco", "nepco-stream", beside} { // wide ids and narrow ones, and numbers beside them
		set := testbed(t, contract, "calib")
		for i := range set.Flows {
			f := &set.Flows[i]
			if n := set.Contract.NumberCount(); len(f.Numbers) != n || len(set.Padded(f)) != set.Contract.Length+n || n > 0 && slices.Max(f.Numbers) == 0 && f.Payload > 0 {
				t.Fatalf("flow %d: numbers %v, want %d", i, f.Numbers, n)
			}
		}
		if err := set.Split(dataset.Shares{Names: []string{"train", "test"}, Parts: []float64{0.7, 0.3}}, dataset.ByHost); err != nil {
			t.Fatal(err)
		}
		set.Flows[3].Label = -1
		var a, b bytes.Buffer
		if err := set.Write(&a, dataset.Meta{Shard: 1, Shards: 1}); err != nil {
			t.Fatal(err)
		}
		if err := set.Write(&b, dataset.Meta{Shard: 1, Shards: 1}); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Fatalf("written twice, it differs (%v)", err)
		}
		path := filepath.Join(t.TempDir(), "set.npz")
		if err := os.WriteFile(path, a.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		got, err := dataset.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		set.Notes = nil // remarks on captures are not stored
		if d := cmp.Diff(set, got, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
			t.Fatal(d)
		}

		script := `
import sys, json, numpy as np
z = np.load(sys.argv[1])
meta = json.loads(str(z["meta"][0]))
f = 5
print(z["tokens"].shape[1], int(z["mask"][f].sum()), *z["tokens"][f][:4], z["labels"][z["label"][f]], z["splits"][z["split"][f]], z["time"][f], meta["contract_hash"][:8], z["label"][3])
`
		out, err := python(t, script, path)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		f := set.Flows[5]
		want := fmt.Sprintln(set.Contract.Length, len(f.Tokens), f.Tokens[0], f.Tokens[1], f.Tokens[2], f.Tokens[3], set.Labels[f.Label], set.Splits[f.Split], f.First, set.Contract.Hash()[:8], -1)
		if string(out) != want {
			t.Errorf("NumPy reads %q, want %q", out, want)
		}
	}
}

func python(t *testing.T, script string, args ...string) ([]byte, error) {
	const interpreter = "/usr/bin/python3" // Debian's, which Debian's NumPy is for
	if err := exec.Command(interpreter, "-c", "import numpy").Run(); err != nil {
		testfiles.Missing(t, "python3-numpy")
	}
	return exec.Command(interpreter, append([]string{"-c", script}, args...)...).CombinedOutput()
}

// Parts keep together what they should, and come near to their shares in every class.
func TestSplit(t *testing.T) {
	set := testbed(t, "nepco-stream", "train", "calib", "test")
	shares, err := dataset.ParseShares("70:10:20")
	if err != nil {
		t.Fatal(err)
	}
	// Groups of 20 flows, of all classes.
	set.Groups = nil
	for i := range set.Flows {
		if i%20 == 0 {
			set.Groups = append(set.Groups, fmt.Sprintf("capture %d", i/20))
		}
		set.Flows[i].Group = i / 20
	}
	kept := map[dataset.By]func(f *dataset.Flow) string{
		dataset.ByCapture: func(f *dataset.Flow) string { return fmt.Sprint(f.Group) },
		dataset.ByHost:    func(f *dataset.Flow) string { return f.Key.SrcAddr().Addr().String() },
		dataset.ByFlow:    func(f *dataset.Flow) string { return fmt.Sprint(f.Key, f.First) },
	}
	for by, key := range kept {
		if err := set.Split(shares, by); err != nil {
			t.Fatal(err)
		}
		part, n := map[string]int{}, make([]int, 3)
		for i := range set.Flows {
			f := &set.Flows[i]
			if p, ok := part[key(f)]; ok && p != f.Split {
				t.Fatalf("%s: %s is in two parts", by, key(f))
			}
			part[key(f)] = f.Split
			n[f.Split]++
		}
		for p, want := range []float64{0.7, 0.1, 0.2} {
			if got := float64(n[p]) / float64(len(set.Flows)); by != dataset.ByHost && (got < want-0.03 || got > want+0.03) {
				t.Errorf("%s: part %d has %.2f of the flows, want %.2f", by, p, got, want)
			}
		}
		before := slices.Clone(set.Flows)
		if err := set.Split(shares, by); err != nil || !slices.EqualFunc(before, set.Flows, func(a, b dataset.Flow) bool { return a.Split == b.Split }) {
			t.Errorf("%s: split otherwise the second time", by)
		}
	}
	if err := set.Split(shares, dataset.ByTime); err != nil {
		t.Fatal(err)
	}
	latest := [3]int64{}
	for i := range set.Flows {
		latest[set.Flows[i].Split] = max(latest[set.Flows[i].Split], set.Flows[i].First)
	}
	for i := range set.Flows {
		if p := set.Flows[i].Split; p > 0 && set.Flows[i].First < latest[p-1] {
			t.Fatal("time: a part begins before the one before it ends")
		}
	}
}

// Flows of later parts that an earlier part has, or nearly has, are left out; others are not.
func TestDuplicates(t *testing.T) {
	set := testbed(t, "nepco-stream", "calib")
	shares, _ := dataset.ParseShares("50:50")
	if err := set.Split(shares, dataset.ByFlow); err != nil {
		t.Fatal(err)
	}
	if err := set.DropDuplicates(); err != nil { // what the capture itself repeats
		t.Fatal(err)
	}
	n := len(set.Flows)
	var train, long *dataset.Flow
	for i := range set.Flows {
		if f := &set.Flows[i]; f.Split == 0 {
			train = f
			if len(f.Tokens) >= 100 && long == nil {
				long = f
			}
		}
	}
	same, near, far := *train, *long, *long
	near.Tokens, far.Tokens = slices.Clone(long.Tokens), slices.Clone(long.Tokens)
	for p := range near.Tokens {
		if p%25 == 7 { // four of a hundred
			near.Tokens[p] ^= 1
		}
		if p%3 == 1 { // a third
			far.Tokens[p] ^= 1
		}
	}
	same.Split, near.Split, far.Split = 1, 1, 1
	set.Flows = append(set.Flows, same, near, far)
	set.Left = nil
	if err := set.DropDuplicates(); err != nil {
		t.Fatal(err)
	}
	if len(set.Flows) != n+1 || set.Left[dataset.LeftSame] != 1 || set.Left[dataset.LeftNear] != 1 {
		t.Errorf("%d flows, left out %v: want %d, and one of each", len(set.Flows), set.Left, n+1)
	}
}

// Near doubles are found whatever their length, wherever they differ and however many flows look alike in part.
func TestNearDuplicates(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	set := &dataset.Set{Splits: []string{"train", "test"}, Labels: []string{"x"}, Groups: []string{"g"}}
	add := func(split int, tokens []int32) {
		set.Flows = append(set.Flows, dataset.Flow{Tokens: tokens, Split: split})
	}
	random := func(n int) []int32 {
		t := make([]int32, n)
		for i := range t {
			t[i] = 5 + r.Int32N(256)
		}
		return t
	}
	changed := func(t []int32, n int) []int32 {
		t = slices.Clone(t)
		for _, p := range r.Perm(len(t))[:n] {
			t[p] ^= 1
		}
		return t
	}
	near, far := 0, 0
	for _, length := range []int{19, 20, 39, 40, 100, 128, 256, 399, 700, 2000} {
		for range 30 {
			first := random(length)
			add(0, first)
			// Decoys that have most of its pieces, and are not near.
			for range 8 {
				add(0, changed(first, length/20+1))
			}
			add(1, changed(first, length/20)) // 5 %, rounded down; of 19 it is the same
			near++
			add(1, changed(first, length/4))
			far++
		}
	}
	// 500 flows with one piece in common, more than anyone would like to compare, before the one that counts.
	head := random(240)
	for range 500 {
		add(0, append(slices.Clone(head), random(80)...))
	}
	last := append(slices.Clone(head), random(80)...)
	add(0, last)
	add(1, changed(last, 16))
	near++
	if err := set.DropDuplicates(); err != nil {
		t.Fatal(err)
	}
	if got := set.Left[dataset.LeftSame] + set.Left[dataset.LeftNear]; got != near || set.Left[dataset.LeftSame] != 30 {
		t.Errorf("left out %v, want %d of %d near ones and none of the %d others", set.Left, near, near, far)
	}
}

// Folders stand for their captures; labels come from folders and names.
func TestFolders(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile("../../examples/testbed/calib.pcap")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mail/a.pcap", "web/b.cap", "web/deep/c.PCAP"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, "README.txt"), []byte("no capture"), 0o666)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.pcap"), 0o666); err != nil { // which would be waited for
		t.Fatal(err)
	}
	c := traffic.Default()
	for from, want := range map[dataset.LabelFrom][]string{dataset.FromFolder: {"deep", "mail", "web"}, dataset.FromFile: {"a", "b", "c"}} {
		set, err := dataset.Read([]string{dir}, dataset.Options{Source: dataset.Source{Contract: c}, From: from})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(set.Labels, want) || len(set.Groups) != 3 {
			t.Errorf("%s: labels %q, %d groups; want %q of 3", from, set.Labels, len(set.Groups), want)
		}
		n := set.Classes()
		if n[0] == 0 || n[0] != n[1] || n[1] != n[2] || n[3] != 0 {
			t.Errorf("%s: classes %v", from, n)
		}
	}
}

// A class has a name that a bundle can have, and that says which file it is from.
func TestUnprintableClass(t *testing.T) {
	data, err := os.ReadFile("../../examples/testbed/calib.pcap")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a\x1b[31m")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "odd.pcap"), data, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = dataset.Read([]string{dir}, dataset.Options{Source: dataset.Source{Contract: traffic.Default()}, From: dataset.FromFolder})
	if err == nil || strings.Count(err.Error(), "odd.pcap: the name of a class") != 1 {
		t.Error(err)
	}
}

// silent is a capture of datagrams without payload, of which a contract without headers and facts has nothing.
func silent(t *testing.T) string {
	t.Helper()
	return datagrams(t, 5, 0)
}

// What nothing can be learnt from is refused, with the way out.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	l, err := labels.ReadSome("../../examples/testbed/train.csv")
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := traffic.Load("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	payload, err := traffic.Load("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	payload.FirstLayer, payload.Blank = traffic.LayerPayload, nil
	for name, c := range map[string]struct {
		paths []string
		opt   dataset.Options
		want  []string
	}{
		"labels of another capture":     {[]string{"../../examples/testbed/test.pcap"}, dataset.Options{Source: dataset.Source{Contract: nothing}, Labels: []*labels.Labels{l}}, []string{"none of the 441 flows has a label", "--unlabelled"}},
		"a contract that takes nothing": {[]string{silent(t)}, dataset.Options{Source: dataset.Source{Contract: payload}, Unlabelled: true}, []string{"takes no byte of any of the 5 flows", "nepcoc contract show"}},
		"an empty folder":               {[]string{dir}, dataset.Options{Source: dataset.Source{Contract: nothing}}, []string{"no captures in this folder", ".pcapng"}},
		"two that are missing":          {[]string{"one.pcap", "two.pcap"}, dataset.Options{Source: dataset.Source{Contract: nothing}, Unlabelled: true}, []string{"one.pcap", "two.pcap"}},
	} {
		_, err := dataset.Read(c.paths, c.opt)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: want %q", name, err, want)
			}
		}
	}
	for _, text := range []string{"", "70", "70:0:30", "a:b", "1:2:3:4", "-1:2"} {
		if _, err := dataset.ParseShares(text); err == nil {
			t.Errorf("shares %q are taken", text)
		}
	}
}

// Damaged sets are refused, whatever is damaged.
func FuzzOpen(f *testing.F) {
	set := testbed(f, "nepco-stream", "calib")
	set.Flows = set.Flows[:3]
	var b bytes.Buffer
	if err := set.Write(&b, dataset.Meta{}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "set.npz")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		s, err := dataset.Open(path)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := s.Write(&again, dataset.Meta{}); err != nil {
			t.Fatal(err)
		}
	})
}

// The tokens of a set are the agent's, whatever the contract: the flows of runtime/flow, one by one.
func TestAgentsTokens(t *testing.T) {
	if testing.Short() {
		t.Skip("reads captures for seconds, under emulation for minutes")
	}
	for _, name := range []string{"nepco", "nepco-bytes", "nepco-stream", "../../examples/model/demo-hosts.contract.yaml"} {
		c, err := traffic.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, split := range []string{"train", "valid", "test", "calib"} {
			path := testfiles.Path(t, "traffic/"+split+".pcap")
			set, err := dataset.Read([]string{path}, dataset.Options{Source: dataset.Source{Contract: c}, Unlabelled: true})
			if err != nil {
				t.Fatal(err)
			}
			src, err := capture.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			flows, _, err := flow.Collect(src, c)
			if err != nil {
				t.Fatal(err)
			}
			src.Close()
			if len(flows) != len(set.Flows)+set.Left[dataset.LeftEmpty] {
				t.Fatalf("%s, %s: %d flows, the agent has %d", name, split, len(set.Flows), len(flows))
			}
			for i, at := 0, 0; i < len(flows); i++ {
				if flows[i].Valid == 0 {
					continue
				}
				if !slices.Equal(flows[i].Tokens[:flows[i].Valid], set.Flows[at].Tokens) || flows[i].Key != set.Flows[at].Key {
					t.Fatalf("%s, %s: flow %d differs", name, split, i)
				}
				at++
			}
		}
	}
}
