package backends

import (
	"crypto/ed25519"

	"nepcoc/runtime/bundle"
)

// Artifact is a kind of thing that a compiled model is written as. Each is a package of its own below
// this one, which exports its Artifact and knows no other; compiler.Artifacts is the table of all.
type Artifact struct {
	Name string // also the package's, and what --emit takes
	Doc  string // one line
	// Folder: what is built are the files of a folder; else it is one file, whose name the user chooses.
	Folder bool
	// Build makes the artifact of a validated program and what is known of it. The same bundle and options
	// give the same bytes on every machine. What it can't make it refuses with the reason.
	Build func(b *bundle.Bundle, o ArtifactOptions) ([]File, error)
}

// File is one file of an artifact.
type File struct {
	Name string
	Data []byte
}

// ArtifactOptions are what an artifact may be asked for.
type ArtifactOptions struct {
	// Key signs the artifact, where it is set; a kind that can't be signed refuses it.
	Key ed25519.PrivateKey
	// Statement is what the signature says besides.
	Statement bundle.Statement
	// Symbol is part of the names in code; empty: the bundle's name.
	Symbol string
}
