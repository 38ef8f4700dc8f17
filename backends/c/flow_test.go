package c_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/evasion"
	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// flowDriver reads packets and writes what flows they make: for each packet its code, and for each flow a line. A packet lies in
// memory of exactly its size, so that a sanitizer sees a read beyond it.
const flowDriver = `#include "nepco_it.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4096 };

static nepco_it_flow flows[SLOTS];
static int begun[SLOTS], base[SLOTS];
static unsigned long seq[SLOTS], count;

static unsigned long number(int bytes)
{
	unsigned long long v = 0;
	int i;
	for (i = 0; i < bytes; i++) {
		int c = getchar();
		if (c == EOF) {
			exit(i != 0);
		}
		v |= (unsigned long long)c << 8 * i;
	}
	return (unsigned long)v;
}

static uint64_t number64(void)
{
	uint64_t lo = number(4);
	return (uint64_t)number(4) << 32 | lo;
}

#ifdef LOGITS
static union { uint8_t b[NEPCO_IT_CTX_BYTES + NEPCO_IT_CTX_ALIGN]; uint64_t u; } memory;
static void *ctx;

static void begin_model(const char *name)
{
	static uint8_t tables[NEPCO_IT_TABLE_BYTES + 1];
	FILE *in = fopen(name, "rb");
	size_t n = in != NULL ? fread(tables, 1, NEPCO_IT_TABLE_BYTES, in) : 0;
	ctx = memory.b + (NEPCO_IT_CTX_ALIGN - (uintptr_t)memory.b % NEPCO_IT_CTX_ALIGN);
	if (nepco_it_init(ctx, NEPCO_IT_CTX_BYTES, tables, n) != 0) {
		exit(3);
	}
}
#endif

static void verdict(int i)
{
	static int32_t tokens[65536];
	uint32_t n = nepco_it_flow_tokens(&flows[i], tokens), k;
	printf("%lu full %d packets %lu bytes %lu ", seq[i], nepco_it_flow_full(&flows[i]), (unsigned long)nepco_it_flow_packets(&flows[i]), (unsigned long)nepco_it_flow_bytes(&flows[i]));
	printf("client %d payload %lu marks %lu", nepco_it_flow_client(&flows[i]) ^ base[i], (unsigned long)nepco_it_flow_payload(&flows[i]), (unsigned long)nepco_it_flow_marks(&flows[i]));
	for (k = 0; k < n; k++) {
		printf(" %ld", (long)tokens[k]);
	}
#ifdef NUMBERS
	{
		int32_t numbers[NUMBERS];
		nepco_it_flow_numbers(&flows[i], numbers);
		printf(" beside");
		for (k = 0; k < NUMBERS; k++) {
			printf(" %ld", (long)numbers[k]);
		}
	}
#endif
#ifdef LOGITS
	{
		nepco_it_result r;
		nepco_it_verdict v;
		int32_t x;
		if (nepco_it_run(ctx, tokens, (int)n, &r) != 0) {
			exit(4);
		}
		printf(" logits");
		for (k = 0; k < sizeof r / 4; k++) { /* its members are all of this type */
			memcpy(&x, (char *)&r + 4 * k, 4);
			printf(" %ld", (long)x);
		}
		for (k = 0; k < NEPCO_IT_OUTPUTS; k++) {
			if (nepco_it_judge(&r, (int)k, &v) == 0) {
				printf(" %s %ld %ld %d", nepco_it_label((int)k, v.label), (long)v.score, (long)v.margin, v.unknown);
			}
		}
	}
#endif
	printf("\n");
}

static void begin(int i)
{
	nepco_it_flow_init(&flows[i]);
#ifdef HOSTS
	nepco_it_flow_secret(&flows[i], 0x123456789abcdef, 0xfedcba987654321);
#endif
}

int main(int argc, char **argv)
{
	unsigned long records = number(4), r;
	int i, rc, due, ready;
#ifdef LOGITS
	begin_model(argc > 1 ? argv[1] : "");
#endif
	(void)argc;
	(void)argv;
	for (i = 0; i < SLOTS; i++) {
		begin(i);
	}
	for (r = 0; r < records; r++) {
		int slot = (int)number(2), swapped = (int)number(1), about = (int)number(1);
		uint32_t wire = (uint32_t)number(4), captured = (uint32_t)number(4);
		uint64_t time = number64();
		uint8_t mac[12], *packet = malloc(captured > 0 ? captured : 1);
		if (packet == NULL || fread(mac, 1, 12, stdin) != 12 || fread(packet, 1, captured, stdin) != captured) {
			return 2;
		}
#ifdef MAC
		nepco_it_flow_mac(&flows[slot], mac);
#endif
		if (!begun[slot] && slot % 2 == 0) { /* directions count from a flow's first packet; of the others they are those of its key */
			base[slot] = swapped;
		}
		due = time > nepco_it_flow_deadline(&flows[slot]);
		ready = nepco_it_flow_ready(&flows[slot]);
		rc = nepco_it_flow_add(&flows[slot], packet, captured, wire, (swapped ^ base[slot]) | about, time);
		if (due && rc != NEPCO_IT_EPACKET && rc != NEPCO_IT_EFRAGMENT && rc != NEPCO_IT_EOTHER && (ready || !nepco_it_flow_ready(&flows[slot]))) {
			return 5; /* past its deadline a flow is ready, or, if it was that, another one begins */
		}
		if (rc == NEPCO_IT_EOTHER) {
			verdict(slot);
			base[slot] = slot % 2 == 0 ? swapped : 0;
			begun[slot] = 0;
			nepco_it_flow_next(&flows[slot]);
			rc = nepco_it_flow_add(&flows[slot], packet, captured, wire, (swapped ^ base[slot]) | about, time);
		}
		if (rc == 0 && !begun[slot]) {
			begun[slot] = 1;
			seq[slot] = count++;
		}
		printf("rc %d\n", rc);
		free(packet);
	}
	for (i = 0; i < SLOTS; i++) {
		if (begun[i]) {
			verdict(i);
		}
	}
	return 0;
}
`

