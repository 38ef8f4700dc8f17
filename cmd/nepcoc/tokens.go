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
	"nepcoc/compiler/dataset"
	"nepcoc/compiler/labels"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/interrupt"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
)

// setFlags say what a token set is made of; the same in every command that makes one.
type setFlags struct {
	contract, from string
	labels         []string
	unlabelled     bool
	view           bundle.ViewOverride
	split, by      string
	keep           bool
	// asBundle, where a bundle says which packets are read and what of them, in place of the flags.
	asBundle *bundle.Bundle
}

// addLabels adds the flags that say where labels are.
func (o *setFlags) addLabels(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&o.labels, "labels", nil, "label file (CSV); may be given several times")
	fl.StringVar(&o.from, "label-from", "", "folder or file: a flow's label is the name of its capture's folder, or of the capture")
}

func (o *setFlags) add(cmd *cobra.Command) {
	o.addLabels(cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.contract, "contract", "nepco-stream", "traffic contract: a file, a bundle, or "+strings.Join(traffic.Names(), ", "))
	fl.StringVar(&o.split, "split", "", "shares of train, valid and test, such as 70:10:20, or of train and test, 80:20")
	fl.StringVar(&o.by, "by", string(dataset.ByCapture), "what a split keeps together: capture, time, host or flow")
	fl.BoolVar(&o.keep, "keep-duplicates", false, "keep flows whose tokens are in an earlier part, too")
	cli.ViewFlags(fl, &o.view, cli.AsContract)
}

// inputs are the files that read will read.
func (o *setFlags) inputs(args []string) []string {
	captures, err := dataset.Captures(args)
	if err != nil { // which read says
		captures = args
	}
	return slices.Concat(captures, o.labels, []string{o.contract})
}

// read reads captures, or opens a stored set.
func (o *setFlags) read(cmd *cobra.Command, args []string) (*dataset.Set, error) {
	if err := o.checkSplit(cmd); err != nil {
		return nil, err
	}
	stored, err := storedSet(args)
	if err != nil {
		return nil, err
	}
	var set *dataset.Set
	if stored {
		if err := meaningless(cmd, "for captures only; a stored set has its own", "contract", "labels", "label-from", "unlabelled", "tunnels", "vlans", "interfaces", "active-timeout"); err != nil {
			return nil, err
		}
		set, err = dataset.Open(args...)
	} else {
		set, err = o.readCaptures(cmd, args)
	}
	if err != nil {
		return nil, err
	}
	return set, o.part(set)
}

// checkSplit refuses a split before captures are read, which may take long.
func (o *setFlags) checkSplit(cmd *cobra.Command) error {
	if o.split == "" {
		if cmd.Flags().Changed("by") || o.keep {
			return cli.UsageError("--by and --keep-duplicates go with --split")
		}
		return nil
	}
	if _, err := dataset.ParseShares(o.split); err != nil {
		return cli.UsageError("--split: %v", err)
	}
	if !slices.Contains(dataset.Ways, dataset.By(o.by)) {
		return cli.UsageError("--by %q: want capture, time, host or flow", o.by)
	}
	return nil
}

// readCaptures makes a set of captures and folders.
func (o *setFlags) readCaptures(cmd *cobra.Command, args []string) (*dataset.Set, error) {
	opt, err := o.options()
	if err != nil {
		return nil, err
	}
	progress := cli.NewProgress(cmd.ErrOrStderr())
	opt.Progress = func(name string, done, total int) { progress.Update("reading "+files.Show(name), done, total) }
	set, err := dataset.Read(args, opt)
	progress.Done()
	return set, err
}

