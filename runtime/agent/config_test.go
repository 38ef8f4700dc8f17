package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
)

func TestConfig(t *testing.T) {
	c, err := agent.ParseConfig("test", []byte("bundle: m.nepco\ninterface: p0\nworkers: 12\nreceive: {threads: 2, block_size: 131072, retire: 5ms}\nunknown_threshold: 0.4\nalerts: [Tor]\noutput: {to: 'unix:/run/x', format: json}\nmetrics: {listen: ':9477'}\nactive_timeout: 1m\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Workers != 12 || c.Receive.Threads != 2 || c.Receive.Retire != 5*time.Millisecond || *c.UnknownThreshold != 0.4 || c.Alerts[0] != "Tor" ||
		*c.ActiveTimeout != time.Minute || c.Receive.Blocks == 0 || !c.Receive.Promiscuous || c.Drain != agent.DefaultDrain {
		t.Errorf("%+v", c)
	}
	if _, err := agent.ParseConfig("empty", nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for _, tc := range []struct{ text, want string }{
		{"bundel: x", "line 1: field bundel not found"},
		{"workers: many", "line 1: cannot unmarshal"},
		{"workers: 0", "workers: 0 is not within 1..1024"},
		{"flows: 1000000000", "flows: "},
		{"queue: 1", "queue: "},
		{"receive: {threads: 0}", "receive.threads: "},
		{"receive: {block_size: 4096}", "receive.block_size: 4096"},
		{"unknown_threshold: 1.5", "unknown_threshold: 1.5"},
		{"unknown_threshold: .nan", "unknown_threshold: NaN"},
		{"drain: 1ns", "drain: "},
		{"active_timeout: -1s", "active_timeout: "},
		{"output: {format: xml}", `output.format: "xml"`},
		{"metrics: {listen: nine}", "metrics.listen: "},
		{"bundle: a\n---\nbundle: b", "more than one document"},
		{"bundle: [", "test: yaml"},
		{"bundle: &a [*a, *a]", "test: "},
		{strings.Repeat("#", 70000), "more than"},
	} {
		if _, err := agent.ParseConfig("test", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "test: ") {
			t.Errorf("%.40q: %v, want %q", tc.text, err, tc.want)
		}
	}
	if _, err := agent.ReadConfig(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file, no error")
	}
}

// badField is a field of the configuration with a value that it can't have.
type badField struct {
	path  string   // as an error names it: actions.rules[0].mark
	keys  []string // the mappings that it stands in, "-" is an entry of a list
	value string
	typed bool // the value is none of the field's type, which the reader of YAML says with its line
}

// badFields walks a type of the configuration's. What it does not know how to make wrong is an error of the test.
func badFields(t *testing.T, of reflect.Type, path string, keys []string) (all []badField) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	leaf := func(value string, typed bool) []badField { return []badField{{path, keys, value, typed}} }
	switch {
	case of == reflect.TypeFor[time.Duration]():
		return leaf("-1ns", false)
	case of.Kind() == reflect.Struct:
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() {
				continue
			}
			if name == "" || name == "-" {
				t.Errorf("%s of %s has no name in the file", f.Name, of)
			}
			at := name
			if path != "" {
				at = path + "." + name
			}
			all = append(all, badFields(t, f.Type, at, append(keys[:len(keys):len(keys)], name))...)
		}
		return all
	case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
		return badFields(t, of.Elem(), path+"[0]", append(keys[:len(keys):len(keys)], "-"))
	case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.String:
		return leaf(`["a\nb"]`, false)
	}
	switch of.Kind() {
	case reflect.Int, reflect.Int64:
		return leaf("-1", false)
	case reflect.Uint16, reflect.Uint32:
		return leaf("5000000000", true)
	case reflect.Uint64:
		return leaf("1", false)
	case reflect.Float64:
		return leaf(".nan", false)
	case reflect.Bool:
		return leaf("maybe", true)
	case reflect.String:
		return leaf(`"a\nb"`, false)
	}
	t.Errorf("%s: this test makes no wrong %s", path, of)
	return nil
}

// yamlOf writes fields, and says in which line each is.
func yamlOf(fields []badField) (text string, lines []int) {
	var b strings.Builder
	n := 0
	var at []string // the mappings that are open
	for _, f := range fields {
		same := 0
		for same < len(f.keys)-1 && same < len(at)-1 && f.keys[same] == at[same] {
			same++
		}
		dash := ""
		for i := same; i < len(f.keys); i++ {
			if f.keys[i] == "-" {
				dash = "- "
				continue
			}
			indent := strings.Repeat("  ", i)
			if dash != "" {
				indent = indent[2:] + dash
				dash = ""
			}
			b.WriteString(indent + f.keys[i] + ":")
			if i == len(f.keys)-1 {
				b.WriteString(" " + f.value)
			}
			b.WriteString("\n")
			n++
		}
		at = f.keys
		lines = append(lines, n)
	}
	return b.String(), lines
}

// Whatever field is wrong is named, alone and with all others: an answer has every mistake. A field that is added is walked, too.
func TestEveryWrongField(t *testing.T) {
	all := badFields(t, reflect.TypeFor[agent.Config](), "", nil)
	if len(all) < 60 {
		t.Fatalf("%d fields", len(all))
	}
	said := func(text string) (lines []string) {
		_, err := agent.ParseConfig("test", []byte(text))
		if err == nil {
			return nil
		}
		var fields *agent.FieldErrors
		if !errors.As(err, &fields) {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, e := range fields.Fields {
			lines = append(lines, e.Error())
		}
		return lines
	}
	names := func(f badField, line int, errs []string) (n int) {
		want := "^" + regexp.QuoteMeta(f.path) + `(: | of )`
		if f.typed {
			want = fmt.Sprintf("^line %d: cannot unmarshal .*%s.* into (bool|uint)", line, f.value)
		}
		for _, e := range errs {
			if regexp.MustCompile(want).MatchString(e) {
				n++
			}
		}
		return n
	}
	text, lines := yamlOf(all)
	together := said(text)
	for i, f := range all {
		one, at := yamlOf(all[i : i+1])
		if errs := said(one); names(f, at[0], errs) != 1 {
			t.Errorf("%s alone: %q", f.path, errs)
		}
		if names(f, lines[i], together) != 1 {
			t.Errorf("%s with all others is not named once", f.path)
		}
	}
	if len(together) != len(all) {
		t.Errorf("%d errors of %d fields:\n%s\n%s", len(together), len(all), strings.Join(together, "\n"), text)
	}
}

// The configuration that the package installs is good, and shows every field
// with its default.
func TestPackagedConfig(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(testfiles.Root(t), "packaging", "nepcod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.ParseConfig("nepcod.yaml", data); err != nil {
		t.Error(err)
	}
	var all strings.Builder
	for l := range strings.Lines(string(data)) {
		// Optional fields stand commented out.
		if rest, ok := strings.CutPrefix(l, "#"); ok && !strings.HasPrefix(rest, " ") {
			l = rest
		}
		all.WriteString(l)
	}
	if _, err := agent.ParseConfig("nepcod.yaml, all fields", []byte(all.String())); err != nil {
		t.Error(err)
	}
	for _, f := range badFields(t, reflect.TypeFor[agent.Config](), "", nil) {
		if field := f.keys[len(f.keys)-1]; !strings.Contains(all.String(), field+":") {
			t.Errorf("field %s is not shown", f.path)
		}
	}
}

// A configuration as an older version took it is still taken, and means what it meant: each of its fields is something else than the default.
func TestStoredConfig(t *testing.T) {
	c, err := agent.ReadConfig("testdata/0.2.0.yaml")
	if err != nil {
		t.Fatal(err)
	}
	def := agent.DefaultConfig()
	var walk func(path string, got, def reflect.Value)
	walk = func(path string, got, def reflect.Value) {
		if got.Kind() == reflect.Struct {
			for i := range got.NumField() {
				if f := got.Type().Field(i); f.IsExported() {
					walk(path+"."+f.Name, got.Field(i), def.Field(i))
				}
			}
			return
		}
		// What is on by default stays on here, since require wants it so; what is off is on.
		if reflect.DeepEqual(got.Interface(), def.Interface()) && !strings.HasPrefix(path, ".Sandbox.") && path != ".Output.Format" {
			t.Errorf("%s is %v, as by default", path, got)
		}
	}
	walk("", reflect.ValueOf(c), reflect.ValueOf(def))
	if r := c.Actions.Rules; len(r) != 4 || r[0].Do != "drop" || r[1].Rate != 250000 || r[2].Mark != 7 || r[3].To != "mirror0" || *r[0].MinScore != 0.95 || r[0].For != 5*time.Minute {
		t.Errorf("%+v", r)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("bundle: x\nworkers: 3\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := agent.ParseConfig("fuzz", data)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
