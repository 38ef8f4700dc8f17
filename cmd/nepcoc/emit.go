package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"nepcoc/backends"
	"nepcoc/compiler"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

func newEmit() *cobra.Command {
	var out, name, tables string
	cmd := &cobra.Command{
		Use:   "emit KIND BUNDLE",
		Short: "Write a bundle as source code: emit c",
		Long: `emit writes a bundle's program as source code for data paths that want the model in them.

emit c writes a C99 library: a header, a source file, a file of token tables where they are large (or, by --tables source,
none), a self-test with the bundle's golden vectors, a Makefile and a meson.build. It takes no memory (a context is the
caller's), uses no floating point and no library but memcpy and memset, and computes the bits that run and the agent compute.
` + exitCodes,
		Example: `  nepcoc emit c model.nepco -o model-c/ && make -C model-c check
  nepcoc emit c model.nepco --name ids -o ids-c/   # nepco_ids_run`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := compiler.LookupArtifact(args[0])
			switch {
			case err != nil:
				return cli.UsageError("%w", err)
			case !a.Folder:
				return cli.UsageError("%s is %s already: emit writes source code", args[1], a.Doc)
			}
			if tables != "file" && tables != "source" {
				return cli.UsageError("--tables %s: file or source", tables)
			}
			if err := writable(a, out); err != nil {
				return err
			}
			b, err := files.Read(args[1], bundle.Read)
			if err != nil {
				return err
			}
			built, err := a.Build(b, backends.ArtifactOptions{Symbol: name, TablesInSource: tables == "source"})
			if err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			n, err := writeArtifact(a, out, built, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			for _, f := range built {
				fmt.Fprintf(cmd.OutOrStdout(), "%10d %s\n", len(f.Data), filepath.Join(out, f.Name))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%10d bytes; make -C %s check runs the golden vectors\n", n, out)
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			var kinds []string
			for _, a := range compiler.Artifacts() {
				if a.Folder {
					kinds = append(kinds, a.Name)
				}
			}
			return kinds, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().StringVarP(&out, cli.OutputFlag, "o", "", "folder to write to (required); files of the same names in it are replaced")
	cmd.Flags().StringVar(&name, "name", "", "part of every symbol: nepco_NAME_run (default: the bundle's name)")
	cmd.Flags().StringVar(&tables, "tables", "file", "where token tables above 256 KiB go: file, to be mapped or read, or source, which takes a compiler a minute or more")
	cmd.MarkFlagRequired(cli.OutputFlag)
	return cmd
}

// writable says whether an artifact could be written to out, before long work.
func writable(a *backends.Artifact, out string) error {
	name := out
	if a.Folder {
		if out == "" {
			return cli.UsageError("--output: %s is a folder of files: name one", a.Name)
		}
		if files.IsStdout(out) {
			return cli.UsageError("--output %s: %s is a folder of files: name one", out, a.Name)
		}
		switch info, err := os.Stat(out); {
		case err == nil && !info.IsDir():
			return fmt.Errorf("--output %s is a file; %s is a folder of files: name another", out, a.Name)
		case err == nil:
			name = filepath.Join(out, "file")
		default:
			name = filepath.Clean(out)
		}
	}
	if err := files.Writable(name); err != nil {
		return fmt.Errorf("--output %w", err)
	}
	return nil
}

// writeArtifact writes what was built to out, a file or a folder, and gives its bytes. Of a folder's files it writes all or none.
func writeArtifact(a *backends.Artifact, out string, built []backends.File, stdout io.Writer) (n int, err error) {
	if !a.Folder {
		return len(built[0].Data), files.Output(out, built[0].Data, stdout)
	}
	_, err = os.Stat(out)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return 0, fmt.Errorf("--output %s: %w", out, files.Reason(err))
	}
	var list []files.File
	for _, f := range built {
		list = append(list, files.File{Name: filepath.Join(out, f.Name), Data: f.Data})
		n += len(f.Data)
	}
	if err := files.WriteAll(list); err != nil {
		if fresh {
			os.Remove(out) // where it is empty
		}
		return 0, err
	}
	return n, nil
}
