package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/files"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/kernels/cpu"
	"nepcoc/runtime/refexec"
)

func newSelftest() *cobra.Command {
	var asJSON bool
	var config string
	var trusted []string
	cmd := &cobra.Command{
		Use:   "selftest BUNDLE",
		Short: "Prove a bundle on this machine",
		Long: "Selftest proves what run accepts: it reads and checks a bundle, its signature where keys are given, its traffic\n" +
			"contract, and runs the bundle's golden vectors through every executor: the logits\n" +
			"must be those that the compiler stored, to the bit. With --config it takes trusted keys, alerts and snap length\n" +
			"from the configuration of the service, which then accepts the bundle, too.",
		Args: exactArgs("BUNDLE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := agent.DefaultConfig()
			if config != "" {
				var err error
				if c, err = agent.ReadConfig(config); err != nil {
					return err
				}
			}
			c.TrustedKeys = append(c.TrustedKeys, trusted...)
			r, err := selftest(args[0], &c)
			if err != nil {
				return allWrong("", err)
			}
			r.Config = config
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			} else {
				err = r.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return r.failure()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&config, "config", "", "configuration of the service that is to run the bundle")
	cmd.Flags().StringArrayVar(&trusted, "trusted-key", nil, "refuse a bundle not signed by this public key (PEM file; may be repeated)")
	return cmd
}

// selftestReport is what `nepcod selftest --json` prints.
type selftestReport struct {
	Bundle    string           `json:"bundle"`
	Digest    string           `json:"digest"`
	Model     string           `json:"model"`
	Target    string           `json:"target"`
	SignedBy  string           `json:"signed_by,omitempty"`
	Config    string           `json:"config,omitempty"` // that accepts it
	Features  []string         `json:"cpu_features"`
	Kernels   string           `json:"kernels"`
	LoadUS    int64            `json:"load_us"`
	Vectors   int              `json:"golden_vectors"`
	Executors []executorReport `json:"executors"`
	OK        bool             `json:"ok"`
}

// executorReport is how one executor did on the golden vectors.
type executorReport struct {
	Name   string `json:"name"`
	BindUS int64  `json:"bind_us"`
	// P50US is the median time of one vector, in microseconds.
	P50US  float64 `json:"p50_us"`
	Equal  int     `json:"equal"`
	Differ string  `json:"differ,omitempty"` // the first difference
}

// run computes the outputs of one input. The result is valid until the next call.
type run func(tokens []int32, valid int) ([][]int32, error)

// binder binds a program to this machine and says which kernels it uses, if any.
type binder func(p *bundle.Program) (f run, kernels string, err error)

// executors bind a program each in its own way; all must agree to the bit.
var executors = []struct {
	name string
	bind binder
}{
	{"reference", func(p *bundle.Program) (run, string, error) {
		x, err := refexec.New(p)
		if err != nil {
			return nil, "", err
		}
		return x.Run, "", nil
	}},
	{"engine", func(p *bundle.Program) (run, string, error) {
		e, err := engine.Bind(p, engine.Options{})
		if err != nil {
			return nil, "", err
		}
		c, out := e.NewContext(), e.NewOutput()
		return func(tokens []int32, valid int) ([][]int32, error) {
			err := c.Run(tokens, valid, out)
			return out, err
		}, e.KernelPath(), nil
	}},
}

// selftest reads the bundle and runs its golden vectors. Differences are in
// the report; an error means that it could not be run at all.
func selftest(path string, c *agent.Config) (*selftestReport, error) {
	start := time.Now()
	b, err := files.Read(path, bundle.Read)
	if err != nil {
		return nil, err
	}
	r := &selftestReport{
		Bundle: path, Digest: b.Digest.String(), Model: b.Manifest.Model.File, Target: b.Manifest.Target.Name,
		LoadUS: time.Since(start).Microseconds(), Vectors: len(b.Golden), OK: true,
	}
	debug.FreeOSMemory() // as the agent does
	if err := c.Accept(path, b); err != nil {
		return nil, err
	}
	if b.Signature != nil {
		r.SignedBy = bundle.Fingerprint(b.Signature.Key)
	}
	for _, p := range cpu.Available() {
		r.Features = append(r.Features, p.String())
	}
	if len(b.Golden) == 0 {
		return nil, fmt.Errorf("%s: no golden vectors in it, so nothing can be proved: compile it again", path)
	}
	for _, x := range executors {
		e, kernels, err := golden(b, x.name, x.bind)
		if err != nil {
			return nil, fmt.Errorf("%s: %s executor: %w", path, x.name, err)
		}
		r.OK = r.OK && e.Differ == ""
		r.Kernels = kernels // the engine's, which comes last
		r.Executors = append(r.Executors, *e)
	}
	return r, nil
}

// golden runs all golden vectors through one executor.
func golden(b *bundle.Bundle, name string, bind binder) (*executorReport, string, error) {
	start := time.Now()
	f, kernels, err := bind(b.Program)
	if err != nil {
		return nil, "", err
	}
	e := &executorReport{Name: name, BindUS: time.Since(start).Microseconds()}
	var times []time.Duration
	for i := range b.Golden {
		g := &b.Golden[i]
		start := time.Now()
		got, err := f(g.Tokens, g.Valid)
		if err != nil {
			return nil, "", fmt.Errorf("golden vector %d: %w", i, err)
		}
		times = append(times, time.Since(start))
		if d := difference(b.Program, g.Logits, got); d == "" {
			e.Equal++
		} else if e.Differ == "" {
			e.Differ = fmt.Sprintf("golden vector %d, %s", i, d)
		}
	}
	slices.Sort(times)
	e.P50US = float64(times[len(times)/2].Nanoseconds()) / 1000
	return e, kernels, nil
}

// difference names the first logit that differs.
func difference(p *bundle.Program, want, got [][]int32) string {
	for i, w := range want {
		for j := range w {
			if got[i][j] != w[j] {
				return fmt.Sprintf("output %q: logit %d is %d, want %d", p.Outputs[i].Name, j, got[i][j], w[j])
			}
		}
	}
	return ""
}

func (r *selftestReport) failure() error {
	for _, e := range r.Executors {
		if e.Differ != "" {
			return fmt.Errorf("%s: %s executor computes other logits than the compiler did: %s", r.Bundle, e.Name, e.Differ)
		}
	}
	return nil
}

func (r *selftestReport) print(w io.Writer) error {
	signed := "not signed"
	if r.SignedBy != "" {
		signed = "signed by " + r.SignedBy
	}
	if _, err := fmt.Fprintf(w, "bundle     %s\ndigest     %s, %s\nmodel      %s for %s\ncpu        %v, kernels %s\nloaded in  %.1f ms\n",
		r.Bundle, r.Digest, signed, r.Model, r.Target, r.Features, r.Kernels, float64(r.LoadUS)/1000); err != nil {
		return err
	}
	for _, e := range r.Executors {
		if _, err := fmt.Fprintf(w, "%-10s %d of %d golden vectors equal, median %.1f us, bound in %.1f ms\n",
			e.Name, e.Equal, r.Vectors, e.P50US, float64(e.BindUS)/1000); err != nil {
			return err
		}
	}
	return nil
}
