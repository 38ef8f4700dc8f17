package onnx

import "testing"

// A model's version is the text that its metadata have, else the standard's number.
func TestModelVersion(t *testing.T) {
	for _, c := range []struct {
		number   int64
		metadata map[string]string
		want     string
	}{
		{0, nil, ""}, {3, nil, "3"}, {3, map[string]string{"version": "2026-11"}, "2026-11"},
		{0, map[string]string{"version": "a", "model_version": "b"}, "b"}, {7, map[string]string{"version": ""}, "7"},
	} {
		if got := modelVersion(&modelProto{modelVersion: c.number}, c.metadata); got != c.want {
			t.Errorf("%d %v: %q, want %q", c.number, c.metadata, got, c.want)
		}
	}
}
