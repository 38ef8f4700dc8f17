package c_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// hostileProgram calls what a data path calls with what nobody should: contexts that were not made, outputs that there are not, frames of any bytes, lengths, link types and times. Each
// frame lies in memory of exactly its size.
const hostileProgram = `#include "nepco_it.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IS(what, code) if ((what) != (code)) { printf("line %d\n", __LINE__); wrong++; }

static uint64_t state = 1;
static int wrong;
static void *ctx;
static nepco_it_table *calling;

static uint32_t draw(uint32_t below) /* Marsaglia's xorshift */
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

static void verdict(void *to, const nepco_it_entry *e)
{
	static int32_t tokens[NEPCO_IT_LENGTH];
	char name[NEPCO_IT_ENTRY_NAME];
	nepco_it_result r;
	uint32_t n = nepco_it_flow_tokens(&e->flow, tokens);
	IS(n >= 1 && n <= NEPCO_IT_LENGTH, 1)
	IS(nepco_it_flow_run(ctx, &e->flow, &r), 0)
	nepco_it_entry_name(e, name);
	IS(e->first <= UINT64_MAX && e->packets[0] + e->packets[1] > 0 && e->client >= 0 && e->client <= 1 && e->why <= NEPCO_IT_BY_END, 1)
	++*(uint64_t *)to;
	nepco_it_table_frame(calling, 101, (const uint8_t *)name, sizeof name, sizeof name, 0, UINT64_MAX / 2); /* the table doesn't take that now */
	nepco_it_table_time(calling, UINT64_MAX);
	nepco_it_table_end(calling);
}

/* LLC on ATM has two numbers */
static void numbers(void)
{
	static const uint8_t frame[] = {0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 9, 9, 0, 53, 0, 8, 0, 0};
	uint8_t ends[32];
	IS(nepco_it_frame_ends(11, frame, sizeof frame, ends), 8)
	IS(nepco_it_frame_ends(100, frame, sizeof frame, ends), 8)
}

static void contexts(void)
{
	char *memory = malloc(NEPCO_IT_CTX_BYTES + 2 * NEPCO_IT_CTX_ALIGN), *at = memory + (NEPCO_IT_CTX_ALIGN - (uintptr_t)memory % NEPCO_IT_CTX_ALIGN);
	int32_t tokens[1] = {0};
	nepco_it_result r;
	nepco_it_verdict v;
	memset(at, 0x5a, NEPCO_IT_CTX_BYTES);
	IS(nepco_it_run(at, tokens, 1, &r), NEPCO_IT_ECONTEXT)
	IS(nepco_it_use(at, "portable"), NEPCO_IT_ECONTEXT)
	memset(at, 0, NEPCO_IT_CTX_BYTES);
	IS(nepco_it_run(at, tokens, 1, &r), NEPCO_IT_ECONTEXT)
	IS(nepco_it_run(NULL, tokens, 1, &r), NEPCO_IT_ECONTEXT)
	IS(nepco_it_init(at, 0, NULL, 0), NEPCO_IT_ECONTEXT)
	IS(nepco_it_init(at, NEPCO_IT_CTX_BYTES, NULL, 0), 0)
	tokens[0] = INT_MIN;
	IS(nepco_it_run(at, tokens, 1, &r), NEPCO_IT_ETOKEN)
	tokens[0] = INT_MAX;
	IS(nepco_it_run(at, tokens, 1, &r), NEPCO_IT_ETOKEN)
	tokens[0] = 0;
	IS(nepco_it_run(at, tokens, 1, &r), 0)
	IS(nepco_it_use(at, "nope"), NEPCO_IT_EPATH)
	IS(nepco_it_run(at, tokens, 1, &r), 0)
	IS(nepco_it_judge(&r, -1, &v), -1)
	IS(nepco_it_judge(&r, INT_MAX, &v), -1)
	IS(nepco_it_output(INT_MIN) == NULL && nepco_it_label(0, -1) == NULL && nepco_it_label(0, INT_MAX) == NULL && nepco_it_label(INT_MAX, 0) == NULL, 1)
	IS(nepco_it_kind(INT_MIN), 0)
	IS(nepco_it_belonging(INT_MAX, INT64_MIN), -1)
	ctx = at;
}

static void frames(uint32_t flows, int n)
{
	static const int links[] = {12, 113, 276, 0, 9, 107, 239, 228, 229, 117, 166, 242, -1, INT_MIN, INT_MAX};
	static const uint64_t secret[2] = {1, 2};
	uint64_t said = 0, time = 0, all = 0;
	size_t bytes = nepco_it_table_bytes(flows);
	void *memory = malloc(bytes);
	nepco_it_table *t = nepco_it_table_new(memory, bytes, flows, secret, verdict, &said);
	const nepco_it_counts *c = nepco_it_table_counts(t);
	int i;
	calling = t;
	for (i = 0; i < n; i++) {
		uint32_t size = draw(140), at = 0, k, wire;
		int link = draw(4) > 0 ? draw(2) > 0 ? 1 : 101 : links[draw(sizeof links / sizeof *links)];
		uint8_t *f = malloc(size > 0 ? size : 1), ends[32];
		for (k = 0; k < size; k++) {
			f[k] = (uint8_t)draw(256);
		}
		if (size > 70 && draw(4) > 0) { /* more like a packet, between few hosts */
			if (link == 1) {
				at = 14;
				f[12] = 8;
				f[13] = 0;
			}
			if (draw(4) > 0) {
				f[at] = draw(8) > 0 ? 0x45 : f[at];
				f[at + 2] = 0;
				f[at + 3] = (uint8_t)(draw(3) > 0 ? size - at : f[at + 3]);
				if (draw(3) > 0) {
					f[at + 6] = f[at + 7] = 0;
				} else { /* a fragment of one of few datagrams */
					f[at + 4] = 0;
					f[at + 5] &= 15;
					f[at + 6] &= 0x20;
					f[at + 7] &= 15;
				}
				f[at + 9] = draw(2) > 0 ? 6 : 17;
				memset(f + at + 10, 0, 10);
				if (draw(8) > 0) { /* lengths are right, and checksums left to a network card */
					f[at + 24] = f[at + 26] = f[at + 27] = 0;
					f[at + 25] = (uint8_t)(size - at - 20);
					if (f[at + 9] == 6) {
						f[at + 32] = 0x50;
						f[at + 33] &= 0x17;
						f[at + 36] = f[at + 37] = 0;
					}
				}
				f[at + 20] = f[at + 22] = 0;
				f[at + 21] &= 7;
				f[at + 23] &= 7;
			} else {
				f[12 + (at > 0 ? 0 : draw(8))] = 0x86;
				f[at] = 0x60;
				f[at + 6] = (uint8_t)"\006\021\054\000\053\074\063"[draw(7)];
				memset(f + at + 8, 0, 32);
			}
		}
		time += draw(20) > 0 ? draw(1000000) : draw(4) > 0 ? (uint64_t)draw(300) << 29 : 0;
		wire = draw(5) > 0 ? size : draw(3) > 0 ? 0 : UINT32_MAX;
		k = (uint32_t)nepco_it_frame_ends(link, f, size, ends);
		IS(k == 0 || k == 8 || k == 32, 1)
		nepco_it_table_frame(t, link, f, size, wire, draw(20) > 0 ? 0 : (int)draw(8), draw(50) > 0 ? time : draw(2) > 0 ? 0 : UINT64_MAX - draw(9));
		free(f);
		all++;
		if (draw(1000) == 0) {
			nepco_it_table_lost(t);
		}
		if (draw(1000) == 0) {
			nepco_it_table_time(t, draw(2) > 0 ? time : UINT64_MAX);
		}
	}
	nepco_it_table_frame(t, 1, NULL, 0, 0, 0, 0);
	nepco_it_frame_ends(1, NULL, 0, (uint8_t *)memory);
	nepco_it_table_end(t);
	IS(c->joined + c->other + c->broken + c->fragments + c->refused, all + 1)
	IS(c->waiting, 0)
	IS(said, c->flows)
	printf("%d flows, %d packets in them, %d evicted\n", (int)c->flows, (int)c->joined, (int)c->evicted);
	IS(c->flows > 100 && c->joined > c->flows && c->evicted > 20, 1)
	free(memory);
}

/* fragments in frames that are longer than any datagram: of packets that say no length, of which all is taken for theirs */
static void large(int n)
{
	static const uint64_t secret[2] = {1, 2};
	uint64_t said = 0;
	size_t bytes = nepco_it_table_bytes(16);
	void *memory = malloc(bytes);
	nepco_it_table *t = nepco_it_table_new(memory, bytes, 16, secret, verdict, &said);
	const nepco_it_counts *c = nepco_it_table_counts(t);
	int i;
	calling = t;
	for (i = 0; i < n; i++) {
		uint32_t size = draw(3) > 0 ? 65536 + draw(196609) : draw(3) > 0 ? 65500 + draw(120) : 60 + draw(1500), at = 20;
		uint8_t *f = malloc(size);
		memset(f, 255, size);
		if (draw(2) > 0) {
			memset(f, 0, 20);
			f[0] = 0x45;
			f[5] = (uint8_t)draw(100); /* whose */
			f[6] = draw(3) > 0 ? 0x20 : 0x3f;
			f[7] = (uint8_t)(f[6] == 0x20 && draw(4) > 0 ? 0 : draw(256));
			f[9] = 17;
			f[15] = f[19] = 1;
		} else {
			memset(f, 0, 48);
			f[0] = 0x60;
			f[6] = 44;
			at = 48;
			f[40] = 17;
			f[42] = draw(3) > 0 ? 0 : 255;
			f[43] = (uint8_t)(draw(4) > 0 ? 1 : draw(256) | 1);
			f[47] = (uint8_t)draw(100);
		}
		memset(f + at, 0, 8); /* of UDP */
		nepco_it_table_frame(t, 101, f, size, draw(2) > 0 ? size + 14 : size + 2000, draw(3) > 0 ? 0 : 4, (uint64_t)i * 1000000);
		free(f);
	}
	nepco_it_table_end(t);
	IS(c->joined + c->other + c->broken + c->fragments + c->refused, (uint64_t)n)
	IS(said, c->flows)
	free(memory);
}

int main(void)
{
	contexts();
	numbers();
	frames(1, 10000);
	frames(16, 30000);
	large(600);
	return wrong > 0;
}
`

