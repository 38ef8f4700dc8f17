package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// Nepcod is the agent on a card, as its Runner: the program for checks, its configuration for where bundles lie, and what it serves on the
// loopback for how it is. It never asks anything of the agent but to be read.
type Nepcod struct {
	program, config string
	where           agentConfig
	http            http.Client

	mu     sync.Mutex
	base   *counts // what is subtracted: as the bundle in use was taken up
	since  time.Time
	digest string
	placed *float64 // bundles that the agent had refused and returned from when the last one was placed; nil: not since this process began
	begun  time.Time
}

// agentConfig are the keys of nepcod's configuration that matter here; nepcod check-config is who checks them.
type agentConfig struct {
	Bundle        string `yaml:"bundle"`
	AllowRollback string `yaml:"allow_rollback"`
	Output        struct {
		To string `yaml:"to"`
	} `yaml:"output"`
	Metrics struct {
		Listen string `yaml:"listen"`
	} `yaml:"metrics"`
}

// Bounds on what is asked of an agent. A check reads and runs a bundle of up to 256 MiB, on a card that is at work.
const (
	checkTime   = 3 * time.Minute
	agentTime   = 5 * time.Second
	agentAnswer = 4 << 20
	maxReason   = 1000 // bytes
)

// OpenNepcod reads an agent's configuration. Program is nepcod, by name or path; socket, where the agent is to send its lines.
func OpenNepcod(program, config, socket string) (*Nepcod, error) {
	text, err := files.All(config, 1<<20)
	if err != nil {
		return nil, err
	}
	n := &Nepcod{program: program, config: config, http: http.Client{Timeout: agentTime}}
	if err := yaml.Unmarshal(text, &n.where); err != nil {
		return nil, fmt.Errorf("%s: %w", config, err)
	}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(config+": "+format, args...))
	}
	if n.where.Bundle == "" {
		bad("bundle: is missing: it says where bundles are put")
	}
	if n.where.Metrics.Listen == "" {
		bad("metrics.listen: is missing: the agent is asked there how it is; \":9477\" is on the loopback")
	} else if _, _, err := net.SplitHostPort(n.where.Metrics.Listen); err != nil {
		bad("metrics.listen: %w", err)
	}
	if socket != "" && n.where.Output.To != "unix:"+socket {
		bad("output.to: is %q: lines come from the agent with unix:%s", n.where.Output.To, socket)
	}
	if _, err := exec.LookPath(program); err != nil {
		errs = append(errs, fmt.Errorf("%s: checks bundles: %w", program, err))
	}
	return n, errors.Join(errs...)
}

// Check runs nepcod selftest with the service's configuration: signature, serial, contract, golden vectors, time per flow.
func (n *Nepcod) Check(ctx context.Context, file string) error {
	return n.check(ctx, file, n.config)
}

func (n *Nepcod) check(ctx context.Context, file, config string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.program, "selftest", file, "--config", config, "--json")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = io.Discard, &stderr, time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("nepcod selftest: not done within %v", checkTime)
	case errors.As(err, &exit) && exit.Exited() && stderr.Len() > 0:
		// Files here have names that only this card knows.
		why := strings.TrimSpace(strings.ReplaceAll(stderr.String(), file+": ", ""))
		return fmt.Errorf("nepcod selftest: %s", short(strings.TrimPrefix(why, "nepcod: ")))
	}
	return faulty(fmt.Errorf("nepcod selftest: %w", err)) // it was killed, or is not there
}

// short is a reason that fits a report.
func short(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}

// checkBack is Check with a reason to go back in the place of the one that the agent has, in files that the agent doesn't read: one that does
// not hold must not take the place of one that does.
func (n *Nepcod) checkBack(ctx context.Context, file, back string) error {
	dir, err := os.MkdirTemp(filepath.Dir(file), "back-")
	if err != nil {
		return faulty(err)
	}
	defer os.RemoveAll(dir)
	text, err := files.All(n.config, 1<<20)
	if err != nil {
		return faulty(err)
	}
	var config yaml.Node
	if err := yaml.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("%s: %w", n.config, err)
	}
	note, other := filepath.Join(dir, "back.note"), filepath.Join(dir, "nepcod.yaml")
	if len(config.Content) > 0 {
		for i, keys := 0, config.Content[0].Content; i+1 < len(keys); i += 2 {
			if keys[i].Value == "allow_rollback" {
				keys[i+1] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: note}
			}
		}
	}
	if text, err = yaml.Marshal(&config); err == nil {
		err = errors.Join(files.WriteNew(note, []byte(back), 0o600), files.WriteNew(other, text, 0o600))
	}
	if err != nil {
		return faulty(err)
	}
	err = n.check(ctx, file, other)
	if err != nil && !errors.As(err, new(*fault)) {
		err = errors.New(strings.ReplaceAll(err.Error(), note+": ", ""))
	}
	return err
}

