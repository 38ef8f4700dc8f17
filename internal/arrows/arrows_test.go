// Package arrows checks that imports between the project's packages only run
// in the directions that the architecture allows; see ARCHITECTURE.md.
package arrows

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

const module = "nepcoc/"

// house is the part of the project that a package belongs to.
func house(pkg string) string {
	return strings.SplitN(strings.TrimPrefix(pkg, module), "/", 2)[0]
}

// rules say which packages a package may not depend on, directly or through
// others. Packages are named below the module; "x/..." stands for x and all
// below it.
var rules = []struct {
	from, not []string
	why       string
}{
	{[]string{"runtime/..."}, []string{"cmd/...", "compiler/...", "passes/...", "backends/...", "ir/..."},
		"the card runs without the compiler"},
	{[]string{"ir/..."}, []string{"cmd/...", "compiler/...", "passes/...", "backends/..."},
		"the IR knows nothing of what works on it"},
	{[]string{"passes/...", "backends/..."}, []string{"cmd/...", "compiler/..."},
		"imports run cmd -> compiler -> {passes, backends} -> ir"},
	{[]string{"compiler/..."}, []string{"cmd/..."},
		"imports run cmd -> compiler -> {passes, backends} -> ir"},
	{[]string{"ir/...", "passes/...", "backends/..."},
		[]string{"runtime/refexec/...", "runtime/engine/...", "runtime/internal/kernels/...", "runtime/flow/...", "runtime/capture/...", "runtime/verdict/..."},
		"of the runtime they may import bundle, arith and traffic only"},
	{[]string{"runtime/refexec/..."}, []string{"runtime/internal/kernels/...", "runtime/engine/..."},
		"the specification must not rest on what is tested against it"},
	{[]string{"runtime/bundle/...", "runtime/arith/...", "runtime/traffic/..."},
		[]string{"runtime/refexec/...", "runtime/engine/...", "runtime/internal/kernels/...", "runtime/flow/...", "runtime/capture/...", "runtime/verdict/..."},
		"everyone may import them, so they must be small"},
	{[]string{"cmd/nepcod/...", "runtime/..."}, []string{"github.com/owulveryck/onnx-go/...", "gorgonia.org/..."},
		"the agent links no model readers"},
	{[]string{"cmd/nepcod/...", "runtime/..."}, []string{"fleet/...", "github.com/nats-io/..."},
		"what reads strangers' packets has no network of its own"},
	{[]string{"cmd/nepcof/...", "fleet/..."}, []string{"runtime/capture/...", "runtime/flow/...", "runtime/agent/...", "compiler/...", "passes/...", "backends/...", "ir/..."},
		"what has the network reads no packets and no models"},
}

// Only these may import the heavy dependencies themselves.
var modelReaders = []string{"compiler/onnx/...", "ir/eval/..."}

var heavy = []string{"github.com/owulveryck/onnx-go/...", "gorgonia.org/..."}

// The agent is made of these and of other modules.
var agent = []string{"cmd/nepcod/...", "runtime/...", "internal/..."}

// matches tells whether pkg is one of the patterns.
func matches(pkg string, patterns []string) bool {
	pkg = strings.TrimPrefix(pkg, module)
	return slices.ContainsFunc(patterns, func(p string) bool {
		base, tree := strings.CutSuffix(p, "/...")
		return pkg == base || tree && strings.HasPrefix(pkg, base+"/")
	})
}

// goList runs go list in the repository's root and returns the fields of each
// line.
func goList(t *testing.T, args ...string) [][]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = testfiles.Root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var lines [][]string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func TestImports(t *testing.T) {
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...") {
		pkg, deps := line[0], line[1:]
		for _, r := range rules {
			if !matches(pkg, r.from) {
				continue
			}
			for _, d := range deps {
				if matches(d, r.not) {
					t.Errorf("%s depends on %s: %s", pkg, d, r.why)
				}
			}
		}
		for _, d := range deps {
			if matches(pkg, []string{"cmd/nepcod/..."}) && strings.HasPrefix(d, module) && !matches(d, agent) {
				t.Errorf("%s depends on %s: the agent consists of %v", pkg, d, agent)
			}
		}
	}
}

func TestHeavyDependencies(t *testing.T) {
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		for _, d := range line[1:] {
			if matches(d, heavy) && !matches(line[0], modelReaders) {
				t.Errorf("%s imports %s: only %v may", line[0], d, modelReaders)
			}
		}
	}
}

// Kinds of artifacts are folders of backends that know no other; program, which lowers, serves all.
func TestArtifactsAreApart(t *testing.T) {
	kinds := 0
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./backends/...") {
		if line[0] == module+"backends" || line[0] == module+"backends/program" {
			continue
		}
		kinds++
		for _, d := range line[1:] {
			if strings.HasPrefix(d, module+"backends/") && d != module+"backends/program" && !strings.HasPrefix(d, line[0]+"/") {
				t.Errorf("%s depends on %s: a kind of artifact knows no other", line[0], d)
			}
		}
	}
	if kinds == 0 {
		t.Error("no kind of artifact")
	}
}

// writers may make files themselves: the one place that knows what a name can stand
// for, a log that is appended to, and what makes files for developers.
var writers = []string{
	"internal/files", "runtime/agent", "internal/genops", "internal/golden", "internal/npzfile", "internal/testfiles", "internal/testnet", "internal/testcard", "fleet",
	"passes/internal/passtest", "runtime/internal/kernels/internal/...", "examples/testbed/...", "bench/...",
}

var makesFiles = regexp.MustCompile(`\bos\.(Create|CreateTemp|WriteFile|OpenFile|Rename)\(`)

func TestOnePlaceWritesFiles(t *testing.T) {
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{.Dir}} {{join .GoFiles " "}}`, "./...") {
		if matches(line[0], writers) {
			continue
		}
		for _, name := range line[2:] {
			text, err := os.ReadFile(filepath.Join(line[1], name))
			if err != nil {
				t.Fatal(err)
			}
			if m := makesFiles.Find(text); m != nil {
				t.Errorf("%s/%s calls %s): internal/files writes what a user names", line[0], name, m)
			}
		}
	}
}

// Every package is in a house that the rules know.
func TestHouses(t *testing.T) {
	for _, line := range goList(t, "./...") {
		if h := house(line[0]); !slices.Contains([]string{"cmd", "compiler", "passes", "backends", "ir", "runtime", "internal", "examples", "bench", "packaging", "fleet", "test"}, h) {
			t.Errorf("%s: no rule says what %q may import", line[0], h)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		pkg, pattern string
		want         bool
	}{
		{"nepcoc/ir", "ir/...", true},
		{"nepcoc/ir/eval", "ir/...", true},
		{"nepcoc/ir/eval", "ir", false},
		{"nepcoc/iris", "ir/...", false},
		{"gorgonia.org/tensor", "gorgonia.org/...", true},
	} {
		if got := matches(tc.pkg, []string{tc.pattern}); got != tc.want {
			t.Errorf("matches(%q, %q) = %v", tc.pkg, tc.pattern, got)
		}
	}
}
