package trust

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// State is what an agent remembers of what it trusted: nothing older is taken afterwards. It is a small JSON file.
type State struct {
	// Serial is the highest of the bundles that ran, Digest that bundle's in hex; 0 and "": none had any.
	Serial uint64 `json:"serial"`
	Digest string `json:"digest"`
	// Keys is the highest serial of the key lists that were read.
	Keys uint64 `json:"key_list"`
}

// maxState bounds a state file, in bytes.
const maxState = 1 << 12

// ReadState reads a state file; one that isn't there is of an agent that never ran.
func ReadState(name string) (s State, err error) {
	data, err := files.All(name, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err = d.Decode(&s)
	if err == nil && d.More() {
		err = errors.New("more follows what was read")
	}
	if digest, wrong := hex.DecodeString(s.Digest); err == nil && (wrong != nil || len(digest) != len(bundle.Digest{}) && len(digest) != 0) {
		err = fmt.Errorf("digest %q is none", s.Digest)
	}
	if err != nil {
		return State{}, fmt.Errorf("%s: no state of nepcod: %w: whoever removes the file lets older bundles be run again, so look first at who wrote it", name, err)
	}
	return s, nil
}

// Write replaces a state file as a whole: whatever ends the machine, the old one or the new one is there.
func (s State) Write(name string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return files.Write(name, append(data, '\n'))
}