// Place puts a bundle where the agent looks for it. A reason to go back is placed first, since the agent's judgement rests on it, and both only if they
// hold by that. Where the reason doesn't, and the bundle needs none, the bundle is placed alone.
func (n *Nepcod) Place(ctx context.Context, file, back string) error {
	data, err := files.All(file, bundle.MaxFileSize)
	if err != nil {
		return faulty(err)
	}
	switch {
	case back == "":
	case n.where.AllowRollback == "":
		if err := n.Check(ctx, file); err != nil {
			return fmt.Errorf("%w; the signed reason to go back can't be placed: %s has no allow_rollback, which names its file", err, n.config)
		}
	default:
		if err := n.checkBack(ctx, file, back); err == nil {
			if err := files.Write(n.where.AllowRollback, []byte(back)); err != nil {
				return faulty(fmt.Errorf("the reason to go back: %w", err))
			}
		} else if errors.As(err, new(*fault)) || n.Check(ctx, file) != nil {
			return err
		}
	}
	if _, c, err := n.ask(ctx); err == nil {
		n.mu.Lock()
		n.placed = &c.refused
		n.mu.Unlock()
	}
	return faulty(files.Write(n.where.Bundle, data))
}

// health is what is read of /healthz (runtime/agent.Health).
type health struct {
	Status   string   `json:"status"`
	Problems []string `json:"problems"`
	Digest   string   `json:"bundle_digest"`
	Uptime   int64    `json:"uptime_s"`
}

// counts are an agent's since its start.
type counts struct {
	packets, dropped, unknown, refused, changed float64
	verdicts                                    map[string]float64
	latency                                     map[float64]float64 // verdicts within so many seconds: cumulative
	drift, bundle                               bool
}

