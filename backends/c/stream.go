package c

import (
	"fmt"
	"strings"
)

// streamBytes is the memory of a stream; 0 where the program has none.
func (u *unit) streamBytes() int {
	if !u.l.streams() {
		return 0
	}
	return u.l.streamHeader() + u.l.state
}

// formsHeader declares the streaming form, or says why there is none, and the batch form.
func (u *unit) formsHeader() string {
	p, m, numbers := u.prefix(), u.macro(), u.numbers("const int32_t *numbers, ")
	about := fmt.Sprintf(`
#define %s_STREAM_BYTES 0 /* this model has no streaming form: no gated layer reads the rows of its tokens */
`, m)
	if u.l.streams() {
		about = fmt.Sprintf(`
/* The streaming form, for flows whose tokens come one after another: the result of run, for whatever parts they come in. A stream
 * is the state of one flow, in STREAM_BYTES of the caller's memory, aligned as a context is; it may be moved. Any context of the
 * model can go on with it, one at a time, and one context with any number of streams.
 *
 * begin starts a flow. add takes its next n tokens, LENGTH in all at most, and computes with each %[3]d as soon as more follow; what it refuses,
 * it takes nothing of. end computes what is left, %[3]d tokens at most and what layers look ahead: the stream must then begin anew. */
#define %[2]s_STREAM_BYTES %[4]d
int %[1]s_stream_begin(void *stream);
int %[1]s_stream_add(void *ctx, void *stream, const int32_t *tokens, int n);
int %[1]s_stream_end(void *ctx, void *stream, %[5]s%[1]s_result *result);
`, p, m, u.l.chunk(), u.streamBytes(), numbers)
	}
	return about + fmt.Sprintf(`
/* run_batch is run of count flows: flow i has the n[i] tokens at tokens + i * stride%s. It gives the number of
 * results, count unless one is refused: it stops there, and run of that flow says why. */
int %s_run_batch(void *ctx, const int32_t *tokens, size_t stride, const int *n, %sint count, %s_result *results);
`, u.numbers(fmt.Sprintf(", and the %d numbers at numbers + i * %d", u.p.Sides, u.p.Sides)), p, numbers, p)
}

// chunk is the number of tokens that a stream gathers before it computes with them.
func (l *layout) chunk() int {
	if l.tile > 0 {
		return min(block, l.tile)
	}
	return block
}

// streaming writes the streaming form.
func (u *unit) streaming(f write) {
	if !u.l.streams() {
		return
	}
	p, m, l, numbers := u.prefix(), u.macro(), u.l, u.numbers("const int32_t *numbers, ")
	at, check := "", ""
	if l.tile == 0 {
		at = " + s->done"
	}
	if u.p.Sides > 0 {
		check = fmt.Sprintf("\tif (rc == 0) {\n\t\trc = below(numbers, %d, 1 << 24);\n\t}\n", u.p.Sides)
	}
	f(`
/* What stands before a stream's state: the tokens that it has had, those that the region has seen, and the others. */
typedef struct {
	uint32_t ready;
	int32_t n, done;
	int32_t tokens[%[3]d];
} stream_head;

/* 0, or what is wrong with a context or a stream */
static int streamable(const void *ctx, const void *stream)
{
	if (stream == NULL || (uintptr_t)stream %% %[2]s_CTX_ALIGN != 0 || ((const stream_head *)stream)->ready != READY) {
		return %[2]s_ECONTEXT;
	}
	return usable(ctx);
}

int %[1]s_stream_begin(void *stream)
{
	stream_head *s = stream;
	if (stream == NULL || (uintptr_t)stream %% %[2]s_CTX_ALIGN != 0) {
		return %[2]s_ECONTEXT;
	}
	s->ready = READY;
	s->n = s->done = 0;
	return 0;
}

int %[1]s_stream_add(void *ctx, void *stream, const int32_t *tokens, int n)
{
	uint8_t *memory = ctx, *state = (uint8_t *)stream + %[4]d;
	int32_t *row = (int32_t *)(memory + %[5]d);
	stream_head *s = stream;
	int i, rc = streamable(ctx, stream);
	if (rc != 0) {
		return rc;
	}
	if (n < 0 || n > %[2]s_LENGTH - s->n) {
		return %[2]s_EVALID;
	}
	rc = below(tokens, n, %[2]s_VOCAB);
	if (rc != 0) {
		return rc;
	}
	for (i = 0; i < n; i++) {
		if (s->n - s->done == %[3]d) {
			fill(row%[6]s, s->tokens, %[3]d, 0, %[3]d);
			region(ctx, memory + %[7]d, state, row, s->done, s->n, NULL);
			s->done = s->n;
		}
		s->tokens[s->n - s->done] = tokens[i];
		s->n++;
	}
	return 0;
}

int %[1]s_stream_end(void *ctx, void *stream, %[8]s%[1]s_result *result)
{
	uint8_t *memory = ctx, *state = (uint8_t *)stream + %[4]d;
	stream_head *s = stream;
	int rc = streamable(ctx, stream);
	if (rc == 0 && s->n == 0) {
		rc = %[2]s_EVALID;
	}
%[9]s	if (rc == 0) {
		finish(ctx, (int32_t *)(memory + %[5]d), memory + %[7]d, state, s->tokens, s->n - s->done, s->done, %[10]ss->n, result);
		s->ready = 0;
	}
	return rc;
}`, p, m, l.chunk(), l.streamHeader(), align, at, l.header(), numbers, check, u.numbers("numbers, "))
}

