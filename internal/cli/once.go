package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FlagsOnce makes every flag of a command and of its subcommands an error where it is given
// twice, but those that collect a list: by themselves, flags take the last value in silence, and
// the run is not the one that the line shows.
func FlagsOnce(cmd *cobra.Command) {
	for _, fl := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		fl.VisitAll(func(f *pflag.Flag) {
			switch f.Value.(type) {
			case pflag.SliceValue, *once:
			default:
				f.Value = &once{Value: f.Value}
			}
		})
	}
	for _, sub := range cmd.Commands() {
		FlagsOnce(sub)
	}
}

// once is a flag's value that can be set only once.
type once struct {
	pflag.Value
	given *string
}

func (o *once) Set(s string) error {
	if o.given != nil {
		return fmt.Errorf("given already, as %q: it takes one value", *o.given)
	}
	o.given = &s
	return o.Value.Set(s)
}
