package agent

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"nepcoc/runtime/capture"
)

// full makes files end after so many bytes, as on a full disk, until the function that it returns is called.
func full(t *testing.T, bytes uint64) (again func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
}

// aFlow is one packet's record.
func aFlow(size int) []byte {
	ip := make([]byte, size)
	ip[0] = 0x45
	return appendRecord(nil, &capture.Packet{IP: ip, Length: size})
}

// A file that can't be begun, since the disk is full, pushes no older one out, however often that is tried, and leaves nothing
// behind; what is written once there is room is a capture from its header on.
func TestKeepOnFullDisk(t *testing.T) {
	if os.Getenv("NEPCOD_FULL_DISK") == "" { // in a process of its own: a test's has files of its own to write
		cmd := exec.Command(os.Args[0], "-test.run=^TestKeepOnFullDisk$")
		cmd.Env = append(os.Environ(), "NEPCOD_FULL_DISK=1")
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Skip("starts itself again, which can't be done under an emulator: held where the machine is its own")
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, room := range []uint64{0, 10, pcapHeader} {
		dir := t.TempDir()
		to := filepath.Join(dir, "unknown.pcap")
		k, err := newKeepFile(KeepConfig{To: to, Size: minKeepSize, Files: 3}, func(string, error) {})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"unknown.pcap", "unknown.1.pcap", "unknown.2.pcap"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		again := full(t, room)
		failed := 0
		for range 5 {
			if k.add(aFlow(60)) != nil {
				failed++
			}
		}
		entries, err := os.ReadDir(dir)
		again()
		if failed != 5 || err != nil {
			t.Fatalf("room for %d bytes: %d of 5 writes fail, %v", room, failed, err)
		}
		for _, e := range entries {
			if text, _ := os.ReadFile(filepath.Join(dir, e.Name())); string(text) != e.Name() {
				t.Errorf("room for %d bytes: %s holds %q", room, e.Name(), text)
			}
		}
		if len(entries) != 3 {
			t.Errorf("room for %d bytes: %d files", room, len(entries))
		}
		if err := k.add(aFlow(60)); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(to)
		if want := appendHeader(nil); err != nil || !bytes.HasPrefix(text, want) || len(text) != pcapHeader+len(aFlow(60)) {
			t.Errorf("room for %d bytes, then more: %d bytes, %v, %x", room, len(text), err, text[:min(len(text), pcapHeader)])
		}
		if text, _ := os.ReadFile(filepath.Join(dir, "unknown.1.pcap")); string(text) != "unknown.pcap" {
			t.Errorf("the file before is %q", text)
		}
	}
}

// What waits for a verdict has the room that it may have, also where flows grow: one that finds none is given up, those that were there
// stay. A flow larger than a file is kept as far as it fits.
func TestKeptBound(t *testing.T) {
	var size int
	k := &keeper{flows: map[uint64]*kept{}, bytes: &size}
	p := &capture.Packet{IP: make([]byte, 1400), Length: 1400}
	const flows = 4000
	for i := range 20 * flows {
		k.joined(uint64(i%flows), i < flows, p)
		if size > keptBytes {
			t.Fatalf("%d bytes wait after %d packets", size, i)
		}
	}
	whole := 0
	for seq := range uint64(flows) {
		if f := k.take(seq); f != nil {
			if len(f.times) != 20 {
				t.Fatalf("flow %d has %d of 20 packets", seq, len(f.times))
			}
			whole++
			k.give(f)
		}
	}
	if whole < 500 || size != 0 {
		t.Errorf("%d flows are kept, then %d bytes wait", whole, size)
	}
	f := &kept{}
	for range 3 {
		f.times = append(f.times, len(f.records))
		f.records = append(f.records, aFlow(1400)...)
	}
	one := int64(len(aFlow(1400)))
	for size, want := range map[int64]int64{one - 1: 0, one: one, 2*one + 5: 2 * one, 3 * one: 3 * one, 1 << 20: 3 * one} {
		if got := int64(len(f.within(size))); got != want {
			t.Errorf("%d of %d bytes within %d", got, len(f.records), size)
		}
	}
}
