package labels

import (
	"bytes"
	"compress/gzip"
	"net/netip"
	"os"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/flow"
)

const head = "proto,src,sport,dst,dport,time,label,npkts,capture\n"

func key(t testing.TB, proto uint8, a, b string) flow.Key {
	t.Helper()
	k, err := flow.MakeKey(proto, netip.MustParseAddrPort(a), netip.MustParseAddrPort(b))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestLabels(t *testing.T) {
	l, err := Parse("l.csv", strings.NewReader("\ufeff"+head+
		"6,10.0.0.1,1,10.0.0.2,2,1700000000.000001,TLS,5,a\r\n"+
		"\n"+
		"6,10.0.0.2,2,10.0.0.1,1,1700000900,\"HTTP, plain\",1,a\n"+
		"UDP,2001:db8::1,53,2001:db8::2,2,0.5,DNS,1,a\n"))
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, 6, "10.0.0.1:1", "10.0.0.2:2")
	for _, tc := range []struct {
		time int64
		want string
	}{
		{1700000000_000001000, "TLS"}, {1700000000_000001999, "TLS"}, {1700000000_000003000, ""},
		{1700000900_000000000, "HTTP, plain"},
	} {
		got := ""
		for _, k := range []int{0, 1} {
			kk := key(t, 6, "10.0.0.1:1", "10.0.0.2:2")
			if k == 1 {
				kk = kk.Reverse()
			}
			if i, m := l.Find(kk, tc.time); m == Fits {
				got = l.Rows[i].Names[0]
			}
			if got != tc.want {
				t.Errorf("at %d: %q, want %q", tc.time, got, tc.want)
			}
		}
	}
	if l.Rows[0].Key != k || l.Rows[0].Packets != 5 || l.Rows[2].Time != 5e8 || l.Rows[2].Line != 5 || !l.Rows[2].Key.V6 {
		t.Errorf("%+v", l.Rows)
	}
	// Without time and packets.
	l, err = Parse("l.csv", strings.NewReader("label,proto,src,sport,dst,dport\nX,6,10.0.0.1,1,10.0.0.2,2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if i, m := l.Find(k.Reverse(), 123); m != Fits || l.Rows[i].Names[0] != "X" || l.Rows[i].Packets != -1 {
		t.Error("label without a time was not found")
	}
}

func TestLabelErrors(t *testing.T) {
	good := "6,10.0.0.1,1,10.0.0.2,2,1700000000.5,TLS,5,a\n"
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "l.csv: the file is empty"},
		{"head only", head, "l.csv: no labels"},
		{"no column", "proto,src,sport,dst,dport,time\n", `l.csv:1: no column "label"`},
		{"column twice", "proto,src,src\n", `l.csv:1: column "src" is there twice`},
		{"short row", head + good + "6,10.0.0.1\n", "l.csv: line 3: not as many columns"},
		{"proto", head + "tpc,10.0.0.1,1,10.0.0.2,2,1,TLS,5,a\n", `l.csv:2: proto "tpc" is neither`},
		{"proto number", head + "256,10.0.0.1,1,10.0.0.2,2,1,TLS,5,a\n", `l.csv:2: proto "256" is neither`},
		{"others only", head + "1,10.0.0.1,,10.0.0.2,,1,TLS,5,a\n", "only 1 row of other protocols"},
		{"Latin-1", head + "6,10.0.0.1,1,10.0.0.2,2,1,caf\xe9,5,a\n", "is not UTF-8: save the file as UTF-8"},
		{"half a character", "\xff\xfep", "l.csv: UTF-16 text ends"},
		{"address", head + "6,10.0.0,1,10.0.0.2,2,1,TLS,5,a\n", `l.csv:2: src "10.0.0" is not an IP address`},
		{"zone", head + "6,fe80::1%eth0,1,fe80::2,2,1,TLS,5,a\n", "is not an IP address"},
		{"families", head + "6,10.0.0.1,1,::1,2,1,TLS,5,a\n", "not addresses of one family"},
		{"port", head + "6,10.0.0.1,65536,10.0.0.2,2,1,TLS,5,a\n", `sport "65536" is not a port`},
		{"time", head + "6,10.0.0.1,1,10.0.0.2,2,yesterday,TLS,5,a\n", `time "yesterday"`},
		{"negative time", head + "6,10.0.0.1,1,10.0.0.2,2,-1,TLS,5,a\n", `time "-1"`},
		{"time before 1970", head + "6,10.0.0.1,1,10.0.0.2,2,1960-01-01 00:00:00,TLS,5,a\n", "time"},
		{"times differ", head + good + "6,10.0.0.1,1,10.0.0.2,2,1700000000.5000001,SSH,5,a\n", "l.csv:3: TCP 10.0.0.1:1 > 10.0.0.2:2 is labelled already, on line 2"},
		{"time fraction", head + "6,10.0.0.1,1,10.0.0.2,2,1.5x,TLS,5,a\n", "time"},
		{"packets", head + "6,10.0.0.1,1,10.0.0.2,2,1,TLS,many,a\n", "npkts"},
		{"label", head + "6,10.0.0.1,1,10.0.0.2,2,1, ,5,a\n", "the label is empty"},
		{"twice", head + good + "6,10.0.0.2,2,10.0.0.1,1,1700000000.5,SSH,5,a\n", "l.csv:3: TCP 10.0.0.2:2 > 10.0.0.1:1 is labelled already, on line 2"},
		{"quote", head + "\"6,10.0.0.1\n", "l.csv: line"},
		{"one long line", strings.Repeat("x", 1<<20), "longer than 64 kB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("l.csv", strings.NewReader(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "l.csv:") {
				t.Errorf("error %q, want %q", err, tc.want)
			}
		})
	}
	if _, err := Read("no/such.csv"); err == nil || !strings.Contains(err.Error(), "no/such.csv") {
		t.Error(err)
	}
}

