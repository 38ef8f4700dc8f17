package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/trust"
)

// Model is a bundle that has been proved on this machine and is ready to run.
// Nothing of it changes that workers see, who share it, but for barred.
type Model struct {
	Path   string
	Bundle *bundle.Bundle

	engine   *engine.Engine
	encoder  *traffic.Encoder
	contract string // hash of the traffic contract
	file     os.FileInfo
	trusted  *trust.Policy // what the bundle was held to; nil: to nothing
	perFlow  time.Duration // what a flow takes here of a processor, by the golden vectors
	raw      []byte        // the bundle's file, until it is kept as the last good one
	kept     bool          // it was read from where that is kept
	onTrial  bool          // it runs, and is watched, but hasn't stood its trial
	instead  error         // why the configuration's bundle doesn't run in this one's place; nil: this is it
	note     string        // what is to be said of it though it runs

	// barred: its verdicts are told, but nothing is done about them, since it hasn't stood its trial, was returned from, or is no longer trusted. Models of one
	// bundle share it in an agent (probation.enter).
	barred *atomic.Bool

	once      sync.Once
	explainer *explain.Explainer
	wrong     error
}

// explained is what explains the model's verdicts, made when it is first asked for. Its engine takes the other one's place in workers.
func (m *Model) explained() (*explain.Explainer, error) {
	m.once.Do(func() { m.explainer, m.wrong = explain.New(m.Bundle, m.encoder) })
	return m.explainer, m.wrong
}

// Instead says why the configuration's bundle does not run, where this is the last good one, which does; nil otherwise.
func (m *Model) Instead() error { return m.instead }

// Notes are what is not as it should be with a model that was loaded, and keeps it from nothing.
func (m *Model) Notes() (notes []string) {
	if m.note != "" {
		notes = append(notes, m.note)
	}
	if m.trusted != nil && m.trusted.NoRollback != nil {
		notes = append(notes, fmt.Sprintf("%v: no bundle is returned to for it", m.trusted.NoRollback))
	}
	return notes
}

// NewModel does for a bundle in memory what Config.Load does for a file.
func NewModel(b *bundle.Bundle) (*Model, error) {
	m := &Model{Bundle: b, barred: new(atomic.Bool)}
	return m, m.bind(new(reading))
}

// bind makes a bundle that was read a model that runs, and proves it.
func (m *Model) bind(r *reading) error {
	opt, err := classify.FlowOptions(m.Bundle)
	if err != nil {
		return err
	}
	contract := opt.Encoder.Contract()
	m.encoder, m.contract = opt.Encoder, contract.Hash()
	if m.engine, err = engine.Bind(m.Bundle.Program.Judged(), engine.Options{}); err != nil {
		return err
	}
	return m.prove(r)
}

// inBundle puts a bundle's name in front of each of the errors.
func inBundle(path string, err error) error {
	errs := Errors(err)
	for i := range errs {
		errs[i] = fmt.Errorf("%s: %w", path, errs[i])
	}
	return errors.Join(errs...)
}

// prove runs the golden vectors, and measures what a flow takes.
func (m *Model) prove(r *reading) (err error) {
	x := m.engine.NewContext()
	run := func(tokens []int32, valid int, out [][]int32) error {
		if r.over.Load() {
			return errGivenUp
		}
		return x.Run(tokens, valid, out)
	}
	m.perFlow, err = price(len(m.Bundle.Golden), func() error {
		_, difference, err := classify.Prove(m.Bundle, run)
		if err == nil && difference != "" {
			err = fmt.Errorf("this machine computes other logits than the compiler did: %s; see nepcod selftest", difference)
		}
		return err
	})
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
