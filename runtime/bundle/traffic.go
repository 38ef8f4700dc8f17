package bundle

import (
	"errors"
	"fmt"
)

// TrafficVersion is that of what Traffic's histograms count today.
const TrafficVersion = 1

// Traffic is what the flows that a bundle was calibrated or taught with looked like, for comparing what comes later
// (runtime/drift): one histogram per feature and, where the feature is one of an output, per output. All is integers, so
// the same flows give the same bytes on every CPU.
type Traffic struct {
	// Version says what the bins of a feature of a name mean; a reader leaves out what it doesn't know.
	Version    int         `json:"version"`
	Flows      int         `json:"flows"`
	Histograms []Histogram `json:"histograms"`
}

// Histogram counts flows by bin of a feature.
type Histogram struct {
	Feature string `json:"feature"`
	Output  string `json:"output,omitempty"`
	// Swing is by how much a part of those flows was found to differ from the rest, beyond what chance does: in thousandths of a bit.
	Swing  int   `json:"swing,omitempty"`
	Counts []int `json:"counts"`
}

// Bounds of what a file may hold.
const (
	maxHistograms = 1024
	maxBins       = 1 << 16
	maxFlows      = 1 << 40
)

func (t *Traffic) validate() error {
	if t.Version < 1 || t.Flows < 1 || t.Flows > maxFlows || len(t.Histograms) > maxHistograms {
		return fmt.Errorf("version %d, %d flows, %d histograms", t.Version, t.Flows, len(t.Histograms))
	}
	type key struct{ feature, output string }
	seen := map[key]bool{}
	for i := range t.Histograms {
		h := &t.Histograms[i]
		switch k := (key{h.Feature, h.Output}); {
		case h.Feature == "" || !printable(h.Feature) || !printable(h.Output):
			return fmt.Errorf("histogram %d: feature %q of output %q", i, h.Feature, h.Output)
		case seen[k]:
			return fmt.Errorf("two histograms of %s %s", h.Feature, h.Output)
		default:
			seen[k] = true
		}
		if err := h.validate(); err != nil {
			return fmt.Errorf("histogram of %s %s: %w", h.Feature, h.Output, err)
		}
	}
	return nil
}

func (h *Histogram) validate() error {
	if h.Swing < 0 || h.Swing > 1000 {
		return fmt.Errorf("a swing of %d thousandths of a bit", h.Swing)
	}
	if len(h.Counts) < 2 || len(h.Counts) > maxBins {
		return fmt.Errorf("%d bins", len(h.Counts))
	}
	sum := 0
	for _, n := range h.Counts {
		if n < 0 || n > maxFlows {
			return fmt.Errorf("a count of %d", n)
		}
		sum += n
	}
	if sum == 0 {
		return errors.New("it is empty")
	}
	return nil
}
