// Command trim turns raw captures of the testbed into a small labelled capture: the first packets of
// every flow whose server port has a label, merged by time, and a CSV with one row per flow.
//
//	trim -ports ports.txt -out test -run NAME a.pcap b.pcap@100
//
// writes test.pcap and test.csv; @100 adds VLAN tag 100 to a file's frames, as a trunk port would show
// them (a virtual machine's kernel often lacks VLAN devices).
package main

import (
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "trim:", err)
		os.Exit(1)
	}
}

func run(stdout io.Writer) error {
	portsPath := flag.String("ports", "ports.txt", "table of server ports and labels")
	out := flag.String("out", "", "output path without extension")
	name := flag.String("run", "testbed", "name of the run, for the CSV's capture column")
	var limits limits
	flag.IntVar(&limits.packets, "packets", 6, "packets kept of a flow")
	flag.IntVar(&limits.snap, "snap", 256, "bytes kept of a frame")
	flag.DurationVar(&limits.idle, "idle", 120*time.Second, "a longer pause starts a new flow")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		return fmt.Errorf("usage: trim -out PREFIX [flags] CAPTURE[@VLAN], one or more")
	}

	portsFile, err := os.Open(*portsPath)
	if err != nil {
		return err
	}
	defer portsFile.Close()
	table, err := parsePorts(portsFile)
	if err != nil {
		return fmt.Errorf("%s: %w", *portsPath, err)
	}
	var frames []frame
	for _, arg := range flag.Args() {
		path, tag, _ := strings.Cut(arg, "@")
		vlan := 0
		if tag != "" {
			if vlan, err = strconv.Atoi(tag); err != nil || vlan < 1 || vlan > 4094 {
				return fmt.Errorf("%s: VLAN %q is not 1..4094", arg, tag)
			}
		}
		more, err := readFrames(path, vlan)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		frames = append(frames, more...)
	}
	result := trim(frames, table, limits)
	if err := writeFile(*out+".pcap", func(w io.Writer) error { return writeFrames(w, result.frames, limits.snap) }); err != nil {
		return err
	}
	if err := writeFile(*out+".csv", func(w io.Writer) error { return writeRows(w, result.flows, *name) }); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d flows, %d packets; left out: %d flows to ports without a label, %d without payload, %d fragments and other frames\n",
		*out, len(result.flows), len(result.frames), result.unlabelled, result.empty, result.other)
	return nil
}

func readFrames(path string, vlan int) ([]frame, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		return nil, err
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		return nil, fmt.Errorf("link type %v, want Ethernet", r.LinkType())
	}
	var frames []frame
	for {
		data, info, err := r.ReadPacketData()
		if err == io.EOF {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("packet %d: %w", len(frames)+1, err)
		}
		fr := frame{time: info.Timestamp, data: data, length: info.Length}
		if vlan != 0 {
			fr = fr.tagged(vlan)
		}
		frames = append(frames, fr)
	}
}

func writeFrames(w io.Writer, frames []frame, snap int) error {
	p := pcapgo.NewWriter(w)
	if err := p.WriteFileHeader(uint32(snap), layers.LinkTypeEthernet); err != nil {
		return err
	}
	for _, f := range frames {
		if err := p.WritePacket(f.info(), f.data); err != nil {
			return err
		}
	}
	return nil
}

func writeRows(w io.Writer, flows []*flow, run string) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"proto", "src", "sport", "dst", "dport", "time", "label", "npkts", "capture"}}
	for _, f := range flows {
		micros := f.first.UnixMicro()
		rows = append(rows, []string{
			strconv.Itoa(int(f.key.proto)), f.key.src.Addr().String(), strconv.Itoa(int(f.key.src.Port())),
			f.key.dst.Addr().String(), strconv.Itoa(int(f.key.dst.Port())),
			fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6), f.label, strconv.Itoa(f.kept), run,
		})
	}
	return c.WriteAll(rows)
}

// writeFile leaves nothing behind when it fails.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
