package version

import (
	"regexp"
	"testing"
)

// Packages are ordered by it, so it has three numbers and nothing else.
func TestVersion(t *testing.T) {
	if !regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`).MatchString(Version) {
		t.Errorf("%q is not MAJOR.MINOR.PATCH", Version)
	}
}
