package main

import (
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
)

// notOver refuses an output that is one of the files that a command reads, or may read: "" for those that were not named.
func notOver(out string, inputs ...string) error { return flagNotOver(cli.OutputFlag, out, inputs...) }

// flagNotOver is notOver for a file that another flag names.
func flagNotOver(flag, out string, inputs ...string) error {
	for _, input := range inputs {
		if input != "" && out == input && !files.IsStdin(input) || files.Same(out, input) {
			return cli.UsageError("--%s %s would overwrite an input", flag, files.Show(out))
		}
	}
	return nil
}
