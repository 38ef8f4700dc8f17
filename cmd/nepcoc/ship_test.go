package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

func TestShipAddress(t *testing.T) {
	for _, c := range []struct{ to, login, scpHost, dir string }{
		{"ubuntu@192.168.100.2", "ubuntu@192.168.100.2", "ubuntu@192.168.100.2", "."},
		{"ubuntu@card:/opt/nepco", "ubuntu@card", "ubuntu@card", "/opt/nepco"},
		{"ubuntu@card:/opt/nepco/", "ubuntu@card", "ubuntu@card", "/opt/nepco"},
		{"ubuntu@card:", "ubuntu@card", "ubuntu@card", "."},
		{"root@[fe80::1%tmfifo_net0]:nepco", "", "", ""}, // an interface has no underscore here
		{"root@[fe80::1%eth0]:nepco", "root@fe80::1%eth0", "root@[fe80::1%eth0]", "nepco"},
		{"card:models/new", "card", "card", "models/new"},
		{"", "", "", ""},
		{"-oProxyCommand=x", "", "", ""},
		{"root@-oProxyCommand=x", "", "", ""},
		{"root@card:/opt/$(reboot)", "", "", ""},
		{"root@card:/opt/a b", "", "", ""},
		{"root@card:-rf", "", "", ""},
		{"a@b@c", "", "", ""},
	} {
		s := shipment{bundle: "some/model.nepco"}
		err := s.parse(c.to)
		if c.login == "" {
			if err == nil {
				t.Errorf("%q was taken as %q %q", c.to, s.login, s.dir)
			}
			continue
		}
		if err != nil || s.login != c.login || s.scpHost != c.scpHost || s.dir != c.dir {
			t.Errorf("%q: %q %q %q, %v; want %q %q %q", c.to, s.login, s.scpHost, s.dir, err, c.login, c.scpHost, c.dir)
		}
	}
}

