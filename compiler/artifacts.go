package compiler

import (
	"fmt"
	"strings"

	"nepcoc/backends"
	"nepcoc/backends/bundle"
	"nepcoc/backends/c"
)

// artifacts is the table of what a compiled model can be written as, the default first.
var artifacts = []backends.Artifact{bundle.Artifact, withFlows(c.Artifact)}

// Artifacts lists what a compiled model can be written as, the default first.
func Artifacts() []backends.Artifact { return artifacts }

// LookupArtifact finds a kind of artifact by name.
func LookupArtifact(name string) (*backends.Artifact, error) {
	var names []string
	for i := range artifacts {
		if artifacts[i].Name == name {
			return &artifacts[i], nil
		}
		names = append(names, artifacts[i].Name)
	}
	return nil, fmt.Errorf("unknown kind of artifact %q: want one of %s", name, strings.Join(names, ", "))
}
