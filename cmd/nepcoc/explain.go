package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/explain"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	why "nepcoc/runtime/explain"
)

func newExplain() *cobra.Command {
	var which explain.Select
	var tuple, html string
	var asJSON bool
	var view bundle.ViewOverride
	cmd := &cobra.Command{
		Use:   "explain BUNDLE CAPTURE...",
		Short: "Say which bytes of a flow its verdict stands on",
		Long: `explain names, for each flow's verdict, the bytes that carry its margin over the next label: packet, offset, length and
protocol field, each with its share. Margins are of logits, not of scores. It blanks the bytes of one token after the other, among those that the winners of the
model's maxima have seen, and says how much of the margin goes with all that are named.

Flows are numbered in the order of their first packets, as in nepcoc report and contract explain, and printed in that of their verdicts.
With --flow or --tuple it shows the flow's packets, too, the named bytes in colour on a terminal, else underlined.
docs/explain.md says what the figures mean; nepcoc verify --explain says how faithful they are.
` + exitCodes,
		Example: `  nepcoc explain model.nepco test.pcap
  nepcoc explain model.nepco test.pcap --flow 5
  nepcoc explain model.nepco test.pcap --tuple 10.0.0.1:40000-10.0.0.2:443/tcp --html why.html`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("flow") && which.Flow < 1 {
				return cli.UsageError("--flow %d: flows are numbered from 1", which.Flow)
			}
			if tuple != "" {
				var err error
				if which.Key, err = explain.ParseEnds(tuple); err != nil {
					return cli.UsageError("--tuple %w", err)
				}
			}
			toStdout := html != "" && files.IsStdout(html)
			if toStdout && asJSON {
				return cli.UsageError("--json and --html would both write to standard output: give --html a file")
			}
			if html != "" {
				if err := flagNotOver("html", html, args...); err != nil {
					return err
				}
				if err := files.Writable(html); err != nil {
					return err
				}
			}
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			var notes []string
			b.Manifest.View, notes = view.Of(b.Manifest.View)
			explainer, err := explain.New(b)
			if err != nil {
				return fmt.Errorf("%s: %w", files.Show(args[0]), err)
			}
			src, err := capture.OpenAll(args[1:])
			if err != nil {
				return err
			}
			defer src.Close()
			one := which.Flow > 0 || which.Key != nil
			progress := cli.NewProgress(cmd.ErrOrStderr())
			if !asJSON && cli.IsTerminal(cmd.OutOrStdout()) {
				progress = nil // what is printed shows how far it is
			}
			w, colour := cli.NewLines(cmd.OutOrStdout()), cli.IsTerminal(cmd.OutOrStdout()) && os.Getenv("NO_COLOR") == ""
			all := []*explain.Verdict{}
			n := 0
			counters, err := explainer.Verdicts(src, which, func(v *explain.Verdict) error {
				n++
				progress.Update("explaining verdicts", n, 0)
				if asJSON || html != "" && len(all) < htmlFlows {
					all = append(all, v)
				}
				if !asJSON && !toStdout {
					printVerdict(w, v, one, colour)
				}
				return nil
			})
			progress.Done()
			if ferr := w.Flush(); err == nil {
				err = ferr
			}
			name := calibrate.Name(args[1:])
			if none := (explain.NoFlow{}); errors.As(err, &none) {
				err = fmt.Errorf("%s: %w", name, err)
			}
			if err != nil {
				return err
			}
			if n == 0 && which.Key != nil {
				return fmt.Errorf("%s: no flow between %s: nepcoc run prints the ends of each", name, tuple)
			}
			for _, note := range append(append(notes, counters.Notes(&explainer.Flows)...), src.Notes()...) {
				fmt.Fprintf(cmd.ErrOrStderr(), "nepcoc: note: %s\n", note)
			}
			if html != "" {
				if n > htmlFlows {
					fmt.Fprintf(cmd.ErrOrStderr(), "nepcoc: note: %s holds the first %d of %d flows: choose with --flow or --tuple\n", html, htmlFlows, n)
					all = all[:min(len(all), htmlFlows)]
				}
				page, err := explainPage(b.Name(), all, n)
				if err != nil {
					return err
				}
				if err := files.Output(html, page, cmd.OutOrStdout()); err != nil {
					return err
				}
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), all)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&which.Flow, "flow", 0, "only this flow, with its bytes; the first is 1")
	fl.StringVar(&tuple, "tuple", "", "only flows between these ends, with their bytes: ADDRESS:PORT-ADDRESS:PORT/tcp or /udp")
	fl.StringVar(&html, "html", "", "also write a page that needs nothing else, with the bytes of the flows")
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	cli.ViewFlags(fl, &view, cli.AsBundle)
	cmd.MarkFlagsMutuallyExclusive("flow", "tuple")
	return cmd
}

