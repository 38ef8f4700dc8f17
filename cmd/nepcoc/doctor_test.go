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

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
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
		all := append([]string{"doctor", "--json", "--port", server.port, "--identity", key, "--timeout", "5m"}, args...)
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

// What a card says is a stranger's text: none of it reaches the terminal as it is, it has an end, and a status that there is not is no good one.
func TestStrangeCard(t *testing.T) {
	bin := t.TempDir()
	evil := "\x1b]0;owned\x07\x1b[2J"
	report, err := json.Marshal(map[string]any{"findings": []cardFinding{{"a" + evil, "ok\x1b[1m", "b" + evil, "c" + evil}}})
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(bin, "model.nepco")
	b, err := testbundle.New(0, "a")
	if err == nil {
		err = testbundle.Write(model, b, bundle.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	write("scp", "#!/bin/sh\n")
	write("said", "machine=aarch64\nversion=nepcod "+evil+"\ndoctor=\n"+string(report))
	for name, tc := range map[string]struct {
		ssh  string
		args []string
		want []string
	}{
		"report":  {"cat " + bin + "/said", []string{"doctor", "card"}, []string{`fail  card: a\x1b]0;owned\a`, `-> c\x1b]0;owned`}},
		"refusal": {"printf '" + `\033]0;owned\007` + "' >&2; exit 255", []string{"doctor", "card"}, []string{`\x1b]0;owned\a`}},
		"nothing": {"cat > /dev/null; echo machine=x86_64; echo version=0.1.0", []string{"doctor", "card"}, []string{"warn  nepcod doctor", "it says nothing"}},
		"endless": {"echo machine=x86_64; head -c 30000000 /dev/zero", []string{"doctor", "card"}, []string{"x86_64"}},
		"kernels": {"cat > /dev/null; printf '%s' '" + `{"ok":true,"digest":"` + b.Digest.String() + `","kernels":"\u001b[2J"}` + "'", []string{"ship", model, "card"}, []string{`kernels    \x1b[2J`}},
	} {
		write("ssh", "#!/bin/sh\n[ \"$1\" = -V ] && exit\n"+tc.ssh+"\n")
		var out, errs bytes.Buffer
		doMain(tc.args, &out, &errs)
		said := out.String() + errs.String()
		for _, want := range tc.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: no %q in:\n%.2000s", name, want, said)
			}
		}
		if strings.ContainsAny(said, "\x1b\x07\x00") || len(said) > 4<<20 {
			t.Errorf("%s: %d bytes: %.300q", name, len(said), said)
		}
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
