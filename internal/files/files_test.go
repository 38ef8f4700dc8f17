package files

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nepcoc/internal/testfiles"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// left lists a folder: nothing temporary may be in it.
func left(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func content(t *testing.T, name string) string {
	t.Helper()
	return string(must[[]byte](t)(os.ReadFile(name)))
}

// A regular file is replaced, keeps its mode, and whoever has the old one open
// keeps that.
func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	check(t, Write(name, []byte("one")))
	check(t, os.Chmod(name, 0o604))
	old := must[*os.File](t)(os.Open(name))
	defer old.Close()
	check(t, Write(name, []byte("two")))
	if got := content(t, name) + string(must[[]byte](t)(io.ReadAll(old))); got != "twoone" {
		t.Errorf("new and old file are %q", got)
	}
	if info := must[fs.FileInfo](t)(os.Stat(name)); info.Mode() != 0o604 {
		t.Errorf("mode %v", info.Mode())
	}
	long := filepath.Join(dir, strings.Repeat("l", 255))
	check(t, Write(long, nil))
	check(t, os.Remove(long))
	if got := left(t, dir); got != "a" {
		t.Errorf("left behind: %s", got)
	}
}

// Links stay, in chains, relative through a link to a folder, and pointing to nothing yet.
func TestWriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.MkdirAll(at("real/deep"), 0o777))
	check(t, os.WriteFile(at("real/target"), []byte("old"), 0o666))
	links := map[string]string{"abs": at("real/target"), "chain": "abs", "folder": "real/deep", "new": "real/unborn", "real/deep/up": "../target", "loop": "loop"}
	for name, to := range links {
		check(t, os.Symlink(to, at(name)))
	}
	for name, file := range map[string]string{"abs": "real/target", "chain": "real/target", "folder/up": "real/target", "new": "real/unborn"} {
		check(t, Writable(at(name)))
		check(t, Write(at(name), []byte(name)))
		if got := content(t, at(file)); got != name {
			t.Errorf("%s: %s holds %q", name, file, got)
		}
	}
	for name, to := range links {
		if got, err := os.Readlink(at(name)); got != to {
			t.Errorf("%s is no longer a link to %s (%v)", name, to, err)
		}
	}
	if err := Write(at("loop"), nil); !errors.Is(err, syscall.ELOOP) || !strings.HasPrefix(err.Error(), at("loop")) {
		t.Error(err)
	}
	if got := left(t, at("real")); got != "deep target unborn" {
		t.Errorf("left behind: %s", got)
	}
}

// Devices, FIFOs and sockets are written to and stay what they are. The devices
// are nodes of our own: a mistake must not harm the machine's.
func TestWriteNeverReplacesDevices(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, syscall.Mkfifo(at("fifo"), 0o666))
	listener := must[net.Listener](t)(net.Listen("unix", at("socket")))
	defer listener.Close()
	got := make(chan string, 2)
	go func() {
		b, _ := os.ReadFile(at("fifo"))
		got <- string(b)
		if conn, err := listener.Accept(); err == nil {
			b, _ := io.ReadAll(conn)
			got <- string(b)
		}
	}()
	for _, name := range []string{"fifo", "socket"} {
		check(t, Write(at(name), []byte(name)))
		if s := <-got; s != name {
			t.Errorf("%s was given %q", name, s)
		}
	}
	null, full := testfiles.Device(t, "null"), testfiles.Device(t, "full")
	check(t, os.Symlink(null, at("link")))
	check(t, Write(null, []byte("x")))
	check(t, Write(at("link"), []byte("x")))
	if err := Write(full, []byte("x")); !errors.Is(err, syscall.ENOSPC) || err.Error() != full+": no space left on device" {
		t.Error(err)
	}
	for name, mode := range map[string]fs.FileMode{
		at("fifo"): fs.ModeNamedPipe, at("socket"): fs.ModeSocket, null: fs.ModeCharDevice, full: fs.ModeCharDevice, at("link"): fs.ModeSymlink,
	} {
		if info := must[fs.FileInfo](t)(os.Lstat(name)); info.Mode()&mode == 0 {
			t.Errorf("%s became %v", name, info.Mode())
		}
	}
}

