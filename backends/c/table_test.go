package c_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/evasion"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// tableDriver reads captures, each a list of frames, and writes a line for each flow of the emitted table, then what became of the frames. A frame lies in memory of
// exactly its size.
const tableDriver = `#include "nepco_it.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long number(int bytes)
{
	unsigned long v = 0;
	int i;
	for (i = 0; i < bytes; i++) {
		v |= (unsigned long)(getchar() & 255) << 8 * i;
	}
	return v;
}

static void verdict(void *to, const nepco_it_entry *e)
{
	static int32_t tokens[65536];
	char name[NEPCO_IT_ENTRY_NAME];
	uint32_t n = nepco_it_flow_tokens(&e->flow, tokens), k;
	for (k = 0; k < NEPCO_IT_FLOW_KEY; k++) {
		printf("%02x", e->key[k]);
	}
	nepco_it_entry_name(e, name);
	printf(" %s", name);
	printf(" client %d why %d marks %lu vlan %d %d tunnel %lu %lu at %llu %llu", e->client, e->why, (unsigned long)e->marks, e->vlan[0], e->vlan[1], (unsigned long)e->tunnel, (unsigned long)e->level,
		(unsigned long long)e->first, (unsigned long long)e->last);
	printf(" packets %d %d bytes %d %d payload %lu tokens", (int)e->packets[0], (int)e->packets[1], (int)e->bytes[0], (int)e->bytes[1], (unsigned long)nepco_it_flow_payload(&e->flow));
	for (k = 0; k < n; k++) {
		printf(" %ld", (long)tokens[k]);
	}
	printf("\n");
	++*(int *)to;
}

int main(void)
{
	const uint64_t secret[2] = {7, 9};
	unsigned long captures = number(4);
	while (captures-- > 0) {
		int said = 0;
		uint32_t most = (uint32_t)number(4);
		unsigned long lossy = number(4), all = number(4), i; /* how often a loss is told; frames */
		size_t bytes = nepco_it_table_bytes(most);
		void *memory = malloc(bytes);
		nepco_it_table *t = nepco_it_table_new(memory, bytes, most, secret, verdict, &said);
		const nepco_it_counts *c = nepco_it_table_counts(t);
		if (nepco_it_table_new(memory, bytes - 1, most, secret, verdict, NULL) != NULL || nepco_it_table_new((char *)memory + 1, bytes, most, secret, verdict, NULL) != NULL ||
		    nepco_it_table_bytes(0) != 0 || nepco_it_table_bytes(0xffffffffu) != 0 || nepco_it_table_new(NULL, bytes, most, secret, verdict, NULL) != NULL) {
			return 3;
		}
		for (i = 0; i < all; i++) {
			int link = (int)number(2), about = (int)number(1), ends;
			uint32_t captured = (uint32_t)number(4), wire = (uint32_t)number(4);
			uint64_t time = number(4);
			uint8_t *frame, pair[32];
			time |= (uint64_t)number(4) << 32;
			frame = malloc(captured > 0 ? captured : 1);
			if (fread(frame, 1, captured, stdin) != captured) {
				return 2;
			}
			ends = nepco_it_frame_ends(link, frame, captured, pair);
			if (ends != 0 && ends != 8 && ends != 32) {
				return 4;
			}
			if (lossy > 0 && i % lossy == lossy / 2) {
				nepco_it_table_lost(t);
			}
			nepco_it_table_frame(t, link, frame, captured, wire, about, time);
			free(frame);
		}
		nepco_it_table_end(t);
		if (c->joined + c->other + c->broken + c->fragments + c->refused != all || c->waiting != 0 || (int)c->flows != said) {
			printf("%lu frames are not accounted for: %d %d %d %d %d, waiting %d, flows %d of %d\n", all, (int)c->joined, (int)c->other, (int)c->broken, (int)c->fragments,
				(int)c->refused, (int)c->waiting, said, (int)c->flows);
		}
		printf("joined %d evicted %d\n", (int)c->joined, (int)c->evicted);
		free(memory);
	}
	return 0;
}
`

// why are the reasons of verdicts as emitted C numbers them.
var why = map[flow.Reason]int{
	flow.ReasonTokens: 0, flow.ReasonPackets: 1, flow.ReasonEnough: 2, flow.ReasonClosed: 3, flow.ReasonQuiet: 4, flow.ReasonIdle: 5, flow.ReasonEvicted: 6,
	flow.ReasonReused: 7, flow.ReasonActive: 8, flow.ReasonEnd: 9,
}

// source is what a table is given: frames, for how many flows it has room, and after how many frames each some were lost; 0: none.
type source struct {
	name        string
	frames      []capture.Frame
	most, lossy int
}

