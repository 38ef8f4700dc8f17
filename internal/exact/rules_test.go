package exact_test

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

// sources are the project's packages that the compiler is made of, with their
// files.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}}{{$d := .Dir}}{{range .GoFiles}} {{$d}}/{{.}}{{end}}`, "./cmd/nepcoc")
	cmd.Dir = testfiles.Root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "nepcoc/") {
			files[f[0]] = f[1:]
		}
	}
	if len(files) < 20 {
		t.Fatalf("only %d packages: the module's path has changed", len(files))
	}
	return files
}

// Nothing in the compiler multiplies and adds with one rounding. The rule is on
// what the Go compiler makes of the source, since it fuses across inlined
// functions and through variables, which a look at expressions would miss.
// float64(x*y) + z is the way out.
func TestNoFusedProducts(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the compiler for arm64")
	}
	args := []string{"build", "-gcflags=nepcoc/...=-S"}
	for pkg := range sources(t) {
		args = append(args, pkg)
	}
	slices.Sort(args[2:])
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = testfiles.Root(t), append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	var listing bytes.Buffer
	cmd.Stdout, cmd.Stderr = &listing, &listing
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%.2000s", err, listing.String())
	}
	fused, products := regexp.MustCompile(`\((.*:\d+)\)\tFN?M(ADD|SUB)[SD]\t`), 0
	seen := make(map[string]bool)
	lines := bufio.NewScanner(&listing)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "\tFMULD\t") {
			products++
		}
		if m := fused.FindStringSubmatch(lines.Text()); m != nil && !seen[m[1]] {
			seen[m[1]] = true
			t.Errorf("%s: a product is added without being rounded: write float64(x*y) + z (float32 likewise), for the same bits on every CPU", m[1])
		}
	}
	if err := lines.Err(); err != nil || products < 100 {
		t.Errorf("%d products in the listing (%v): it is not what this test takes it for", products, err)
	}
}

// reproducible are the functions of package math that are defined to the bit:
// they are IEEE 754's own operations, or move bits about. The others are internal/exact's business.
var reproducible = strings.Fields("Abs Ceil Copysign Floor Frexp Inf IsInf IsNaN Ldexp Max Min Mod Modf NaN Round RoundToEven Signbit Sqrt Trunc " +
	"Float32bits Float32frombits Float64bits Float64frombits")

// Nothing in the compiler calls a function of the library whose last bits depend
// on the CPU.
func TestNoLibraryFunctions(t *testing.T) {
	root := testfiles.Root(t)
	for pkg, files := range sources(t) {
		for _, file := range files {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := s.X.(*ast.Ident)
				if !ok || x.Name != "math" || x.Obj != nil || slices.Contains(reproducible, s.Sel.Name) || constant(s.Sel.Name) {
					return true
				}
				where, _ := filepath.Rel(root, set.Position(s.Pos()).String())
				t.Errorf("%s (%s): math.%s differs between CPUs in its last bits: take the one of internal/exact", where, pkg, s.Sel.Name)
				return true
			})
		}
	}
}

func constant(name string) bool {
	return strings.HasPrefix(name, "Max") || strings.HasPrefix(name, "Min") || slices.Contains([]string{"Pi", "E", "Sqrt2", "Ln2", "SmallestNonzeroFloat64"}, name)
}
