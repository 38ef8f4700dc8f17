package compiler_test

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nepcoc/backends"
	"nepcoc/compiler"
	"nepcoc/runtime/bundle"
)

// TestArtifacts walks the table: every kind has a folder and every folder a row, every kind builds the same
// bytes twice, and nothing of a program that is not valid.
func TestArtifacts(t *testing.T) {
	var folders, names []string
	entries, err := os.ReadDir("../backends")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "program" {
			folders = append(folders, e.Name())
		}
	}
	const sample = "../runtime/bundle/testdata/format1"
	for _, a := range compiler.Artifacts() {
		names = append(names, a.Name)
		if got, err := compiler.LookupArtifact(a.Name); err != nil || got.Name != a.Name || a.Doc == "" {
			t.Errorf("%+v: not found, or something is missing: %v", a, err)
		}
		for _, file := range []string{"demo", "heads"} {
			build := func(o backends.ArtifactOptions, change func(*bundle.Bundle)) ([]backends.File, error) {
				data, err := os.ReadFile(filepath.Join(sample, file+".nepco"))
				if err != nil {
					t.Fatal(err)
				}
				b, err := bundle.Decode(data)
				if err != nil {
					t.Fatal(err)
				}
				change(b)
				b.Digest = bundle.Digest{} // as compile has it
				return a.Build(b, o)
			}
			same := func(*bundle.Bundle) {}
			one, err := build(backends.ArtifactOptions{}, same)
			if err != nil || len(one) == 0 {
				t.Errorf("%s of %s: %v", a.Name, file, err)
			}
			if two, err := build(backends.ArtifactOptions{}, same); err != nil || !reflect.DeepEqual(one, two) {
				t.Errorf("%s of %s: other bytes the second time: %v", a.Name, file, err)
			}
			if _, err := build(backends.ArtifactOptions{}, func(b *bundle.Bundle) { b.Program.Steps[0].Out = 99 }); err == nil {
				t.Errorf("%s of a program that is not valid", a.Name)
			}
			key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
			if signed, err := build(backends.ArtifactOptions{Key: key}, same); err == nil && reflect.DeepEqual(signed, one) {
				t.Errorf("%s: asked to sign, it neither signs nor refuses", a.Name)
			}
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, folders) {
		t.Errorf("the table has %v, backends the folders %v", names, folders)
	}
	if _, err := compiler.LookupArtifact("cobol"); err == nil || !strings.Contains(err.Error(), "bundle") {
		t.Errorf("an unknown kind: %v", err)
	}
}
