// Command nepcoc compiles trained network models for SmartNICs, verifies what
// it compiled, and runs it on captures.
package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/interrupt"
)

func main() {
	interrupt.Watch()
	os.Exit(doMain(os.Args[1:], os.Stdout, os.Stderr))
}

func doMain(args []string, stdout, stderr io.Writer) int {
	return cli.Run(newRoot(), args, stdout, stderr)
}

var exitCodes = "\n" + cli.ExitCodes("done, and all that was asked to hold holds", "bad input, a model\nthat can't be taken, or a check that failed")

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "nepcoc",
		Short: "Compile byte-sequence models of network traffic for SmartNICs",
		Long: `nepcoc turns a trained ONNX model and a capture of traffic into a bundle of
integer arithmetic that gives the same verdicts on every CPU, to the bit.
` + exitCodes,
		Example: `  nepcoc compile model.onnx --calib traffic.pcap -o model.nepco
  nepcoc verify model.nepco --model model.onnx --pcap test.pcap
  nepcoc run model.nepco test.pcap`,
	}
	cli.AddGroups(root,
		cli.Group{ID: "models", Title: "Models:", Commands: []*cobra.Command{newCompile(), newCheck(), newVerify(), newReport(), newInspect(), newBench(), newSign(), newKey(), newEmit(), newOpt()}},
		cli.Group{ID: "data", Title: "Traffic and data:", Commands: []*cobra.Command{newRun(), newExplain(), newDrift(), newContract(), newTokens(), newLint(), newTeach()}},
		cli.Group{ID: "cards", Title: "Cards:", Commands: []*cobra.Command{newDoctor(), newPlan(), newShip()}},
	)
	cli.AddVersion(root)
	return root
}
