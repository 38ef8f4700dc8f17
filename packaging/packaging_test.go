// Package packaging tests what the agent's packages are made of.
package packaging

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/internal/version"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = testfiles.Root(t)
	// Compressed well, four packages would take minutes.
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "DPKG_DEB_COMPRESSOR_LEVEL=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return string(out)
}

// The packages of both architectures hold a static program of that
// architecture, the unit, the configuration and the page about the card; two
// builds give the same bytes.
func TestDeb(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent")
	}
	deb := testfiles.Tool(t, "dpkg-deb")
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			var files [2]string
			for i := range files {
				dir := t.TempDir()
				out := strings.TrimSpace(run(t, "packaging/build-deb.sh", "-o", dir, arch))
				if want := filepath.Join(dir, "nepcod_"+version.Version+"_"+arch+".deb"); out != want {
					t.Fatalf("%q, want %q", out, want)
				}
				files[i] = out
			}
			a, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(files[1]); err != nil || !bytes.Equal(a, b) {
				t.Errorf("two builds differ (%v)", err)
			}
			if got := run(t, deb, "-f", files[0], "Package", "Version", "Architecture"); got != "Package: nepcod\nVersion: "+version.Version+"\nArchitecture: "+arch+"\n" {
				t.Error(got)
			}
			root := t.TempDir()
			run(t, deb, "-x", files[0], root)
			for _, name := range []string{"etc/nepcod/nepcod.yaml", "etc/logrotate.d/nepcod", "usr/lib/systemd/system/nepcod.service", "usr/share/doc/nepcod/bluefield.md",
				"usr/bin/nepcof", "usr/lib/systemd/system/nepcof-card.service", "usr/lib/systemd/system/nepcof-hub.service", "usr/lib/systemd/system/nepcof-sink@.service",
				"usr/lib/systemd/system/nepcod.path", "usr/lib/sysusers.d/nepcof.conf", "usr/share/doc/nepcod/fleet.md", "usr/share/doc/nepcod/fleet-page.md", "usr/share/doc/nepcod/nepcof.rules.yml", "usr/share/doc/nepcod/fleet/nepcod-fleet.conf",
				"usr/share/doc/nepcod/fleet/nats-cluster.conf", "usr/share/doc/nepcod/fleet/vector.yaml", "usr/share/doc/nepcod/fleet/fluent-bit.yaml"} {
				if _, err := os.Stat(filepath.Join(root, name)); err != nil {
					t.Error(err)
				}
			}
			// What the page for operators leads to is there, too.
			docs := filepath.Join(root, "usr/share/doc/nepcod")
			page, err := os.ReadFile(filepath.Join(docs, "bluefield.md"))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllSubmatch(page, -1) {
				if _, err := os.Stat(filepath.Join(docs, string(m[1]))); err != nil {
					t.Error(err)
				}
			}
			folder(t, deb, files[0])
			f, err := elf.Open(filepath.Join(root, "usr/bin/nepcod"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Machine != machine {
				t.Errorf("the program is for %v", f.Machine)
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Error("the program needs a dynamic linker")
				}
			}
			if arch == runtime.GOARCH {
				t.Run("units", func(t *testing.T) { startUnits(t, files[0]) })
			}
		})
	}
}

// folder has a package's postinst make the folder that the first bundle is shipped to, and leave the link alone that systemd makes of it.
func folder(t *testing.T, deb, file string) {
	control, root := t.TempDir(), t.TempDir()
	run(t, deb, "-e", file, control)
	script, err := os.ReadFile(filepath.Join(control, "postinst"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/var/lib/nepcod", filepath.Join(root, "nepcod"), "/run/systemd/system", filepath.Join(root, "none")).Replace(string(script))
	lib := filepath.Join(root, "nepcod")
	run(t, "sh", "-c", text, "postinst", "configure")
	if info, err := os.Stat(lib); err != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
		t.Errorf("no folder for the first bundle: %v, %v", info, err)
	}
	if err := os.Remove(lib); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("private/nepcod", lib); err != nil { // out of reach
		t.Fatal(err)
	}
	run(t, "sh", "-c", text, "postinst", "configure")
	if to, err := os.Readlink(lib); err != nil || to != "private/nepcod" {
		t.Errorf("the link is gone: %q, %v", to, err)
	}
}

// startUnits installs a package under a real systemd, where hub, sink, card and agent are to work as services.
func startUnits(t *testing.T, deb string) {
	testfiles.Tool(t, "systemd-nspawn")
	testfiles.Tool(t, "curl")
	bin := t.TempDir()
	run(t, "go", "build", "-o", bin, "./cmd/nepcoc")
	out, err := exec.Command(filepath.Join(testfiles.Root(t), "test", "fleet", "units.sh"), deb, bin).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		t.Skipf("no container can be started here: %s", out)
	}
	if err != nil || !bytes.HasSuffix(out, []byte("all held\n")) {
		t.Errorf("%v: %s", err, out)
	}
}

// The unit lets the agent restrict itself: what it calls for that is in no group of older versions of systemd.
func TestUnitLetsSandbox(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(testfiles.Root(t), "packaging", "nepcod.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} {
		if !regexp.MustCompile(`(?m)^SystemCallFilter=[^~\n]*\b` + call + `\b`).Match(unit) {
			t.Errorf("the unit's SystemCallFilter has no %s", call)
		}
	}
	for _, line := range []string{"NoNewPrivileges=yes", "CapabilityBoundingSet=CAP_NET_RAW"} {
		if !bytes.Contains(unit, []byte("\n"+line+"\n")) {
			t.Errorf("the unit has no %s", line)
		}
	}
}

// systemd takes the unit without a complaint, and rates its sandbox.
func TestUnit(t *testing.T) {
	analyze := testfiles.Tool(t, "systemd-analyze")
	for _, name := range []string{"nepcod.service", "fleet/nepcof-card.service", "fleet/nepcof-hub.service", "fleet/nepcof-sink@.service", "fleet/nepcod.path"} {
		unit := filepath.Join(testfiles.Root(t), "packaging", name)
		out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
		for l := range strings.Lines(string(out)) {
			// The program is not installed where the test runs.
			if strings.Contains(l, filepath.Base(name)) && !strings.Contains(l, "is not executable") {
				t.Errorf("%s (%v)", l, err)
			}
		}
		if filepath.Ext(name) != ".service" {
			continue
		}
		// 0 is safest, 10 unsafe.
		if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=25", unit).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