// inTable is what the flow table makes of a source, in the words of the driver.
func inTable(t *testing.T, b *bundle.Bundle, src *source) string {
	t.Helper()
	c, err := traffic.Parse("contract", []byte(b.Manifest.Contract.YAML))
	if err != nil {
		t.Fatal(err)
	}
	opt, err := classify.OptionsFor(c, b.Manifest.View)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	opt.Capacity = src.most
	opt.Ready = func(f *flow.Flow) {
		k, swapped := f.Key.Canonical()
		key := []byte{k.Proto, 4}
		client := 0
		if swapped {
			client = 1
		}
		if k.V6 {
			key[1] = 6
		}
		key = binary.BigEndian.AppendUint16(append(key, k.Src[:]...), k.SrcPort)
		key = binary.BigEndian.AppendUint16(append(key, k.Dst[:]...), k.DstPort)
		line := fmt.Sprintf("%s %s client %d why %d marks %d vlan %d %d tunnel %d %d at %d %d packets %d %d bytes %d %d payload %d tokens", hex.EncodeToString(key), f.Key, client, why[f.Reason], f.Marks,
			f.VLAN[0], f.VLAN[1], k.Tunnel, f.Level, f.First, f.Last, f.Packets[0], f.Packets[1], f.Bytes[0], f.Bytes[1], f.Payload)
		lines = append(lines, line+strings.TrimRight(" "+strings.Trim(fmt.Sprint(f.Tokens[:f.Valid]), "[]"), " "))
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		t.Fatal(err)
	}
	for i := range src.frames {
		if src.lossy > 0 && i%src.lossy == src.lossy/2 {
			in.Lossy(false)
		}
		in.Frame(&src.frames[i])
	}
	for in.Table.Advance(src.frames[len(src.frames)-1].Time, math.MaxInt) {
	}
	in.Flush()
	slices.Sort(lines)
	evicted := uint64(0)
	for _, n := range in.Counters().Evicted {
		evicted += n
	}
	lines = append(lines, fmt.Sprintf("joined %d evicted %d\n", in.Counters().Frames[capture.KindOK], evicted))
	return strings.Join(lines, "\n")
}

// about is what is known of checksums, as emitted C has it.
var about = map[capture.Trust]byte{capture.TrustForm: 0, capture.TrustWire: 2, capture.TrustChecked: 4}

// forDriver are frames as the driver reads them.
func forDriver(b []byte, src *source) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, uint32(src.most)), uint32(src.lossy)), uint32(len(src.frames)))
	for i := range src.frames {
		f := &src.frames[i]
		b = le.AppendUint32(le.AppendUint32(append(le.AppendUint16(b, uint16(f.Link)), about[f.Trust]), uint32(len(f.Data))), uint32(f.Length))
		b = append(le.AppendUint64(b, uint64(f.Time)), f.Data...)
	}
	return b
}

// stepping are frames of clocks that are set back and forth, of packets that come late, and of a second clock beside the first.
func stepping(r *rand.Rand, frames []capture.Frame) []capture.Frame {
	frames = slices.Clone(frames)
	var off int64
	for i := range frames {
		switch r.IntN(300) {
		case 0:
			off -= r.Int64N(200e9)
		case 1:
			off += r.Int64N(400e9)
		case 2:
			off = -off
		}
		frames[i].Time += off
		switch r.IntN(20) {
		case 0:
			frames[i].Time -= r.Int64N(2e9)
		case 1:
			frames[i].Time += 3600e9
		}
	}
	return frames
}

// oversized are fragments in frames that are longer than any datagram, many of packets that say no length, among others of the same datagrams.
func oversized(r *rand.Rand) (frames []capture.Frame) {
	for i := range 60 {
		size := []int{65536 + r.IntN(196609), 65500 + r.IntN(60), 60 + r.IntN(200)}[r.IntN(3)]
		b := make([]byte, size)
		at, offset, id := 20, []int{0, 0, 0, 8, 65528, (size - 20) &^ 7 & 0xffff}[r.IntN(6)], byte(r.IntN(6))
		if i%2 == 0 {
			b[0], b[5], b[9], b[15], b[19] = 0x45, id, 17, 1, 2
			binary.BigEndian.PutUint16(b[6:], uint16(0x2000|offset/8))
		} else {
			at = 48
			b[0], b[6], b[23], b[39], b[40], b[47] = 0x60, 44, 1, 2, 17, id
			binary.BigEndian.PutUint16(b[42:], uint16(offset|1))
		}
		binary.BigEndian.PutUint16(b[at+2:], 53)
		for k := at + 8; k < size; k += 97 {
			b[k] = byte(r.Uint32())
		}
		frames = append(frames, capture.Frame{Data: b, Length: size, Time: int64(1e18) + int64(i)*1e6, Link: capture.LinkRaw})
	}
	return frames
}

