package bundle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// The corpus: files as they were written when their version was the newest, and
// what they must give. They are never written anew; a new version gets a folder of
// its own beside them.
//
//	demo, signed   the example model; signed is calibrated with labels, too;
//	               .csv is what the agent said of the testbed's test.pcap
//	heads, raw     two small models, kept beside them (compiled with heads.npz and the
//	               testbed's calib.pcap): two outputs without a contract; byte/255
//	random-*       random programs that together have every step in every element type, stored
//	               compressed, mapped and signed
const corpus = "testdata/format1"

// stored is what a file of the corpus must give.
type stored struct {
	Digest   string `json:"digest"`
	SignedBy string `json:"signed_by"`
	Contract string `json:"contract"`
	Golden   int    `json:"golden"`
	Cases    []struct {
		Tokens        []int32
		Valid         int
		Logits        [][]int32
		Class         []int
		Label         []string
		Score, Margin []int32
	}
}

func corpusFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(corpus, "*.nepco"))
	if err != nil || len(files) < 17 {
		t.Fatalf("%d files in %s, there were 17: %v", len(files), corpus, err)
	}
	return files
}

// TestFormat1 opens every file of version 1: it is what it was, and both executors compute
// what they computed.
func TestFormat1(t *testing.T) {
	ops, signed := map[string]bool{}, 0
	for _, file := range corpusFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var want stored
			text, err := os.ReadFile(strings.TrimSuffix(file, ".nepco") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			b, err := bundle.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.Manifest.Format != 1 || b.Digest.String() != want.Digest || len(b.Golden) != want.Golden {
				t.Errorf("format %d, digest %v, %d golden vectors; want 1, %s, %d", b.Manifest.Format, b.Digest, len(b.Golden), want.Digest, want.Golden)
			}
			// What was called accuracy is agreement on inputs that the calibration saw.
			if m := b.Manifest.Measured; !m.Seen || m.Labelled != 0 || strings.HasSuffix(file, "/demo.nepco") && (m.Samples != 210 || m.Agreement != 1) {
				t.Errorf("measured: %+v", m)
			}
			if b.Signature != nil {
				signed++
				if got := bundle.Fingerprint(b.Signature.Key); got != want.SignedBy {
					t.Errorf("signed by %s, want %s", got, want.SignedBy)
				}
				key, err := files.Read(filepath.Join(corpus, "signer.pem"), bundle.ReadPublicKey)
				if err != nil || !key.Equal(b.Signature.Key) {
					t.Errorf("signed by %x, not by %x (%v)", b.Signature.Key, key, err)
				}
			}
			if want.Contract != "" {
				c, err := classify.Contract(b)
				if err != nil || c.Hash() != want.Contract {
					t.Errorf("contract %s, want %s: %v", c.Hash(), want.Contract, err)
				}
			}
			for name, c := range goldenHolds(t, b) {
				for i, k := range want.Cases {
					res, err := c.Run(k.Tokens, k.Valid)
					if err != nil || !slices.EqualFunc(c.Logits(), k.Logits, slices.Equal) {
						t.Fatalf("%s: case %d: %v, want %v: %v", name, i, c.Logits(), k.Logits, err)
					}
					for h, r := range res {
						if label := c.Heads[h].Labels[r.Class]; r.Class != k.Class[h] || label != k.Label[h] || r.Score != k.Score[h] || r.Margin != k.Margin[h] {
							t.Errorf("%s: case %d, output %d: %+v %s, want %d %s %d %d", name, i, h, r, label, k.Class[h], k.Label[h], k.Score[h], k.Margin[h])
						}
					}
				}
			}
			for _, s := range b.Program.Steps {
				ops[s.Op] = true
			}
		})
	}
	if len(ops) != 12 || signed == 0 {
		t.Errorf("the corpus has %d kinds of step of 12 and %d signed files", len(ops), signed)
	}
}