// options are by what captures are read, with their labels.
func (o *setFlags) options() (opt dataset.Options, err error) {
	opt.From, opt.Unlabelled = dataset.LabelFrom(o.from), o.unlabelled
	if o.asBundle != nil {
		opt.View = o.asBundle.Manifest.View
		opt.Contract, err = classify.Contract(o.asBundle)
	} else {
		opt.Source, err = sourceOf(o.contract)
		opt.View, _ = o.view.Of(opt.View)
	}
	if err != nil {
		return opt, err
	}
	switch {
	case !slices.Contains([]dataset.LabelFrom{dataset.FromNothing, dataset.FromFolder, dataset.FromFile}, opt.From):
		return opt, cli.UsageError("--label-from %q: want folder or file", o.from)
	case o.labels == nil && o.from == "" && !o.unlabelled:
		return opt, cli.UsageError("no labels: give --labels FILE.csv or --label-from folder|file")
	}
	for _, path := range o.labels {
		l, err := labels.ReadSome(path)
		if err != nil {
			return opt, err
		}
		if len(l.Outputs) > 1 {
			return opt, fmt.Errorf("%s: has labels of several outputs (columns %s), and a flow of a set has one: leave one of the columns", files.Show(path), strings.Join(l.Columns(), ", "))
		}
		opt.Labels = append(opt.Labels, l)
	}
	return opt, nil
}

// storedSet says whether files are those of a stored set, rather than captures and folders.
func storedSet(paths []string) (bool, error) {
	var sets, others []string
	for _, path := range paths {
		// A folder has no first bytes; what is wrong with a capture is said when it is opened.
		if stored, err := calibrate.IsArrays(path); err == nil && stored {
			sets = append(sets, path)
		} else {
			others = append(others, path)
		}
	}
	if sets != nil && others != nil {
		return false, cli.UsageError("%s is a token set, and %s none: give sets or captures", files.Show(sets[0]), files.Show(others[0]))
	}
	return sets != nil, nil
}

// part splits a set as the flags say.
func (o *setFlags) part(set *dataset.Set) error {
	if o.split == "" {
		return nil
	}
	shares, err := dataset.ParseShares(o.split)
	if err != nil {
		return err
	}
	if err := set.Split(shares, dataset.By(o.by)); err != nil {
		return fmt.Errorf("--split %s --by %s: %w", o.split, o.by, err)
	}
	if o.keep {
		return nil
	}
	return set.DropDuplicates()
}

func newTokens() *cobra.Command {
	var o setFlags
	var out string
	var asJSON bool
	var shard int
	cmd := &cobra.Command{
		Use:   "tokens CAPTURE|FOLDER... --contract FILE|NAME -o SET.npz",
		Short: "Make a token set for training: what the agent sees of each flow, with its label",
		Long: `tokens reads captures (a folder stands for those in it and below) and writes what the agent would make of
each flow by a traffic contract: tokens, mask, label, group, part, time, addresses, ports, packets and bytes, as
NumPy arrays that numpy.load reads alone.

Labels come from CSV files (columns proto, src, sport, dst, dport, label; time; capture, which
becomes the group; empty labels are allowed), or from the names of captures or of their folders. Flows without a label
are left out, unless --unlabelled keeps them.

--split parts the set and keeps together what --by names; flows of a later part whose tokens are, or nearly are, those
of an earlier part's flow are left out and counted.
` + exitCodes,
		Example: `  nepcoc tokens train.pcap --labels train.csv --contract nepco-stream -o train.npz
  nepcoc tokens captures/ --label-from folder --contract my.yaml --split 70:10:20 --by capture -o set.npz
  nepcoc tokens corpus.pcap.zst --unlabelled --contract nepco-stream -o corpus.npz --shard 20000`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case shard < 0:
				return cli.UsageError("--shard %d: want a number of flows", shard)
			case shard > 0 && files.IsStdout(out):
				return cli.UsageError("--shard writes several files: give --output a name")
			}
			inputs := o.inputs(args)
			if err := notOver(out, inputs...); err != nil {
				return err
			}
			if err := files.Writable(out); err != nil {
				return err
			}
			set, err := o.read(cmd, args)
			if err != nil {
				return err
			}
			names := shardNames(out, len(set.Flows), shard)
			for _, name := range names {
				if err := notOver(name, inputs...); err != nil {
					return err
				}
			}
			if err := writeSet(set, names, shard, cmd.OutOrStdout()); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if files.IsStdout(out) {
				w = cmd.ErrOrStderr()
			}
			sum := summarise(set, names)
			if asJSON {
				return cli.JSON(w, sum)
			}
			sum.text(w)
			return nil
		},
	}
	o.add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&o.unlabelled, "unlabelled", false, "keep flows without a label")
	fl.IntVar(&shard, "shard", 0, "flows in one file; more go into SET-00002.npz and so on (0: all in one)")
	fl.StringVarP(&out, cli.OutputFlag, "o", "", "file to write")
	fl.BoolVar(&asJSON, "json", false, "the summary as JSON")
	cmd.MarkFlagRequired(cli.OutputFlag)
	return cmd
}

