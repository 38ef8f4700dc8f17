package ir

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"nepcoc/internal/files"
)

// Resources stores the data of constants too large to print. A reference
// depends on the content alone, so that the same graph prints the same.
type Resources interface {
	Put(t *Tensor) (ref string, err error)
	Get(ref string) ([]byte, error)
}

const refPrefix = "sha256:"

func contentRef(data []byte) string {
	sum := sha256.Sum256(data)
	return refPrefix + hex.EncodeToString(sum[:])
}

// MemoryResources keeps data in memory.
type MemoryResources map[string][]byte

// Put stores the tensor's bytes.
func (m MemoryResources) Put(t *Tensor) (string, error) {
	data := t.Bytes()
	ref := contentRef(data)
	m[ref] = data
	return ref, nil
}

// Get returns the bytes of a reference.
func (m MemoryResources) Get(ref string) ([]byte, error) {
	if data, ok := m[ref]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("no data for %q", ref)
}

// DirResources keeps data as files of a directory, named by their digest.
type DirResources string

func (d DirResources) file(ref string) (string, error) {
	digest, ok := strings.CutPrefix(ref, refPrefix)
	if raw, err := hex.DecodeString(digest); !ok || err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("%q is not a reference of the form %sDIGEST", ref, refPrefix)
	}
	return filepath.Join(string(d), digest+".bin"), nil
}

// Put writes the tensor's bytes, unless the directory has them.
func (d DirResources) Put(t *Tensor) (string, error) {
	data := t.Bytes()
	ref := contentRef(data)
	name, err := d.file(ref)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(name); err == nil {
		return ref, nil
	}
	if err := os.MkdirAll(string(d), 0o777); err != nil {
		return "", err
	}
	// Whole or not at all: an interrupted dump must leave no half file under a digest.
	return ref, files.Write(name, data)
}

// Get reads a file and checks its digest.
func (d DirResources) Get(ref string) ([]byte, error) {
	name, err := d.file(ref)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if contentRef(data) != strings.ToLower(ref) {
		return nil, fmt.Errorf("%s doesn't hold what its name says; write the dump again", name)
	}
	return data, nil
}
