package verdict

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

const head = "proto,src,sport,dst,dport,time,label,npkts,capture\n"

func TestLabels(t *testing.T) {
	l, err := ParseLabels("l.csv", strings.NewReader("\ufeff"+head+
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
			if i, ok := l.Find(kk, tc.time); ok {
				got = l.Rows[i].Name
			}
			if got != tc.want {
				t.Errorf("at %d: %q, want %q", tc.time, got, tc.want)
			}
		}
	}
	if l.Rows[0].Key != k || l.Rows[0].Packets != 5 || l.Rows[2].Time != 5e8 || l.Rows[2].Line != 5 || !l.Rows[2].Key.V6 {
		t.Errorf("%+v", l.Rows)
	}
	if got := strings.Join(l.Names(), "|"); got != "DNS|HTTP, plain|TLS" {
		t.Error(got)
	}
	// Without time and packets.
	l, err = ParseLabels("l.csv", strings.NewReader("label,proto,src,sport,dst,dport\nX,6,10.0.0.1,1,10.0.0.2,2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if i, ok := l.Find(k.Reverse(), 123); !ok || l.Rows[i].Name != "X" || l.Rows[i].Packets != -1 {
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
		{"proto", head + "1,10.0.0.1,1,10.0.0.2,2,1,TLS,5,a\n", `l.csv:2: proto "1" is neither`},
		{"address", head + "6,10.0.0,1,10.0.0.2,2,1,TLS,5,a\n", `l.csv:2: src "10.0.0" is not an IP address`},
		{"zone", head + "6,fe80::1%eth0,1,fe80::2,2,1,TLS,5,a\n", "is not an IP address"},
		{"families", head + "6,10.0.0.1,1,::1,2,1,TLS,5,a\n", "not addresses of one family"},
		{"port", head + "6,10.0.0.1,65536,10.0.0.2,2,1,TLS,5,a\n", `sport "65536" is not a port`},
		{"time", head + "6,10.0.0.1,1,10.0.0.2,2,yesterday,TLS,5,a\n", `time "yesterday"`},
		{"negative time", head + "6,10.0.0.1,1,10.0.0.2,2,-1,TLS,5,a\n", `time "-1"`},
		{"time too fine", head + "6,10.0.0.1,1,10.0.0.2,2,1.0000000001,TLS,5,a\n", "time"},
		{"time fraction", head + "6,10.0.0.1,1,10.0.0.2,2,1.5x,TLS,5,a\n", "time"},
		{"packets", head + "6,10.0.0.1,1,10.0.0.2,2,1,TLS,many,a\n", "npkts"},
		{"label", head + "6,10.0.0.1,1,10.0.0.2,2,1, ,5,a\n", "the label is empty"},
		{"twice", head + good + "6,10.0.0.2,2,10.0.0.1,1,1700000000.5,SSH,5,a\n", "l.csv:3: TCP 10.0.0.2:2 > 10.0.0.1:1 is labelled already, on line 2"},
		{"quote", head + "\"6,10.0.0.1\n", "l.csv: line"},
		{"one long line", strings.Repeat("x", 1<<20), "longer than 64 kB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseLabels("l.csv", strings.NewReader(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "l.csv:") {
				t.Errorf("error %q, want %q", err, tc.want)
			}
		})
	}
	if _, err := ReadLabels("no/such.csv"); err == nil || !strings.Contains(err.Error(), "no/such.csv") {
		t.Error(err)
	}
}

func TestSharedLabels(t *testing.T) {
	for split, rows := range map[string]int{"train": 5798, "valid": 773, "test": 748, "calib": 299} {
		l, err := ReadLabels(testfiles.Path(t, "traffic", split+".csv"))
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
		for _, n := range l.Names() {
			if !strings.Contains("\n"+string(classes), "\n"+n+"\n") {
				t.Errorf("%s: label %q is no class", split, n)
			}
		}
	}
}

func FuzzLabels(f *testing.F) {
	f.Add([]byte(head + "6,10.0.0.1,1,10.0.0.2,2,1700000000.5,TLS,5,a\n"))
	f.Add([]byte("proto,src,sport,dst,dport,label\n17,::1,1,::2,2,\"a\"\"b\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLabels("f.csv", bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range l.Rows {
			r := &l.Rows[i]
			if j, ok := l.Find(r.Key.Reverse(), max(0, r.Time)); !ok || l.Rows[j].Key != r.Key && l.Rows[j].Key != r.Key.Reverse() {
				t.Fatalf("row %d, %s, is not found", i, r.Key)
			}
		}
	})
}