// htmlFlows bounds a page.
const htmlFlows = 200

func printVerdict(w io.Writer, v *explain.Verdict, dump, colour bool) {
	fmt.Fprintf(w, "flow %d: %s, decided by %s, %s", v.Number, v.Key, v.Reason, plural.Of(v.Tokens, "token"))
	for _, m := range v.Marks {
		fmt.Fprintf(w, ", mark=%s", m)
	}
	fmt.Fprintln(w)
	for i := range v.Outputs {
		o := &v.Outputs[i]
		name := ""
		if len(v.Outputs) > 1 {
			name = cli.Name(o.Output) + ": "
		}
		fmt.Fprintf(w, "%s%s\n", name, whyText(o))
		if len(o.Fields) > 0 {
			fmt.Fprintf(w, "fields: %s\n", fieldsText(o))
		}
		var rows [][]string
		for _, r := range o.Ranges {
			rows = append(rows, []string{"", cli.Percent(r.Share), where(&r), strings.Join(slices.Compact(slices.Clone(r.Fields)), ", "), valueOf(v, &r)})
		}
		cli.Table(w, rows)
		if !dump {
			continue
		}
		for k := range v.Packets {
			p := &v.Packets[k]
			if p.Number > 0 {
				fmt.Fprintf(w, "\npacket %d, %s: %s\n", p.Number, p.Side, plural.Of(len(p.Bytes), "byte"))
			} else {
				fmt.Fprintf(w, "\n%s's stream: %s\n", p.Side, plural.Of(len(p.Bytes), "byte"))
			}
			printNamed(w, p, sharesOf(p, o), colour)
		}
	}
	fmt.Fprintln(w)
}

// whyText is a verdict in a sentence.
func whyText(o *explain.Why) string {
	against := "its threshold"
	if o.Against != "" {
		against = cli.Name(o.Against)
	}
	label := cli.Name(o.Label)
	switch {
	case o.Candidate != "":
		label += ", candidate " + cli.Name(o.Candidate)
	case o.Label == "":
		label = "none of the labels"
	}
	text := fmt.Sprintf("%s against %s: logit margin %.2f", label, against, o.Margin)
	if len(o.Ranges) == 0 {
		return text + "; no byte carries it: blanking any takes nothing off"
	}
	return text + fmt.Sprintf(", %.2f without the %s named", o.Margin-o.Drop, namedText(o))
}

// namedText counts what is named.
func namedText(o *explain.Why) string {
	facts := 0
	for i := range o.Ranges {
		if o.Ranges[i].Fact != "" {
			facts++
		}
	}
	var list []string
	for _, n := range []struct {
		of   int
		what string
	}{{o.Bytes, "byte"}, {facts, "fact"}} {
		if n.of > 0 {
			list = append(list, plural.Of(n.of, n.what))
		}
	}
	return strings.Join(list, " and ")
}

// fieldsText are the fields that are named, each with its share.
func fieldsText(o *explain.Why) string {
	var text []string
	for _, f := range o.Fields {
		text = append(text, fmt.Sprintf("%s %s", f.Name, cli.Percent(f.Share)))
	}
	return strings.Join(text, ", ")
}

// where is the place of a range.
func where(r *why.Range) string {
	switch {
	case r.Fact != "":
		return "fact: " + r.Fact
	case r.Stream >= 0 && r.Packet == 0:
		return fmt.Sprintf("%s's stream, %d to %d", r.Side, r.Stream, r.Stream+int64(r.Length)-1)
	case r.Stream >= 0:
		return fmt.Sprintf("%s's stream, %d to %d (packet %d, from %d)", r.Side, r.Stream, r.Stream+int64(r.Length)-1, r.Packet, r.Offset)
	}
	return fmt.Sprintf("packet %d, %s, %d to %d", r.Packet, r.Side, r.Offset, r.Offset+r.Length-1)
}

// valueOf is what a range's bytes are, as text where they are some.
func valueOf(v *explain.Verdict, r *why.Range) string {
	for i := range v.Packets {
		if from, to, ok := r.In(&v.Packets[i]); ok {
			p := &v.Packets[i]
			b := p.Bytes[from:to]
			payload := slices.ContainsFunc(p.Fields, func(f why.Field) bool { return f.Part == "payload" && f.From <= from && from < f.To })
			if payload && len(b) > 0 && !bytes.ContainsFunc(b, func(c rune) bool { return c != '\r' && c != '\n' && (c < ' ' || c > '~') }) {
				return fmt.Sprintf("%q", string(b))
			}
			if len(b) > 16 {
				return fmt.Sprintf("% x ...", []byte(b[:16]))
			}
			return fmt.Sprintf("% x", []byte(b))
		}
	}
	return ""
}

