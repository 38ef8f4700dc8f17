package testfiles_test

import (
	"runtime"
	"testing"

	"nepcoc/internal/testfiles"
)

// recorder is a test that notes how it ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.ended = "skipped"; runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) { r.ended = "failed"; runtime.Goexit() }

// What a machine lacks is skipped on a laptop, and never in CI.
func TestMissing(t *testing.T) {
	for ci, want := range map[string]string{"": "skipped", "false": "skipped", "true": "failed"} {
		t.Setenv("CI", ci)
		for name, needs := range map[string]func(testing.TB){
			"thing": func(t testing.TB) { testfiles.Missing(t, "no %s here", "thing") },
			"tool":  func(t testing.TB) { testfiles.Tool(t, "no-such-tool-anywhere") },
		} {
			r, done := &recorder{TB: t}, make(chan bool)
			go func() { defer close(done); needs(r) }()
			if <-done; r.ended != want {
				t.Errorf("CI=%q, %s: %q, want %s", ci, name, r.ended, want)
			}
		}
	}
}
