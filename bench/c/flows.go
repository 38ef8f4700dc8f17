package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nepcoc/bench/internal/emitted"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// flowRoom is how many flows a table has room for, and turnFrames how many frames a turn has at least: the capture is given more than once.
const (
	flowRoom   = 65536
	turnFrames = 200_000
)

// compareFlows compares the flow table of emitted C with that of the agent, without the model: both make the tokens of each flow.
func compareFlows(b *bundle.Bundle, cc, path string, pairs int) error {
	if b.Manifest.Contract.YAML == "" {
		return errors.New("a bundle with a traffic contract is needed")
	}
	c, err := traffic.Parse("contract", []byte(b.Manifest.Contract.YAML))
	if err != nil {
		return err
	}
	opt, err := classify.OptionsFor(c, b.Manifest.View)
	if err != nil {
		return err
	}
	frames, err := readFrames(path)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-c")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	exe, err := emitted.BuildFlows(b, []string{cc, "-O3"}, dir)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "frames")
	if err := os.WriteFile(file, records(frames), 0o600); err != nil {
		return err
	}
	// A round begins when all flows of the one before are over.
	apart := time.Duration(frames[len(frames)-1].Time-frames[0].Time) + time.Hour
	rounds := (turnFrames + len(frames) - 1) / len(frames)
	program, err := emitted.StartFlows(exe, file, flowRoom, rounds, apart)
	if err != nil {
		return err
	}
	opt.Capacity = flowRoom
	var gos, cs, ratios []float64
	n, per := 0, float64(rounds*len(frames))
	for i := range pairs + 3 {
		took, flows, err := agentFlows(opt, frames, rounds, apart)
		if err != nil {
			return err
		}
		other, got, err := program.Flows()
		if err != nil {
			return err
		}
		if got != flows || flows == 0 {
			return fmt.Errorf("%d flows in C, %d of the agent", got, flows)
		}
		if n = flows; i >= 3 { // the first warm up
			x, y := float64(took.Nanoseconds())/per, float64(other.Nanoseconds())/per
			gos, cs, ratios = append(gos, x), append(cs, y), append(ratios, x/y)
		}
	}
	fmt.Printf("%d frames, %d times in a turn, %d flows in all; medians in ns per frame, tokens made, no model\n", len(frames), rounds, n)
	fmt.Printf("agent's table %.1f   C %.1f   ratio %.2f (quartiles %.2f to %.2f)\n", quantile(gos, 0.5), quantile(cs, 0.5), quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
	return program.Stop()
}

// agentFlows gives all frames to a new table of the agent.
func agentFlows(opt flow.Options, frames []capture.Frame, rounds int, apart time.Duration) (took time.Duration, flows int, err error) {
	opt.Ready = func(*flow.Flow) { flows++ }
	in, err := flow.NewInput(opt)
	if err != nil {
		return 0, 0, err
	}
	var f capture.Frame
	start := time.Now()
	for k := range rounds {
		for i := range frames {
			f = frames[i]
			f.Time += int64(k) * apart.Nanoseconds()
			in.Frame(&f)
		}
	}
	for in.Table.Advance(frames[len(frames)-1].Time+int64(rounds-1)*apart.Nanoseconds(), math.MaxInt) {
	}
	in.Flush()
	return time.Since(start), flows, nil
}

func readFrames(path string) (frames []capture.Frame, err error) {
	src, err := capture.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	for {
		var f capture.Frame
		if err := src.Next(&f); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		f.Data = slices.Clone(f.Data)
		frames = append(frames, f)
	}
	if len(frames) == 0 {
		return nil, fmt.Errorf("%s: no frames", path)
	}
	return frames, nil
}

// records are frames as the program in C reads them.
func records(frames []capture.Frame) (b []byte) {
	le := binary.LittleEndian
	for i := range frames {
		f := &frames[i]
		b = le.AppendUint32(le.AppendUint32(le.AppendUint16(b, uint16(f.Link)), uint32(len(f.Data))), uint32(f.Length))
		b = append(le.AppendUint64(b, uint64(f.Time)), f.Data...)
	}
	return b
}
