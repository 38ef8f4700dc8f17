package main

import (
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
)

// notOver refuses an output that is one of the files that a command reads, or may read: "" for those that were not named.
func notOver(out string, inputs ...string) error {
	for _, input := range inputs {
		if input != "" && out == input && !files.IsStdin(input) || files.Same(out, input) {
			return cli.UsageError("--output %s would overwrite an input", files.Show(out))
		}
	}
	return nil
}
