package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/compiler/dataset"
	"nepcoc/internal/cli"
	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
)

func newContract() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "contract",
		Short: "Traffic contracts: list, show, begin one, explain what one makes of a capture",
		Long: `A traffic contract says which bytes of a flow a model sees, as a list of small choices (docs/contract.md). The compiler,
the tokens that a model is trained on and the agent use the same one.
` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newContractList(), newContractShow(), newContractInit(), newContractExplain())
	return cmd
}

// contractOf takes what a user gives for a contract: a built-in one's name, a file, or a bundle that holds one.
func contractOf(name string) (traffic.Contract, error) {
	s, err := sourceOf(name)
	return s.Contract, err
}

// sourceOf is contractOf with the view of the bundle; that of other contracts is none.
func sourceOf(name string) (s dataset.Source, err error) {
	if _, err := traffic.Named(name); err == nil || files.IsStdin(name) {
		s.Contract, err = traffic.Load(name)
		return s, err
	}
	head, err := files.Head(name, filekind.Head)
	if kind := filekind.Of(name, head); err == nil && kind != nil && kind.ID == filekind.Bundle {
		b, err := files.Read(name, bundle.Read)
		if err != nil {
			return s, err
		}
		s.View = b.Manifest.View
		if s.Contract, err = classify.Contract(b); err != nil {
			err = fmt.Errorf("%s: %w", files.Show(name), err)
		}
		return s, err
	}
	s.Contract, err = traffic.Load(name)
	return s, err
}

// contractLine is a contract in short.
type contractLine struct {
	Name    string `json:"name"`
	Hash    string `json:"hash"`
	View    string `json:"view"`
	Layer   string `json:"first_layer"`
	Length  int    `json:"length"`
	Vocab   int    `json:"vocab"`
	Summary string `json:"summary"`
}

func lineOf(c *traffic.Contract) contractLine {
	l := contractLine{Name: c.Name, Hash: c.Hash(), Layer: c.FirstLayer, Length: c.Length, Vocab: c.Vocab()}
	if c.View == traffic.ViewStream {
		l.View = "stream"
		l.Summary = fmt.Sprintf("the first %d bytes of the client and %d of the server, as the hosts see them", c.ClientBytes, c.ServerBytes)
		return l
	}
	l.View = "packets"
	l.Summary = fmt.Sprintf("the first %s of %s, from the %s on", plural.Of(c.BytesPerPacket, "byte"), plural.Of(c.Packets, "packet"), layerText[c.FirstLayer])
	if c.HeaderBytes > 0 {
		l.Summary = fmt.Sprintf("%s of headers and %d of payload of %s, from the %s on", plural.Of(c.HeaderBytes, "byte"), c.BytesPerPacket-c.HeaderBytes, plural.Of(c.Packets, "packet"), layerText[c.FirstLayer])
	}
	return l
}

var layerText = map[string]string{traffic.LayerEthernet: "Ethernet header", traffic.LayerIP: "IP header", traffic.LayerPayload: "payload"}

func newContractList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the built-in contracts",
		Example: `  nepcoc contract list
  nepcoc contract list --json | jq -r '.[].name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var lines []contractLine
			rows := [][]string{{"contract", "view", "tokens", "ids", "what enters"}}
			for _, name := range traffic.Names() {
				c, err := traffic.Named(name)
				if err != nil {
					return err
				}
				l := lineOf(&c)
				lines = append(lines, l)
				rows = append(rows, []string{l.Name, l.View, fmt.Sprint(l.Length), fmt.Sprint(l.Vocab), l.Summary})
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), lines)
			}
			cli.Table(cmd.OutOrStdout(), rows)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func newContractShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME|FILE|BUNDLE",
		Short: "Show a contract's choices, each with its default and what it means",
		Example: `  nepcoc contract show nepco-stream
  nepcoc contract show model.nepco --json | jq -r '.choices[] | select(.value != .default) | .name'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := contractOf(args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if asJSON {
				return cli.JSON(w, struct {
					contractLine
					PacketBytes int                   `json:"packet_bytes"`
					Choices     []traffic.Choice      `json:"choices"`
					Blanks      []traffic.BlankChoice `json:"blanks"`
				}{lineOf(&c), c.PacketBytes(), c.Choices(), traffic.BlankChoices()})
			}
			showContract(w, &c)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// besideText says how many numbers stand beside tokens.
func besideText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %s beside them", plural.Of(n, "number"))
}

func showContract(w io.Writer, c *traffic.Contract) {
	l := lineOf(c)
	cli.Table(w, [][]string{
		{"contract", cli.Name(l.Name)},
		{"hash", l.Hash},
		{"sees", l.Summary},
		{"gives", fmt.Sprintf("%d tokens of %d ids", l.Length, l.Vocab) + besideText(c.NumberCount())},
		{"needs", fmt.Sprintf("%d bytes of each packet, from its IP header on", c.PacketBytes())},
	})
	fmt.Fprintln(w)
	rows := [][]string{{"choice", "value", "default", "meaning"}}
	for _, choice := range c.Choices() {
		def := choice.Default
		if def == choice.Value {
			def = "="
		}
		rows = append(rows, []string{choice.Name, traffic.Shortened(choice.Value), traffic.Shortened(def), choice.Doc})
	}
	cli.Table(w, rows)
	fmt.Fprintln(w, "\nWhat can be blanked (docs/contract.md):")
	rows = nil
	for _, b := range traffic.BlankChoices() {
		set := ""
		if c.Blanks(traffic.Blank(b.Word)) {
			set = "blanked"
		}
		rows = append(rows, []string{"  " + b.Word, set, b.Doc})
	}
	cli.Table(w, rows)
}

func newContractInit() *cobra.Command {
	var from, out string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented contract file to change",
		Example: `  nepcoc contract init -o my.yaml
  nepcoc contract init --from model.nepco -o my.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = "-"
			}
			if err := notOver(out, from); err != nil {
				return err
			}
			if err := files.Writable(out); err != nil {
				return err
			}
			c, err := contractOf(from)
			if err != nil {
				return err
			}
			text := c.Commented()
			if back, err := traffic.Parse("contract", text); err != nil || !bytes.Equal(back.Canonical(), c.Canonical()) {
				panic(fmt.Sprintf("BUG: a commented contract reads as another: %v", err))
			}
			return files.Output(out, text, cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&from, "from", "nepco", "contract to begin with: a file, a bundle, or "+strings.Join(traffic.Names(), ", "))
	fl.StringVarP(&out, cli.OutputFlag, "o", "", "file to write (default: standard output)")
	return cmd
}
