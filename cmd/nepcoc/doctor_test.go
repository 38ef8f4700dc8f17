package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Doctor against a real SSH server: what holds there, with nepcod's own findings; no login is a failure with a way out, and ends in time.
func TestDoctor(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent")
	}
	server := startSSHD(t)
	card := t.TempDir()
	installAgent(t, filepath.Join(card, "nepcod"))
	config := filepath.Join(card, "nepcod.yaml")
	if err := os.WriteFile(config, []byte("bundle: /nosuch\ninterface: nosuch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(key string, args ...string) (map[string]cardFinding, int) {
		t.Helper()
		all := append([]string{"doctor", "--json", "--port", server.port, "--identity", key, "--timeout", "30s"}, args...)
		for _, o := range server.options {
			all = append(all, "--ssh-option", o)
		}
		var out, errs bytes.Buffer
		code := doMain(all, &out, &errs)
		var r struct {
			OK       bool
			Findings []cardFinding
		}
		if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.OK != (code == 0) {
			t.Fatalf("%v: %d, %v: %s%s", args, code, err, out.String(), errs.String())
		}
		m := map[string]cardFinding{}
		for _, f := range r.Findings {
			m[f.Check] = f
		}
		return m, code
	}
	m, code := ask(server.key, server.login+":"+card, "--config", config)
	for _, check := range []string{"ssh", "scp", "login", "card", "folder", "nepcod", "card: page size"} {
		if m[check].Status != "ok" {
			t.Errorf("%s: %+v", check, m[check])
		}
	}
	if code != 1 || m["card: bundle"].Status != "fail" || m["card: interface"].Status != "fail" {
		t.Errorf("exit code %d; a card without bundle and interface: %+v %+v", code, m["card: bundle"], m["card: interface"])
	}
	if m, code := ask(server.key, server.login+":"+filepath.Join(card, "none")); code != 1 || m["folder"].Status != "fail" {
		t.Errorf("no folder: %+v", m)
	}
	other := strings.TrimSuffix(server.key, "user") + "other"
	if m, code := ask(other, server.login); code != 1 || m["login"].Status != "fail" || m["login"].WayOut == "" {
		t.Errorf("another key: %d %+v", code, m["login"])
	}
	// A server that takes the connection and says nothing.
	silent := silence(t)
	var out, errs bytes.Buffer
	if code := doMain([]string{"doctor", "x@127.0.0.1", "--port", fmt.Sprint(silent), "--timeout", "1s"}, &out, &errs); code != 1 || !strings.Contains(out.String(), "did not answer within") {
		t.Errorf("a card that says nothing: %d %s%s", code, out.String(), errs.String())
	}
}

// silence is the port of a server that says nothing.
func silence(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// Where the login may run sudo, its folder is looked at by root: systemd moves the service's to one that is root's alone.
func TestDoctorFolderBySudo(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	asked := filepath.Join(bin, "asked")
	for name, text := range map[string]string{"id": "echo 1000", "sudo": "shift; echo \"$@\" >> " + asked + "; exec \"$@\"", "nepcod": "exit 1"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-s")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(fmt.Sprintf(doctorScript, dir, filepath.Join(bin, "nepcod"), ""))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "free=") || !strings.Contains(string(out), "writable=") {
		t.Fatalf("%v\n%s", err, out)
	}
	said, err := os.ReadFile(asked)
	if err != nil || !strings.Contains(string(said), "test -d "+dir) || !strings.Contains(string(said), "df -Pk "+dir) {
		t.Errorf("sudo was asked for %s, %v", said, err)
	}
}
