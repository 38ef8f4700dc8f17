package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAlternate(t *testing.T) {
	calls := map[string]int{}
	side := func(name string, d time.Duration) contender {
		return func(int) (time.Duration, error) { calls[name]++; return d, nil }
	}
	a, b, err := alternate(10, 3, side("a", 3*time.Microsecond), side("b", time.Microsecond))
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 10 || len(b) != 10 || quantile(a, 0.5) != 3 || quantile(b, 0.5) != 1 {
		t.Errorf("times %v, %v", a, b)
	}
	if want := 2 * (10 + warmPairs); calls["a"] != want || calls["b"] != want {
		t.Errorf("calls %v, want %d of each", calls, want)
	}
	broken := errors.New("broken")
	if _, _, err := alternate(1, 1, side("a", 1), func(int) (time.Duration, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestFindInputs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"m.onnx", "m.calib.npz", "m.test.npz", "zoo/net/model.onnx", "zoo/net/calib.npz", "bare/x.onnx"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	got, err := findInputs([]string{at("m.onnx"), at("zoo/net/model.onnx")})
	if err != nil {
		t.Fatal(err)
	}
	want := []model{
		{"m", at("m.onnx"), at("m.calib.npz"), at("m.test.npz")},
		{"net", at("zoo/net/model.onnx"), at("zoo/net/calib.npz"), at("zoo/net/calib.npz")},
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
	if _, err := findInputs([]string{at("bare/x.onnx")}); err == nil {
		t.Error("a model without anything to calibrate with was taken")
	}
}
