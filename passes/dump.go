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
// stages they live through. A dump that can't be written to its end leaves nothing.
type dumper struct {
	dir    string
	stage  int
	before map[string]bool // what was there
}

func newDumper(dir string) (*dumper, error) {
	if dir == "" {
		return nil, nil
	}
	d := &dumper{dir: dir, before: map[string]bool{}}
	for _, path := range d.list() {
		d.before[path] = true
	}
	if err := os.MkdirAll(d.constants(), 0o777); err != nil {
		return nil, d.failed(err)
	}
	return d, nil
}

func (d *dumper) constants() string { return filepath.Join(d.dir, "constants") }

// list has what a dump may have made and is there, contents before their folders.
func (d *dumper) list() (paths []string) {
	for _, dir := range []string{d.constants(), d.dir} {
		if entries, err := os.ReadDir(dir); err == nil {
			for _, e := range entries {
				if !e.IsDir() {
					paths = append(paths, filepath.Join(dir, e.Name()))
				}
			}
			paths = append(paths, dir)
		}
	}
	return paths
}

// failed takes away what the dump has made.
func (d *dumper) failed(err error) error {
	for _, path := range d.list() {
		if !d.before[path] {
			os.Remove(path)
		}
	}
	return fmt.Errorf("dump of the textual IR: %w", err)
}

func (d *dumper) write(pass string, g *ir.Graph) error {
	if d == nil {
		return nil
	}
	path := filepath.Join(d.dir, fmt.Sprintf("%02d-%s.ir", d.stage, pass))
	d.stage++
	var text bytes.Buffer
	err := ir.Fprint(&text, g, ir.PrintOptions{Resources: ir.DirResources(d.constants())})
	if err == nil {
		err = files.Write(path, text.Bytes())
	}
	if err != nil {
		return d.failed(err)
	}
	return nil
}
