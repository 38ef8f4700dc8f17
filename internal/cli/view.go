package cli

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"nepcoc/runtime/bundle"
)

// ViewFlags adds the flags that say which packets are read, the same in every command that reads
// some.
func ViewFlags(fl *pflag.FlagSet, o *bundle.ViewOverride, otherwise string) {
	for _, f := range []struct {
		name, help string
		to         **bool
	}{
		{"tunnels", "read what tunnels (GRE, VXLAN, GENEVE, GTP-U, ERSPAN, IP and others) carry, not the tunnels' own packets", &o.Tunnels},
		{"vlans", "the same addresses and ports in another VLAN are another flow", &o.VLANs},
		{"interfaces", "the same addresses and ports at another interface of the capture are another flow", &o.Interfaces},
	} {
		fl.BoolFunc(f.name, f.help+" ("+otherwise+")", func(s string) (err error) {
			*f.to, err = parsed(strconv.ParseBool(s))
			return err
		})
	}
	fl.Func("active-timeout", "age beyond which a flow gets its verdict with its next packet, such as 30s; 0: none ("+otherwise+")", func(s string) (err error) {
		o.ActiveTimeout, err = parsed(time.ParseDuration(s))
		if err == nil {
			err = bundle.View{ActiveTimeout: *o.ActiveTimeout}.Validate()
		}
		return err
	})
}

// What a view's flags mean where they are not given.
const (
	AsBundle   = "default: as the bundle says"
	AsOff      = "default: off"
	AsContract = "default: off, or as the bundle says that is given as contract"
)

func parsed[T any](v T, err error) (*T, error) { return &v, err }

// SeedFlag adds the flag for the Community ID's seed.
func SeedFlag(fl *pflag.FlagSet, seed *uint16) {
	fl.Uint16Var(seed, "community-id-seed", 0, "seed of the Community IDs, as in the other tools that make some")
}

// UnknownFlag adds the flag that says below which score verdicts are unknown.
func UnknownFlag(fl *pflag.FlagSet, t **float64, otherwise string) {
	fl.Func("unknown-threshold", "score below which a verdict is unknown, 0 to 1 ("+otherwise+")", func(s string) (err error) {
		if *t, err = parsed(strconv.ParseFloat(s, 64)); err == nil && !(**t >= 0 && **t <= 1) {
			err = errors.New("not within 0..1")
		}
		return err
	})
}
