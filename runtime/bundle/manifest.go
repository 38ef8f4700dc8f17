package bundle

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"nepcoc/internal/textfile"
)

// Manifest says what a bundle is: where it came from, what it was made for and
// how good it was found to be. It holds no time of creation: the same inputs
// give the same bytes. Figures that were computed in floating point must be
// rounded before they are stored here, since CPUs differ in the last digits.
type Manifest struct {
	// Format is the version of the file that this was read from, Tool the version of
	// the compiler.
	Format int    `json:"format"`
	Tool   string `json:"tool"`
	// Name is what events and metrics call the bundle; see Bundle.Name.
	Name        string       `json:"name,omitempty"`
	Model       Model        `json:"model"`
	Target      Target       `json:"target"`
	Contract    Contract     `json:"contract"`
	View        View         `json:"view,omitzero"`
	Outputs     []OutputInfo `json:"outputs"`
	Calibration Calibration  `json:"calibration"`
	Measured    Measured     `json:"measured"`
	Sizes       Sizes        `json:"sizes"`
	Notes       []StepNote   `json:"notes,omitempty"`
	// Traffic is what calibration's flows looked like; nil: not known, as in files of version 1.
	Traffic *Traffic `json:"traffic,omitempty"`
	// MinPayload is how many bytes of payload a flow's tokens must hold for a verdict: see LeastPayload.
	MinPayload int `json:"min_payload,omitempty"`
}

// Model is the file that was compiled: its name without folders, its SHA-256
// in hex.
type Model struct {
	File     string `json:"file"`
	SHA256   string `json:"sha256"`
	Producer string `json:"producer,omitempty"`
	Opset    int    `json:"opset,omitempty"`
	// Version is whoever trained the model's own; empty: it has none.
	Version string `json:"version,omitempty"`
	// TokenInput and MaskInput are the model's own names of its inputs: the
	// arrays to look for in a file of arrays. No MaskInput: it has no mask, or
	// makes it of the tokens: positions that hold PadToken don't count.
	TokenInput string `json:"token_input,omitempty"`
	MaskInput  string `json:"mask_input,omitempty"`
	PadToken   *int   `json:"pad_token,omitempty"`
	// Features are the ranges of the numbers that the model reads, one per position: they are features of
	// a flow, not bytes. None: the model reads tokens or bytes.
	Features []Range `json:"features,omitempty"`
	// Sides are the inputs of numbers beside the sequence, in the order of the program's ids.
	Sides []SideInput `json:"sides,omitempty"`
	// Sizes are the dynamic dimensions of the model's inputs that were given a size, by name: with
	// others it is another model.
	Sizes map[string]int `json:"sizes,omitempty"`
}

// Target is what the bundle was tuned for. It runs anywhere: all kernels compute the same bits.
type Target struct {
	Name string `json:"name"`
}

// Contract is the traffic contract: the canonical YAML and its hash.
type Contract struct {
	YAML string `json:"yaml"`
	Hash string `json:"hash"`
}

// Calibration says how activation ranges were found, and from what: Samples inputs,
// Distinct of them different, Observed of which ranges were found on. The last two are 0 in files
// of version 1.
type Calibration struct {
	Method       string `json:"method"`
	Samples      int    `json:"samples"`
	Distinct     int    `json:"distinct,omitempty"`
	Observed     int    `json:"observed,omitempty"`
	SourceSHA256 string `json:"source_sha256,omitempty"`
}

// Measured compares integer with float on Samples different inputs that no range was found
// on, or, where Seen, on the calibration's own: the share of equal verdicts (Agreement: no accuracy), the
// mean cosine of the logits, their root mean square error relative to their spread (0 in files of version 1),
// and the worst error of a logit, in the model's units.
type Measured struct {
	Samples   int     `json:"samples"`
	Seen      bool    `json:"seen,omitempty"`
	Agreement float64 `json:"agreement"`
	Cosine    float64 `json:"cosine"`
	RelError  float64 `json:"rel_error,omitempty"`
	MaxError  float64 `json:"max_error"`
	// Labelled are those of the inputs whose right verdict was known, of the first output that has
	// any; FloatAccuracy and IntegerAccuracy the shares of them on which the float model and the
	// integers are right. Without Labelled there are none.
	Labelled        int     `json:"labelled,omitempty"`
	FloatAccuracy   float64 `json:"float_accuracy,omitempty"`
	IntegerAccuracy float64 `json:"integer_accuracy,omitempty"`
	// Warnings say in plain words what these figures do not show.
	Warnings []string `json:"warnings,omitempty"`
}

