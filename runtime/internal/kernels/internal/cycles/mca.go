package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// oldest is the first LLVM with schedules of its own for the Neoverse cores.
const oldest = 16

var versionText = regexp.MustCompile(`LLVM version (\d+)[.\d]*`)

// findMCA returns the tool and its version.
func findMCA(path string) (tool, version string, err error) {
	try := []string{path}
	if path == "" {
		try = []string{"llvm-mca"}
		for v := 30; v >= oldest; v-- {
			try = append(try, fmt.Sprintf("llvm-mca-%d", v))
		}
	}
	seen := "none"
	for _, t := range try {
		out, err := exec.Command(t, "--version").Output()
		if err != nil {
			continue
		}
		m := versionText.FindStringSubmatch(string(out))
		if m == nil {
			continue
		}
		seen = t + " is " + m[0]
		if n, _ := strconv.Atoi(m[1]); n >= oldest {
			return t, m[0], nil
		}
	}
	return "", "", fmt.Errorf("need llvm-mca of LLVM %d or later (found: %s): install llvm-19, or name it with -llvm-mca", oldest, seen)
}

var (
	symbols = regexp.MustCompile(`\s*<.*?>|\s*//.*`)
	branch  = regexp.MustCompile(`^(b|b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s*(?:0x)?[0-9a-f]+$`)
	total   = regexp.MustCompile(`Total Cycles:\s+(\d+)`)
)

// estimate is the number of cycles of one run of a loop in the long run.
func estimate(tool, model string, loop []instr) (float64, error) {
	const runs = 300
	var text strings.Builder
	for _, in := range loop {
		t := symbols.ReplaceAllString(in.text, "")
		t = branch.ReplaceAllString(strings.TrimSpace(t), "$1 .")
		text.WriteString(t + "\n")
	}
	c := exec.Command(tool, "-mtriple=aarch64", "-mcpu="+model, "-mattr=+dotprod,+rdm", fmt.Sprintf("-iterations=%d", runs))
	c.Stdin = strings.NewReader(text.String())
	out, err := c.CombinedOutput()
	m := total.FindStringSubmatch(string(out))
	if err != nil || m == nil {
		return 0, fmt.Errorf("%s -mcpu=%s: %v\n%s", tool, model, err, out)
	}
	n, err := strconv.Atoi(m[1])
	return float64(n) / runs, err
}
