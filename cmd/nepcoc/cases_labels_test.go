package main

import (
	"os"
	"testing"
)

// Label files of a capture's flows, as other tools write them: a match, or a message that
// says which of the columns does not fit. What each file labels is in
// compiler/calibrate's test; here is what the commands say and exit with.
func init() {
	caseElsewhere["18-label-csv/*.csv"] = "TestLabelFiles of compiler/calibrate finds every flow's label in it"
	const all = `labels +441 of 441 flows +ok`
	for _, row := range []struct {
		file string
		exit int
		want []string
	}{
		{"time-s", 0, []string{all, "note: .*times in steps of 1s"}},
		{"label-case", 0, []string{all, `note: .*upper and lower case.*"dns" is DNS`}},
		{"time-plus3h", 1, []string{"time-plus3h.csv: labels none of the 441 flows of .*test.pcap", "441 flows: .*time is 3h0m0s later", "time zone", "in UTC", "leave the column time out"}},
		{"label-index", 1, []string{"label-index.csv: labels none of the 441 flows", `441 flows have a label that is no class of the model: "3"; its classes are DNS, FTP`, "numbers.*names"}},
		{"empty", 1, []string{"empty.csv: the file is empty"}},
		{"header-only", 1, []string{"header-only.csv: no labels"}},
	} {
		file := "18-label-csv/" + row.file + ".csv"
		caseRows = append(caseRows, caseRow{file: file, exit: row.exit, want: row.want, not: []string{"FAILED"},
			args: []string{"verify", "$DEMO", "--random", "0", "--pcap", "$TESTBED/test.pcap", "--labels", "$F"}})
		if row.exit == 1 { // compile reads the same files for its scores, and says the same
			caseRows = append(caseRows, caseRow{file: file, exit: 1, want: row.want[:1], after: nothingLeft,
				args: []string{"compile", "$MODEL/demo.onnx", "--calib", "$TESTBED/test.pcap", "--calib-labels", "$F", "--method", "minmax", "-o", "$TMP/x.nepco"}})
		}
	}
}

func nothingLeft(t *testing.T, tmp, _ string) {
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
