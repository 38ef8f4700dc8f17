package main

import (
	"os"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
)

// noBundle says that a compile left nothing behind.
func noBundle(t *testing.T, tmp, _ string) {
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func init() {
	demo := func(file string, more ...string) []string {
		return append([]string{"compile", "$MODEL/demo.onnx", "--calib", file, "-o", "$TMP/x.nepco"}, more...)
	}
	// Calibration data that say little of other traffic: compiled, and said.
	caseRows = append(caseRows,
		caseRow{file: "31-calibration-data/dns-only.pcap", args: demo("$F"),
			want: []string{`measured +on 9 distinct flows that ranges were found on`, `warning .*same 9 flows that ranges were found on, too few`, `warning .*all 9 measured flows the same verdict, "DNS": that integers agree says nothing`}},
		caseRow{file: "31-calibration-data/three.pcap", args: demo("$F"),
			want: []string{`measured +on 3 distinct flows that ranges were found on`, `warning .*same 3 flows that ranges were found on, too few`, `warning .*2 of 3 flows have packets of one side only`}},
	)

	// Class names in another order than the outputs, with labelled flows at hand.
	named := func() []string {
		return demo("$TESTBED/calib.pcap", "--calib-labels", "$TESTBED/calib.csv", "--labels", "$F")
	}
	caseRows = append(caseRows,
		caseRow{file: "39-class-order/rev.txt", args: named(), exit: 1, after: noBundle,
			want: []string{`class names are not in the order of the model's outputs`, `right on 0 of 146 labelled flows`, `right on 9\d\.\d % of them`, `0 \(named "TLS"\) is given to "DNS"`, `way out: .*--labels.*--contract`}},
		caseRow{file: "39-class-order/long.txt", args: named(), exit: 1, after: noBundle, want: []string{`22 classes, .*23 lines`}},
		caseRow{file: "39-class-order/short.txt", args: named(), exit: 1, after: noBundle, want: []string{`22 classes, .*21 lines`}},
	)

	// Outliers, scales and steep functions: what integers follow is compiled and agrees
	// on inputs that were not seen; what they don't is refused. The last is a walk of the way out.
	const folder = "35-quantisation/"
	compile := func(name string, more ...string) []string {
		return append([]string{"compile", "$CASES/" + folder + name + ".onnx", "--calib", "$CASES/" + folder + name + ".cal.npz", "-o", "$TMP/x.nepco"}, more...)
	}
	for _, name := range []string{
		"channel-scales", "gated12", "head-row-scales", "outlier-tap", "pow0.5", "pow2", "residual20",
		"scale1e-12", "scale1e-14", "scale1e-16", "scale1e-5", "sqrt-abs",
	} {
		agrees := func(t *testing.T, tmp, _ string) {
			dir := testfiles.Path(t, "cases", folder)
			runs(t, "nepcoc", "verify", filepath.Join(tmp, "x.nepco"), "--model", filepath.Join(dir, name+".onnx"), "--tensors", filepath.Join(dir, name+".ev.npz"), "--min-agreement", "0.97")
		}
		caseRows = append(caseRows, caseRow{file: folder + name + ".onnx", args: compile(name), after: agrees,
			want: []string{`measured +on \d+ distinct samples that no range was found on`, `warning .*the figures stand on (6|16) samples only`}})
	}
	for _, name := range []string{"one-over-x", "scale1e-18", "scale1e-19", "scale1e-25", "tiny-times-huge"} {
		caseRows = append(caseRows,
			caseRow{file: folder + name + ".onnx", args: compile(name), exit: 1, after: noBundle,
				want: []string{`integers don't follow the model closely enough: the best of \d+ plans changes \d+ of \d+ verdicts .*--max-disagreement 0\.01 allows`, `way out: .*--max-disagreement`}},
			caseRow{file: folder + name + ".onnx", args: compile(name, "--max-disagreement", "1"), want: []string{`float = integer +\d+ of \d+ verdicts`, `warning`}})
	}
	caseRows = append(caseRows, caseRow{file: folder + "outlier-embedding-row.onnx", args: compile("outlier-embedding-row"),
		want: []string{`float = integer +1[56] of 16`, `warning .*the figures stand on 16 samples only`}})
	for _, name := range []string{"log-of-zero", "overflow-middle", "sqrt-of-negative"} {
		caseRows = append(caseRows, caseRow{file: folder + name + ".onnx", args: compile(name), exit: 1, after: noBundle, want: []string{`computes NaN or infinity for a calibration input`, `way out:`}})
	}
	caseElsewhere[folder+"*.cal.npz"] = "what the rows of the models calibrate with"
	caseElsewhere[folder+"*.ev.npz"] = "what the rows of the models verify with"
}
