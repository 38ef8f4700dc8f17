package main

import (
	"strings"
	"testing"
)

// What has the form of a description is one, so that a kind typed wrong is refused and no file's
// name; a file of that form is written with its folder or an ending.
func TestOutputFlag(t *testing.T) {
	for _, tc := range []struct{ value, file, refused string }{
		{value: "m.nepco", file: "m.nepco"},
		{value: "-", file: "-"},
		{value: "./x=binry", file: "./x=binry"},
		{value: "../out/x=binry:a@0.9", file: "../out/x=binry:a@0.9"},
		{value: "/tmp/run=3/m.nepco", file: "/tmp/run=3/m.nepco"},
		{value: "x=3.nepco", file: "x=3.nepco"},
		{value: "score=binary:benign,malicious@0.9"},
		{value: "/head/Sigmoid=labels"},
		{value: "x=binry:a,b@0.9", refused: `"binry" is none of classes, binary, labels, values`},
		{value: "x=binry", refused: "a file of this name is written ./x=binry"},
		{value: "/head/Sigmoid=label:a,b", refused: `"label" is none of`},
		{value: "x=multi-label@0.5", refused: `"multi-label" is none of`},
		{value: "x=", refused: `"" is none of`},
	} {
		var f outputFlag
		err := f.Set(tc.value)
		switch {
		case tc.refused != "":
			if err == nil || !strings.Contains(err.Error(), tc.refused) || f.file != "" {
				t.Errorf("%s: %v, want %q", tc.value, err, tc.refused)
			}
		case err != nil || f.file != tc.file || (tc.file == "") != (len(f.outputs) == 1):
			t.Errorf("%s: %v, file %q, %d outputs; want file %q", tc.value, err, f.file, len(f.outputs), tc.file)
		}
	}
}
