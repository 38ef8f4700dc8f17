package testfiles

import (
	"os"
	"testing"
)

// Missing ends a test that needs what this machine does not have: it is skipped, but in CI (CI=true)
// it fails, since a green run must have run it.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format+"; CI must run this test", args...)
	}
	t.Skipf(format, args...)
}
