/* The kernels in C alone on rows: loops over the 64 channels of a group, which compilers make vectors of 16-bit numbers of. They stay
 * functions: inlined, compilers lose which pointers are restricted. n is a number of positions. A group's constants are 13 vectors of 64
 * words: four taps of h and its bias, the same of g, then rho, LayerNorm's constant, and flip, which is 0 or -1. */

/* the inputs of 64 channels, of which neighbours share one, in n rows, in bytes from one to the next */
LOOP void c_widen(const int8_t *restrict x, int in, int16_t *restrict to, int n)
{
	int c, t;
	for (t = 0; t < n; t++, x += in, to += 64) {
		for (c = 0; c < 32; c++) {
			to[2 * c] = to[2 * c + 1] = x[c];
		}
	}
}

/* four taps from row i of x on and the bias, modulo 2^16 */
#define SUM(i) (uint16_t)((uint16_t)w[256 + c] + (uint16_t)(w[c] * x[(i) * 64 + c]) + (uint16_t)(w[64 + c] * x[(i) * 64 + 64 + c]) + \
	(uint16_t)(w[128 + c] * x[(i) * 64 + 128 + c]) + (uint16_t)(w[192 + c] * x[(i) * 64 + 192 + c]))

/* the sums of h; four rows at a time share what is loaded */
LOOP void c_filter(const int16_t *restrict w, const int16_t *restrict x, uint16_t *restrict to, int n)
{
	int c, t;
	for (t = 0; t + 4 <= n; t += 4, x += 256, to += 256) {
		for (c = 0; c < 64; c++) {
			to[c] = SUM(0);
			to[64 + c] = SUM(1);
			to[128 + c] = SUM(2);
			to[192 + c] = SUM(3);
		}
	}
	for (; t < n; t++, x += 64, to += 64) {
		for (c = 0; c < 64; c++) {
			to[c] = SUM(0);
		}
	}
}

/* the upper bytes of the sums of g */
LOOP void c_upper(const int16_t *restrict w, const int16_t *restrict x, uint8_t *restrict to, int n)
{
	int c, t;
	for (t = 0; t + 4 <= n; t += 4, x += 256, to += 256) {
		for (c = 0; c < 64; c++) {
			to[c] = (uint8_t)(SUM(0) >> 8);
			to[64 + c] = (uint8_t)(SUM(1) >> 8);
			to[128 + c] = (uint8_t)(SUM(2) >> 8);
			to[192 + c] = (uint8_t)(SUM(3) >> 8);
		}
	}
	for (; t < n; t++, x += 64, to += 64) {
		for (c = 0; c < 64; c++) {
			to[c] = (uint8_t)(SUM(0) >> 8);
		}
	}
}

/* the gates of n bytes, which are loaded four at a time; no pointer is restricted, or compilers make vectors of this, byte by byte */
LOOP void c_gates(const uint8_t *gate, uint8_t *to, int n)
{
	const uint32_t one = 1;
	uint8_t *end = to + n, first;
	memcpy(&first, &one, 1);
	for (; to < end; to += 4) {
		uint32_t v;
		memcpy(&v, to, 4);
		if (first == 0) { /* big-endian */
			v = v >> 24 | (v >> 8 & 0xff00) | (v & 0xff00) << 8 | v << 24;
		}
		to[0] = gate[v & 255];
		to[1] = gate[v >> 8 & 255];
		to[2] = gate[v >> 16 & 255];
		to[3] = gate[v >> 24];
	}
}

/* The rounded products of h and the gate, as bytes; by are 2^16 / 2^shift, for each channel: what compilers load in the loop, they know to
 * have 16 bits. wide are the bytes from row to row. */
LOOP void c_plain(const uint16_t *restrict h, const uint8_t *restrict s, int16_t half, const int16_t *restrict by, int8_t *restrict to, int wide, int n)
{
	int16_t v[64];
	int c, t;
	for (t = 0; t < n; t++, h += 64, s += 64, to += wide) {
		for (c = 0; c < 64; c++) {
			const int16_t x = (int16_t)(((int16_t)h[c] >> 8) * s[c] + half);
			v[c] = (int16_t)(x * by[c] >> 16);
		}
		for (c = 0; c < 64; c++) { /* apart: with the product's 32 bits in sight, clang clamps these */
			const int16_t x = v[c] < -128 ? -128 : v[c];
			to[c] = (int8_t)(x > 127 ? 127 : x);
		}
	}
}

/* LayerNorm's input: w is rho, then the constant */
LOOP void c_join(const uint16_t *restrict h, const uint8_t *restrict s, const int8_t *restrict res, int stride, const int16_t *restrict w, int16_t *restrict y, int wide, int n)
{
	int c, t;
	for (t = 0; t < n; t++, h += 64, s += 64, res += stride, y += wide) {
		for (c = 0; c < 64; c++) {
			const int16_t a = (int16_t)((int16_t)h[c] >> 8);
			y[c] = (int16_t)(uint16_t)((uint16_t)(a * s[c]) + (uint16_t)(res[c] * w[c]) + (uint16_t)w[64 + c]);
		}
	}
}

