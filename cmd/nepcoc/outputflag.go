package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"nepcoc/compiler"
)

// outputFlag is compile's --output: the file to write, as that of every command, and, as often as
// needed, what an output of the model means: NAME=KIND[:LABEL,...][@THRESHOLD,...].
type outputFlag struct {
	file    string
	outputs []compiler.Output
}

// describesOutput tells the two apart by their form, whether the kind is one or not: a kind typed wrong
// must not become a file's name. What the kinds are is compiler.ParseOutput's to say.
var describesOutput = regexp.MustCompile(`^[^=]+=[\w-]*([:@].*)?$`)

// isPath recognises a file whose name has the form of a description.
var isPath = regexp.MustCompile(`^\.\.?/`)

func (f *outputFlag) Set(s string) error {
	if describesOutput.MatchString(s) && !isPath.MatchString(s) {
		o, err := compiler.ParseOutput(s)
		if err != nil {
			way := "written ./" + s
			if s[0] == '/' { // a name in a graph, too, may begin so
				way = "given an ending: " + s + ".nepco"
			}
			return fmt.Errorf("%w (a file of this name is %s)", err, way)
		}
		f.outputs = append(f.outputs, o)
		return nil
	}
	if f.file != "" {
		return fmt.Errorf("there is one file to write, %s; what an output of the model means is written NAME=classes, NAME=binary, NAME=labels or NAME=values", f.file)
	}
	f.file = s
	return nil
}

// Append, Replace and GetSlice make it a flag that may be given several times.
func (f *outputFlag) Append(s string) error { return f.Set(s) }

func (f *outputFlag) Replace(list []string) error {
	*f = outputFlag{}
	for _, s := range list {
		if err := f.Set(s); err != nil {
			return err
		}
	}
	return nil
}

func (f *outputFlag) GetSlice() []string {
	if f.file == "" {
		return nil
	}
	return []string{f.file}
}

func (f *outputFlag) String() string { return f.file }
func (f *outputFlag) Type() string   { return "string" }

// parseUnknown reads the values of --unknown-threshold: T for all outputs, or NAME=T.
func parseUnknown(values []string) (map[string]float64, error) {
	unknown := make(map[string]float64)
	for _, v := range values {
		name, text := "", v
		if i := strings.LastIndexByte(v, '='); i >= 0 {
			name, text = v[:i], v[i+1:]
		}
		t, err := strconv.ParseFloat(text, 64)
		if err != nil || !(t >= 0 && t <= 1) {
			return nil, fmt.Errorf("%q is not within 0..1", text)
		}
		if _, twice := unknown[name]; twice {
			return nil, fmt.Errorf("%q is given twice", v)
		}
		unknown[name] = t
	}
	return unknown, nil
}
