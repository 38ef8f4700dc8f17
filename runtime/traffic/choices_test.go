package traffic

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"nepcoc/internal/golden"
)

// TestChoices: every field is explained, and nothing is that is none.
func TestChoices(t *testing.T) {
	c := Default()
	known := map[string]bool{}
	for _, choice := range c.Choices() {
		known[choice.Name] = true
		if choice.Doc == "" {
			t.Errorf("%s has no explanation", choice.Name)
		}
		if choice.Value != choice.Default {
			t.Errorf("%s of the default is %s, its default %s", choice.Name, choice.Value, choice.Default)
		}
	}
	for name := range docs {
		if !known[name] {
			t.Errorf("%s is explained and no field", name)
		}
	}
	for _, b := range BlankChoices() {
		if b.Doc == "" {
			t.Errorf("%s has no explanation", b.Word)
		}
	}
}

func TestShortened(t *testing.T) {
	for _, tc := range []struct{ value, want string }{
		{"", ""}, {strings.Repeat("a", 60), strings.Repeat("a", 60)}, {strings.Repeat("a", 61), strings.Repeat("a", 57) + "..."},
	} {
		if got := Shortened(tc.value); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.value, got, tc.want)
		}
	}
}

// TestCommented: the commented file holds the same contract.
func TestCommented(t *testing.T) {
	for _, name := range append(Names(), "open") {
		c := open()
		if name != "open" {
			c, _ = Named(name)
		}
		text := c.Commented()
		back, err := Parse("c.yaml", text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if back.Hash() != c.Hash() || back.Name != c.Name {
			t.Errorf("%s: another contract is read from\n%s", name, text)
		}
	}
}

// TestContractDocument holds docs/contract.md to the tables of fields and of what can be blanked, row by row, both ways.
func TestContractDocument(t *testing.T) {
	const path = "../../docs/contract.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	packets := Default()
	stream, _ := Named("nepco-stream")
	other := stream.Choices()
	var fields, words strings.Builder
	for i, c := range packets.Choices() {
		def := "`" + c.Default + "`"
		if s := other[i].Default; s != c.Default {
			def += ", stream `" + s + "`"
		}
		fmt.Fprintf(&fields, "| `%s` | %s | %d | %s |\n", c.Name, def, c.Since, c.Doc)
	}
	for _, b := range BlankChoices() {
		fmt.Fprintf(&words, "| `%s` | %d | %s |\n", b.Word, b.Since, b.Doc)
	}
	want := replaceTable(t, string(data), "| field |", fields.String())
	want = replaceTable(t, want, "| word |", words.String())
	if golden.Update() {
		if err := os.WriteFile(path, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(data) {
		t.Errorf("%s is not what the program's tables say: go test ./runtime/traffic -run TestContractDocument -update writes it", path)
	}
}

// replaceTable puts rows in the place of those of the table that begins with a head.
func replaceTable(t *testing.T, text, head, rows string) string {
	at := strings.Index(text, head)
	if at < 0 {
		t.Fatalf("no table %q", head)
	}
	from := at
	for range 2 {
		from += strings.Index(text[from:], "\n") + 1
	}
	to := from
	for strings.HasPrefix(text[to:], "|") {
		to += strings.Index(text[to:], "\n") + 1
	}
	return text[:from] + rows + text[to:]
}