// shardNames are the files of a set of n flows, with shard flows in each; 0: with all in one.
func shardNames(out string, n, shard int) []string {
	if shard == 0 || n <= shard {
		return []string{out}
	}
	var names []string
	for k := range (n + shard - 1) / shard {
		names = append(names, fmt.Sprintf("%s-%05d.npz", strings.TrimSuffix(out, ".npz"), k+1))
	}
	return names
}

// writeSet writes a set into files of shard flows each, or into one: all of them, or none. A signal may leave the one that it met.
func writeSet(set *dataset.Set, names []string, shard int, stdout io.Writer) (err error) {
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range undo {
				f()
			}
		}
	}()
	for k, name := range names {
		part := *set
		if len(names) > 1 {
			part.Flows = set.Flows[k*shard : min(len(set.Flows), (k+1)*shard)]
		}
		fill := func(w io.Writer) error { return part.Write(w, dataset.Meta{Shard: k + 1, Shards: len(names)}) }
		if err := files.OutputFrom(name, fill, stdout); err != nil {
			return err
		}
		if len(names) > 1 {
			remove := func() { os.Remove(name) }
			undo = append(undo, remove)
			defer interrupt.Undo(remove)()
		}
	}
	return nil
}

// setSummary is what tokens says of a set.
type setSummary struct {
	Files    []string         `json:"files"`
	Flows    int              `json:"flows"`
	Groups   int              `json:"groups"`
	Contract string           `json:"contract"`
	Hash     string           `json:"contract_hash"`
	Parts    []string         `json:"parts"`
	Classes  map[string][]int `json:"classes"` // flows in each part; "" for those without a label
	LeftOut  map[string]int   `json:"left_out"`
	Notes    []string         `json:"notes,omitempty"`

	order, remarks []string
}

func summarise(set *dataset.Set, written []string) *setSummary {
	s := &setSummary{Files: written, Flows: len(set.Flows), Groups: len(set.Groups), Contract: set.Contract.Name, Hash: set.Contract.Hash(),
		Parts: set.Splits, Classes: map[string][]int{}, LeftOut: map[string]int{}, Notes: set.Notes, order: set.Labels, remarks: set.Remarks()}
	maps.Copy(s.LeftOut, set.Left)
	for i := range set.Flows {
		f := &set.Flows[i]
		name := ""
		if f.Label >= 0 {
			name = set.Labels[f.Label]
		}
		if s.Classes[name] == nil {
			s.Classes[name] = make([]int, len(set.Splits))
		}
		s.Classes[name][f.Split]++
	}
	return s
}

func (s *setSummary) text(w io.Writer) {
	rows := [][]string{append([]string{"class"}, s.Parts...)}
	line := func(name, shown string) {
		n, ok := s.Classes[name]
		if !ok {
			return
		}
		row := []string{shown}
		for _, n := range n {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	for _, name := range s.order {
		line(name, name)
	}
	line("", "(no label)")
	cli.Table(w, rows)
	for _, note := range s.remarks {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	names := s.Files[0]
	if n := len(s.Files); n > 1 {
		names += " to " + s.Files[n-1]
	}
	fmt.Fprintf(w, "%s: %s of %s by the contract %s\n", names, plural.Of(s.Flows, "flow"), plural.Of(s.Groups, "group"), s.Contract)
}