// TestFormat1IsRewritten: a file of version 1 that is written again is one of the newest version and
// means the same.
func TestFormat1IsRewritten(t *testing.T) {
	for _, file := range corpusFiles(t) {
		old, err := bundle.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data, err := bundle.Encode(old, bundle.Options{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		b, err := bundle.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if v := binary.LittleEndian.Uint32(data[8:]); v != bundle.FormatVersion || b.Manifest.Format != bundle.FormatVersion {
			t.Errorf("%s: written as format %d, in the manifest %d", file, v, b.Manifest.Format)
		}
		b.Manifest.Format = 1
		m, p, w, g := bundle.Parts(t, old)
		m2, p2, w2, g2 := bundle.Parts(t, b)
		if !bytes.Equal(m, m2) || !bytes.Equal(p, p2) || !bytes.Equal(w, w2) || !bytes.Equal(g, g2) {
			t.Errorf("%s: changed by being written again", file)
		}
	}
}

// TestVersionsAreApart: a file is of one version throughout. Fields that came later are refused in one
// of version 1, fields that went in one of version 2, and files of versions to come by name.
func TestVersionsAreApart(t *testing.T) {
	b, err := bundle.ReadFile(filepath.Join(corpus, "random-2501.nepco"))
	if err != nil {
		t.Fatal(err)
	}
	b.Manifest.Format = bundle.FormatVersion
	m, p, w, g := bundle.Parts(t, b)
	as := func(version uint32, manifest, program []byte) error {
		data := bundle.Assemble(manifest, program, w, g)
		binary.LittleEndian.PutUint32(data[8:], version)
		bundle.Reseal(data)
		_, err := bundle.Decode(data)
		return err
	}
	edit := func(b []byte, old, new string) []byte {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("no %q in %s", old, b)
		}
		return bytes.Replace(b, []byte(old), []byte(new), 1)
	}
	m1 := edit(edit(m, `"format":2`, `"format":1`), `"sizes":{`, `"sizes":{"parameters":0,`)
	m1 = edit(m1, `,"min_payload":-1`, "")
	m1 = edit(edit(m1, `"measured":`, `"accuracy":`), `"seen":true,`, "")
	p1 := edit(p, `"plan":{"tile":0`, `"plan":{"tile":0,"arena":0,"offset":null`)
	if err := as(1, m1, p1); err != nil {
		t.Fatal(err)
	}
	if err := as(2, m, p); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		version uint32
		m, p    []byte
		want    string
	}{
		{"newer", 3, m, p, "written by a newer nepcoc (format 3; this program reads 1 to 2): update nepcod"},
		{"far newer", 1 << 31, m, p, "written by a newer nepcoc (format 2147483648; this program reads 1 to 2): update nepcod"},
		{"none", 0, m, p, "format version 0 does not exist"},
		{"manifest of 1 in a file of 2", 2, m1, p, `section manifest: json: unknown field "accuracy"`},
		{"program of 1 in a file of 2", 2, m, p1, `section program: json: unknown field "arena"`},
		{"program of 2 in a file of 1", 1, m1, p, "section program: JSON is not in canonical form"},
		{"manifest of 2 in a file of 1", 1, m, p, `section manifest: json: unknown field "measured"`},
		{"number of 2 in a file of 1", 1, edit(m1, `"format":1`, `"format":2`), p1, "manifest: format 2 in a file of version 1"},
		{"number of 1 in a file of 2", 2, edit(m, `"format":2`, `"format":1`), p, "manifest: format 1 in a file of version 2"},
		{"a later field", 1, edit(m1, `"sizes":{`, `"later":1,"sizes":{`), p1, `section manifest: json: unknown field "later"`},
		{"a later step", 1, m1, edit(p1, `"token_table":{`, `"later":1,"token_table":{`), `section program: json: unknown field "later"`},
	} {
		if err := as(tc.version, tc.m, tc.p); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
}

// goldenHolds checks a bundle's golden vectors on both executors, and gives the classifiers.
func goldenHolds(t *testing.T, b *bundle.Bundle) map[string]*classify.Classifier {
	t.Helper()
	classifiers := map[string]*classify.Classifier{}
	for name, bind := range map[string]func(*bundle.Bundle) (classify.Executor, error){"reference": classify.Reference, "engine": classify.Engine} {
		x, err := bind(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := classify.New(b, x)
		for i, g := range b.Golden {
			if _, err := c.Run(g.Tokens, g.Valid); err != nil || !slices.EqualFunc(c.Logits(), g.Logits, slices.Equal) {
				t.Errorf("%s: golden vector %d: %v, want %v: %v", name, i, c.Logits(), g.Logits, err)
			}
		}
		classifiers[name] = c
	}
	return classifiers
}
