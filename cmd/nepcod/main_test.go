package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"nepcoc/internal/files"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(copyLoop); file != "" {
		replaceForever(file)
	}
	if os.Getenv(asNepcod) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"nepcod": main})
}

func TestScripts(t *testing.T) {
	root := testfiles.Root(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TESTBED", filepath.Join(root, "examples", "testbed"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"mkbundle": mkbundle},
	})
}

// mkbundle FILE NUMBER [KIND...]: a bundle that classifies flows with a random program; see testbundle.
// KIND is "wrong" (a golden logit is off by one), "unproved" (no golden vectors), "arrays" (no traffic contract) or "signed" (by a new key, FILE.key).
func mkbundle(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: mkbundle FILE NUMBER [KIND...]")
	}
	number, err := strconv.Atoi(args[1])
	ts.Check(err)
	b, err := testbundle.New(number, "class")
	ts.Check(err)
	file, opts := ts.MkAbs(args[0]), bundle.Options{}
	for _, kind := range args[2:] {
		switch kind {
		case "wrong":
			b.Golden[3].Logits[0][0] ^= 1
		case "arrays":
			b.Manifest.Contract = bundle.Contract{}
		case "unproved":
			b.Golden = nil
		case "signed":
			private, public, err := bundle.GenerateKey()
			ts.Check(err)
			ts.Check(files.Write(file+".key.pub", public))
			opts.Key, err = bundle.ReadPrivateKey("key", bytes.NewReader(private))
			ts.Check(err)
		default:
			ts.Fatalf("unknown kind %q", kind)
		}
	}
	ts.Check(testbundle.Write(file, b, opts))
}
