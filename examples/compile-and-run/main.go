// Command compile-and-run shows the library: it compiles a model, then classifies a capture with the
// bundle, all in one process.
//
//	go run ./examples/compile-and-run
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"nepcoc/compiler"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

func main() {
	examples := flag.String("examples", "examples", "folder that holds model and testbed")
	flag.Parse()
	if err := run(os.Stdout, *examples); err != nil {
		fmt.Fprintln(os.Stderr, "compile-and-run:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, examples string) error {
	b, err := compile(filepath.Join(examples, "model"), filepath.Join(examples, "testbed", "calib.pcap"))
	if err != nil {
		return err
	}
	return classifyCapture(w, b, filepath.Join(examples, "testbed", "test.pcap"))
}

// compile turns the model into a bundle. A program that serves a model wouldn't do this: it would read
// a bundle with bundle.ReadFile and need nothing of the compiler.
func compile(model, calib string) (*bundle.Bundle, error) {
	text, err := os.ReadFile(filepath.Join(model, "demo.contract.yaml"))
	if err != nil {
		return nil, err
	}
	contract, err := traffic.Parse("demo.contract.yaml", text)
	if err != nil {
		return nil, err
	}
	names, err := os.ReadFile(filepath.Join(model, "demo.labels.txt"))
	if err != nil {
		return nil, err
	}
	result, err := compiler.Compile(context.Background(), compiler.Options{
		Model:           filepath.Join(model, "demo.onnx"),
		Calib:           calib,
		Target:          "host",
		Contract:        &contract,
		Labels:          [][]string{strings.Fields(string(names))},
		MaxDisagreement: compiler.DefaultMaxDisagreement,
	})
	if err != nil {
		return nil, err
	}
	return result.Bundle, nil
}

// classifyCapture prints one line per flow.
func classifyCapture(w io.Writer, b *bundle.Bundle, path string) error {
	executor, err := classify.Engine(b)
	if err != nil {
		return err
	}
	src, err := capture.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	var line []byte
	_, err = classify.New(b, executor).Flows(b, src, false, func(r *verdict.Record) error {
		line = append(r.AppendText(line[:0]), '\n')
		_, err := w.Write(line)
		return err
	})
	return err
}
