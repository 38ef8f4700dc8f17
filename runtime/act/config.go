package act

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/verdict"
)

// Config is `actions:` in the agent's configuration. Without rules nothing is done.
type Config struct {
	Rules []Entry `yaml:"rules"`
	// DryRun writes events of what would be done, and does nothing.
	DryRun bool `yaml:"dry_run"`
	// Backend is auto, flower or nftables; Offload, of flower, is auto (hardware where it can), required, or off.
	Backend string `yaml:"backend"`
	Offload string `yaml:"offload"`
	// Pref is the priority of flower's filters: lower ones go first. Ours take it and the four that follow.
	Pref int `yaml:"pref"`
	// Interfaces are those that rules are put on; none: the one that packets are captured from. Egress puts them where packets
	// leave, too; nil: if there is one interface.
	Interfaces []string `yaml:"interfaces"`
	Egress     *bool    `yaml:"egress"`
	Allow      Allow    `yaml:"allow"`
	// MaxRules bounds the rules in force, RulesPerSecond those that begin, Queue those that wait for the kernel.
	MaxRules       int `yaml:"max_rules"`
	RulesPerSecond int `yaml:"rules_per_second"`
	Queue          int `yaml:"queue"`
}

// Entry is one of the rules.
type Entry struct {
	// Labels, or OUTPUT=LABEL where several outputs have one.
	Labels   []string      `yaml:"labels"`
	MinScore *float64      `yaml:"min_score"`
	Do       string        `yaml:"do"`
	For      time.Duration `yaml:"for"` // 0: DefaultFor
	Mark     uint32        `yaml:"mark"`
	To       string        `yaml:"to"`
	Rate     uint64        `yaml:"bytes_per_second"`
}

// Allow is what no rule is ever made for.
type Allow struct {
	// Addresses are addresses and prefixes, of either end of a flow.
	Addresses []string `yaml:"addresses"`
	// Ports, of either end: "22", "8000-8100", "tcp/22", "udp/5000-5100".
	Ports []string `yaml:"ports"`
}

// DefaultFor is how long a rule holds whose entry doesn't say it, MaxFor the longest.
const (
	DefaultFor = 10 * time.Minute
	MaxFor     = 24 * time.Hour
)

// Defaults are what holds where a configuration says nothing. What is asked for for the first time is a dry run.
var Defaults = Config{DryRun: true, Backend: "auto", Offload: "auto", Pref: 100, MaxRules: 10_000, RulesPerSecond: 100, Queue: 1024}

// On says whether anything is asked for.
func (c *Config) On() bool { return len(c.Rules) > 0 }

// Acts says whether the kernel's rules are to be changed, for which CAP_NET_ADMIN is needed.
func (c *Config) Acts() bool { return c.On() && !c.DryRun }

// Places are where rules are put, given the interface that packets are captured from.
func (c *Config) Places(captured string) (list []Place) {
	names := c.Interfaces
	if len(names) == 0 {
		names = []string{captured}
	}
	for _, n := range names {
		list = append(list, Place{n, false})
	}
	if c.Egress == nil && len(names) == 1 || c.Egress != nil && *c.Egress {
		for _, n := range names {
			list = append(list, Place{n, true})
		}
	}
	return list
}

// Place is a hook of an interface.
type Place struct {
	Interface string
	Egress    bool
}

func (p Place) String() string {
	if p.Egress {
		return p.Interface + " egress"
	}
	return p.Interface + " ingress"
}

// MaxEntries bounds the rules of a configuration: each costs the kernel a look-up for each packet.
const MaxEntries = 32

// Validate says all that is wrong, each error beginning with its field.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("actions."+field+": "+format, args...))
	}
	if len(c.Rules) > MaxEntries {
		bad("rules", "%d are too many: %d at most", len(c.Rules), MaxEntries)
	}
	for i := range c.Rules {
		c.Rules[i].validate(func(field, format string, args ...any) { bad(fmt.Sprintf("rules[%d]", i)+field, format, args...) })
	}
	if !slices.Contains([]string{"auto", "flower", "nftables"}, c.Backend) {
		bad("backend", "%q is none of auto, flower, nftables", c.Backend)
	}
	switch {
	case !slices.Contains([]string{"auto", "required", "off"}, c.Offload):
		bad("offload", "%q is none of auto, required, off", c.Offload)
	case c.Offload == "required" && c.Backend == "nftables":
		bad("offload", "required: nftables' sets are not offloaded; backend: flower")
	}
	for i, n := range c.Interfaces {
		if !interfaceName(n) {
			bad("interfaces", "%q is no name of an interface", n)
		}
		if slices.Contains(c.Interfaces[:i], n) {
			bad("interfaces", "%s stands there twice", n)
		}
	}
	for i := range c.Rules {
		if e := &c.Rules[i]; interfaceName(e.To) && slices.Contains(c.Interfaces, e.To) {
			bad(fmt.Sprintf("rules[%d].to", i), "%s has the rules itself: its copies would be copied again", e.To)
		}
	}
	for _, f := range []struct {
		field     string
		v, lo, hi int
	}{{"pref", c.Pref, 1, 65000}, {"max_rules", c.MaxRules, 1, 1_000_000}, {"rules_per_second", c.RulesPerSecond, 1, 100_000}, {"queue", c.Queue, 1, 1 << 20}} {
		if f.v < f.lo || f.v > f.hi {
			bad(f.field, "%d is not within %d..%d", f.v, f.lo, f.hi)
		}
	}
	for _, s := range c.Allow.Addresses {
		if _, err := prefix(s); err != nil {
			bad("allow.addresses", "%w", err)
		}
	}
	for _, s := range c.Allow.Ports {
		if _, err := ports(s); err != nil {
			bad("allow.ports", "%w", err)
		}
	}
	return errors.Join(errs...)
}

