package agent

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"runtime/debug"
	"slices"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/traffic"
)

// Model is a bundle that has been proved on this machine and is ready to run.
// It is immutable; all workers share it.
type Model struct {
	Path   string
	Bundle *bundle.Bundle

	engine   *engine.Engine
	encoder  *traffic.Encoder
	contract string // hash of the traffic contract
	file     os.FileInfo
}

// LoadModel reads a bundle, checks it, its signature where keys are given, and
// what it needs of the CPU, binds it, and runs its golden vectors: what comes
// back computes what the compiler saw it compute.
func LoadModel(path string, keys ...ed25519.PublicKey) (*Model, error) {
	var info os.FileInfo
	if !files.IsStdin(path) {
		var err error
		if info, err = os.Stat(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, files.Reason(err))
		}
	}
	b, err := files.Read(path, bundle.Read)
	if err != nil {
		return nil, err
	}
	m, err := NewModel(b, keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.Path, m.file = path, info
	// Reading took as much memory again as the model, in steps that a heap of this size does not
	// soon collect.
	debug.FreeOSMemory()
	return m, nil
}

// NewModel does for a bundle in memory what LoadModel does for a file.
func NewModel(b *bundle.Bundle, keys ...ed25519.PublicKey) (*Model, error) {
	if len(keys) > 0 {
		if err := b.VerifySigner(keys...); err != nil {
			return nil, err
		}
	}
	if err := classify.CheckPackets(b); err != nil {
		return nil, err
	}
	contract, err := classify.Contract(b)
	if err != nil {
		return nil, err
	}
	m := &Model{Bundle: b, contract: contract.Hash()}
	if m.encoder, err = traffic.NewEncoder(contract); err != nil {
		return nil, err
	}
	if m.engine, err = engine.Bind(b.Program, engine.Options{}); err != nil {
		return nil, err
	}
	return m, m.prove()
}

// prove runs the golden vectors.
func (m *Model) prove() error {
	if len(m.Bundle.Golden) == 0 {
		return fmt.Errorf("no golden vectors in it, so nothing can be proved: compile it again")
	}
	c, out := m.engine.NewContext(), m.engine.NewOutput()
	for i := range m.Bundle.Golden {
		g := &m.Bundle.Golden[i]
		if err := c.Run(g.Tokens, g.Valid, out); err != nil {
			return fmt.Errorf("golden vector %d: %w", i, err)
		}
		for o := range g.Logits {
			if !slices.Equal(g.Logits[o], out[o]) {
				return fmt.Errorf("golden vector %d: this machine computes other logits than the compiler did: see nepcod selftest", i)
			}
		}
	}
	return nil
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
