// Package emitted compiles a bundle's C and runs it in a process of its own that tells how long inferences took.
package emitted

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"nepcoc/backends/c"
	"nepcoc/runtime/bundle"
)

var (
	//go:embed run.c.txt
	runner string
	//go:embed flows.c.txt
	flowsRunner string
)

// All stands for all inputs, one after another.
const All = -1

// Build emits the bundle's C into dir and compiles it with the program that times it; cc is a compiler with its flags.
func Build(b *bundle.Bundle, cc []string, dir string) (exe string, err error) {
	return build(b, cc, dir, runner)
}

// BuildFlows is Build of the program that times the flow table.
func BuildFlows(b *bundle.Bundle, cc []string, dir string) (exe string, err error) {
	return build(b, cc, dir, flowsRunner)
}

func build(b *bundle.Bundle, cc []string, dir, program string) (exe string, err error) {
	files, err := c.Emit(b, c.Options{Name: "bench"})
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "run.c"), []byte(program), 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command(cc[0], append(cc[1:], "-o", "run", "run.c", "nepco_bench.c")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cc, " "), err, out)
	}
	return filepath.Join(dir, "run"), nil
}

// Line is an input, of which the first valid tokens are a flow's own, as the program reads it.
func Line(tokens []int32, valid int) string {
	return fmt.Sprintln(valid, strings.Trim(fmt.Sprint(tokens), "[]"))
}

// Program is the process.
type Program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// Start starts what Build made, on a kernel path, and gives it inputs: of each its Line.
func Start(exe, path string, inputs []string) (*Program, error) {
	p, err := start(exe, path)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(p.in, strings.Join(inputs, "")+"0\n"); err != nil {
		return nil, fmt.Errorf("%s %s: %w", exe, path, err)
	}
	return p, nil
}

// StartFlows starts what BuildFlows made, on a file of frames (see flows.c.txt) that is given so many times, each later than the one before.
func StartFlows(exe, frames string, capacity, rounds int, apart time.Duration) (*Program, error) {
	return start(exe, frames, fmt.Sprint(capacity), fmt.Sprint(rounds), fmt.Sprint(apart.Nanoseconds()))
}

func start(exe string, args ...string) (*Program, error) {
	p := &Program{cmd: exec.Command(exe, args...)}
	p.cmd.Dir, p.cmd.Stderr = filepath.Dir(exe), os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// Flows runs all frames, and gives the time that they took and the flows that they were.
func (p *Program) Flows() (took time.Duration, flows int, err error) {
	if _, err := fmt.Fprintln(p.in); err != nil {
		return 0, 0, err
	}
	if !p.out.Scan() {
		return 0, 0, fmt.Errorf("the program in C ended: %v", p.cmd.Wait())
	}
	var ns float64
	_, err = fmt.Sscan(p.out.Text(), &ns, &flows)
	return time.Duration(ns), flows, err
}

// Run runs input i, or All, and gives the time that it took.
func (p *Program) Run(i int) (time.Duration, error) {
	if _, err := fmt.Fprintln(p.in, i); err != nil {
		return 0, err
	}
	if !p.out.Scan() {
		return 0, fmt.Errorf("the program in C ended: %v", p.cmd.Wait())
	}
	var ns float64
	_, err := fmt.Sscan(p.out.Text(), &ns)
	return time.Duration(ns), err
}

// Stop ends the process.
func (p *Program) Stop() error {
	p.in.Close()
	return p.cmd.Wait()
}
