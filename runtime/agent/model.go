package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/trust"
)

// Model is a bundle that has been proved on this machine and is ready to run.
// Nothing of it changes that workers see, who share it.
type Model struct {
	Path   string
	Bundle *bundle.Bundle

	engine   *engine.Engine
	encoder  *traffic.Encoder
	contract string // hash of the traffic contract
	file     os.FileInfo
	trusted  *trust.Policy // what the bundle was held to; nil: to nothing

	once      sync.Once
	explainer *explain.Explainer
	wrong     error
}

// explained is what explains the model's verdicts, made when it is first asked for. Its engine takes the other one's place in workers.
func (m *Model) explained() (*explain.Explainer, error) {
	m.once.Do(func() { m.explainer, m.wrong = explain.New(m.Bundle, m.encoder) })
	return m.explainer, m.wrong
}

// loadModel reads a bundle that a configuration trusts, checks that it fits, binds it, and runs
// its golden vectors: what comes back computes what the compiler saw it compute.
func (c *Config) loadModel() (*Model, error) {
	path := c.Bundle
	var info os.FileInfo
	if !files.IsStdin(path) {
		var err error
		if info, err = os.Stat(path); err != nil {
			_, wrong := c.trust()
			return nil, errors.Join(append(Errors(wrong), fmt.Errorf("%s: %w", path, files.Reason(err)))...)
		}
	}
	b, policy, err := c.readBundle(path)
	if err != nil {
		return nil, err
	}
	if err := c.CheckBundle(path, b); err != nil {
		return nil, err
	}
	m, err := NewModel(b)
	if err != nil {
		return nil, inBundle(path, err)
	}
	m.Path, m.file, m.trusted = path, info, policy
	// Reading took as much memory again as the model, in steps that a heap of this size does not
	// soon collect.
	debug.FreeOSMemory()
	return m, nil
}

// NewModel does for a bundle in memory what loadModel does for a file.
func NewModel(b *bundle.Bundle) (*Model, error) {
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	contract := opt.Encoder.Contract()
	m := &Model{Bundle: b, encoder: opt.Encoder, contract: contract.Hash()}
	if m.engine, err = engine.Bind(b.Program.Judged(), engine.Options{}); err != nil {
		return nil, err
	}
	return m, m.prove()
}

// inBundle puts a bundle's name in front of each of the errors.
func inBundle(path string, err error) error {
	errs := Errors(err)
	for i := range errs {
		errs[i] = fmt.Errorf("%s: %w", path, errs[i])
	}
	return errors.Join(errs...)
}

// prove runs the golden vectors.
func (m *Model) prove() error {
	_, difference, err := classify.Prove(m.Bundle, m.engine.NewContext().Run)
	if err == nil && difference != "" {
		err = fmt.Errorf("this machine computes other logits than the compiler did: %s; see nepcod selftest", difference)
	}
	return err
}

// Digest is the bundle's.
func (m *Model) Digest() string { return m.Bundle.Digest.String() }

// Kernels names the kernel path in use.
func (m *Model) Kernels() string { return m.engine.KernelPath() }

// alertsOn says whether an alert is wanted for a label: it names the label, or, where other outputs have
// the same, OUTPUT=LABEL.
func alertsOn(wanted, output, label string) bool {
	return wanted == label || wanted == output+"="+label
}
