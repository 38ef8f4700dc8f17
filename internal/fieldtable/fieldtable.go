// Package fieldtable holds the tables of fields in the documents to what is written: for tests
// only.
package fieldtable

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Row is a field as a document's table has it: | `path` | type | unit | in | when | what |.
type Row struct {
	Path, Type, Unit, When string
	In                     []string // the kinds of lines that have it; nil: all events
}

var rows = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|[^|]*\\|$")

// Read reads the rows of a document's tables.
func Read(t testing.TB, path string) (list []Row) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rows.FindAllStringSubmatch(string(text), -1) {
		r := Row{Path: m[1], Type: m[2], Unit: strings.TrimSpace(m[3]), When: strings.TrimSpace(m[5])}
		if in := strings.TrimSpace(m[4]); in != "all" {
			r.In = strings.Split(in, ", ")
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no table of fields", path)
	}
	return list
}

// Check fails where lines of a kind and the table differ: each field of a line has a row, of its type; each row's
// field is in some line, and in every line just where the row says always.
func Check(t testing.TB, table []Row, kind string, event bool, lines [][]byte) {
	t.Helper()
	seen := map[string]int{}
	types := map[string]string{}
	for _, r := range table {
		if r.In == nil && event || slices.Contains(r.In, kind) {
			if types[r.Path] != "" {
				t.Errorf("%s: %s has two rows", kind, r.Path)
			}
			types[r.Path] = r.Type
		}
	}
	for _, line := range lines {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		in := map[string]bool{}
		walk("", v, func(path string, v any) {
			in[path] = true
			switch want := types[path]; {
			case want == "":
				t.Errorf("%s: %s is in no row: %s", kind, path, line)
				types[path] = "any"
			case !is(v, want):
				t.Errorf("%s: %s is %v, the table says %s", kind, path, v, want)
			}
		})
		for path := range in {
			seen[path]++
		}
	}
	for _, r := range table {
		if types[r.Path] != r.Type || !(r.In == nil && event || slices.Contains(r.In, kind)) {
			continue
		}
		switch n := seen[r.Path]; {
		case n == 0:
			t.Errorf("%s: no line has %s", kind, r.Path)
		case (r.When == "always") != (n == len(lines)):
			t.Errorf("%s: %s is in %d of %d lines, the table says %s", kind, r.Path, n, len(lines), r.When)
		}
	}
}

// walk calls f with each field of a JSON value, and its path.
func walk(path string, v any, f func(string, any)) {
	if path != "" {
		f(path, v)
	}
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			if path != "" {
				name = path + "." + name
			}
			walk(name, x, f)
		}
	case []any:
		for _, x := range v {
			if _, object := x.(map[string]any); object {
				for name, y := range x.(map[string]any) {
					walk(path+"[]."+name, y, f)
				}
				continue
			}
			walk(path+"[]", x, f)
		}
	}
}

func is(v any, typ string) bool {
	if typ == "any" { // of a field without a row, which has been said
		return true
	}
	switch v := v.(type) {
	case string:
		if typ == "time" {
			_, err := time.Parse("2006-01-02T15:04:05.000000-0700", v)
			return err == nil
		}
		return typ == "string" && v != ""
	case bool:
		return typ == "boolean"
	case float64:
		return typ == "number" || typ == "integer" && v == math.Trunc(v)
	case []any:
		return typ == "list"
	case map[string]any:
		return typ == "object"
	}
	return false
}
