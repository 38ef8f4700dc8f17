package passes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"nepcoc/internal/files"
	"nepcoc/ir"
)

// dumper writes the graph after each pass. Constants that are too long for a
// text are files named by their digest, so that they appear once however many
// stages they live through.
type dumper struct {
	dir   string
	stage int
}

func newDumper(dir string) (*dumper, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Join(dir, "constants"), 0o777); err != nil {
		return nil, fmt.Errorf("dump of the textual IR: %w", err)
	}
	return &dumper{dir: dir}, nil
}

func (d *dumper) write(pass string, g *ir.Graph) error {
	if d == nil {
		return nil
	}
	path := filepath.Join(d.dir, fmt.Sprintf("%02d-%s.ir", d.stage, pass))
	d.stage++
	var text bytes.Buffer
	err := ir.Fprint(&text, g, ir.PrintOptions{Resources: ir.DirResources(filepath.Join(d.dir, "constants"))})
	if err == nil {
		err = files.Write(path, text.Bytes())
	}
	if err != nil {
		return fmt.Errorf("dump of the textual IR: %w", err)
	}
	return nil
}