// The emitted table gives each flow of a capture what the flow table gives it: fragments, tunnels, tags, link types, connections between the same ports, damaged headers, clocks that
// step, full tables, losses.
func TestTable(t *testing.T) {
	testfiles.Tool(t, "gcc")
	sources := []source{{"testbed", readFrames(t, "../../examples/testbed/test.pcap"), 5000, 0}}
	flows, err := evasion.Load("../../examples/testbed/test.pcap", 24, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 9))
	for i := range 3 {
		frames := changed(t, r, flows, 150)
		sources = append(sources, source{fmt.Sprint("changed ", i), frames, 5000, 0}, source{fmt.Sprint("stepping ", i), stepping(r, frames), 5000, 0},
			source{fmt.Sprint("full ", i), frames, 1 + r.IntN(60), 0}, source{fmt.Sprint("lossy ", i), frames, 5000, 1 + r.IntN(900)},
			source{fmt.Sprint("all at once ", i), stepping(r, mixed(t, r, flows, 200)), 1 + r.IntN(100), 1 + r.IntN(900)})
		for _, trust := range []capture.Trust{capture.TrustWire, capture.TrustChecked} {
			frames := mixed(t, r, flows, 150)
			for k := range frames {
				frames[k].Trust = trust
			}
			sources = append(sources, source{fmt.Sprint("trust ", trust, " ", i), frames, 5000, 0})
		}
	}
	sources = append(sources, source{"oversized", oversized(r), 5000, 0})
	if dir := testfiles.Dir(t); dir != "" {
		for _, pattern := range []string{"traffic/test.pcap", "captures/*.pcap", "cases/*/*.pcap", "cases/*/*.pcapng"} {
			names, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(names) == 0 {
				t.Fatal(pattern, err)
			}
			for _, name := range names {
				src, err := capture.Open(name)
				if err != nil {
					continue // it is broken on purpose
				}
				src.Close()
				frames := readFrames(t, name)
				if len(frames) > 0 && len(frames) < 20000 && !slices.ContainsFunc(frames, func(f capture.Frame) bool { return f.Time < 0 || f.Astray || f.VLAN != 0 }) {
					sources = append(sources, source{strings.TrimPrefix(name, dir), frames, 5000, 0})
				}
			}
		}
		if len(sources) < 60 {
			t.Errorf("%d captures", len(sources))
		}
	}
	contracts := allContracts(t)
	for name, view := range map[string]bundle.View{"version1-nepco": {}, "version2-nepco-hosts": {}, "version2-nepco-stream": {Tunnels: true, VLANs: true}, "version1-byte": {Tunnels: true}, "version3-nepco-stream-drop": {ActiveTimeout: 3 * time.Second}} {
		c, ok := contracts[name]
		if !ok {
			t.Fatal("no contract", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, dir := withContract(t, c), t.TempDir()
			b.Manifest.View = view
			emitInto(t, dir, b, emit.Options{Name: "it"})
			if err := os.WriteFile(filepath.Join(dir, "driver.c"), []byte(tableDriver), 0o644); err != nil {
				t.Fatal(err)
			}
			args := append(slices.Clone(sanitized[1:]), "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-o", "driver", "driver.c", "nepco_it.c")
			compile := exec.Command(sanitized[0], args...)
			compile.Dir = dir
			if out, err := compile.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%.4000s", err, out)
			}
			input := binary.LittleEndian.AppendUint32(nil, uint32(len(sources)))
			for i := range sources {
				input = forDriver(input, &sources[i])
			}
			run := exec.Command("./driver")
			var stderr bytes.Buffer
			run.Dir, run.Stdin, run.Stderr = dir, bytes.NewReader(input), &stderr
			out, err := run.Output()
			if err != nil {
				t.Fatalf("%v\n%.3000s", err, stderr.String())
			}
			var lines []string
			at, wrong := 0, 0
			for line := range strings.Lines(string(out)) {
				if !strings.HasPrefix(line, "joined ") {
					lines = append(lines, strings.TrimSuffix(line, "\n"))
					continue
				}
				slices.Sort(lines)
				got, want := strings.Join(append(lines, line), "\n"), inTable(t, b, &sources[at])
				if got != want {
					if wrong++; wrong < 5 {
						t.Errorf("%s (-Go +C):\n%.2500s", sources[at].name, gocmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
					}
				}
				lines, at = nil, at+1
			}
			if wrong > 0 || at != len(sources) {
				t.Errorf("%d of %d captures are wrong", wrong, at)
			}
		})
	}
}