/* the sums of a row's words y >> 8 and of their squares, of four quarters at once: of the words in 16 bits first */
LOOP void c_sums(const int16_t *y, int wide, int32_t *s1, int32_t *s2)
{
	const int n = wide / 4 & ~15;
	const int16_t *y1 = y + n, *y2 = y1 + n, *y3 = y2 + n;
	int32_t a = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
	int c;
	for (c = 0; c < n; c++) {
		const int16_t v0 = (int16_t)(y[c] >> 8), v1 = (int16_t)(y1[c] >> 8), v2 = (int16_t)(y2[c] >> 8), v3 = (int16_t)(y3[c] >> 8);
		a += (int16_t)(v0 + v1 + v2 + v3);
		b0 += v0 * v0;
		b1 += v1 * v1;
		b2 += v2 * v2;
		b3 += v3 * v3;
	}
	*s1 = a;
	*s2 = b0 + b1 + b2 + b3;
}

/* what LayerNorm does to each word of a row: (y * r / 2^15 rounded) + m, the product clamped to [low, high] first, so that the sum needs no more */
typedef struct {
	int16_t r[64], m, low, high;
} c_factors;

static void c_factor(c_factors *f, int16_t r, int32_t m)
{
	int c;
	for (c = 0; c < 64; c++) {
		f->r[c] = r;
	}
	f->m = (int16_t)m;
	f->low = (int16_t)(m < 0 ? -32768 - m : -32768);
	f->high = (int16_t)(m > 0 ? 32767 - m : 32767);
}

/* of a loop over c: to x the word y[c] */
#define NORMAL(x) \
	const uint16_t rest = (uint16_t)((uint32_t)(uint16_t)y[c] * (uint16_t)r[c]); \
	int16_t x = (int16_t)(y[c] * r[c] >> 16); \
	x = (int16_t)((uint16_t)(x * 2) + (uint16_t)((rest >> 14) + 1) / 2); \
	x = x < low ? low : x; \
	x = x > high ? high : x; \
	x = (int16_t)(x + m)

/* A row as bytes, where the rounding was added to m; by is 2^16 / 2^shift. w are the groups' constants. */
LOOP void c_bytes(const int16_t *restrict y, const c_factors *restrict f, const int16_t *restrict by, const int16_t *restrict w, int8_t *restrict to, int wide)
{
	const int16_t *r = f->r, m = f->m, low = f->low, high = f->high;
	int16_t b[64];
	int c;
	for (; wide > 0; wide -= 64, y += 64, to += 64, w += 13 * 64) {
		for (c = 0; c < 64; c++) {
			NORMAL(v);
			b[c] = (int16_t)(v * by[c] >> 16);
		}
		for (c = 0; c < 64; c++) {
			const int16_t x = b[c] < -128 ? -128 : b[c];
			to[c] = (int8_t)((x > 127 ? 127 : x) ^ w[12 * 64 + c]);
		}
	}
}

/* a row as words: in their place */
LOOP void c_words(int16_t *restrict y, const c_factors *restrict f, const int16_t *restrict w, int wide)
{
	const int16_t *r = f->r, m = f->m, low = f->low, high = f->high;
	int c;
	for (; wide > 0; wide -= 64, y += 64, w += 13 * 64) {
		for (c = 0; c < 64; c++) {
			NORMAL(v);
			y[c] = (int16_t)(v ^ w[12 * 64 + c]);
		}
	}
}

LOOP void c_maximum(const int16_t *restrict y, int16_t *restrict top, int wide)
{
	int c;
	wide &= ~63;
	for (c = 0; c < wide; c++) {
		top[c] = y[c] > top[c] ? y[c] : top[c];
	}
}