// What goes to the service's bundle is held to the service's trust, by whatever name its folder is told: the folder counts, not the text.
func TestShipFindsService(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, dir := range []string{"lib", "other"} {
		if err := os.Mkdir(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("lib", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("m.nepco", at("lib/current")), os.WriteFile(at("other/mine.nepco"), nil, 0o644), os.Symlink("../other/mine.nepco", at("lib/linked.nepco"))); err != nil {
		t.Fatal(err)
	}
	// It must be asked where the service runs, of which relative names are.
	script := "#!/bin/sh\n{ echo \"$@\"; pwd -P; } > " + at("asked") + "\necho {}\n"
	systemctl := "#!/bin/sh\n[ \"$*\" = 'show -p WorkingDirectory --value nepcod.service' ] && cat " + at("runs") + "\n"
	for name, text := range map[string]string{"agent": script, "systemctl": systemctl} {
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	relative := strings.TrimPrefix(at("lib/m.nepco"), "/")
	for _, c := range []struct {
		to, settings string
		found        bool
		runs         string
	}{
		{at("lib"), "bundle: " + at("lib/m.nepco"), true, ""},
		{at("lib") + "/", "bundle: " + at("lib/m.nepco"), true, ""},
		{at("other/.././lib"), "bundle: " + at("lib/m.nepco"), true, ""},
		{at("link"), "bundle: " + at("lib/m.nepco"), true, ""},
		{at("lib"), "bundle: \"" + at("link//m.nepco") + "\"   # ours", true, ""},
		{"lib", "bundle : '" + at("lib/m.nepco") + "'", true, ""},
		{"", "bundle: " + root + "/m.nepco", true, ""},
		{at("other"), "bundle: " + at("lib/m.nepco"), false, ""},
		{at("lib"), "bundle: " + at("lib/n.nepco"), false, ""},
		{at("lib"), "# bundle: " + at("lib/m.nepco"), false, ""},
		{at("lib"), "bundle: m.nepco", false, ""},
		{at("lib"), "bundle: " + at("lib/m.nepco") + "\r", true, ""},
		{at("lib"), "bundle: " + relative, true, ""},
		{at("lib"), "bundle: " + relative, false, at("other")},
		{at("lib"), "bundle: m.nepco", true, at("lib")},
		{at("lib"), "bundle: ../lib/m.nepco", true, "!" + at("other")},
		{at("lib"), "bundle: " + at("lib/current"), true, ""},
	} {
		s := shipment{bundle: "m.nepco", agent: at("agent")}
		if err := s.parse("card:" + c.to); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"part": "x", "settings": "interface: lo\n" + c.settings + "\nworkers: 1\n", "runs": c.runs} {
			if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-s")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "PATH="+root+":"+os.Getenv("PATH"))
		cmd.Stdin = strings.NewReader(fmt.Sprintf(remoteScript, at("part"), s.dir, ".m.part", "m.nepco", s.agent, "", 60, at("settings")))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.to, err, out)
		}
		asked, err := os.ReadFile(at("asked"))
		if err != nil {
			t.Fatal(err)
		}
		if found := strings.Contains(string(asked), "--config "+at("settings")); found != c.found {
			t.Errorf("to %s, with %s: nepcod was asked %s", c.to, c.settings, asked)
		}
		where := strings.TrimLeft(c.runs, "!")
		if where == "" {
			where = "/"
		}
		if c.found && !strings.HasSuffix(string(asked), "\n"+where+"\n") {
			t.Errorf("with %s, of a service in %q: nepcod was asked %s", c.settings, c.runs, asked)
		}
	}
}

// TestShipByRoot: what somebody who owns the folder has put in the copy's way is not written through, nor does its file get other rights.
func TestShipByRoot(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(at(name), []byte(text), 0o600), os.Chmod(at(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at("lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, late := range []bool{false, true} { // put there before the copy is made, or once it has been proved
		write("secret", "secret", 0o600)
		write("part", "bundle", 0o644)
		write("lib/m.nepco", "old", 0o640)
		if os.Geteuid() == 0 {
			if err := os.Chown(at("lib/m.nepco"), 1234, 1234); err != nil {
				t.Fatal(err)
			}
		}
		plant := "rm -f " + at("lib/.m.part") + "; ln -s " + at("secret") + " " + at("lib/.m.part")
		agent := "#!/bin/sh\necho {}\n"
		if late {
			agent += plant + "\n"
		} else if out, err := exec.Command("sh", "-c", plant).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		write("agent", agent, 0o755)
		cmd := exec.Command("sh", "-s")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(remoteScript, at("part"), at("lib"), ".m.part", "m.nepco", at("agent"), "", 60, at("none")))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		info, err := os.Stat(at("secret"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(at("secret"))
		if s := info.Sys().(*syscall.Stat_t); err != nil || string(text) != "secret" || info.Mode() != 0o600 || int(s.Uid) != os.Geteuid() {
			t.Errorf("late %v: the file behind the link is %q, %v, of %d: %v", late, text, info.Mode(), s.Uid, err)
		}
		if info, err := os.Lstat(at("lib/m.nepco")); !late && (err != nil || info.Mode() != 0o640) {
			t.Errorf("the bundle: %v, %v", info, err)
		}
		if err := os.Remove(at("lib/m.nepco")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootRunsNobodysAgent: a program that the owner of the folder has put there is not run by root, be it on the way of ship or of doctor.
func TestRootRunsNobodysAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		testfiles.Missing(t, "needs root, whose shell this is")
	}
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	if err := os.Mkdir(at("lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{"nepcod": "PATH", "lib/nepcod": "folder"} {
		if err := os.WriteFile(at(name), []byte("#!/bin/sh\necho "+says+" >> "+at("ran")+"\necho {}\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		folder, program int // whose they are
		want            string
	}{{0, 0, "folder"}, {1234, 0, "PATH"}, {0, 1234, "PATH"}, {1234, 1234, "PATH"}} {
		if err := errors.Join(os.Chown(at("lib"), tc.folder, 0), os.Chown(at("lib/nepcod"), tc.program, 0)); err != nil {
			t.Fatal(err)
		}
		for name, script := range map[string]string{
			"ship":   fmt.Sprintf(remoteScript, at("part"), at("lib"), ".m.part", "m.nepco", "", "", 60, at("none")),
			"doctor": fmt.Sprintf(doctorScript, at("lib"), "", ""),
		} {
			os.Remove(at("ran"))
			if err := os.WriteFile(at("part"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-s")
			cmd.Env = append(os.Environ(), "PATH="+root+":"+os.Getenv("PATH"))
			cmd.Stdin = strings.NewReader(script)
			out, err := cmd.CombinedOutput()
			ran, _ := os.ReadFile(at("ran"))
			if err != nil || !strings.Contains(string(ran), tc.want) || len(strings.Fields(strings.ReplaceAll(string(ran), tc.want, ""))) > 0 {
				t.Errorf("%s, folder of %d, program of %d: ran %q, want %q: %v %s", name, tc.folder, tc.program, ran, tc.want, err, out)
			}
		}
	}
}

// TestShipAsksService: a configuration that the login can't read may be one whose service refuses the bundle.
func TestShipAsksService(t *testing.T) {
	if os.Geteuid() != 0 {
		testfiles.Missing(t, "needs root, to become somebody else")
	}
	root, err := os.MkdirTemp("", "ship") // which others can look into
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(root) })
		err = errors.Join(os.Chmod(root, 0o777), os.WriteFile(filepath.Join(root, "settings"), nil, 0o600), os.WriteFile(filepath.Join(root, ".m.part"), nil, 0o666))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-s")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(remoteScript, root+"/.m.part", root, ".m.part", "m.nepco", "true", "", 60, root+"/settings"))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != notProved || !strings.Contains(string(out), "ship --sudo") {
		t.Errorf("%v: %s", err, out)
	}
}

// sshServer is Debian's sshd on loopback, with keys of its own.
type sshServer struct {
	login, port, key string
	home, bin        string   // the login's home folder, and the first one of its PATH
	options          []string // for ssh and scp
}

func startSSHD(t *testing.T) *sshServer {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin") // where sshd is, and not in everyone's PATH
	// Started by its absolute path: it executes itself again per connection.
	sshd, keygen := testfiles.Tool(t, "sshd"), testfiles.Tool(t, "ssh-keygen")
	testfiles.Tool(t, "ssh")
	testfiles.Tool(t, "scp")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" { // where it confines its unprivileged part
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, key := range []string{"host", "user", "other"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", file(key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	write := func(name, text string) {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hostKey, err := os.ReadFile(file("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write("known_hosts", fmt.Sprintf("[127.0.0.1]:%s %s", port, hostKey))
	write("sshd_config", fmt.Sprintf(`ListenAddress 127.0.0.1:%s
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
SetEnv PATH=%s:/usr/local/bin:/usr/bin:/bin
`, port, file("host"), file("user.pub"), file("bin")))
	if err := os.Mkdir(file("bin"), 0o755); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(sshd, "-D", "-e", "-f", file("sshd_config"))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log.Bytes())
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
	}
	return &sshServer{login: me.Username + "@127.0.0.1", port: port, key: file("user"), home: me.HomeDir, bin: file("bin"), options: []string{
		"UserKnownHostsFile=" + file("known_hosts"), "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes",
		"IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes",
	}}
}

// cutOnce is a way to a port on which the first connection meets end after the
// client has sent so many bytes; later ones pass.
func cutOnce(t *testing.T, port string, after int64, end func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for first := true; ; first = false {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				client.Close()
				return
			}
			go func() {
				io.Copy(client, server)
				client.Close()
			}()
			go func(first bool) {
				if first {
					io.CopyN(server, client, after)
					end(client)
					io.Copy(io.Discard, client) // until the client has gone away
				} else {
					io.Copy(server, client)
				}
				server.Close()
			}(first)
		}
	}()
	_, mine, _ := net.SplitHostPort(l.Addr().String())
	return mine
}

// installAgent puts the agent where a card has it.
func installAgent(t *testing.T, file string) {
	t.Helper()
	built, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A bundle goes to a real SSH server and is proved there.
func TestShip(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent")
	}
	server := startSSHD(t)
	data, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	local, card, empty := t.TempDir(), t.TempDir(), t.TempDir()
	agent := filepath.Join(card, "nepcod")
	installAgent(t, agent)
	model := filepath.Join(local, "model.nepco")
	if err := os.WriteFile(model, data, 0o644); err != nil {
		t.Fatal(err)
	}
	ship := func(wantCode int, args ...string) (stdout, stderr string) {
		t.Helper()
		all := append([]string{"ship"}, args...)
		for _, o := range server.options {
			all = append(all, "--ssh-option", o)
		}
		if !strings.Contains(strings.Join(args, " "), "--identity") {
			all = append(all, "--identity", server.key)
		}
		cmd := exec.Command("nepcoc", append(all, "--port", server.port)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != wantCode {
			t.Fatalf("ship %v: exit code %d, want %d\n%s%s", args, code, wantCode, out.String(), errs.String())
		}
		if wantCode != 0 {
			if err := oneMessage(errs.String()); err != nil {
				t.Error(err)
			}
		}
		return out.String(), errs.String()
	}
	contains := func(text string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("%q is not in:\n%s", p, text)
			}
		}
	}
	// Nothing but these is in a folder of the card: no rest of a copy.
	holds := func(dir string, names ...string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if strings.Join(got, " ") != strings.Join(names, " ") {
			t.Errorf("%s holds %v, want %v", dir, got, names)
		}
	}
	same := func(want []byte) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(card, "model.nepco"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the card's bundle is not the one expected (%v)", err)
		}
	}

	// The file is written before it has its name, the folder after.
	sync, syncs := filepath.Join(server.bin, "sync"), filepath.Join(local, "syncs")
	script := fmt.Sprintf("#!/bin/sh\nif [ -e %s/model.nepco ]; then echo \"named, $*\"; else echo \"not named, $*\"; fi >> %s\nPATH=/usr/bin:/bin exec sync \"$@\"\n", card, syncs)
	if err := os.WriteFile(sync, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	out, _ := ship(0, model, server.login+":"+card)
	if got, err := os.ReadFile(syncs); err != nil || !strings.HasPrefix(string(got), "not named, "+card+"/.model.nepco.") || !strings.HasSuffix(string(got), ".part\nnamed, "+card+"\n") {
		t.Errorf("%v; written: %s", err, got)
	}
	os.Remove(sync)
	contains(out, "is on "+server.login+" as "+card+"/model.nepco", "engine     16 of 16 golden vectors equal there")
	same(data)
	holds(card, "model.nepco", "nepcod")

	out, _ = ship(0, model, server.login+":"+empty, "--nepcod", agent, "--json")
	var r shipReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || !r.SelfTest.OK || r.Bytes != int64(len(data)) || r.Digest != r.SelfTest.Digest || len(r.SelfTest.Executors) == 0 {
		t.Errorf("report %+v, %v", r, err)
	}
	holds(empty, "model.nepco")
	os.Remove(filepath.Join(empty, "model.nepco"))

	// What the service there would not accept is not shipped to it.
	config := filepath.Join(t.TempDir(), "nepcod.yaml")
	for _, tc := range []struct {
		text string
		want int
		says string
	}{
		{"alerts: [Tor]", 1, "alerts: " + card + "/.model.nepco."}, {"probation: {rate: 1000000000}", 1, "too slow: it takes"}, {"probation: {size: 1000}", 1, "more than the 1000 bytes"},
		{"alerts: [TLS]", 0, "accepted   by the service of " + config},
	} {
		text, want := tc.text, tc.want
		if err := os.WriteFile(config, []byte("bundle: "+card+"/model.nepco\n"+text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, errs := ship(want, model, server.login+":"+card, "--config", config)
		contains(out+errs, tc.says)
		holds(card, "model.nepco", "nepcod")
	}

	// It keeps the rights of the one that it replaces, and can be read by the service where there was none.
	mode := func(want os.FileMode) {
		t.Helper()
		if info, err := os.Stat(filepath.Join(card, "model.nepco")); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, want)
		}
	}
	os.Chmod(model, 0o600)
	os.Chmod(filepath.Join(card, "model.nepco"), 0o640)
	ship(0, model, server.login+":"+card)
	mode(0o640)
	os.Remove(filepath.Join(card, "model.nepco"))
	ship(0, model, server.login+":"+card)
	mode(0o644)

	// A step that takes too long is ended there, too, and replaces nothing.
	slow := filepath.Join(t.TempDir(), "nepcod")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, errs := ship(1, model, server.login+":"+card, "--nepcod", slow, "--timeout", "10s")
	contains(errs, "the self-test on "+server.login+" took longer than 10s", "nothing was replaced")
	same(data)
	holds(card, "model.nepco", "nepcod")

	// By sudo: the copy goes to the home folder, and none is left there.
	sudo := filepath.Join(server.bin, "sudo")
	for script, want := range map[string]int{"[ \"$1\" = -n ] && shift && exec \"$@\"": 0, "echo 'sudo: a password is required' >&2; exit 1": 1} {
		if err := os.WriteFile(sudo, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		out, errs := ship(want, model, server.login+":"+empty, "--nepcod", agent, "--sudo")
		contains(out+errs, []string{"is on " + server.login, "a password is required"}[want])
		holds(empty, []string{"model.nepco"}[:1-want]...)
		if left, _ := filepath.Glob(filepath.Join(server.home, ".model.nepco.*")); len(left) > 0 {
			t.Errorf("left in the home folder: %v", left)
		}
		os.Remove(filepath.Join(empty, "model.nepco"))
		if want == 0 { // two folders of one machine at once
			two := t.TempDir()
			out, _ := ship(0, model, server.login+":"+empty, server.login+":"+two, "--nepcod", agent, "--sudo")
			contains(out, empty+" ", two+" ", "proved, kernels")
			holds(two, "model.nepco")
			os.Remove(filepath.Join(empty, "model.nepco"))
		}
	}

	// Several cards, each for itself.
	out, errs = ship(1, model, server.login+":"+card, server.login+":"+empty, server.login+":"+card+"/none", "--nepcod", agent)
	contains(out, card+" ", "proved, kernels", "failed: ", card+"/none")
	contains(errs, "1 of 3 cards did not take "+model)
	holds(empty, "model.nepco")
	holds(card, "model.nepco", "nepcod")
	os.Remove(filepath.Join(empty, "model.nepco"))
	out, _ = ship(0, model, server.login+":"+card, server.login+":"+empty, "--nepcod", agent, "--json", "--parallel", "1")
	var several []struct {
		OK     bool
		Report shipReport
	}
	if err := json.Unmarshal([]byte(out), &several); err != nil || len(several) != 2 || !several[1].OK || !several[1].Report.SelfTest.OK {
		t.Errorf("%v\n%s", err, out)
	}
	os.Remove(filepath.Join(empty, "model.nepco"))
	ship(2, model, server.login+":"+card, server.login+":"+card)

	// A bundle that computes other logits there than its compiler did does
	// not replace the one that works.
	b, err := bundle.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	b.Golden[0].Logits[0][0] ^= 1
	wrong := filepath.Join(t.TempDir(), "model.nepco")
	if err := testbundle.Write(wrong, b, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	_, errs = ship(1, wrong, server.login+":"+card)
	contains(errs, wrong, "the self-test on "+server.login+" failed, nothing was replaced", "golden vector 0")
	same(data)
	holds(card, "model.nepco", "nepcod")

	_, errs = ship(1, model, server.login+":"+empty)
	contains(errs, "no nepcod on "+server.login, "--nepcod")
	holds(empty)
	_, errs = ship(1, model, server.login+":"+empty, "--nepcod", agent+"2")
	contains(errs, "no nepcod on ")
	holds(empty)
	_, errs = ship(1, model, server.login+":"+card+"/none")
	contains(errs, "scp to "+server.login, card+"/none", "No such file")
	_, errs = ship(1, model, server.login+":"+card, "--identity", strings.TrimSuffix(server.key, "user")+"other")
	contains(errs, "Permission denied")
	_, errs = ship(1, filepath.Join(local, "none.nepco"), server.login)
	contains(errs, "none.nepco: no such file")
	_, errs = ship(1, agent, server.login)
	contains(errs, "not a bundle")
	ship(2, model)
	ship(2, model, "a@b@c")
	_, errs = ship(2, model, server.login+":/opt/a b")
	contains(errs, "paths on the card")

	// A disk that is too small for it, a connection that breaks and a signal
	// leave nothing there, either.
	if err := syscall.Mount("nepcoc-test", empty, "tmpfs", 0, "size=16k"); err == nil {
		_, errs = ship(1, model, server.login+":"+empty, "--nepcod", agent)
		contains(errs, "scp to "+server.login)
		holds(empty)
		syscall.Unmount(empty, syscall.MNT_DETACH)
	} else {
		t.Logf("no full disk: %v", err)
	}
	direct := server.port
	alias := []string{"--ssh-option", "HostKeyAlias=[127.0.0.1]:" + direct}
	stalled := make(chan bool, 1)
	for name, end := range map[string]func(net.Conn){"cut": func(c net.Conn) { c.Close() }, "stalled": func(net.Conn) { stalled <- true }, "given up": func(net.Conn) {}} {
		server.port = cutOnce(t, direct, 30_000, end)
		args := append(alias, model, server.login+":"+empty, "--nepcod", agent)
		if name == "cut" {
			_, errs = ship(1, args...)
			contains(errs, "scp to "+server.login)
			holds(empty)
			continue
		}
		if name == "given up" {
			_, errs = ship(1, append(args, "--timeout", "2s")...)
			contains(errs, "scp to "+server.login+" took longer than 2s")
			holds(empty)
			continue
		}
		for _, o := range server.options {
			args = append(args, "--ssh-option", o)
		}
		cmd := exec.Command("nepcoc", append([]string{"ship", "--identity", server.key, "--port", server.port}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-stalled:
		case <-time.After(2 * time.Minute):
			t.Fatal("the copy does not begin")
		}
		if entries, _ := os.ReadDir(empty); len(entries) != 1 {
			t.Errorf("nothing is being copied: %v", entries)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
			t.Errorf("ended by %v", cmd.ProcessState)
		}
		holds(empty)
	}
	server.port = direct

	// The README's words for a real card.
	for _, name := range []string{"nepcod", "model.nepco"} {
		os.Rename(filepath.Join(card, name), filepath.Join(local, name))
	}
	ssh := []string{"-i", server.key}
	for _, o := range server.options {
		ssh = append(ssh, "-o", o)
	}
	scp := append(append([]string{"-P", server.port}, ssh...), filepath.Join(local, "nepcod"), model, server.login+":"+card+"/")
	if out, err := exec.Command("scp", scp...).CombinedOutput(); err != nil {
		t.Fatalf("scp: %v\n%s", err, out)
	}
	text, err := exec.Command("ssh", append(append([]string{"-p", server.port}, ssh...), server.login, agent, "selftest", card+"/model.nepco")...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh: %v\n%s", err, text)
	}
	contains(string(text), "16 of 16 golden vectors equal")
}

// Without OpenSSH's client the error says so.
func TestShipWithoutSSH(t *testing.T) {
	data, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "model.nepco")
	if err := os.WriteFile(model, data, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	var out, errs bytes.Buffer
	if code := doMain([]string{"ship", model, "ubuntu@192.168.100.2"}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "install openssh-client") {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
}
