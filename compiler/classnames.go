package compiler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
	"nepcoc/internal/textfile"
	"nepcoc/runtime/bundle"
)

// maxClassNames bounds a file of class names: a model has at most some thousand.
const maxClassNames = 1 << 20

// ReadClassNames reads class names, one per line, in UTF-8 or UTF-16. Empty lines may
// stand at the end only: anywhere else one would shift the classes after it.
func ReadClassNames(path string) ([]string, error) {
	data, err := files.All(path, maxClassNames)
	if errors.Is(err, files.ErrTooLarge) {
		return nil, fmt.Errorf("labels %w: a label file has one class name per line", err)
	}
	if err != nil {
		return nil, fmt.Errorf("labels %w", err)
	}
	path = files.Show(path)
	head := data[:min(len(data), filekind.Head)]
	if k := filekind.Of(path, head); len(head) > 0 && k != nil && k.ID != filekind.Text {
		return nil, fmt.Errorf("labels %s: no list of class names, one per line%s", path, filekind.Hint(path, head))
	}
	text, err := io.ReadAll(textfile.Reader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("labels %s: %w", path, err)
	}
	var names []string
	seen := make(map[string]int)
	for i, line := range strings.Split(strings.TrimRight(string(text), " \t\r\n"), "\n") {
		name := strings.TrimSpace(line)
		switch first, dup := seen[name]; {
		case len(text) == 0 || i == 0 && strings.TrimSpace(string(text)) == "":
			return nil, fmt.Errorf("labels %s: empty: want one class name per line", path)
		case name == "":
			return nil, fmt.Errorf("labels %s, line %d: empty: want one class name per line", path, i+1)
		case dup:
			return nil, fmt.Errorf("labels %s, line %d: %q stands on line %d already", path, i+1, name, first)
		}
		if err := bundle.CheckClassName(name); err != nil {
			return nil, fmt.Errorf("labels %s, line %d: %w", path, i+1, err)
		}
		names = append(names, name)
		seen[name] = i + 1
	}
	return names, nil
}