// withContract is a bundle of a small program, with a contract: for the emitted flow functions, not for the model.
func withContract(t testing.TB, c traffic.Contract) *bundle.Bundle {
	t.Helper()
	b := &bundle.Bundle{Program: randprog.New(35)} // one of few steps, which compile fast
	b.Manifest.Model.File = "random.onnx"
	b.Manifest.Contract.YAML, b.Manifest.Contract.Hash = string(c.Canonical()), c.Hash()
	return b
}

// emitInto writes what is emitted of a bundle into a folder.
func emitInto(t testing.TB, dir string, b *bundle.Bundle, o emit.Options) {
	t.Helper()
	files, err := emit.Emit(b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// buildDriver compiles the driver for a contract.
func buildDriver(t testing.TB, c traffic.Contract, cc []string) string {
	t.Helper()
	dir := t.TempDir()
	emitInto(t, dir, withContract(t, c), emit.Options{Name: "it"})
	return compileDriver(t, dir, c, cc)
}

// compileDriver compiles the driver with what was emitted into a folder.
func compileDriver(t testing.TB, dir string, c traffic.Contract, cc []string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "driver.c"), []byte(flowDriver), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(cc[1:]), "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", "driver", "driver.c", "nepco_it.c")
	if n := c.NumberCount(); n > 0 {
		args = append(args, fmt.Sprintf("-DNUMBERS=%d", n))
	}
	if c.Accept == traffic.AcceptHosts {
		args = append(args, "-DHOSTS")
	}
	if c.FirstLayer == traffic.LayerEthernet && !c.Blanks(traffic.BlankMAC) {
		args = append(args, "-DMAC")
	}
	cmd := exec.Command(cc[0], args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%.4000s", cc[0], args, err, out)
	}
	return filepath.Join(dir, "driver")
}

// fed is what the driver is given, and what it should say.
type fed struct {
	input   []byte
	records int
	packets [][]byte
	notSeen flow.Marks
	want    []string // codes of packets
	flows   map[uint64]string
}

// Codes of the emitted functions.
const (
	codePacket   = 16
	codeFragment = 17
	codeRefused  = 18
)

// notSeen are marks that only a table of flows can give. Where all packets count, nothing is kept by which copies of datagrams are known, and
// a copy's hop limit is one of the flow's.
func notSeen(c *traffic.Contract) flow.Marks {
	m := flow.MarkEvicted | flow.MarkOverload
	if c.Accept == traffic.AcceptAll {
		m |= flow.MarkTTL
	}
	return m
}

