// Package version holds the one version of everything that is built here: both
// commands, the packages, and what bundles and events say made them.
package version

import "runtime/debug"

// Version is that of the sources. packaging/build-deb.sh reads this line.
const Version = "0.2.0"

// Revision is the commit that the program was built from, "" where the build
// did not record one.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
