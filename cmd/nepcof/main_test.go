package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"nepcoc/internal/files"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testports"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nepcof": main, "agent": agentMain})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"mkbundle": mkbundle, "mknote": mknote, "port": port, "await": await, "expand": expand, "exits": exits, "modes": modes},
	})
}

// signer is the key of a number; its public half is what a configuration trusts.
func signer(number int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(number)}, ed25519.SeedSize))
}

func number(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}

// mkbundle FILE NUMBER SERIAL SIGNER: a bundle with a random program, signed by the key of a number; 0: not signed.
func mkbundle(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: mkbundle FILE NUMBER SERIAL SIGNER")
	}
	b, err := testbundle.New(number(ts, args[1]), "class")
	ts.Check(err)
	data, err := bundle.Encode(b, bundle.Options{})
	ts.Check(err)
	if key := number(ts, args[3]); key > 0 {
		data, err = bundle.Sign(data, signer(key), bundle.Statement{Serial: uint64(number(ts, args[2]))})
		ts.Check(err)
	}
	ts.Check(files.Write(ts.MkAbs(args[0]), data))
}

// mknote FILE BUNDLE SERIAL SIGNER: a signed reason to run a bundle after a serial.
func mknote(ts *testscript.TestScript, _ bool, args []string) {
	b, err := bundle.Read(args[1], strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	text, err := trust.Rollback{From: uint64(number(ts, args[2])), To: b.Signature.Serial, Digest: b.Digest.String(), Reason: "test"}.Sign(signer(number(ts, args[3])))
	ts.Check(err)
	ts.Check(files.Write(ts.MkAbs(args[0]), text))
}

// port NAME...: variables that name free ports of the loopback.
func port(ts *testscript.TestScript, _ bool, args []string) {
	ports, err := testports.Free(len(args))
	ts.Check(err)
	for i, name := range args {
		ts.Setenv(name, strconv.Itoa(ports[i]))
	}
}

// await REGEXP PROGRAM ARGS...: until a program succeeds and prints what fits, for up to two minutes.
func await(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within 2 minutes: %v", err)
		}
	}
}

// exits CODE PROGRAM ARGS...: a program that ends with an exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != number(ts, args[0]) {
		ts.Fatalf("exit code %d", code)
	}
}

// expand FILE: variables in a file become what they stand for.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// modes MODE FILE...: files with an owner's, a group's and all others' rights.
func modes(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := info.Mode().String(); got != args[0] {
			ts.Fatalf("%s: %s", name, got)
		}
	}
}