// batch writes the batch form.
func (u *unit) batch(f write) {
	p := u.prefix()
	f(`
int %[1]s_run_batch(void *ctx, const int32_t *tokens, size_t stride, const int *n, %[2]sint count, %[1]s_result *results)
{
	int i;
	for (i = 0; i < count; i++) {
		if (%[1]s_run(ctx, tokens + (size_t)i * stride, n[i], %[3]s&results[i]) != 0) {
			break;
		}
	}
	return i < 0 ? 0 : i;
}`, p, u.numbers("const int32_t *numbers, "), u.numbers(fmt.Sprintf("numbers + i * %d, ", u.p.Sides)))
}

// formsTest writes, for the self-test, what compares the streaming and the batch form with run, and run, where a vector's tokens
// end in padding, with the vector. Streams take turns in one context.
func (u *unit) formsTest(f write) {
	p, m := u.prefix(), u.macro()
	vector, numbers, given := "valid[i], ", "", ""
	if u.p.Sides > 0 {
		vector, given = fmt.Sprintf("valid[i], tokens[i] + %d, ", u.p.Length), "&numbers[0][0], "
		numbers = fmt.Sprintf("\tstatic int32_t numbers[VECTORS][%d];\n", u.p.Sides)
	}
	var padded []string
	for _, g := range u.b.Golden {
		is := "1"
		for _, t := range g.Tokens[g.Valid:u.p.Length] {
			if int(t) != u.pad() {
				is = "0"
			}
		}
		padded = append(padded, is)
	}
	f(`
/* the number of results in other forms than run's that are not run's */
static int forms(void)
{
	static const char padded[VECTORS] = {%[4]s}; /* behind its own tokens is padding: run and run_padded are one */
	static %[1]s_result r[VECTORS], q[VECTORS];
%[2]s	int i, unequal = 0;
	for (i = 0; i < VECTORS; i++) {
		memset(&q[i], 1, sizeof q[i]);
		if (%[1]s_run(ctx, tokens[i], %[3]s&r[i]) != 0) {
			return VECTORS;
		}
		if (padded[i]) {
			unequal += %[1]s_run_padded(ctx, tokens[i], %[3]s&q[i]) != 0 || memcmp(&r[i], &q[i], sizeof r[i]) != 0;
			memset(&q[i], 1, sizeof q[i]);
		}`, p, numbers, vector, strings.Join(padded, ", "))
	if u.p.Sides > 0 {
		f("\t\tmemcpy(numbers[i], tokens[i] + %d, sizeof numbers[i]);", u.p.Length)
	}
	f(`	}
	if (%[1]s_run_batch(ctx, &tokens[0][0], %[2]d, valid, %[3]sVECTORS, q) != VECTORS) {
		return VECTORS;
	}
	for (i = 0; i < VECTORS; i++) {
		unequal += memcmp(&r[i], &q[i], sizeof r[i]) != 0;
	}`, p, u.p.Inputs(), given)
	if u.l.streams() {
		f(`	{
		static int at[VECTORS];
		uint8_t *memory = malloc((size_t)VECTORS * %[2]s_STREAM_BYTES + %[2]s_CTX_ALIGN);
		uint8_t *first = memory + (%[2]s_CTX_ALIGN - (uintptr_t)memory %% %[2]s_CTX_ALIGN);
		uint32_t seed = 1;
		int left = VECTORS, rc = memory == NULL;
		for (i = 0; i < VECTORS && rc == 0; i++) {
			memset(first + i * %[2]s_STREAM_BYTES, 0xa5, %[2]s_STREAM_BYTES);
			rc = %[1]s_stream_begin(first + i * %[2]s_STREAM_BYTES);
			at[i] = 0;
		}
		while (left > 0 && rc == 0) {
			void *stream;
			int most;
			seed = seed * 1103515245u + 12345u;
			i = (int)(seed >> 16) %% VECTORS;
			stream = first + i * %[2]s_STREAM_BYTES;
			if (at[i] < valid[i]) {
				int n = (int)(seed >> 20) %% (i %% 4 == 0 ? 3 : i %% 4 == 1 ? 40 : %[2]s_LENGTH + 1);
				most = valid[i] - at[i];
				n = n < most ? n : most;
				rc = %[1]s_stream_add(ctx, stream, tokens[i] + at[i], n);
				at[i] += n;
			} else if (at[i] == valid[i]) {
				rc = %[1]s_stream_end(ctx, stream, %[3]s&q[i]);
				unequal += memcmp(&r[i], &q[i], sizeof r[i]) != 0;
				at[i] = valid[i] + 1;
				left--;
			}
		}
		free(memory);
		unequal += rc != 0;
	}`, p, m, u.numbers(fmt.Sprintf("tokens[i] + %d, ", u.p.Length)))
	}
	f("\treturn unequal;\n}")
}