func TestSharedLabels(t *testing.T) {
	for split, rows := range map[string]int{"train": 5798, "valid": 773, "test": 748, "calib": 299} {
		l, err := Read(testfiles.Path(t, "traffic", split+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Rows) != rows {
			t.Errorf("%s: %d rows, want %d", split, len(l.Rows), rows)
		}
		classes, err := os.ReadFile(testfiles.Path(t, "traffic", "classes.txt"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l.Rows {
			if n := r.Names[0]; !strings.Contains("\n"+string(classes), "\n"+n+"\n") {
				t.Errorf("%s: label %q is no class", split, n)
			}
		}
	}
}

// Times as tools write them, and the step that they leave open.
func TestParseTime(t *testing.T) {
	const at = 1700000000_250000000
	for _, tc := range []struct {
		text     string
		ns, step int64
	}{
		{"1700000000", 1700000000e9, 1e9}, {"1700000000.25", at, 1e7}, {"1700000000.250000", at, 1e3}, {"1700000000.2500001234", at + 123, 1}, {"1700000000.0", 1700000000e9, 1e8},
		{"1700000000250", at, 1e6}, {"1700000000250.000", at, 1e3}, {"1700000000250000", at, 1e3}, {"1700000000250000000", at, 1},
		{"1.70000000025e9", at, 1e7}, {"1.700000000E+09", 1700000000e9, 1e9}, {"1.70000000025e+12", at, 1e7}, {"0", 0, 1e9}, {"0.5", 5e8, 1e8}, {"0.0000000001", 0, 1},
		{"2023-11-14T22:13:20.25Z", at, 1e7}, {"2023-11-14T23:13:20.250+01:00", at, 1e6}, {"2023-11-14T23:13:20.250000+0100", at, 1e3},
		{"2023-11-14 22:13:20", 1700000000e9, 1e9}, {"2023-11-14 22:13:20.250000", at, 1e3}, {"2023-11-14 17:13:20.250000-05:00", at, 1e3}, {"2023-11-14 17:13:20.25 -0500", at, 1e7},
	} {
		if ns, step, err := parseTime(tc.text); err != nil || ns != tc.ns || step != tc.step {
			t.Errorf("%s: %d, step %d, %v; want %d, %d", tc.text, ns, step, err, tc.ns, tc.step)
		}
	}
	for _, text := range []string{"", "-1", ".5", "1e", "1e99", "0x10", "nan", "1,5", "99999999999999999999", "2023-11-14", "14/11/2023 22:13:20", "2023-13-14 22:13:20", strings.Repeat("1", 100)} {
		if ns, _, err := parseTime(text); err == nil {
			t.Errorf("%q: %d", text, ns)
		}
	}
}

// Columns under the names, separators and notations of other tools.
func TestLabelForms(t *testing.T) {
	k := key(t, 6, "10.0.0.1:443", "10.0.0.2:2")
	for name, text := range map[string]string{
		"tabs":           "proto\tsrc\tsport\tdst\tdport\ttime\tnote\tlabel\n6\t10.0.0.1\t443\t10.0.0.2\t2\t1700000000.25\t\tX\n",
		"semicolons":     "sep;proto;src;sport;dst;dport;time;label\n;6;10.0.0.1;443,0;10.0.0.2;2;1700000000,25;X\n",
		"spaces":         "proto, \"src\", sport, dst, dport, time, label\n6, \"10.0.0.1\", 443, 10.0.0.2, 2, 1700000000.25, X\n",
		"flow meter":     "Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Label\nx,10.0.0.1,443.0,10.0.0.2,2.0,6.0,2023-11-14 22:13:20.25,X\n",
		"comments":       "# made by hand\n\nproto,src,sport,dst,dport,time,label\n# first\n0x06,10.0.0.1,443,10.0.0.2,2,1700000000250,X\n",
		"other rows":     "proto,src,sport,dst,dport,time,label\nicmp,10.0.0.1,,10.0.0.2,,1,Ping\nTcp,10.0.0.1,443,10.0.0.2,2,1700000000.25,X\n58,fe80::1,0,fe80::2,0,NaN,\n",
		"column of name": "proto,src,sport,dst,dport,Label.Which,time\n6,10.0.0.1,443,10.0.0.2,2,X,1700000000.25\n",
	} {
		l, err := Parse("l.csv", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if i, m := l.Find(k, 1700000000_250000000); m != Fits || l.Rows[i].Names[0] != "X" {
			t.Errorf("%s: row %d, match %d", name, i, m)
		}
		if (l.Skipped == 2) != (name == "other rows") || (l.Outputs[0] == "Which") != (name == "column of name") {
			t.Errorf("%s: %d skipped, outputs %q", name, l.Skipped, l.Outputs)
		}
	}
}

// Times are matched to the step in which the file has them, unless that makes
// labels of one 5-tuple ambiguous.
func TestLabelSteps(t *testing.T) {
	const head = "proto,src,sport,dst,dport,time,label,label.other\n"
	k := key(t, 6, "10.0.0.1:1", "10.0.0.2:2")
	seconds := head + "6,10.0.0.1,1,10.0.0.2,2,1700000000,A,\n6,10.0.0.1,1,10.0.0.2,2,1700000001,B,x\n6,10.0.0.1,1,10.0.0.2,2,1700000009,C,x\n6,10.0.0.1,1,10.0.0.2,2,1700000010,C,x\n"
	for _, tc := range []struct {
		text string
		at   int64
		want Match
		name string
	}{
		{seconds, 1700000000_400000000, Ambiguous, "A"}, {seconds, 1700000009_700000000, Fits, "C"}, {seconds, 1700000004_000000000, OtherTime, "B"},
		{seconds, 1700000002_000000000, Fits, "B"}, {seconds, 5, OtherTime, "A"}, {seconds, -1 << 62, OtherTime, "A"},
		{strings.NewReplacer(",A,", "000,A,", ",B,", "000,B,", ",C,", "000,C,").Replace(seconds), 1700000000_400000000, OtherTime, "A"},
		{strings.Replace(seconds, "1700000000,", "1700000000.000,", 1), 1700000000_000400000, Fits, "A"},
		{strings.Replace(seconds, "1700000000,", "1700000000.000,", 1), 1700000000_400000000, OtherTime, "A"},
	} {
		l, err := Parse("l.csv", strings.NewReader(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		if i, m := l.Find(k, tc.at); m != tc.want || l.Rows[i].Names[0] != tc.name {
			t.Errorf("at %d, step %d: %s, match %d; want %s, %d", tc.at, l.Step, l.Rows[i].Names[0], m, tc.name, tc.want)
		}
		if i, m := l.Find(key(t, 17, "10.0.0.1:1", "10.0.0.2:2"), tc.at); m != NoTuple || i != -1 {
			t.Errorf("UDP: row %d, match %d", i, m)
		}
		if l.Unique() {
			t.Error("unique")
		}
	}
}

func FuzzLabels(f *testing.F) {
	f.Add([]byte(head + "6,10.0.0.1,1,10.0.0.2,2,1700000000.5,TLS,5,a\n"))
	f.Add([]byte("Protocol;Src IP;Src Port;Dst IP;Dst Port;Timestamp;label.a;label.b\n0x11;::1;1,0;::2;2;2023-11-14 22:13:20,5;x;\n1;;;;;;;\n"))
	f.Add([]byte("proto,src,sport,dst,dport,label\n17,::1,1,::2,2,\"a\"\"b\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse("f.csv", bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range l.Rows {
			r := &l.Rows[i]
			if j, m := l.Find(r.Key.Reverse(), max(0, r.Time)); m != Fits && m != Ambiguous || l.Rows[j].Key != r.Key && l.Rows[j].Key != r.Key.Reverse() {
				t.Fatalf("row %d, %s, is not found", i, r.Key)
			}
		}
	})
}

// A packed label file is read as what is in it.
func TestPacked(t *testing.T) {
	const text = "proto,src,sport,dst,dport,label,capture\n6,10.0.0.1,1,10.0.0.2,2,web,monday\n"
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	plain, err := Parse("labels.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := Parse("labels.csv.gz", &b)
	if err != nil {
		t.Fatal(err)
	}
	if len(packed.Rows) != 1 || packed.Rows[0].Names[0] != "web" || packed.Rows[0].Group != "monday" || packed.Rows[0].Key != plain.Rows[0].Key {
		t.Errorf("packed %+v, plain %+v", packed.Rows, plain.Rows)
	}
}