// feed runs frames through a flow table, and writes the same packets down for the driver, which has no table: with the place of their
// connection. Fragments come as the table's front gives them, in order or put together.
func feed(t testing.TB, c traffic.Contract, trust capture.Trust, frames []capture.Frame) *fed {
	t.Helper()
	return feedAnd(t, c, trust, frames, nil)
}

// feedAnd is feed with what more says of a flow at the end of its line.
func feedAnd(t testing.TB, c traffic.Contract, trust capture.Trust, frames []capture.Frame, more func(*flow.Flow) string) *fed {
	t.Helper()
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	w := &fed{flows: map[uint64]string{}, notSeen: notSeen(&c)}
	hosts := c.Accept == traffic.AcceptHosts
	table, err := flow.New(flow.Options{Encoder: enc, Capacity: 1 << 14, Ready: func(f *flow.Flow) {
		var s strings.Builder
		_, swapped := f.Key.Canonical()
		client := 0
		if swapped {
			client = 1
		}
		full := 0
		if f.Reason == flow.ReasonTokens {
			full = 1
		}
		fmt.Fprintf(&s, "%d full %d packets %d bytes %d client %d payload %d marks %d", f.Seq, full, f.UsedPackets(), f.BytesUsed(), client, f.Payload, f.Marks&^notSeen(&c))
		for _, x := range f.Tokens[:f.Valid] {
			fmt.Fprintf(&s, " %d", x)
		}
		if c.NumberCount() > 0 {
			fmt.Fprintf(&s, " beside")
			for _, x := range f.Tokens[c.Length:] {
				fmt.Fprintf(&s, " %d", x)
			}
		}
		if more != nil {
			s.WriteString(more(f))
		}
		w.flows[f.Seq] = s.String()
	}})
	if err != nil {
		t.Fatal(err)
	}
	slots, le := map[flow.Key]int{}, binary.LittleEndian
	var wire int
	var fragment bool
	var now int64
	record := func(slot, swapped int, ip []byte, wire int, time int64, mac [12]byte, want int) {
		about := byte(0)
		if hosts && trust == capture.TrustWire {
			about = 2
		} else if hosts && trust == capture.TrustChecked {
			about = 4
		}
		w.input = append(le.AppendUint16(w.input, uint16(slot)), byte(swapped), about)
		w.input = le.AppendUint32(le.AppendUint32(w.input, uint32(wire)), uint32(len(ip)))
		w.input = append(append(le.AppendUint64(w.input, uint64(time)), mac[:]...), ip...)
		w.records++
		w.packets = append(w.packets, ip)
		w.want = append(w.want, fmt.Sprintf("rc %d", want))
	}
	start := frames[0].Time // the table's clock begins with its first packet
	front := flow.Front{Hosts: hosts, Limit: 1 << 16, Count: table.Count, Unread: table.Counters(), Deal: func(p *capture.Packet) {
		if p.Faults&(capture.FaultOverlap|capture.FaultLost) != 0 {
			return // of datagrams that were not put together nothing is known here
		}
		if fragment && hosts {
			if p.Faults&capture.Dropped != 0 {
				return // nor what their fragments' faults were
			}
			wire = p.Length - 14
		}
		k, swapped := flow.KeyOf(p).Canonical()
		slot, ok := slots[k]
		if !ok {
			slot = len(slots)
			slots[k] = slot
		}
		side := 0
		if swapped {
			side = 1
		}
		before := table.Counters().Frames[capture.KindOK]
		ip, mac := slices.Clone(p.IP), p.MAC
		now = max(now, p.Time-start) // fragments may have waited for others
		table.Add(p)
		code := 0
		if table.Counters().Frames[capture.KindOK] == before {
			code = codeRefused
		}
		record(slot, side, ip, wire, now, mac, code)
	}}
	for i := range frames {
		f := frames[i]
		f.Trust = trust
		var p capture.Packet
		kind := capture.Decode(&f, &p)
		wire, fragment = f.Length-14, kind == capture.KindOK && p.Fragment
		if kind != capture.KindOK && f.Link == capture.LinkRaw {
			record(0, 0, f.Data, f.Length, f.Time-start, [12]byte{}, codePacket)
		}
		front.Frame(&f)
	}
	front.Flush()
	table.Flush()
	w.input = append(le.AppendUint32(nil, uint32(w.records)), w.input...)
	return w
}

