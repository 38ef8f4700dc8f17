package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"nepcoc/internal/files"
	"nepcoc/runtime/act"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/privilege"
)

// Config is everything that nepcod run can be told, in one YAML file.
type Config struct {
	Bundle string `yaml:"bundle"`
	// TrustedKeys are files of keys of which one must have signed the bundle, or, with a key list, the list, whose keys then sign bundles.
	TrustedKeys []string `yaml:"trusted_keys"`
	KeyList     string   `yaml:"key_list"`
	// State is the file that remembers the highest serial that ran; "": it isn't remembered.
	State string `yaml:"state"`
	// AllowRollback is a signed reason to run one older bundle.
	AllowRollback string  `yaml:"allow_rollback"`
	Interface     string  `yaml:"interface"`
	Receive       Receive `yaml:"receive"`
	// Workers is the number of threads that classify, Flows the number of flows
	// that they hold together, Queue the batches of up to 128 packets in
	// front of each.
	Workers          int            `yaml:"workers"`
	Flows            int            `yaml:"flows"`
	Queue            int            `yaml:"queue"`
	ActiveTimeout    *time.Duration `yaml:"active_timeout"` // nil: as the bundle says
	UnknownThreshold *float64       `yaml:"unknown_threshold"`
	// Alerts are labels that raise an alert, or OUTPUT=LABEL where several outputs have one.
	Alerts  []string      `yaml:"alerts"`
	Output  OutputConfig  `yaml:"output"`
	Metrics MetricsConfig `yaml:"metrics"`
	Health  HealthConfig  `yaml:"health"`
	Drift   DriftConfig   `yaml:"drift"`
	Keep    KeepConfig    `yaml:"keep_unknown"`
	// Sandbox says what is taken from the process once its sockets are open.
	Sandbox privilege.Config `yaml:"sandbox"`
	// Probation is what a new bundle has to stand.
	Probation ProbationConfig `yaml:"probation"`
	// Actions are what is done about verdicts, beside telling them.
	Actions act.Config `yaml:"actions"`
	// Watch is how often the bundle's file is looked at for a change; 0: never,
	// only on SIGHUP.
	Watch time.Duration `yaml:"watch"`
	// Drain bounds how long SIGTERM takes.
	Drain time.Duration `yaml:"drain"`

	file     string // that it was read from
	onlyRead bool   // see OnlyRead
	disk     *disk  // nil: the real one
}

// Receive is how packets are taken from the interface; see afpacket.Options.
type Receive struct {
	Threads     int           `yaml:"threads"`
	BlockSize   int           `yaml:"block_size"`
	Blocks      int           `yaml:"blocks"`
	Retire      time.Duration `yaml:"retire"` // 0: a ring of frames
	SnapLen     int           `yaml:"snaplen"`
	Promiscuous bool          `yaml:"promiscuous"`
	Outgoing    bool          `yaml:"outgoing"`
	// Tunnels opens tunnels, VLANs and Interfaces tell flows apart by them; see bundle.View. nil: as the bundle says.
	Tunnels    *bool `yaml:"tunnels"`
	VLANs      *bool `yaml:"vlans"`
	Interfaces *bool `yaml:"interfaces"`
}

// OutputConfig is where verdicts go (see OpenSink), and in what form (see Formats).
type OutputConfig struct {
	To     string `yaml:"to"`
	Format string `yaml:"format"`
	// Totals writes an event at the end of a flow; see Options.Totals.
	Totals bool `yaml:"totals"`
	// Explain names the bytes that verdicts stand on; see Options.Explain.
	Explain bool `yaml:"explain"`
	// CommunityIDSeed is the number that networks are told apart by which use the same addresses, the
	// same as in the other tools that make Community IDs.
	CommunityIDSeed uint16 `yaml:"community_id_seed"`
}

// MetricsConfig is where metrics and health are served; empty: nowhere. An
// address without a host means the loopback.
type MetricsConfig struct {
	Listen string `yaml:"listen"`
}

// DefaultConfig is what a file that says nothing means.
func DefaultConfig() Config {
	c := Config{
		Receive: Receive{
			BlockSize: afpacket.DefaultBlockSize, Blocks: afpacket.DefaultBlocks,
			SnapLen: afpacket.DefaultSnapLen, Promiscuous: true,
		},
		Output: OutputConfig{To: "-", Format: "eve"},
		Watch:  2 * time.Second, Drain: DefaultDrain, Health: DefaultHealth, Drift: DefaultDrift, Keep: DefaultKeep, Sandbox: privilege.Default, Probation: DefaultProbation,
		Actions: act.Defaults,
	}
	for _, f := range c.counts() {
		*f.v = f.def
	}
	return c
}

// maxConfig bounds a configuration file. A real one has under 2 kB.
const maxConfig = 64 << 10

