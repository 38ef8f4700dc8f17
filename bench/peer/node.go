package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
)

//go:embed peer.js
var script []byte

// fetch installs the peer, unless that version is there already, and the script
// that runs it. The package brings its native library along; its install script would
// only fetch the one for GPUs.
func fetch(dir, version string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "peer.js"), script, 0o666); err != nil {
		return err
	}
	var have struct{ Version string }
	if data, err := os.ReadFile(filepath.Join(dir, "node_modules", "onnxruntime-node", "package.json")); err == nil {
		if err := json.Unmarshal(data, &have); err == nil && have.Version == version {
			return nil
		}
	}
	cmd := exec.Command("npm", "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--prefix", dir, "onnxruntime-node@"+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install onnxruntime-node: %w (node and npm are needed)\n%s", err, out)
	}
	return nil
}

// peer is a model in ONNX Runtime, in a process of its own that does one
// thing per line it is sent and answers with a line.
type peer struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	hello struct{ ORT, Node, CPUs string }
}

// setup is the first line that the peer is sent.
type setup struct {
	Model      string            `json:"model"`
	TokenInput string            `json:"tokenInput"`
	MaskInput  string            `json:"maskInput"`
	Divisor    float64           `json:"divisor"` // of tokens
	Inputs     []calibrate.Input `json:"inputs"`
}

func startPeer(dir, path string, m *bundle.Model, encoding string, inputs []calibrate.Input) (*peer, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	p := &peer{cmd: exec.Command("node", "peer.js")}
	p.cmd.Dir, p.cmd.Stderr = dir, os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	s := setup{Model: abs, TokenInput: m.TokenInput, MaskInput: m.MaskInput, Divisor: 1, Inputs: inputs}
	if encoding == "byte/255" {
		s.Divisor = 255
	}
	line, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if err := p.ask(string(line), &p.hello); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// ask sends a line and reads the answer.
func (p *peer) ask(line string, answer any) error {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return err
	}
	got, err := p.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the peer ended: %w", err)
	}
	if err := json.Unmarshal([]byte(got), answer); err != nil {
		return fmt.Errorf("the peer said %q: %w", strings.TrimSpace(got), err)
	}
	return nil
}

// run is a contender: the time is the peer's own, without the way there and back.
func (p *peer) run(i int) (time.Duration, error) {
	var ns int64
	err := p.ask(fmt.Sprint("t ", i), &ns)
	return time.Duration(ns), err
}

// verdict is the argmax of the first output for input i.
func (p *peer) verdict(i int) (n int, err error) {
	err = p.ask(fmt.Sprint("v ", i), &n)
	return n, err
}

func (p *peer) stop() {
	p.in.Close()
	p.cmd.Wait()
}

// callOverhead is the time, in microseconds, that the peer takes for a model whose only
// node is Identity.
func callOverhead(o options) (float64, error) {
	path := filepath.Join(o.dir, "identity.onnx")
	if err := os.WriteFile(path, identity(), 0o666); err != nil {
		return 0, err
	}
	p, err := startPeer(o.dir, path, &bundle.Model{TokenInput: "x"}, "", []calibrate.Input{{Tokens: make([]int32, 128), Valid: 128}})
	if err != nil {
		return 0, err
	}
	defer p.stop()
	var times []float64
	for range warmPairs + o.pairs {
		d, err := p.run(0)
		if err != nil {
			return 0, err
		}
		times = append(times, float64(d.Nanoseconds())/1e3)
	}
	return quantile(times[warmPairs:], 0.5), nil
}

// identity is an ONNX model of one node, from x to y, int64[1,128].
func identity() []byte {
	str := func(b []byte, field protowire.Number, v string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
	}
	num := func(b []byte, field protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
	}
	value := func(name string) string {
		shape := str(str(nil, 1, string(num(nil, 1, 1))), 1, string(num(nil, 1, 128)))
		tensor := str(num(nil, 1, 7), 2, string(shape)) // elem_type int64
		return string(str(str(nil, 1, name), 2, string(str(nil, 1, string(tensor)))))
	}
	node := str(str(str(nil, 1, "x"), 2, "y"), 4, "Identity")
	graph := str(str(str(str(nil, 1, string(node)), 2, "identity"), 11, value("x")), 12, value("y"))
	opset := num(nil, 2, 17)
	return str(str(num(nil, 1, 8), 7, string(graph)), 8, string(opset))
}
