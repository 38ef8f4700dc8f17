package c_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/evasion"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// fuzzTarget is libFuzzer's: records of flags, milliseconds, captured length and bytes are a flow's packets, and what they make is run. Then they are a table's frames, of some link
// layer, and where they are late perhaps longer than any datagram.
const fuzzTarget = `#include "nepco_it.h"
#include <stdlib.h>
#include <string.h>

static _Alignas(NEPCO_IT_CTX_ALIGN) uint8_t ctx[NEPCO_IT_CTX_BYTES];
static int ready;

static void run(const nepco_it_flow *f)
{
	int32_t tokens[CONTRACT_LENGTH];
	nepco_it_result r;
	uint32_t n = nepco_it_flow_tokens(f, tokens), i;
	if (n > CONTRACT_LENGTH || nepco_it_flow_marks(f) >= 8192) {
		abort();
	}
	for (i = 0; i < n; i++) {
		if (tokens[i] < 0 || tokens[i] >= CONTRACT_VOCAB) {
			abort();
		}
	}
#if CONTRACT_LENGTH <= NEPCO_IT_LENGTH && CONTRACT_VOCAB <= NEPCO_IT_VOCAB
	if (n > 0 && nepco_it_run(ctx, tokens, (int)n, &r) != 0) {
		abort();
	}
#else
	(void)r;
#endif
}

static void verdict(void *to, const nepco_it_entry *e)
{
	char name[NEPCO_IT_ENTRY_NAME];
	int32_t tokens[CONTRACT_LENGTH];
	nepco_it_entry_name(e, name);
	if (strlen(name) >= sizeof name || nepco_it_flow_tokens(&e->flow, tokens) > CONTRACT_LENGTH) {
		abort();
	}
	++*(uint64_t *)to;
}

static void table(const uint8_t *data, size_t size)
{
	static const int links[] = {101, 1, 101, 113, 276, 0, 9, 107, 239, 228, 229, 117, 11, 100, 242, 219};
	static const uint64_t secret[2] = {1, 2};
	static void *memory;
	uint64_t now = 0, said = 0, all = 0;
	nepco_it_table *t;
	const nepco_it_counts *c;
	if (memory == NULL) {
		memory = malloc(nepco_it_table_bytes(4));
	}
	t = nepco_it_table_new(memory, nepco_it_table_bytes(4), 4, secret, verdict, &said);
	c = nepco_it_table_counts(t);
	while (size >= 4) {
		uint32_t n = (uint32_t)(data[2] | data[3] << 8), captured;
		int flags = data[0], width;
		uint8_t *frame, ends[32];
		now += (uint64_t)data[1] * data[1] * 1000000u;
		captured = data[1] >= 252 ? 65500u * (data[1] - 251u) : 0;
		data += 4;
		size -= 4;
		n = n < size ? n : (uint32_t)size;
		captured = captured > n ? captured : n;
		frame = malloc(captured > 0 ? captured : 1);
		memcpy(frame, data, n);
		memset(frame + n, 0, captured - n);
		width = nepco_it_frame_ends(links[flags >> 4], frame, captured, ends);
		if (width != 0 && width != 8 && width != 32) {
			abort();
		}
		nepco_it_table_frame(t, links[flags >> 4], frame, captured, (flags & 8) != 0 ? 65535 : captured, flags & 6, now);
		free(frame);
		data += n;
		size -= n;
		all++;
	}
	nepco_it_table_end(t);
	if (c->joined + c->other + c->broken + c->fragments + c->refused != all || c->waiting != 0 || c->flows != said) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	nepco_it_flow f;
	uint64_t now = 0;
	if (!ready) {
		ready = 1;
		if (nepco_it_init(ctx, sizeof ctx, NULL, 0) != 0) {
			abort();
		}
	}
	table(data, size);
	nepco_it_flow_init(&f);
	while (size >= 4) {
		uint32_t n = (uint32_t)(data[2] | data[3] << 8), wire;
		int flags = data[0] & 7, was = nepco_it_flow_ready(&f), rc;
		uint8_t *packet;
		now += (uint64_t)data[1] * data[1] * 1000000u;
		wire = (data[0] & 8) != 0 ? 65535 : n;
		data += 4;
		size -= 4;
		n = n < size ? n : (uint32_t)size;
		packet = malloc(n + 1);
		memcpy(packet, data, n);
		packet = realloc(packet, n > 0 ? n : 1);
		rc = nepco_it_flow_add(&f, packet, n, wire, flags, now);
		if (rc == NEPCO_IT_EOTHER) {
			run(&f);
			nepco_it_flow_next(&f);
			if (nepco_it_flow_add(&f, packet, n, wire, flags & 6, now) == NEPCO_IT_EOTHER) {
				abort();
			}
		} else if (was && !nepco_it_flow_ready(&f)) {
			abort();
		}
		free(packet);
		data += n;
		size -= n;
	}
	run(&f);
	return 0;
}
`

// Nothing that libFuzzer finds makes the emitted code read where it may not, do what C leaves open, or give what the model doesn't take.
func TestFlowFuzzer(t *testing.T) {
	testfiles.Tool(t, "clang")
	demo := stored(t, "demo")
	own, err := traffic.Parse("contract", []byte(demo.Manifest.Contract.YAML))
	if err != nil {
		t.Fatal(err)
	}
	stream := allContracts(t)["version2-nepco-stream"]
	open := allContracts(t)["version3-open"]
	flows, err := evasion.Load("../../examples/testbed/test.pcap", 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []traffic.Contract{own, stream, open} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir := t.TempDir()
			b := demo
			if i > 0 { // for packets only: it compiles faster
				b = withContract(t, c)
			}
			emitInto(t, dir, b, emit.Options{Name: "it", MaxTable: 1 << 30})
			if err := os.WriteFile(filepath.Join(dir, "fuzz.c"), []byte(fuzzTarget), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "corpus"), 0o755); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(uint64(i), 4))
			for k := range 40 {
				var seed []byte
				f := &flows[r.IntN(len(flows))]
				for j := range f.Packets {
					frame := f.Packets[j].Frame()
					ip := frame.Data[14:]
					seed = append(seed, byte(f.Packets[j].Dir), byte(r.IntN(30)))
					seed = append(binary.LittleEndian.AppendUint16(seed, uint16(len(ip))), ip...)
				}
				if err := os.WriteFile(filepath.Join(dir, "corpus", fmt.Sprint(k)), seed, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			script := fmt.Sprintf("clang -O1 -g1 -std=c11 -DNEPCO_PORTABLE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DCONTRACT_LENGTH=%d -DCONTRACT_VOCAB=%d -o fuzz fuzz.c nepco_it.c && ./fuzz -max_total_time=%d -max_len=4096 -seed=1 corpus",
				c.Length, c.Vocab(), 2)
			if s := os.Getenv("NEPCOC_FUZZTIME"); s != "" { // for a longer search, in seconds
				script = strings.Replace(script, "max_total_time=2", "max_total_time="+s, 1)
			}
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%.6000s", err, out[max(0, len(out)-6000):])
			}
			if !strings.Contains(string(out), "Done ") {
				t.Errorf("it found nothing to do:\n%.2000s", out)
			}
		})
	}
}
