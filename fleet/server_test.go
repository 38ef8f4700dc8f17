package fleet

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server that can't start says why: not that a port may not be free, where it is the folder, and at once.
func TestServeRefused(t *testing.T) {
	access := newFleetFolder(t, 1).access
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ listen, dir, want string }{
		{taken.Addr().String(), t.TempDir(), "address already in use"},
		{"127.0.0.1:0", dir, "JetStream"},
	} {
		s, err := access.Serve(c.listen, c.dir, quietLog, func(error) {})
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "127.0.0.1:") {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
