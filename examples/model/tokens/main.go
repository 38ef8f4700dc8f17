// Command tokens prints what the agent makes of a capture's labelled flows, for training: a line per flow
// with its label, protocol, addresses and tokens before the padding.
//
//	go run ./examples/model/tokens CONTRACT CAPTURE.pcap LABELS.csv > flows.txt
//
// CONTRACT is a file, or the name of a built-in traffic contract.
package main

import (
	"bufio"
	"fmt"
	"os"

	"nepcoc/compiler/labels"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tokens:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: tokens CONTRACT CAPTURE.pcap LABELS.csv")
	}
	contract, err := traffic.Load(args[0])
	if err != nil {
		return err
	}
	src, err := capture.Open(args[1])
	if err != nil {
		return err
	}
	defer src.Close()
	truth, err := labels.Read(args[2])
	if err != nil {
		return err
	}
	flows, _, err := flow.Collect(src, contract)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(os.Stdout)
	missing := 0
	for i := range flows {
		f := &flows[i]
		row, match := truth.Find(f.Key, f.First)
		if match != labels.Fits {
			missing++
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t", truth.Rows[row].Names[0], f.Key)
		for k, t := range f.Tokens[:f.Valid] {
			if k > 0 {
				w.WriteByte(' ')
			}
			fmt.Fprint(w, t)
		}
		w.WriteByte('\n')
	}
	if missing > 0 {
		fmt.Fprintf(os.Stderr, "tokens: %d of %d flows have no label in %s\n", missing, len(flows), args[2])
	}
	return w.Flush()
}