// FieldErrors is what is wrong with a file that is a configuration: an error for each field. The
// Config that comes with it holds what the other fields say.
type FieldErrors struct {
	Name   string
	Fields []error
}

func (e *FieldErrors) Error() string {
	var all []string
	for _, f := range e.Fields {
		all = append(all, f.Error())
	}
	return e.Name + ": " + strings.Join(all, "; ")
}

// Unwrap gives the errors of the fields, without the name.
func (e *FieldErrors) Unwrap() []error { return e.Fields }

// ReadConfig reads and checks a configuration file; see ParseConfig.
func ReadConfig(path string) (Config, error) {
	return files.Read(path, func(name string, r io.Reader) (Config, error) {
		data, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
		if err != nil {
			return Config{}, fmt.Errorf("%s: %w", name, err)
		}
		c, err := ParseConfig(name, data)
		if !files.IsStdin(path) {
			c.file = path
		}
		return c, err
	})
}

// inType and ofType cut Go types' names out of the YAML reader's messages.
var (
	inType = regexp.MustCompile(`(not found) in type \S+`)
	ofType = regexp.MustCompile(`(into) (agent|act|privilege)\.\S+`)
)

// ParseConfig reads a configuration; name is for messages. The error is a *FieldErrors where
// it is fields that are wrong, with all of them.
func ParseConfig(name string, data []byte) (Config, error) {
	c := DefaultConfig()
	if len(data) > maxConfig {
		return c, fmt.Errorf("%s: more than %d bytes: not a configuration of nepcod", name, maxConfig)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var wrong []error
	if err := d.Decode(&c); err != nil && err != io.EOF {
		var many *yaml.TypeError
		if !errors.As(err, &many) {
			return c, fmt.Errorf("%s: %w", name, err)
		}
		for _, e := range many.Errors {
			wrong = append(wrong, errors.New(ofType.ReplaceAllString(inType.ReplaceAllString(e, "$1"), "$1 a group of fields")))
		}
	}
	if err := d.Decode(new(yaml.Node)); err != io.EOF {
		wrong = append(wrong, errors.New("more than one document"))
	}
	if wrong = append(wrong, Errors(c.Validate())...); len(wrong) > 0 {
		return c, &FieldErrors{name, wrong}
	}
	return c, nil
}

// Validate checks every field by itself and says all that are wrong (see Errors); Preflight looks at what they name.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf(field+": "+format, args...))
	}
	within := func(prefix string, err error) {
		for _, e := range Errors(err) {
			errs = append(errs, fmt.Errorf("%s%w", prefix, e))
		}
	}
	for _, f := range c.counts() {
		if !f.holds() {
			bad(f.field, "%d is not within %d..%d", *f.v, f.lo, f.hi)
		}
	}
	o := c.ring()
	within("receive.", o.Validate())
	for _, f := range []struct {
		field string
		v, lo time.Duration
	}{{"watch", c.Watch, 0}, {"drain", c.Drain, 100 * time.Millisecond}, {"health.window", c.Health.Window, time.Second}} {
		if f.v < f.lo || f.v > 24*time.Hour {
			bad(f.field, "%v is not within %v..24h", f.v, f.lo)
		}
	}
	if t := c.ActiveTimeout; t != nil {
		if err := (bundle.View{ActiveTimeout: *t}).Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if t := c.UnknownThreshold; t != nil && !(*t >= 0 && *t <= 1) {
		bad("unknown_threshold", "%g is not within 0..1", *t)
	}
	odd := map[string]bool{}
	for _, f := range []struct{ field, v string }{
		{"bundle", c.Bundle}, {"interface", c.Interface}, {"output.to", c.Output.To}, {"metrics.listen", c.Metrics.Listen}, {"keep_unknown.to", c.Keep.To}, {"trusted_keys", strings.Join(c.TrustedKeys, "")},
		{"key_list", c.KeyList}, {"state", c.State}, {"allow_rollback", c.AllowRollback}, {"alerts", strings.Join(c.Alerts, "")},
	} {
		if strings.ContainsFunc(f.v, unicode.IsControl) {
			bad(f.field, "%q holds a control character", f.v)
			odd[f.field] = true
		}
	}
	if len(c.TrustedKeys) == 0 {
		for _, f := range []struct{ field, v string }{{"key_list", c.KeyList}, {"allow_rollback", c.AllowRollback}} {
			if f.v != "" && !odd[f.field] {
				bad(f.field, "%s: goes with trusted_keys, one of which has signed it", f.v)
			}
		}
	}
	if d := c.Health.Drops; !(d >= 0 && d <= 1) {
		bad("health.drops", "%g is not within 0..1", d)
	}
	within("keep_unknown.", c.Keep.Validate())
	within("sandbox.", c.Sandbox.Validate())
	within("", c.Probation.Validate())
	within("drift.", c.Drift.all().Validate())
	within("", c.Actions.Validate())
	switch {
	case Formats[c.Output.Format] == nil:
		bad("output.format", "%q is none of eve, json, text", c.Output.Format)
	case c.Output.Format != "eve":
		if c.Actions.On() {
			bad("actions", "go with output.format eve only, in which they are told")
		}
		if c.Output.Totals {
			bad("output.totals", "goes with format eve only")
		}
	}
	if !c.Metrics.valid() && !odd["metrics.listen"] {
		bad("metrics.listen", "%q: want host:port, or :port for the loopback", c.Metrics.Listen)
	}
	return errors.Join(errs...)
}