/* n rows of a gated layer, at most 32; the arguments are those of gated_rows. */
static void gated_rows_c(const gated_layer *g, const int16_t *w, const int8_t *x, int h, int gate, int in, const int8_t *res, void *out, int n, int16_t *y)
{
	static const int8_t none[64] = {0};
	const int wide = g->channels, shift = g->shift;
	const int16_t half = (int16_t)(1 << (shift - 1));
	int16_t by[64];
	int16_t inputs[19 * 64];
	uint16_t sums[16 * 64];
	uint8_t gates[16 * 64];
	c_factors f;
	int c, t, i, j;
	for (c = 0; c < 64; c++) {
		by[c] = (int16_t)(shift > 1 && shift < 16 ? 1 << (16 - shift) : 0);
	}
	for (t = 0; t < n; t += 16) {
		const int k = n - t < 16 ? n - t : 16;
		for (c = 0; c < wide; c += 64) {
			const int16_t *of = w + c * 13;
			const int8_t *from = x + t * in + c / 2;
			c_widen(from + gate, in, inputs, k + 3);
			c_upper(of + 5 * 64, inputs, gates, k);
			c_gates(g->gate + 64, gates, k * 64);
			c_widen(from + h, in, inputs, k + 3);
			c_filter(of, inputs, sums, k);
			if (g->norm && g->rho != 0) {
				c_join(sums, gates, res + t * wide + c, wide, of + 10 * 64, y + t * wide + c, wide, k);
			} else if (g->norm) {
				c_join(sums, gates, none, 0, of + 10 * 64, y + t * wide + c, wide, k);
			} else if (shift > 1) {
				c_plain(sums, gates, half, by, (int8_t *)out + t * wide + c, wide, k);
			} else {
				for (i = 0; i < k; i++) {
					for (j = 0; j < 64; j++) {
						const int v = (((int16_t)sums[i * 64 + j] >> 8) * gates[i * 64 + j] + 1) >> 1;
						((int8_t *)out)[(t + i) * wide + c + j] = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
					}
				}
			}
		}
	}
	for (t = 0; t < n && g->norm; t++, y += wide) {
		int16_t r, m;
		int32_t s1, s2;
		c_sums(y, wide, &s1, &s2);
		norm_factors(s1, s2, wide, g->mean_m, g->eps, g->a, g->s, &r, &m);
		if (g->wide == 0 && shift > 1) { /* the rounding can be added before the saturation: both end at 127 */
			c_factor(&f, r, m + half);
			c_bytes(y, &f, by, w, (int8_t *)out + t * wide, wide);
			continue;
		}
		c_factor(&f, r, m);
		c_words(y, &f, w, wide);
		if (g->wide != 0) {
			c_maximum(y, out, wide);
			continue;
		}
		for (c = 0; c < wide; c++) {
			const int flip = w[(c & ~63) * 13 + 12 * 64 + c % 64], v = ((y[c] ^ flip) + half) >> shift;
			((int8_t *)out)[t * wide + c] = (int8_t)((v < -128 ? -128 : v > 127 ? 127 : v) ^ flip);
		}
	}
}

/* Rows of n tokens, of 8 bits and cols channels. */
static void copy_rows_c(const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out)
{
	int t;
	for (t = 0; t < n; t++, out += cols) {
		memcpy(out, table + (size_t)tokens[t] * (size_t)cols, (size_t)cols);
	}
}

/* n rows, as columns of each channel into a state, where they lie as on every path, and back */
static MAYBE_UNUSED void save_rows_c(const int8_t *rows, int8_t *state, int n, int cols)
{
	int c, t;
	for (c = 0; c < cols; c++) {
		for (t = 0; t < n; t++) {
			state[c * n + t] = rows[t * cols + c];
		}
	}
}

static MAYBE_UNUSED void restore_rows_c(int8_t *rows, const int8_t *state, int n, int cols)
{
	int c, t;
	for (c = 0; c < cols; c++) {
		for (t = 0; t < n; t++) {
			rows[t * cols + c] = state[c * n + t];
		}
	}
}

/* What a path has on rows, and whether it does: on Arm, kernels have planes. */
#if defined(HAVE_NEON)
#define ROWS_OF(path) ((path) == PORTABLE)
#else
#define ROWS_OF(path) ((path) <= PATH_AVX512)
#endif

/* n rows of a gated layer, whose constants are x86 for the kernels there, w for those in C alone */
static MAYBE_UNUSED void layer_by_rows(int path, const gated_layer *g, const int16_t *x86, const int16_t *w, const int8_t *x, int h, int gate, int in, const int8_t *res, void *out, int n, int16_t *y)
{
	(void)path;
	(void)x86;
#if defined(HAVE_X86)
	if (path == PATH_AVX512) {
		gated_rows(g, x86, x, h, gate, in, res, out, n, y);
		return;
	}
	if (path == PATH_AVX2) {
		gated_rows_avx2(g, x86, x, h, gate, in, res, out, n, y);
		return;
	}
#endif
	gated_rows_c(g, w, x, h, gate, in, res, out, n, y);
}

static MAYBE_UNUSED void tokens_by_rows(int path, const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out)
{
	(void)path;
#if defined(HAVE_X86)
	if (path != PORTABLE) {
		copy_rows(table, cols, tokens, n, out);
		return;
	}
#endif
	copy_rows_c(table, cols, tokens, n, out);
}

static MAYBE_UNUSED void save_by_rows(int path, const int8_t *rows, int8_t *state, int n, int cols)
{
	(void)path;
#if defined(HAVE_X86)
	if (path != PORTABLE) {
		save_rows(rows, state, n, cols);
		return;
	}
#endif
	save_rows_c(rows, state, n, cols);
}

static MAYBE_UNUSED void restore_by_rows(int path, int8_t *rows, const int8_t *state, int n, int cols)
{
	(void)path;
#if defined(HAVE_X86)
	if (path != PORTABLE) {
		restore_rows(rows, state, n, cols);
		return;
	}
#endif
	restore_rows_c(rows, state, n, cols);
}
