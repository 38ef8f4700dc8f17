// Package model holds no Go code: the demonstration model, and the test that what it was trained on is
// what the agent will feed it.
package model

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/labels"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

func contract(t *testing.T) traffic.Contract {
	t.Helper()
	text, err := os.ReadFile("demo.contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := traffic.Parse("demo.contract.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestContractIsTheNamedOne(t *testing.T) {
	named, err := traffic.Named("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	if c := contract(t); c.Hash() != named.Hash() {
		t.Errorf("demo.contract.yaml is not nepco-bytes:\n%s\nwant:\n%s", c.Canonical(), named.Canonical())
	}
}

// The digests were printed by a program in Python that implemented the contract without this module's code.
func TestTokensAreThoseOfTraining(t *testing.T) {
	for split, want := range map[string]string{
		"train": "5dd979a5688fc01fbb58d497e9f8930c23a8e9590c319e5c783b70d96fef5005",
		"calib": "81d361e01896e674efc6736bf2088f5007baf2d71873181de38dd4ce958781e2",
		"test":  "770b7617da131fc1b4101faf3621003ab9e2e66302b5856c748ac0c7398162d7",
	} {
		t.Run(split, func(t *testing.T) {
			src, err := capture.Open("../testbed/" + split + ".pcap")
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			flows, _, err := flow.Collect(src, contract(t))
			if err != nil {
				t.Fatal(err)
			}
			truth, err := labels.Read("../testbed/" + split + ".csv")
			if err != nil {
				t.Fatal(err)
			}
			if len(flows) != len(truth.Rows) {
				t.Fatalf("%d flows, %d rows in the CSV", len(flows), len(truth.Rows))
			}
			sum := sha256.New()
			for i, f := range flows {
				if row, m := truth.Find(f.Key, f.First); m != labels.Fits || row != i {
					t.Fatalf("flow %d, %v, is row %d of the CSV (match %d)", i, f.Key, row, m)
				}
				var b []byte
				for _, id := range f.Tokens {
					b = binary.LittleEndian.AppendUint32(b, uint32(id))
				}
				sum.Write(b)
			}
			if got := hex.EncodeToString(sum.Sum(nil)); got != want {
				t.Errorf("digest of the tokens is %s, training says %s", got, want)
			}
		})
	}
}

func TestLabelsAreSortedNames(t *testing.T) {
	text, err := os.ReadFile("demo.labels.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(text))
	rows, err := labels.Read("../testbed/train.csv")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, r := range rows.Rows {
		found[r.Names[0]] = true
	}
	if got, want := strings.Join(names, " "), strings.Join(slices.Sorted(maps.Keys(found)), " "); got != want {
		t.Errorf("demo.labels.txt: %s\ntrain.csv has:   %s", got, want)
	}
}
