package trust

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// State is what an agent remembers of what it trusted: nothing older is taken afterwards. It is a small JSON file.
type State struct {
	// Serial is the highest of the bundles that ran here to satisfaction, Digest that bundle's in hex; 0 and "": none had any.
	Serial uint64 `json:"serial"`
	Digest string `json:"digest"`
	// Keys is the highest serial of the key lists that were read.
	Keys uint64 `json:"key_list"`
	// Signers are the highest serials by who signed, the latest signers only: those of a key that was revoked count no more.
	Signers []Ran `json:"signers,omitempty"`
	// Trial is the bundle that is watched before it is remembered, Returned the one that did not stand it.
	Trial    *Trial    `json:"trial,omitempty"`
	Returned *Returned `json:"returned,omitempty"`
}

// Ran is the bundle with the highest serial that a signer's key has brought here.
type Ran struct {
	Signer string `json:"signer"` // bundle.Fingerprint of the key; "": of a version that did not write it
	Serial uint64 `json:"serial"`
	Digest string `json:"digest"`
}

// Trial is a bundle that has not stood its trial yet.
type Trial struct {
	Digest string `json:"digest"`
	// Modified is when the bundle's file was changed last: another file, be it of the same bytes, is another trial.
	Modified time.Time `json:"modified"`
	// Starts are those of the agent since the trial began: each ended before it was over, and none in order.
	Starts int `json:"starts"`
}

// Returned is a bundle that an agent ran, and returned from.
type Returned struct {
	Digest   string    `json:"digest"`
	Serial   uint64    `json:"serial"`
	Modified time.Time `json:"modified"` // as in Trial
	Reason   string    `json:"reason"`
}

// maxState bounds a state file, in bytes, and maxSigners the signers in it.
const maxState, maxSigners = 1 << 14, 16

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
	digests := []string{s.Digest}
	for _, r := range s.Signers {
		digests = append(digests, r.Digest)
	}
	if s.Trial != nil {
		digests = append(digests, s.Trial.Digest)
	}
	if s.Returned != nil {
		digests = append(digests, s.Returned.Digest)
	}
	for _, text := range digests {
		if digest, wrong := hex.DecodeString(text); err == nil && (wrong != nil || len(digest) != len(bundle.Digest{}) && len(digest) != 0) {
			err = fmt.Errorf("digest %q is none", text)
		}
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

// ran adds a bundle to what ran here.
func (s State) ran(signer string, serial uint64, digest string) State {
	if len(s.Signers) == 0 && s.Serial > 0 && (serial != s.Serial || digest != s.Digest) {
		s.Signers = []Ran{{"", s.Serial, s.Digest}} // by whom was not written yet, and it counts on
	}
	if serial > s.Serial {
		s.Serial, s.Digest = serial, digest
	}
	before := slices.IndexFunc(s.Signers, func(r Ran) bool { return r.Signer == signer })
	if before >= 0 && s.Signers[before].Serial >= serial {
		return s
	}
	all := slices.DeleteFunc(slices.Clone(s.Signers), func(r Ran) bool { return r.Signer == signer })
	s.Signers = append(all, Ran{signer, serial, digest})
	s.Signers = s.Signers[max(0, len(s.Signers)-maxSigners):]
	return s
}