// An open file's name in /proc is written to in place.
func TestWriteToOpenFile(t *testing.T) {
	f := must[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "a")))
	defer f.Close()
	check(t, Write("/proc/self/fd/"+itoa(f.Fd()), []byte("through the descriptor")))
	if got := string(must[[]byte](t)(io.ReadAll(f))); got != "through the descriptor" {
		t.Errorf("the open file holds %q", got)
	}
}

func itoa(n uintptr) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// Every refusal names what the user gave, and leaves nothing.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.WriteFile(at("file"), nil, 0o666))
	check(t, os.Mkdir(at("folder"), 0o777))
	check(t, os.Symlink("folder", at("link")))
	for name, want := range map[string]string{
		"folder": "is a folder", "link": "is a folder", "folder/": "is a folder", "none/x": "there is no folder", "x/": "name of a folder", "file/x": "not a directory",
	} {
		for what, f := range map[string]func(string) error{"Write": func(n string) error { return Write(n, []byte("x")) }, "Writable": Writable} {
			err := f(dir + "/" + name)
			if err == nil || !strings.HasPrefix(err.Error(), dir+"/"+name+": ") || what == "Writable" && !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v", what, name, err)
			}
		}
	}
	if got := left(t, dir); got != "file folder link" {
		t.Errorf("left behind: %s", got)
	}
	if _, err := Open(at("folder")); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Error(err)
	}
	if _, err := Open(at("none")); !errors.Is(err, fs.ErrNotExist) || err.Error() != at("none")+": no such file or directory" {
		t.Error(err)
	}
}

func TestOutput(t *testing.T) {
	var stdout bytes.Buffer
	for _, name := range []string{"-", "/dev/stdout"} {
		check(t, Writable(name))
		check(t, Output(name, []byte("x"), &stdout))
	}
	if stdout.String() != "xx" {
		t.Errorf("standard output is %q", stdout.String())
	}
}

// What Head has seen of a pipe is still there for Open; limits hold for files
// and pipes.
func TestReadOnce(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	check(t, os.WriteFile(file, []byte("content"), 0o666))
	check(t, syscall.Mkfifo(fifo, 0o666))
	for _, name := range []string{file, fifo} {
		feed := func() {
			if name == fifo {
				go os.WriteFile(fifo, []byte("content"), 0)
			}
		}
		feed()
		if head := must[[]byte](t)(Head(name, 4)); string(head) != "cont" {
			t.Errorf("%s begins with %q", name, head)
		}
		if data := must[[]byte](t)(All(name, 7)); string(data) != "content" {
			t.Errorf("%s is %q", name, data)
		}
		feed()
		if head := must[[]byte](t)(Head(name, 100)); string(head) != "content" {
			t.Errorf("all of %s is %q", name, head)
		}
		if _, err := All(name, 6); !errors.Is(err, ErrTooLarge) || !strings.HasPrefix(err.Error(), name+": ") {
			t.Error(err)
		}
	}
}

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "key")
	check(t, WriteNew(name, []byte("secret"), 0o600))
	if info := must[os.FileInfo](t)(os.Stat(name)); info.Mode() != 0o600 || content(t, name) != "secret" {
		t.Errorf("%v, %q", info.Mode(), content(t, name))
	}
	for _, name := range []string{name, filepath.Join(dir, "no", "key")} {
		if err := WriteNew(name, []byte("other"), 0o600); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%v", err)
		}
	}
	check(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	if err := WriteNew(filepath.Join(dir, "link"), nil, 0o600); err == nil {
		t.Error("a link is followed")
	}
	if content(t, name) != "secret" {
		t.Error("a file was replaced")
	}
}

// Of several files all are written or none, whatever is in the way of one; nothing temporary is left.
func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	check(t, Write(name("a"), []byte("old")))
	check(t, os.Mkdir(name("c"), 0o755))
	list := []File{{name("a"), []byte("new")}, {name("b"), []byte("new")}, {name("c"), []byte("new")}}
	if err := WriteAll(list); err == nil || !strings.Contains(err.Error(), name("c")+": is a folder") {
		t.Error(err)
	}
	if got := left(t, dir) + content(t, name("a")); got != "a cold" {
		t.Error(got)
	}
	check(t, os.Remove(name("c")))
	check(t, WriteAll(list))
	if got := left(t, dir) + content(t, name("a")) + content(t, name("c")); got != "a b cnewnew" {
		t.Error(got)
	}
}
