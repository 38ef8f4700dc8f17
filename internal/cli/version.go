package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"nepcoc/internal/version"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
)

// versionInfo is what `version --json` prints, of both commands.
type versionInfo struct {
	Program  string `json:"program"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Format is the bundle format that is written, and the newest that is read.
	Format int `json:"bundle_format"`
	// Kernels is the kernel path for this machine.
	Kernels string `json:"kernels"`
}

func (v *versionInfo) String() string {
	revision := ""
	if v.Revision != "" {
		revision = fmt.Sprintf(" %.12s", v.Revision)
	}
	return fmt.Sprintf("%s %s%s (%s, %s), bundle format %d, kernels %s", v.Program, v.Version, revision, v.Platform, v.Go, v.Format, v.Kernels)
}

// AddVersion gives a command its version: the flag --version and the command version.
func AddVersion(root *cobra.Command) {
	v := versionInfo{
		Program: root.Name(), Version: version.Version, Revision: version.Revision(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Format: bundle.FormatVersion,
	}
	path, err := cpu.Choose()
	if v.Kernels = path.String(); err != nil {
		v.Kernels = err.Error() // a wrong environment variable; who asks for the version wants to know
	}
	root.Version = v.String()
	root.SetVersionTemplate("{{.Version}}\n")
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version, and the bundle format it reads", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return JSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), v.String())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	root.AddCommand(cmd)
}