// Agent is how the agent is now, with counts since it took up the bundle that it runs: by what this process saw of that.
func (n *Nepcod) Agent(ctx context.Context) Agent {
	h, c, err := n.ask(ctx)
	if err != nil {
		return Agent{Problem: short(err.Error())}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	// By a clock that nobody sets: a card's own may be, and an agent that did not start anew would seem to have.
	now := time.Now()
	begun := now.Add(-time.Duration(h.Uptime) * time.Second)
	restarted := !n.begun.IsZero() && begun.Sub(n.begun) > 5*time.Second
	switch {
	case restarted, n.begun.IsZero() && c.changed == 0:
		n.base, n.since, n.begun = &counts{}, begun, begun
		if restarted {
			n.placed = nil
		}
	case h.Digest != n.digest:
		n.base, n.since = c, now
		if n.begun.IsZero() {
			n.begun = begun
		}
	}
	n.digest = h.Digest
	a := Agent{Digest: h.Digest, Since: n.since.UTC().Truncate(time.Second), Drift: c.drift, Latency: quantile(c.latency, n.base.latency, 0.99), Verdicts: map[string]float64{}}
	a.Packets, a.Dropped, a.Unknown = less(c.packets, n.base.packets), less(c.dropped, n.base.dropped), less(c.unknown, n.base.unknown)
	for label, v := range c.verdicts {
		if v = less(v, n.base.verdicts[label]); v > 0 {
			a.Verdicts[label] = v
		}
	}
	var problems, refusals []string
	for _, p := range h.Problems {
		if c.bundle && strings.Contains(p, "bundle") {
			refusals = append(refusals, p)
		} else {
			problems = append(problems, p)
		}
	}
	// What was wrong with the bundle before is no answer about the one that was placed since.
	if len(refusals) > 0 && (n.placed == nil || c.refused > *n.placed) {
		a.Refused = short(strings.Join(refusals, "; "))
	}
	if len(problems) == 0 && h.Status != "ok" && h.Status != "degraded" {
		problems = append(problems, h.Status)
	}
	a.Problem = short(strings.Join(problems, "; "))
	return a
}

// less is a counter's growth.
func less(now, before float64) float64 { return max(0, now-before) }

// quantile is of what two cumulative histograms differ in, evenly spread within a bucket; 0 where nothing was counted.
func quantile(now, before map[float64]float64, q float64) float64 {
	bounds := slices.Sorted(maps.Keys(now))
	if len(bounds) == 0 {
		return 0
	}
	at := func(i int) float64 { return less(now[bounds[i]], before[bounds[i]]) }
	want := q * at(len(bounds)-1)
	if want == 0 {
		return 0
	}
	var low, below float64
	for i, up := range bounds {
		if n := at(i); n >= want {
			if math.IsInf(up, 1) {
				return low
			}
			return low + (up-low)*(want-below)/(n-below)
		} else {
			low, below = up, n
		}
	}
	return low
}

// ask reads what the agent serves.
func (n *Nepcod) ask(ctx context.Context) (*health, *counts, error) {
	text, err := n.get(ctx, "/healthz")
	if err != nil {
		return nil, nil, err
	}
	h := &health{}
	if err := json.Unmarshal(text, h); err != nil {
		return nil, nil, fmt.Errorf("the agent's /healthz: %w", err)
	}
	if text, err = n.get(ctx, "/metrics"); err != nil {
		return nil, nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, nil, fmt.Errorf("the agent's /metrics: %w", err)
	}
	return h, newCounts(families), nil
}

func newCounts(families map[string]*dto.MetricFamily) *counts {
	// sum is of all metrics of a name, with the label values given.
	sum := func(name string, labels ...string) (total float64) {
		for _, m := range families["nepcod_"+name].GetMetric() {
			if len(labels) == 0 || slices.Contains(labels[1:], label(m, labels[0])) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return total
	}
	c := &counts{
		packets: sum("packets_total"), dropped: sum("packets_dropped_total"), unknown: sum("verdicts_unknown_total"),
		changed: sum("model_changes_total", "result", "done"), refused: sum("model_changes_total", "result", "refused", "returned"),
		drift: sum("drift") > 0, bundle: sum("problem", "kind", "bundle") > 0,
		verdicts: map[string]float64{}, latency: map[float64]float64{},
	}
	outputs := map[string]bool{}
	labels := families["nepcod_verdicts_total"].GetMetric()
	for _, m := range labels {
		outputs[label(m, "output")] = true
	}
	for _, m := range labels {
		name := label(m, "label")
		if len(outputs) > 1 {
			name = label(m, "output") + ": " + name
		}
		c.verdicts[name] += m.GetCounter().GetValue()
	}
	for _, m := range families["nepcod_decision_latency_seconds"].GetMetric() {
		h := m.GetHistogram()
		for _, b := range h.GetBucket() {
			c.latency[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
		c.latency[math.Inf(1)] = max(c.latency[math.Inf(1)], float64(h.GetSampleCount()))
	}
	return c
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// get asks the agent. What /healthz answers counts with any status.
func (n *Nepcod) get(ctx context.Context, path string) ([]byte, error) {
	host, port, err := net.SplitHostPort(n.where.Metrics.Listen)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := n.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the agent does not answer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, agentAnswer))
	if err != nil {
		return nil, fmt.Errorf("the agent's %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK && path != "/healthz" {
		return nil, fmt.Errorf("the agent's %s: %s", path, response.Status)
	}
	return text, nil
}

// maxSenders is how many connections for lines are open at once: each may hold a line of up to maxLine. There is one agent, and one that ends.
const maxSenders = 16

// Listen takes the agent's lines on a unix stream socket until ctx ends, into a store. Its owner and group may connect: the agent is one of the group.
// The socket is there before the agent and stays when it goes; one that a crash left is replaced.
func (s *Store) Listen(ctx context.Context, socket string, failed func(error)) error {
	if info, err := os.Lstat(socket); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s: is there, and no socket", socket)
	}
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		return fmt.Errorf("%s: another program listens there", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := os.Chmod(socket, 0o660); err != nil {
		return err
	}
	// Connections end with ctx, and what they gave is stored, if the disk takes it.
	taking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(ackTime, cancel) })()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var open sync.WaitGroup
	defer open.Wait()
	places := make(chan struct{}, maxSenders)
	var said seldom
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			c.Close()
			said.warn(s.log, "another connection for lines is refused: there is one agent", "open", maxSenders)
			continue
		}
		open.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			if err := s.Take(taking, c); err != nil && ctx.Err() == nil {
				failed(err)
			}
		})
	}
}