// sharesOf are, of each byte of a packet, the share of the range that it is in; 0 for bytes that are not named.
func sharesOf(p *why.Packet, o *explain.Why) []float64 {
	s := make([]float64, len(p.Bytes))
	for i := range o.Ranges {
		if from, to, ok := o.Ranges[i].In(p); ok {
			for k := from; k < to; k++ {
				s[k] = o.Ranges[i].Share
			}
		}
	}
	return s
}

// printNamed dumps a packet; bytes that carry the margin are coloured or have a line below.
func printNamed(w io.Writer, p *why.Packet, share []float64, colour bool) {
	for at := 0; at < len(p.Bytes); at += rowBytes {
		row := p.Bytes[at:min(at+rowBytes, len(p.Bytes))]
		var hex, text, below, belowText strings.Builder
		named := false
		for i, b := range row {
			on, off, mark := "", "", " "
			if share[at+i] > 0 {
				named, mark = true, "^"
				if colour {
					on, off = "\x1b[7;32m", "\x1b[0m"
					if share[at+i] >= 0.25 {
						on = "\x1b[7;31m"
					}
				}
			}
			sep := " "
			if i == 0 {
				sep = ""
			}
			fmt.Fprintf(&hex, "%s%s%02x%s", sep, on, b, off)
			text.WriteString(on + printable([]byte{b}) + off)
			below.WriteString(sep + mark + mark)
			belowText.WriteString(mark)
		}
		pad := strings.Repeat(" ", 3*(rowBytes-len(row)))
		fmt.Fprintf(w, "  %04x  %s%s  %s\n", at, hex.String(), pad, text.String())
		if named && !colour {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("        %s%s  %s", below.String(), pad, belowText.String()), " "))
		}
	}
}

//go:embed explain.html
var explainHTML string

// explainPage is a page of flows, the first of so many.
func explainPage(name string, flows []*explain.Verdict, of int) ([]byte, error) {
	t, err := template.New("explain").Funcs(template.FuncMap{
		"percent": cli.Percent,
		"fields":  func(r why.Range) string { return strings.Join(slices.Compact(slices.Clone(r.Fields)), ", ") },
		"where":   func(r why.Range) string { return where(&r) },
		"value":   func(v *explain.Verdict, r why.Range) string { return valueOf(v, &r) },
		"why":     func(o explain.Why) string { return whyText(&o) },
		"byField": func(o explain.Why) string { return fieldsText(&o) },
		"cells":   htmlRows,
	}).Parse(explainHTML)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Name  string
		Flows []*explain.Verdict
		Of    int
	}{name, flows, of})
	return b.Bytes(), err
}

// htmlByte is a byte of the page: how strongly it is marked, and its field.
type htmlByte struct {
	Hex, Text, Field string
	Level            int // 0 to 4
}

// htmlRow is a row of a dump in two halves, which a narrow page has one below the other.
type htmlRow struct {
	At        string
	Hex, Text [2]htmlHalf
}

type htmlHalf struct {
	Bytes []htmlByte
	Pad   string // behind the hexadecimal digits, in the place of bytes that the last row lacks
}

func htmlRows(p why.Packet, o explain.Why) (rows []htmlRow) {
	share := sharesOf(&p, &o)
	field := make([]string, len(p.Bytes))
	for _, f := range p.Fields {
		for i := f.From; i < min(f.To, len(field)); i++ {
			field[i] = f.Name
		}
	}
	const half = rowBytes / 2
	for at := 0; at < len(p.Bytes); at += rowBytes {
		r := htmlRow{At: fmt.Sprintf("%04x", at)}
		for k := range r.Hex {
			h := &r.Hex[k]
			for i := at + k*half; i < min(at+(k+1)*half, len(p.Bytes)); i++ {
				level := 0
				if share[i] > 0 {
					level = min(4, 1+int(share[i]*6))
				}
				h.Bytes = append(h.Bytes, htmlByte{fmt.Sprintf("%02x", p.Bytes[i]), printable(p.Bytes[i : i+1]), field[i], level})
			}
			h.Pad = strings.Repeat("   ", half-len(h.Bytes))
			r.Text[k].Bytes = h.Bytes
			h.Pad += " "
		}
		rows = append(rows, r)
	}
	return rows
}