// compare runs the driver and compares codes and flows.
func (w *fed) compare(t *testing.T, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(w.input), &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%.4000s", err, stderr.String())
	}
	var codes []string
	flows := map[uint64]string{}
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "rc ") {
			codes = append(codes, line)
			continue
		}
		var seq uint64
		if _, err := fmt.Sscan(line, &seq); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		head, rest, _ := strings.Cut(line, " marks ")
		number, rest, _ := strings.Cut(rest, " ")
		marks, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		flows[seq] = strings.TrimSpace(fmt.Sprintf("%s marks %d %s", head, flow.Marks(marks)&^w.notSeen, rest))
	}
	wrong := 0
	for seq, want := range w.flows {
		if got := flows[seq]; got != want {
			if wrong++; wrong < 4 {
				t.Errorf("flow %d:\n got %.1200s\nwant %.1200s", seq, got, want)
			}
		}
	}
	if wrong > 0 || len(flows) != len(w.flows) {
		t.Errorf("%d flows of %d are wrong, %d written", wrong, len(w.flows), len(flows))
	}
	for i := range min(len(codes), len(w.want)) {
		if codes[i] != w.want[i] {
			t.Errorf("packet %d of %d: got %s, want %s: %.200x", i, len(w.want), codes[i], w.want[i], w.packets[i])
			break
		}
	}
	if d := gocmp.Diff(w.want, codes); d != "" {
		t.Errorf("codes (-Go +C):\n%.2000s", d)
	}
}

// readFrames are all frames of a capture.
func readFrames(t testing.TB, path string) (frames []capture.Frame) {
	t.Helper()
	src, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for {
		var f capture.Frame
		if err := src.Next(&f); err != nil {
			return frames
		}
		f.Data = slices.Clone(f.Data)
		frames = append(frames, f)
	}
}

// cut are frames as a host's own capture with a snapshot length holds them: TCP's checksums are left to the network card, and two packets in three
// are not there whole, some not even their headers.
func cut(frames []capture.Frame) []capture.Frame {
	list := slices.Clone(frames)
	for i := range list {
		var p capture.Packet
		f := &list[i]
		f.Data = slices.Clone(f.Data)
		if capture.Decode(f, &p) == capture.KindOK && p.Proto == capture.ProtoTCP && len(p.IP) >= p.L4+18 {
			clear(p.IP[p.L4+16 : p.L4+18])
		}
		if n := 40 + i*7%120; i%3 > 0 && len(f.Data) > n {
			f.Data = f.Data[:n]
		}
	}
	return list
}

// allContracts are the samples of the repository and the built-in ones.
func allContracts(t testing.TB) map[string]traffic.Contract {
	t.Helper()
	list := map[string]traffic.Contract{}
	for _, pattern := range []string{"../../runtime/traffic/testdata/*/*.yaml", "../../examples/model/*.contract.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			c, err := traffic.Parse(f, data)
			if err != nil {
				t.Fatal(err)
			}
			list[filepath.Base(filepath.Dir(f))+"-"+strings.TrimSuffix(filepath.Base(f), ".yaml")] = c
		}
	}
	return list
}

// Each contract of the repository, on a real capture: tokens, numbers, marks and payload of every flow are those of the flow table.
func TestFlowContracts(t *testing.T) {
	testfiles.Tool(t, "gcc")
	frames := readFrames(t, "../../examples/testbed/test.pcap")
	for name, c := range allContracts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver := buildDriver(t, c, sanitized)
			feed(t, c, capture.TrustForm, frames).compare(t, driver)
			feed(t, c, capture.TrustForm, cut(frames)).compare(t, driver)
		})
	}
}

