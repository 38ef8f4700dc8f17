package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// model is a model to compare, with what it is calibrated with and run on.
type model struct{ name, path, calib, inputs string }

// defaultModels are those of the test data, else the example.
func defaultModels() []string {
	data := os.Getenv("NEPCOC_DATA")
	if data == "" {
		data = filepath.Join("..", "shared", "data")
	}
	trained, _ := filepath.Glob(filepath.Join(data, "models", "nepco.onnx"))
	zoo, _ := filepath.Glob(filepath.Join(data, "zoo", "*", "model.onnx"))
	if all := slices.Concat(trained, zoo); len(all) > 0 {
		return all
	}
	return []string{filepath.Join("examples", "model", "demo.onnx")}
}

// findInputs looks for arrays, or captures, beside the models: NAME.calib.npz and
// NAME.test.npz for NAME.onnx, else calib.npz and eval.npz, else calib.pcap and test.pcap,
// also in a folder testbed beside the model's.
func findInputs(paths []string) ([]model, error) {
	var models []model
	for _, p := range paths {
		dir, stem := filepath.Dir(p), strings.TrimSuffix(filepath.Base(p), ".onnx")
		m := model{name: stem, path: p}
		if stem == "model" {
			m.name = filepath.Base(dir)
		}
		m.calib = firstFile(filepath.Join(dir, stem+".calib.npz"), filepath.Join(dir, "calib.npz"),
			filepath.Join(dir, "calib.pcap"), filepath.Join(dir, "..", "testbed", "calib.pcap"))
		m.inputs = firstFile(filepath.Join(dir, stem+".test.npz"), filepath.Join(dir, "eval.npz"),
			filepath.Join(dir, "test.pcap"), filepath.Join(dir, "..", "testbed", "test.pcap"), m.calib)
		if m.calib == "" {
			return nil, fmt.Errorf("%s: nothing to calibrate with beside it: put %s.calib.npz, calib.npz or calib.pcap there", p, stem)
		}
		models = append(models, m)
	}
	return models, nil
}

func firstFile(paths ...string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); p != "" && err == nil {
			return p
		}
	}
	return ""
}