func (e *Entry) validate(bad func(field, format string, args ...any)) {
	if len(e.Labels) == 0 {
		bad(".labels", "are missing")
	}
	for _, l := range e.Labels {
		_, of, _ := strings.Cut(l, "=")
		for _, word := range []string{verdict.WordUnknown, verdict.WordInsufficient} {
			if l == word || of == word {
				bad(".labels", "%s is no label: nothing is done about flows without one", l)
			}
		}
		if strings.ContainsFunc(l, unicode.IsControl) {
			bad(".labels", "%q holds a control character", l)
		}
	}
	switch s := e.MinScore; {
	case s == nil:
		bad(".min_score", "is missing: the score, 0 to 1, from which on something is done")
	case !(*s >= 0 && *s <= 1):
		bad(".min_score", "%g is not within 0..1", *s)
	}
	if e.For != 0 && (e.For < time.Second || e.For > MaxFor) {
		bad(".for", "%v is not within 1s..%v", e.For, MaxFor)
	}
	k := slices.Index(kindNames[:], e.Do)
	switch {
	case e.Do == "":
		bad(".do", "is missing: one of %s", strings.Join(kindNames[:], ", "))
	case k < 0:
		bad(".do", "%q is none of %s", e.Do, strings.Join(kindNames[:], ", "))
	}
	for _, f := range []struct {
		field string
		of    Kind
		set   bool
		what  string
	}{
		{".mark", Mark, e.Mark != 0, "a number above 0"}, {".to", Mirror, e.To != "", "an interface"}, {".bytes_per_second", RateLimit, e.Rate != 0, "bytes a second, each way"},
	} {
		switch {
		case k == int(f.of) && !f.set:
			bad(f.field, "is missing: %s", f.what)
		case k >= 0 && k != int(f.of) && f.set:
			bad(f.field, "goes with do: %s", f.of)
		}
	}
	if e.To != "" && !interfaceName(e.To) {
		bad(".to", "%q is no name of an interface", e.To)
	}
	if e.Rate != 0 && (e.Rate < minRate || e.Rate > maxRate) {
		bad(".bytes_per_second", "%d is not within %d..%d", e.Rate, uint64(minRate), uint64(maxRate))
	}
}

// minRate and maxRate are what tc's policers and nftables' limits can both say, in bytes a second.
const minRate, maxRate = 1000, 4_000_000_000

// effect is what an entry that is valid does.
func (e *Entry) effect() Effect {
	return Effect{Kind: Kind(slices.Index(kindNames[:], e.Do)), Mark: e.Mark, To: e.To, Rate: e.Rate}
}

// limit is how long the entry's rules hold.
func (e *Entry) limit() time.Duration {
	if e.For == 0 {
		return DefaultFor
	}
	return e.For
}

// interfaceName says whether Linux takes a name for an interface.
func interfaceName(s string) bool {
	return s != "" && len(s) < 16 && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r) })
}

// prefix reads an address or a prefix. One of IPv4 that is written as one of IPv6 is that of IPv4, which stands for both.
func prefix(s string) (netip.Prefix, error) {
	p, err := anyPrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, err
}

func anyPrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is neither an address nor a prefix", s)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits behind its prefix: %s", s, p.Masked())
	}
	return p, nil
}

// portRange are ports of a protocol, 0 for both.
type portRange struct {
	proto  uint8
	lo, hi uint16
}

func ports(s string) (r portRange, err error) {
	rest := s
	if p, after, ok := strings.Cut(s, "/"); ok {
		if r.proto, ok = map[string]uint8{"tcp": capture.ProtoTCP, "udp": capture.ProtoUDP}[p]; !ok {
			return r, fmt.Errorf("%q: %q is neither tcp nor udp", s, p)
		}
		rest = after
	}
	lo, hi, many := strings.Cut(rest, "-")
	if !many {
		hi = lo
	}
	a, err1 := strconv.ParseUint(lo, 10, 16)
	b, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil || b < a {
		return r, fmt.Errorf("%q is no port, nor a range of them", s)
	}
	r.lo, r.hi = uint16(a), uint16(b)
	return r, nil
}