// Whatever a data path is given, nothing is read beyond it, every frame is counted and every flow has its verdict.
func TestHostileFrames(t *testing.T) {
	testfiles.Tool(t, "gcc")
	plain, hosts := stored(t, "demo"), stored(t, "demo")
	c := allContracts(t)["version2-nepco-hosts"]
	if c.Vocab() > hosts.Program.Vocab || c.Length > hosts.Program.Length {
		t.Fatal("the demo doesn't take this contract's tokens")
	}
	hosts.Manifest.Contract.YAML, hosts.Manifest.Contract.Hash = string(c.Canonical()), c.Hash()
	hosts.Manifest.View.Tunnels, hosts.Manifest.View.VLANs = true, true
	for name, b := range map[string]*bundle.Bundle{"packets": plain, "hosts in tunnels": hosts} {
		t.Run(name, func(t *testing.T) {
			dir := library(t, b, emit.Options{Name: "it"}, sanitized...)
			t.Log(execute(t, dir, linkText(t, dir, "hostile.c", hostileProgram, sanitized...)))
		})
	}
}

// threadsProgram runs flows in threads that share the model, each with a context of its own on a path of its own, and a table of its own.
const threadsProgram = `#include "nepco_it.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, FLOWS = 12 };
static int32_t tokens[FLOWS][NEPCO_IT_LENGTH];
static nepco_it_result want[FLOWS];
static const char *const paths[] = {"portable", "avx2", "avx512", "neon", "dotprod"};

static void verdict(void *to, const nepco_it_entry *e)
{
	*(uint32_t *)to += e->marks;
}

static void *work(void *wrong)
{
	void *ctx = NULL;
	nepco_it_result r;
	int i, k;
	uint8_t packet[28] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 9, 9, 0, 53, 0, 8};
	uint64_t secret[2] = {1, 2};
	uint32_t sum = 0;
	size_t bytes = nepco_it_table_bytes(8);
	void *memory = malloc(bytes);
	nepco_it_table *t = nepco_it_table_new(memory, bytes, 8, secret, verdict, &sum);
	if (posix_memalign(&ctx, NEPCO_IT_CTX_ALIGN, NEPCO_IT_CTX_BYTES) != 0 || nepco_it_init(ctx, NEPCO_IT_CTX_BYTES, NULL, 0) != 0 || t == NULL) {
		++*(int *)wrong;
		return NULL;
	}
	for (i = 0; i < 3 * FLOWS; i++) {
		nepco_it_use(ctx, paths[(i / FLOWS + *(int *)wrong) % 5]);
		*(int *)wrong += nepco_it_run(ctx, tokens[i % FLOWS], NEPCO_IT_LENGTH - 9 * (i % FLOWS), &r) != 0 || memcmp(&r, &want[i % FLOWS], sizeof r) != 0;
		for (k = 0; k < 20; k++) {
			packet[15] = (uint8_t)k;
			nepco_it_table_frame(t, 101, packet, sizeof packet, sizeof packet, 0, (uint64_t)i * 1000000);
		}
	}
	nepco_it_table_end(t);
	*(int *)wrong += nepco_it_table_counts(t)->joined != 60 * FLOWS;
	free(memory);
	free(ctx);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	int wrong[THREADS] = {0}, i, k, all = 0;
	void *ctx = NULL;
	if (posix_memalign(&ctx, NEPCO_IT_CTX_ALIGN, NEPCO_IT_CTX_BYTES) != 0 || nepco_it_init(ctx, NEPCO_IT_CTX_BYTES, NULL, 0) != 0) {
		return 2;
	}
	for (i = 0; i < FLOWS; i++) {
		for (k = 0; k < NEPCO_IT_LENGTH; k++) {
			tokens[i][k] = (i * 31 + k * 7) % NEPCO_IT_VOCAB;
		}
		if (nepco_it_run(ctx, tokens[i], NEPCO_IT_LENGTH - 9 * i, &want[i]) != 0) {
			return 2;
		}
	}
	for (i = 0; i < THREADS; i++) {
		pthread_create(&threads[i], NULL, work, &wrong[i]);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		all += wrong[i];
	}
	free(ctx);
	printf("%d wrong\n", all);
	return all > 0;
}
`

// Threads share the model: each has its own context and table, and nothing else is written. A sanitizer looks on where it can.
func TestThreads(t *testing.T) {
	testfiles.Tool(t, "gcc")
	cc := []string{"gcc", "-O0", "-fsanitize=thread", "-D_POSIX_C_SOURCE=200112L", "-pthread"}
	dir := library(t, stored(t, "demo"), emit.Options{Name: "it"}, cc...)
	exe := linkText(t, dir, "threads.c", threadsProgram, cc...)
	cmd := exec.Command(exe)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "unexpected memory mapping") { // the kernel lays memory out as this sanitizer doesn't know it
		cc = slices.DeleteFunc(cc, func(flag string) bool { return strings.HasPrefix(flag, "-fsanitize") })
		dir = library(t, stored(t, "demo"), emit.Options{Name: "it"}, cc...)
		execute(t, dir, linkText(t, dir, "threads.c", threadsProgram, cc...))
		return
	}
	if err != nil {
		t.Errorf("%v\n%.4000s", err, out)
	}
}