// changed are real flows, each changed in another of the ways that package evasion knows: fragments, overlaps, wrong checksums, other connections
// between the same ports.
func changed(t testing.TB, r *rand.Rand, flows []evasion.Flow, n int) (frames []capture.Frame) {
	t.Helper()
	transforms := slices.Concat(evasion.Transforms, evasion.Disturbances)
	var packets []evasion.Packet
	for range n {
		f, other := &flows[r.IntN(len(flows))], &flows[r.IntN(len(flows))]
		change := &transforms[r.IntN(len(transforms))]
		if !change.Applies(f) || other.Packets[0].Proto != f.Packets[0].Proto {
			continue
		}
		changed, start := change.Run(f, other, r.Uint64()), int64(1e18)+r.Int64N(300e9)
		for i := range changed {
			changed[i].Time += start - f.First
		}
		packets = append(packets, changed...)
	}
	slices.SortStableFunc(packets, func(a, b evasion.Packet) int { return cmp.Compare(a.Time, b.Time) })
	for i := range packets {
		frames = append(frames, packets[i].Frame())
	}
	return frames
}

// mixed are changed flows, cut, repeated, swapped and overwritten here and there, with IPv6 headers put in between, and raw bytes between them.
func mixed(t testing.TB, r *rand.Rand, flows []evasion.Flow, n int) (frames []capture.Frame) {
	t.Helper()
	frames = changed(t, r, flows, n)
	var last int64
	for i := range frames {
		f := &frames[i]
		f.Data = slices.Clone(f.Data)
		ip := f.Data[min(14, len(f.Data)):]
		if r.IntN(20) == 0 && len(ip) > 40 && f.Link == capture.LinkEthernet && ip[0]>>4 == 6 {
			kind := []byte{0, 43, 44, 51, 60, 135}[r.IntN(6)]
			header := make([]byte, 8)
			header[0] = ip[6]
			if r.IntN(3) == 0 {
				header[2], header[3] = byte(r.IntN(8)), byte(r.IntN(3))
			}
			ip[6] = kind
			size := int(binary.BigEndian.Uint16(ip[4:])) + 8
			binary.BigEndian.PutUint16(ip[4:], uint16(size))
			f.Data = slices.Insert(f.Data, 14+40, header...)
			f.Length += 8
		}
		switch r.IntN(24) {
		case 0: // cut
			f.Data = f.Data[:r.IntN(len(f.Data)+1)]
		case 1, 2: // anything, in the headers
			for range 1 + r.IntN(3) {
				f.Data[min(len(f.Data)-1, 14+r.IntN(60))] = byte(r.Uint32())
			}
		case 3: // another bit
			f.Data[14+r.IntN(len(f.Data)-14)] ^= 1 << r.IntN(8)
		case 4: // without a link-layer header
			if f.Link == capture.LinkEthernet {
				f.Data, f.Length, f.Link = f.Data[14:], f.Length-14, capture.LinkRaw
			}
		case 5: // no packet at all
			f.Data, f.Link = make([]byte, r.IntN(80)), capture.LinkRaw
			for k := range f.Data {
				f.Data[k] = byte(r.Uint32())
			}
			if len(f.Data) > 0 {
				f.Data[0] = []byte{0x45, 0x60, 0x4f, f.Data[0]}[r.IntN(4)]
			}
			f.Length = len(f.Data)
		case 6: // swapped with the one before
			if i > 0 {
				a := &frames[i-1]
				a.Data, f.Data, a.Length, f.Length, a.Link, f.Link = f.Data, a.Data, f.Length, a.Length, f.Link, a.Link
			}
		case 7: // repeated
			if i > 0 {
				f.Data, f.Length, f.Link = frames[i-1].Data, frames[i-1].Length, frames[i-1].Link
			}
		}
		last = max(last, f.Time) // a clock that doesn't go back
		f.Time = last
	}
	return frames
}