// count is a number of the configuration, with its bounds and its default.
type count struct {
	field       string
	v           *int
	lo, hi, def int
}

func (f *count) holds() bool { return f.lo <= *f.v && *f.v <= f.hi }

func (c *Config) counts() []count {
	return []count{
		{"receive.threads", &c.Receive.Threads, 1, 256, 1},
		{"workers", &c.Workers, 1, 1024, 1},
		{"flows", &c.Flows, 1, flow.MaxCapacity, flow.DefaultCapacity},
		{"queue", &c.Queue, 2, 1 << 16, DefaultQueue},
	}
}

// Usable is the configuration with defaults in place of numbers that Validate refuses: what is found with it is wrong for other reasons.
func (c *Config) Usable() *Config {
	u := *c
	for _, f := range u.counts() {
		if !f.holds() {
			*f.v = f.def
		}
	}
	d := DefaultConfig().Receive
	if r := u.ring(); r.Validate() != nil {
		u.Receive.BlockSize, u.Receive.Blocks, u.Receive.Retire = d.BlockSize, d.Blocks, d.Retire
	}
	if r := u.ring(); r.Validate() != nil {
		u.Receive.SnapLen = d.SnapLen
	}
	if u.Probation.Validate() != nil {
		u.Probation = DefaultProbation
	}
	return &u
}

// valid says whether the address, if there is one, has the form of one.
func (m *MetricsConfig) valid() bool {
	_, _, err := net.SplitHostPort(m.Listen)
	return m.Listen == "" || err == nil
}

// ring are the options of the capture.
func (c *Config) ring() afpacket.Options {
	r := &c.Receive
	return afpacket.Options{
		BlockSize: r.BlockSize, Blocks: r.Blocks, Retire: r.Retire, SnapLen: r.SnapLen,
		Promiscuous: r.Promiscuous, Outgoing: r.Outgoing,
	}
}

// Rings opens the interface.
func (c *Config) Rings() ([]*afpacket.Ring, error) {
	return afpacket.Open(c.Interface, c.Receive.Threads, c.ring())
}

// CheckAlerts says which labels to alert on the model does not know, all of them: an alert
// that can never come is a mistake.
func (c *Config) CheckAlerts(m *Model) error {
	return checkLabels(m, "alerts", c.Alerts)
}

// checkLabels says which labels the model does not know, each error beginning with the field that names them.
func checkLabels(m *Model, field string, labels []string) error {
	heads := classify.Heads(m.Bundle)
	var all []string
	for i := range heads {
		all = append(all, heads[i].Labels...)
	}
	var errs []error
	for _, a := range labels {
		if !slices.ContainsFunc(heads, func(h classify.Head) bool {
			return slices.ContainsFunc(h.Labels, func(l string) bool { return alertsOn(a, h.Name, l) })
		}) {
			errs = append(errs, fmt.Errorf("%s: %s has no label %q; it has %s", field, m.Path, a, strings.Join(all, ", ")))
		}
	}
	return errors.Join(errs...)
}

// View is what is to be read otherwise than the bundle says.
func (c *Config) View() bundle.ViewOverride {
	return bundle.ViewOverride{Tunnels: c.Receive.Tunnels, VLANs: c.Receive.VLANs, Interfaces: c.Receive.Interfaces, ActiveTimeout: c.ActiveTimeout}
}

// Options are those of an agent, but for sources, model, sink and log.
func (c *Config) Options() Options {
	return Options{
		Workers: c.Workers, FlowsPerWorker: (c.Flows + c.Workers - 1) / c.Workers, Queue: c.Queue,
		View: c.View(), Unknown: c.UnknownThreshold, CommunityIDSeed: c.Output.CommunityIDSeed, Alerts: c.Alerts, Totals: c.Output.Totals, Explain: c.Output.Explain,
		Format: Formats[c.Output.Format], Drain: c.Drain, Health: &c.Health, Drift: c.Drift.options(), DriftEvents: c.Output.Format == "eve", Keep: &c.Keep,
	}
}
