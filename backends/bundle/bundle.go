// Package bundle makes .nepco files: the artifact that the agent reads. The format
// itself is runtime/bundle's.
package bundle

import (
	"fmt"

	"nepcoc/backends"
	"nepcoc/runtime/bundle"
)

// Artifact is the bundle.
var Artifact = backends.Artifact{
	Name: "bundle", Doc: "a .nepco file for nepcod", Build: build,
}

func build(b *bundle.Bundle, o backends.ArtifactOptions) ([]backends.File, error) {
	data, err := bundle.Encode(b, bundle.Options{Key: o.Key, Statement: o.Statement})
	if err != nil {
		return nil, err
	}
	// Before it takes the place of a file that can be read.
	if _, err := bundle.Decode(data); err != nil {
		return nil, fmt.Errorf("what the model compiles to can't be read again, so nothing was written: %w; please report this with the model", err)
	}
	return []backends.File{{Data: data}}, nil
}