// Sizes are figures for people: bytes of the tensors, multiply-adds of a full
// input.
type Sizes struct {
	Weights int64 `json:"weights"`
	MACs    int64 `json:"macs"`
}

// StepNote tells why a step is as it is (kept wide, folded, ...).
type StepNote struct {
	Step string `json:"step"`
	Note string `json:"note"`
}

// DefaultMinPayload is the least number of bytes of payload of a flow that is judged, where a manifest has no other.
const DefaultMinPayload = 1

// MaxMinPayload bounds the number that a manifest can ask for.
const MaxMinPayload = 1 << 16

// LeastPayload is the number of bytes of payload below which a flow is insufficient: no verdict is made of it. MinPayload is
// that number, 0 for DefaultMinPayload and -1 for none, which is what files of version 1 mean.
func (m *Manifest) LeastPayload() int {
	switch {
	case m.MinPayload < 0:
		return 0
	case m.MinPayload == 0:
		return DefaultMinPayload
	}
	return m.MinPayload
}

// MinPayloadOf is the field for a number of bytes.
func MinPayloadOf(bytes int) int {
	switch bytes {
	case 0:
		return -1
	case DefaultMinPayload:
		return 0
	}
	return bytes
}

// validate checks the manifest by itself and against its program.
func (m *Manifest) validate(p *Program) error {
	if len(m.Outputs) != len(p.Outputs) {
		return fmt.Errorf("%d outputs, the program has %d", len(m.Outputs), len(p.Outputs))
	}
	for i, o := range m.Outputs {
		if o.Name != p.Outputs[i].Name {
			return fmt.Errorf("output %d is %q, in the program %q", i, o.Name, p.Outputs[i].Name)
		}
		if err := o.validate(&p.Outputs[i], p.Values[p.Outputs[i].Value].Cols); err != nil {
			return fmt.Errorf("output %q: %w", o.Name, err)
		}
	}
	for _, s := range []string{m.Tool, m.Model.File, m.Target.Name, m.Contract.Hash, m.Calibration.Method} {
		if !printable(s) {
			return fmt.Errorf("%q holds characters that can't be printed", s)
		}
	}
	for name, size := range m.Model.Sizes {
		if !printable(name) || size < 1 || size > MaxLength {
			return fmt.Errorf("dimension %q of size %d", name, size)
		}
	}
	for _, s := range []string{m.Name, m.Model.Version} {
		if err := CheckName(s); err != nil {
			return err
		}
	}
	for _, s := range m.Measured.Warnings {
		if !printable(s) {
			return fmt.Errorf("warning %q holds characters that can't be printed", s)
		}
	}
	if m.MinPayload < -1 || m.MinPayload > MaxMinPayload {
		return fmt.Errorf("min_payload %d is not in -1..%d", m.MinPayload, MaxMinPayload)
	}
	if strings.ContainsAny(m.Model.File, `/\`) {
		return fmt.Errorf("model file %q must be a name without folders", m.Model.File)
	}
	if err := m.knows(p); err != nil {
		return err
	}
	if err := m.features(p); err != nil {
		return fmt.Errorf("features: %w", err)
	}
	if err := m.sides(p); err != nil {
		return fmt.Errorf("sides: %w", err)
	}
	if m.Traffic != nil {
		if err := m.Traffic.validate(); err != nil {
			return fmt.Errorf("traffic: %w", err)
		}
	}
	if err := m.View.Validate(); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	return nil
}

// CheckClassName says what is wrong with the name of a class: it stands in events, in
// metrics and on terminals.
func CheckClassName(s string) error {
	switch {
	case s == "":
		return errors.New("empty: a class needs a name")
	case !utf8.ValidString(s):
		return fmt.Errorf("%q is not UTF-8: %s", s, textfile.NotUTF8)
	case !printable(s):
		return fmt.Errorf("%q holds characters that can't be printed: name the class otherwise", s)
	case s == "unknown" || s == "insufficient":
		return fmt.Errorf("%q is what the agent says where it names no class: name the class otherwise", s)
	}
	return nil
}

// CheckName says what is wrong with a bundle's name or a model's version: they stand
// in every event.
func CheckName(s string) error {
	const most = 255
	switch {
	case len(s) > most:
		return fmt.Errorf("%.40q... is longer than %d bytes", s, most)
	case !printable(s):
		return fmt.Errorf("%q holds characters that can't be printed", s)
	}
	return nil
}

// printable keeps what a terminal would obey, and what JSON can't hold, out of names that are shown.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
