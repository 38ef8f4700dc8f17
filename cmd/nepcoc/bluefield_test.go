package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
)

// docs/bluefield.md is held to the programs: messages of its table are ours, links lead somewhere, its configuration is one, and commands have the flags that they
// are given.
func TestBluefieldDocument(t *testing.T) {
	root := testfiles.Root(t)
	data, err := os.ReadFile(filepath.Join(root, "docs", "bluefield.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)

	// Every Go file's text, without tests.
	var source strings.Builder
	for _, dir := range []string{"cmd", "runtime", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, _ os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				var b []byte
				b, err = os.ReadFile(name)
				source.Write(b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, table, ok := strings.Cut(text, "## Troubleshooting")
	rows := 0
	for l := range strings.Lines(table) {
		cells := strings.Split(l, " | ")
		if !ok || len(cells) != 3 || strings.HasPrefix(l, "| what you see") {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[0], -1) {
			if m[1] == "unknown" || m[1] == "address already in use" { // a label; the system's words
				continue
			}
			for part := range strings.SplitSeq(m[1], "…") {
				if part = strings.TrimSpace(part); !strings.Contains(source.String(), part) {
					t.Errorf("no program says %q", part)
				}
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d rows", rows)
	}

	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(text, -1) {
		headings["#"+strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(m[1], "#") {
			if !headings[m[1]] {
				t.Errorf("no heading for %s", m[1])
			}
		} else if _, err := os.Stat(filepath.Join(root, "docs", m[1])); err != nil {
			t.Error(err)
		}
	}

	_, rest, _ := strings.Cut(text, "```yaml\n")
	config, _, _ := strings.Cut(rest, "```")
	if c, err := agent.ParseConfig("docs/bluefield.md", []byte(config)); err != nil || c.Workers != 12 || c.Interface != "nepco1" {
		t.Errorf("%+v, %v", c, err)
	}

	nepcod, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	helps := map[string]string{}
	commands := 0
	for _, m := range regexp.MustCompile(`\b(nepco[cd]) ((?:(?:key|actions) )?[a-z-]+)([^\n`+"`"+`|]*)`).FindAllStringSubmatch(text, -1) {
		what := m[1] + " " + m[2]
		if _, ok := helps[what]; !ok {
			program := map[string]string{"nepcoc": "nepcoc", "nepcod": nepcod}[m[1]]
			out, err := exec.Command(program, append(strings.Fields(m[2]), "--help")...).CombinedOutput()
			if helps[what] = string(out); err != nil || !regexp.MustCompile(`(?m)^Usage:\n  `+what+`\b`).Match(out) {
				helps[what] = ""
			}
		}
		args, _, _ := strings.Cut(m[3], " #")
		args, _, _ = strings.Cut(args, "&&")
		if helps[what] == "" {
			if strings.Contains(args, "--") || strings.Contains(text, "    "+what) {
				t.Errorf("there is no %s", what)
			}
			continue // prose
		}
		commands++
		for _, flag := range regexp.MustCompile(`--[a-z-]+|\s-o\b`).FindAllString(args, -1) {
			if flag = strings.TrimSpace(flag); !strings.Contains(helps[what], fmt.Sprintf("%s ", flag)) && !strings.Contains(helps[what], flag+",") {
				t.Errorf("%s has no %s", what, flag)
			}
		}
	}
	if commands < 30 {
		t.Errorf("%d commands", commands)
	}
}
