package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
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
			"must be those that the compiler stored, to the bit. With --config it takes trusted keys, alerts, snap length and the time that\n" +
			"a flow may take from the configuration of the service, and the rate of flows from the agent that runs with it, if\n" +
			"one does: the service then accepts the bundle, too.",
		Args: cli.ExactArgs("BUNDLE"),
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
				err = cli.JSON(cmd.OutOrStdout(), r)
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
	Serial    uint64           `json:"serial,omitempty"`
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

// executors bind a program each in its own way, and say which kernels they use, if any; all must agree
// to the bit.
var executors = []struct {
	name string
	bind func(*bundle.Bundle) (x classify.Executor, kernels string, err error)
}{
	{"reference", func(b *bundle.Bundle) (classify.Executor, string, error) {
		x, err := classify.Reference(b)
		return x, "", err
	}},
	{"engine", func(b *bundle.Bundle) (classify.Executor, string, error) {
		e, err := engine.Bind(b.Program.Judged(), engine.Options{})
		if err != nil {
			return nil, "", err
		}
		return e.NewContext(), e.KernelPath(), nil
	}},
}

// selftest reads the bundle and runs its golden vectors. Differences are in
// the report; an error means that it could not be run at all.
func selftest(path string, c *agent.Config) (*selftestReport, error) {
	start := time.Now()
	b, err := c.ReadBundle(path)
	if err != nil {
		return nil, err
	}
	r := &selftestReport{
		Bundle: path, Digest: b.Digest.String(), Model: b.Manifest.Model.File, Target: b.Manifest.Target.Name,
		LoadUS: time.Since(start).Microseconds(), Vectors: len(b.Golden), OK: true,
	}
	debug.FreeOSMemory() // as the agent does
	if err := c.CheckBundle(path, b); err != nil {
		return nil, err
	}
	if err := c.CheckTime(path, b); err != nil {
		return nil, err
	}
	if b.Signature != nil {
		r.SignedBy, r.Serial = bundle.Fingerprint(b.Signature.Key), b.Signature.Serial
	}
	for _, p := range cpu.Available() {
		r.Features = append(r.Features, p.String())
	}
	for _, x := range executors {
		e := executorReport{Name: x.name}
		kernels, err := e.prove(b, x.bind)
		if err != nil {
			return nil, fmt.Errorf("%s: %s executor: %w", path, x.name, err)
		}
		r.OK = r.OK && e.Differ == ""
		r.Kernels = kernels // the engine's, which comes last
		r.Executors = append(r.Executors, e)
	}
	return r, nil
}

// prove runs the golden vectors through an executor, and measures it.
func (e *executorReport) prove(b *bundle.Bundle, bind func(*bundle.Bundle) (classify.Executor, string, error)) (kernels string, err error) {
	start := time.Now()
	x, kernels, err := bind(b)
	if err != nil {
		return "", err
	}
	e.BindUS = time.Since(start).Microseconds()
	var times []time.Duration
	e.Equal, e.Differ, err = classify.Prove(b, func(tokens []int32, valid int, out [][]int32) error {
		start := time.Now()
		err := x.Run(tokens, valid, out)
		times = append(times, time.Since(start))
		return err
	})
	if err != nil {
		return "", err
	}
	slices.Sort(times)
	e.P50US = float64(times[len(times)/2].Nanoseconds()) / 1000
	return kernels, nil
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
		if r.Serial > 0 {
			signed += fmt.Sprintf(", serial %d", r.Serial)
		}
	}
	if _, err := fmt.Fprintf(w, "bundle     %s\ndigest     %s, %s\nmodel      %s for %s\ncpu        %v, kernels %s\nloaded in  %.1f ms\n",
		cli.Name(r.Bundle), r.Digest, signed, cli.Name(r.Model), r.Target, r.Features, r.Kernels, float64(r.LoadUS)/1000); err != nil {
		return err
	}
	for _, e := range r.Executors {
		if _, err := fmt.Fprintf(w, "%-10s %d of %s equal, median %.1f us, bound in %.1f ms\n",
			e.Name, e.Equal, plural.Of(r.Vectors, "golden vector"), e.P50US, float64(e.BindUS)/1000); err != nil {
			return err
		}
	}
	return nil
}