// randomContract is any contract that is valid.
func randomContract(r *rand.Rand) traffic.Contract {
	for {
		base := []string{"nepco", "nepco-bytes", "nepco-stream", "byte"}[r.IntN(4)]
		c, err := traffic.Named(base)
		if err != nil {
			panic(err)
		}
		odds := func(n int) bool { return r.IntN(n) == 0 }
		c.Length = 1 + r.IntN(500)
		c.CloseLinger, c.Idle = time.Duration(r.IntN(3000))*time.Millisecond, time.Duration(1000+r.IntN(60000))*time.Millisecond
		if odds(2) {
			c.Accept = traffic.AcceptHosts
			if odds(2) {
				c.FarTTL = traffic.FarTTLDrop
			}
		}
		c.Blank = nil
		for _, b := range traffic.BlankChoices() {
			if odds(3) {
				c.Blank = append(c.Blank, traffic.Blank(b.Word))
			}
		}
		if c.View == traffic.ViewStream {
			c.Blank = slices.DeleteFunc(c.Blank, func(b traffic.Blank) bool { return !strings.HasPrefix(string(b), "tls") })
			c.ClientBytes, c.ServerBytes, c.TokenBytes = r.IntN(200), r.IntN(200), 1+r.IntN(2)
			c.EnoughBytes = max(c.ClientBytes, c.ServerBytes) + r.IntN(2000)
			c.Quiet = time.Duration(1+r.IntN(500)) * time.Millisecond
		} else {
			if c.Accept == traffic.AcceptHosts && odds(2) {
				c.Empty = traffic.EmptySkip
			}
			c.Packets, c.BytesPerPacket = 1+r.IntN(12), 1+r.IntN(200)
			switch r.IntN(4) {
			case 0:
				c.FirstLayer = traffic.LayerEthernet
			case 1:
				c.FirstLayer = traffic.LayerPayload
				c.Blank = slices.DeleteFunc(c.Blank, func(b traffic.Blank) bool { return !strings.HasPrefix(string(b), "tls") })
			}
			if c.FirstLayer != traffic.LayerEthernet {
				c.Blank = slices.DeleteFunc(c.Blank, func(b traffic.Blank) bool { return b == traffic.BlankMAC })
			}
			if odds(2) && c.FirstLayer != traffic.LayerPayload {
				c.HeaderBytes = r.IntN(c.BytesPerPacket)
			}
			for _, f := range []traffic.PacketToken{traffic.TokenLength, traffic.TokenDirection} {
				if odds(3) && c.Encoding == traffic.EncodingToken {
					c.PacketTokens = append(c.PacketTokens, f)
				}
			}
			for _, n := range []traffic.Number{traffic.NumberGap, traffic.NumberDirection, traffic.NumberLength} {
				if odds(4) {
					c.Numbers = append(c.Numbers, n)
				}
			}
		}
		if c.TokenBytes == 1 && c.Encoding == traffic.EncodingToken && odds(3) {
			c.ValueOffset = 0
			for range 256 {
				c.ByteIDs = append(c.ByteIDs, 3+r.IntN(300))
			}
		}
		if odds(3) {
			c.UseCLS, c.CLS, c.UseSEP, c.SEP = false, 0, false, 0
		}
		if c.Validate() == nil {
			return c
		}
	}
}

// flowToolchains are those that random contracts are compiled with, in turns.
var flowToolchains = []toolchain{
	{"gcc-sanitized", sanitized, nil, nil},
	{"clang-sanitized", []string{"clang", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}, nil, nil},
	{"arm64", []string{"aarch64-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-aarch64"}, nil},
	{"s390x", []string{"s390x-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-s390x"}, nil}, // big-endian
	{"armhf", []string{"arm-linux-gnueabihf-gcc", "-O2", "-static"}, []string{"qemu-arm"}, nil},
}

// Random contracts on flows that senders, networks and captures have changed: what is emitted says of every packet and flow what the
// flow table says.
func TestFlowHostile(t *testing.T) {
	flows, err := evasion.Load("../../examples/testbed/test.pcap", 24, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := len(flowToolchains)
	if s, err := strconv.Atoi(os.Getenv("NEPCOC_CONTRACTS")); err == nil {
		n = s // for a longer search
	}
	for seed := range n {
		tools := &flowToolchains[seed%len(flowToolchains)]
		t.Run(fmt.Sprintf("%d-%s", seed, tools.name), func(t *testing.T) {
			t.Parallel()
			testfiles.Tool(t, tools.cc[0])
			if tools.run != nil {
				testfiles.Tool(t, tools.run[0])
			}
			r := rand.New(rand.NewPCG(uint64(seed), 3))
			c := randomContract(r)
			driver := append(slices.Clone(tools.run), buildDriver(t, c, tools.cc))
			for _, trust := range []capture.Trust{capture.TrustForm, capture.TrustWire, capture.TrustChecked} {
				feed(t, c, trust, mixed(t, r, flows, 150)).compare(t, driver...)
			}
			if t.Failed() {
				t.Logf("contract:\n%s", c.Canonical())
			}
		})
	}
}
