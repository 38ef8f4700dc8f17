package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/explain"
	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

func newContractExplain() *cobra.Command {
	var contract string
	var number int
	var asJSON bool
	var view bundle.ViewOverride
	cmd := &cobra.Command{
		Use:   "explain CAPTURE...",
		Short: "Show what a contract makes of a capture: of one flow byte by byte, of all in figures",
		Long: `explain says what share of a capture's tokens is payload, how many flows the contract's budget cuts, how many fill it with
a handshake alone, and how many verdicts would be marked (docs/marks.md). Payload is what TCP or UDP carry: the application's bytes.

With --flow N it prints the N-th flow, in the order of their first packets: each field's bytes with its name, whether they
enter the tokens, are blanked (are zero there) or are left out. In the stream view it prints each side's bytes.
` + exitCodes,
		Example: `  nepcoc contract explain test.pcap --contract nepco-stream
  nepcoc contract explain test.pcap --contract my.yaml --flow 3
  nepcoc contract explain test.pcap --contract model.nepco --json | jq .payload_share`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("flow") && number < 1 {
				return cli.UsageError("--flow %d: flows are numbered from 1", number)
			}
			source, err := sourceOf(contract)
			if err != nil {
				return err
			}
			c := source.Contract
			src, err := capture.OpenAll(args)
			if err != nil {
				return err
			}
			defer src.Close()
			opt := explain.Options{Contract: c, Flow: number}
			opt.View, _ = view.Of(source.View)
			r, err := explain.Explain(src, opt)
			if err != nil {
				return fmt.Errorf("%s: %w", calibrate.Name(args), err)
			}
			for _, note := range append(r.Notes, src.Notes()...) {
				fmt.Fprintf(cmd.ErrOrStderr(), "nepcoc: note: %s\n", note)
			}
			w := cmd.OutOrStdout()
			if asJSON {
				return cli.JSON(w, r)
			}
			if r.Flow != nil {
				printFlow(w, r.Flow, &c, cli.IsTerminal(w) && os.Getenv("NO_COLOR") == "")
				fmt.Fprintln(w)
			}
			printExplained(w, r)
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&contract, "contract", "", "traffic contract: a file, a bundle, or "+strings.Join(traffic.Names(), ", "))
	fl.IntVar(&number, "flow", 0, "print this flow, byte by byte; the first is 1")
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	cli.ViewFlags(fl, &view, cli.AsContract)
	cmd.MarkFlagRequired("contract")
	return cmd
}

func printExplained(w io.Writer, r *explain.Report) {
	of := func(n int) string {
		if r.Flows == 0 {
			return "0"
		}
		return fmt.Sprintf("%d (%s)", n, cli.Percent(float64(n)/float64(r.Flows)))
	}
	name := cli.Name(r.Contract)
	if name == "" {
		name = contractText(r.Hash)
	}
	rows := [][]string{
		{"contract", name},
		{"flows", fmt.Sprint(r.Flows)},
		{"tokens", fmt.Sprintf("%d, of them payload (the application's bytes) %d (%s)", r.Tokens, r.PayloadTokens, cli.Percent(r.PayloadShare))},
		{"sequence full", of(r.Full)},
		{"budget of packets or bytes reached", of(r.Budget)},
		{"of both, went on and were cut", of(r.Cut)},
		{"of both, a handshake alone", of(r.Handshake)},
		{"without payload", of(r.Empty)},
		{"marked", of(r.Marked)},
	}
	for _, mark := range slices.Sorted(maps.Keys(r.Marks)) {
		rows = append(rows, []string{"  " + mark, of(r.Marks[mark])})
	}
	cli.Table(w, rows)
}

// Colours of a terminal, by what bytes are.
var colours = map[string]string{"enters header": "\x1b[36m", "enters ethernet": "\x1b[36m", "enters payload": "\x1b[32m", "blanked": "\x1b[31m", "left out": "\x1b[2m"}

func printFlow(w io.Writer, f *explain.Flow, c *traffic.Contract, colour bool) {
	fmt.Fprintf(w, "flow %d: %s, decided by %s, %s", f.Number, f.Key, f.Reason, plural.Of(f.Tokens, "token"))
	for _, m := range f.Marks {
		fmt.Fprintf(w, ", mark=%s", m)
	}
	fmt.Fprintln(w)
	for i, n := range f.Numbers {
		fmt.Fprintf(w, "%s%s", []string{"numbers: ", "; "}[min(i, 1)], n.Fact)
		for k, x := range n.Values {
			fmt.Fprintf(w, "%s%d", []string{" ", ", "}[min(k, 1)], x)
		}
	}
	if len(f.Numbers) > 0 {
		fmt.Fprintln(w)
	}
	for i, p := range f.Packets {
		facts := ""
		if p.Facts > 0 {
			facts = fmt.Sprintf(", behind %s", plural.Of(p.Facts, "fact"))
		}
		fmt.Fprintf(w, "\npacket %d, %s: %s; of headers %d enter, of payload %d%s\n", i+1, p.Side, plural.Of(len(p.Bytes), "byte"), p.Header, p.Payload, facts)
		printFields(w, &p, colour)
	}
	for _, p := range f.Sides {
		fmt.Fprintf(w, "\n%s's stream: %s %s\n", p.Side, plural.Of(p.Payload, "byte"), plural.Verb(p.Payload, "enters", "enter"))
		printFields(w, &p, colour)
	}
}

// rowBytes are the bytes of a row of the dump.
const rowBytes = 16

func printFields(w io.Writer, p *explain.Packet, colour bool) {
	for _, f := range p.Fields {
		on, off := "", ""
		if colour {
			on, off = colours[f.State], "\x1b[0m"
			if f.State == "enters" {
				on = colours[f.State+" "+f.Part]
			}
		}
		for at := f.From; at < f.To; at += rowBytes {
			row := p.Bytes[at:min(at+rowBytes, f.To)]
			text := f.Name
			if at > f.From {
				text = ""
			}
			if f.Part == "payload" {
				text = strings.TrimSpace(text + "  " + printable(row))
			}
			fmt.Fprintf(w, "  %04x  %s%-*s%s  %-8s  %-8s  %s\n", at, on, 3*rowBytes-1, fmt.Sprintf("% x", []byte(row)), off, f.State, f.Part, text)
		}
	}
}

// printable are bytes as text, with dots for what is none.
func printable(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if out[i] = '.'; c >= ' ' && c <= '~' {
			out[i] = c
		}
	}
	return string(out)
}
