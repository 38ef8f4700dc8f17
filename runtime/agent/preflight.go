package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

// Preflight does all of a start that can be done beside an agent that runs: it
// loads and proves the bundle, looks whether the interface can be captured from,
// the output written and the metrics served, and says all that is wrong at once (see Errors).
// It captures nothing and writes nothing. Both run and check-config begin with it, so that one answers as
// the other. The notes are no reason not to start.
func (c *Config) Preflight() (m *Model, notes []string, err error) {
	c = c.Usable() // what Validate refuses is not said again
	m, err = c.LoadStart()
	errs := Errors(err)
	if m != nil && m.instead != nil {
		notes = append(notes, fmt.Sprintf("the last good bundle, %s, %.12s, runs in the configuration's place: %v", m.Path, m.Digest(), inOneLine(Errors(m.instead))))
	}
	if m != nil {
		notes = append(notes, m.Notes()...)
	}
	add := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	if c.Interface != "" {
		if err := afpacket.Check(c.Interface, c.Receive.Threads, c.ring()); err != nil {
			errs = append(errs, err)
		} else if note := afpacket.MergingNote(c.Interface); note != "" {
			notes = append(notes, note)
		}
	}
	note, err := c.CheckOutput()
	if err := c.overwrittenByState(); err != nil {
		add("state", err)
	} else if err := c.CheckState(); err != nil {
		errs = append(errs, err)
	} else if m != nil {
		add("state", c.checkState(m))
	} else if c.State != "" && !c.onlyRead && c.stateFile() == nil { // a key list would be remembered
		add("state", files.Writable(c.State))
	}
	add("output", errors.Join(err, c.overwrittenByOutput()))
	if note != "" {
		notes = append(notes, note)
	}
	if c.Actions.On() && c.Interface != "" {
		note, err := c.CheckActions()
		errs = append(errs, Errors(err)...)
		if note != "" {
			notes = append(notes, note)
		}
	}
	if err := c.Keep.check(); err != nil {
		errs = append(errs, err)
	}
	if c.Metrics.Listen != "" && c.Metrics.valid() {
		note, err := c.CheckMetrics()
		add("metrics", err)
		if note != "" {
			notes = append(notes, note)
		}
	}
	return m, notes, errors.Join(errs...)
}

// Errors are those that errors.Join made one of.
func Errors(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// CheckMetrics asks whether Listen would succeed. An address that a running
// agent holds is free once that ends.
func (c *Config) CheckMetrics() (note string, err error) {
	l, err := Listen(c.Metrics.Listen)
	if err == nil {
		return "", l.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) && servesHealth(c.Metrics.Listen) {
		return fmt.Sprintf("metrics: an agent that runs serves %s", c.Metrics.Listen), nil
	}
	return "", err
}

// servesHealth tells whether an agent answers at an address.
func servesHealth(address string) bool {
	_, ok := askHealth(address)
	return ok
}

// AskHealth asks the agent that runs with this configuration how it is; false where none answers.
func (c *Config) AskHealth() (h Health, ok bool) {
	if c.Metrics.Listen == "" {
		return h, false
	}
	return askHealth(c.Metrics.Listen)
}

// askHealth asks the agent at an address how it is; false where none answers.
func askHealth(address string) (h Health, ok bool) {
	if strings.HasPrefix(address, ":") {
		address = "127.0.0.1" + address
	}
	client := http.Client{Timeout: 5 * time.Second} // one that has much to do may not answer at once
	res, err := client.Get("http://" + address + "/healthz")
	if err != nil {
		return h, false
	}
	defer res.Body.Close()
	err = json.NewDecoder(http.MaxBytesReader(nil, res.Body, 1<<16)).Decode(&h)
	return h, err == nil && h.Digest != ""
}

// CheckBundle says all that keeps an agent with this configuration from running a bundle that it trusts, but for its golden vectors.
func (c *Config) CheckBundle(path string, b *bundle.Bundle) error {
	opt, wrong := classify.FlowOptions(b)
	errs := Errors(inBundle(path, wrong))
	if opt.Encoder != nil {
		errs = append(errs, Errors(c.checkFit(&Model{Path: path, Bundle: b, encoder: opt.Encoder}))...)
	}
	return errors.Join(errs...)
}

// checkFit says where a model and this configuration don't go together: alerts that can never
// come, and, where packets come from an interface, a snap length that cuts them below what the traffic
// contract takes.
func (c *Config) checkFit(m *Model) error {
	errs := Errors(c.CheckAlerts(m))
	for i := range c.Actions.Rules {
		errs = append(errs, Errors(checkLabels(m, fmt.Sprintf("actions.rules[%d].labels", i), c.Actions.Rules[i].Labels))...)
	}
	contract := m.encoder.Contract()
	view, _ := c.View().Of(m.Bundle.Manifest.View)
	if want := flow.SnapLength(&contract, view.Tunnels); c.Interface != "" && c.Receive.SnapLen < want {
		errs = append(errs, fmt.Errorf("receive.snaplen: %d cuts packets below the %d bytes that the traffic contract of %s takes, behind the link's header: at least %d",
			c.Receive.SnapLen, contract.PacketBytes(), m.Path, want))
	}
	return errors.Join(errs...)
}

// Overwrites tells that verdicts would be written into one of the files that are read: the bundle, the keys, and
// others, under whatever name.
func (c *Config) Overwrites(others ...string) error {
	if err := c.overwrittenByState(others...); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return c.overwrittenByOutput(others...)
}

func (c *Config) overwrittenByOutput(others ...string) error {
	others = append(others, c.file)
	if c.Keep.To != "" && (c.Keep.To == c.Output.To || files.Same(c.Keep.To, c.Output.To)) {
		return fmt.Errorf("verdicts and unknown flows would be written into one file, %s", c.Keep.To)
	}
	for _, input := range append(append(others, c.Bundle), c.keyFiles()...) {
		if input != "" && c.Keep.To != "" && files.Same(c.Keep.To, input) {
			return fmt.Errorf("unknown flows would be written into %s, which is read", input)
		}
		if input != "" && files.Same(c.Output.To, input) {
			return fmt.Errorf("output %s would be written into %s, which is read", c.Output.To, input)
		}
	}
	return nil
}

// overwrittenByState tells that a file that is read would be replaced by what is remembered: by the state or by the bundles that are kept beside it.
func (c *Config) overwrittenByState(others ...string) error {
	if c.State == "" || c.onlyRead {
		return nil
	}
	for _, input := range append(append(others, c.file, c.Bundle, c.KeyList, c.AllowRollback), c.TrustedKeys...) {
		for _, written := range []string{c.State, c.goodFile(0), c.goodFile(1)} {
			if input != "" && (filepath.Clean(input) == filepath.Clean(written) || files.Same(input, written)) {
				return fmt.Errorf("%s is read, and what is remembered would be written into it: name another state", input)
			}
		}
	}
	return nil
}
