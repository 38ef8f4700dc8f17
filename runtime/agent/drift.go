package agent

import (
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
)

// DriftConfig is how flows are compared with those that the bundle was calibrated with: see drift.Options.
type DriftConfig struct {
	On      bool    `yaml:"on"`
	Window  int     `yaml:"window"`
	Windows int     `yaml:"windows"`
	Bound   float64 `yaml:"bound"`
}

// DefaultDrift is what holds without a configuration.
var DefaultDrift = DriftConfig{On: true, Window: drift.Defaults.Flows, Windows: drift.Defaults.Windows, Bound: drift.Defaults.Bound}

func (c *DriftConfig) options() *drift.Options {
	if !c.On {
		return nil
	}
	return c.all()
}

func (c *DriftConfig) all() *drift.Options {
	return &drift.Options{Flows: c.Window, Windows: c.Windows, Bound: c.Bound}
}

// watched is a model whose flows are compared; monitor is nil where they can't be.
type watched struct {
	model   *Model
	monitor *drift.Monitor
}

// watch makes m the model whose flows are compared, from nothing: another model has other scores, and another calibration.
func (a *Agent) watch(m *Model) {
	if a.opt.Drift == nil {
		return
	}
	d := &watched{model: m}
	var err error
	if d.monitor, err = drift.New(m.Bundle, classify.Labels(m.Bundle), *a.opt.Drift); err != nil {
		a.opt.Log.Info(err.Error())
	} else if err := d.monitor.Deaf(); err != nil {
		a.opt.Log.Warn(err.Error())
	}
	a.drift.Store(d)
}

// monitor is what compares a model's flows; nil where nothing does.
func (a *Agent) monitor(m *Model) *drift.Monitor {
	if d := a.drift.Load(); d != nil && d.model == m {
		return d.monitor
	}
	return nil
}

// compare counts the flow of the record, and tells what begins or ends with it.
func (w *worker) compare(m *Model, by *drift.Monitor) {
	e := by.Add(&w.rec)
	if e == nil {
		return
	}
	if e.Begin {
		w.a.opt.Log.Warn(e.String())
	} else {
		w.a.opt.Log.Info(e.String())
	}
	if w.a.opt.DriftEvents {
		w.own.events++
		w.line(func(b []byte) []byte { return e.AppendEVE(b, m.Bundle.Name(), m.Bundle.Digest.Short()) })
	}
}
