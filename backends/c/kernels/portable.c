/* The kernels in C alone on planes: loops that compilers make vectors of 16-bit numbers of, eight channels at a time, so that what one
 * loop wrote has long been stored when the next reads it. They stay functions: inlined, compilers see that a filter's operands overlap,
 * and carry them from one position to the next instead. n, a number of positions, is a multiple of 16, k are channels. */
LOOP void c_widen(const int8_t *restrict x, int16_t *restrict to, int n)
{
	int t;
	n &= ~15;
	for (t = 0; t < n; t++) {
		to[t] = x[t];
	}
}

/* Four taps and a bias, modulo 2^16; for channel i, the taps are the lower bytes of w[i * words] and of the word behind it. x0 to x3 are the values at each
 * tap, 48 from one channel's to the next, which is the same one's where channels are paired. */
LOOP void c_filter(const uint32_t *w, const uint32_t *bias, int words, int paired, const int16_t *x0, const int16_t *x1, const int16_t *x2, const int16_t *x3, uint16_t *restrict to, int n, int k)
{
	int i, t;
	n &= ~15;
	for (i = 0; i < k; i++, w += words, bias += words, to += n) {
		const int16_t w0 = w[0] & 255, w1 = w[0] >> 8 & 255, w2 = w[1] & 255, w3 = w[1] >> 8 & 255;
		const uint16_t b = (uint16_t)*bias;
		const int at = (i >> paired) * 48;
		for (t = 0; t < n; t++) {
			to[t] = (uint16_t)(b + (uint16_t)(w0 * x0[at + t]) + (uint16_t)(w1 * x1[at + t]) + (uint16_t)(w2 * x2[at + t]) + (uint16_t)(w3 * x3[at + t]));
		}
	}
}

/* four more taps */
LOOP void c_more(const uint32_t *w, int words, int paired, const int16_t *x0, const int16_t *x1, const int16_t *x2, const int16_t *x3, uint16_t *restrict to, int n, int k)
{
	int i, t;
	n &= ~15;
	for (i = 0; i < k; i++, w += words, to += n) {
		const int16_t w0 = w[0] & 255, w1 = w[0] >> 8 & 255, w2 = w[1] & 255, w3 = w[1] >> 8 & 255;
		const int at = (i >> paired) * 48;
		for (t = 0; t < n; t++) {
			to[t] = (uint16_t)(to[t] + (uint16_t)(w0 * x0[at + t]) + (uint16_t)(w1 * x1[at + t]) + (uint16_t)(w2 * x2[at + t]) + (uint16_t)(w3 * x3[at + t]));
		}
	}
}

LOOP void c_upper(const uint16_t *restrict from, uint8_t *restrict to, int n)
{
	int t;
	n &= ~15;
	for (t = 0; t < n; t++) {
		to[t] = (uint8_t)(from[t] >> 8);
	}
}

/* the gates of n bytes, in four places at once; no pointer is restricted, or compilers make vectors of this, byte by byte */
LOOP void c_gates(const uint8_t *gate, uint8_t *to, int n)
{
	uint8_t *end = to + n / 4;
	const int n1 = n / 4, n2 = n / 2, n3 = n1 + n2;
	for (; to < end; to++) {
		to[0] = gate[to[0]];
		to[n1] = gate[to[n1]];
		to[n2] = gate[to[n2]];
		to[n3] = gate[to[n3]];
	}
}

/* the rounded products of h and the gate, as bytes; by are 2^16 / 2^shift, for each position: what
 * compilers load in the loop, they know to have 16 bits */
LOOP void c_plain(const uint16_t *restrict h, const uint8_t *restrict s, int16_t half, const int16_t *restrict by, int8_t *restrict to, int stride, int n, int k)
{
	int16_t v[32];
	int i, t;
	n &= ~15;
	for (i = 0; i < k; i++, h += n, s += n, to += stride) {
		for (t = 0; t < n; t++) {
			const int16_t x = (int16_t)(((int16_t)h[t] >> 8) * s[t] + half);
			v[t] = (int16_t)(x * by[t] >> 16);
		}
		for (t = 0; t < n; t++) { /* apart: with the product's 32 bits in sight, clang clamps these */
			const int16_t x = v[t] < -128 ? -128 : v[t];
			to[t] = (int8_t)(x > 127 ? 127 : x);
		}
	}
}

/* LayerNorm's input */
LOOP void c_join(const uint16_t *restrict h, const uint8_t *restrict s, const int8_t *restrict res, int stride, const int16_t *restrict rho, const int16_t *restrict constant, int16_t *restrict y, int n, int k)
{
	int i, t;
	n &= ~15;
	for (i = 0; i < k; i++, h += n, s += n, res += stride, y += 32) {
		const int16_t by = rho[i];
		const uint16_t plus = (uint16_t)constant[i];
		for (t = 0; t < n; t++) {
			const int16_t a = (int16_t)((int16_t)h[t] >> 8);
			y[t] = (int16_t)(uint16_t)((uint16_t)(a * s[t]) + (uint16_t)(res[t] * by) + plus);
		}
	}
}

/* adds pairs of channels' words y >> 8 to the sums, and their squares */
LOOP void c_sums(const int16_t *restrict y, int16_t *restrict s1, int32_t *restrict s2, int n, int k)
{
	int i, t;
	n &= ~15;
	for (i = 0; i + 2 <= k; i += 2, y += 64) {
		for (t = 0; t < n; t++) {
			const int16_t a = (int16_t)(y[t] >> 8), b = (int16_t)(y[32 + t] >> 8);
			s1[t] = (int16_t)(s1[t] + a + b);
			s2[t] += (uint16_t)((uint16_t)(a * a) + (uint16_t)(b * b));
		}
	}
	for (t = 0; t < n && i < k; t++) {
		const int16_t a = (int16_t)(y[t] >> 8);
		s1[t] = (int16_t)(s1[t] + a);
		s2[t] += a * a;
	}
}

/* round(y * r / 2^15) + m, saturated: low and high are what the product is clamped to */
LOOP void c_normal(const int16_t *restrict y, const int16_t *restrict r, const int16_t *restrict m, const int16_t *restrict low, const int16_t *restrict high, int16_t *restrict to, int n)
{
	int t;
	n &= ~15;
	for (t = 0; t < n; t++) {
		const uint16_t rest = (uint16_t)((uint32_t)(uint16_t)y[t] * (uint16_t)r[t]);
		int16_t v = (int16_t)(y[t] * r[t] >> 16);
		v = (int16_t)((uint16_t)(v * 2) + (uint16_t)((rest >> 14) + 1) / 2);
		v = v < low[t] ? low[t] : v;
		v = v > high[t] ? high[t] : v;
		to[t] = (int16_t)(v + m[t]);
	}
}

/* The same as bytes, where the rounding was added to m; by are 2^16 / 2^shift. */
LOOP void c_bytes(const int16_t *restrict y, const int16_t *restrict r, const int16_t *restrict m, const int16_t *restrict low, const int16_t *restrict high, const int16_t *restrict by,
	const int16_t *restrict flips, int8_t *restrict to, int stride, int n, int k)
{
	int16_t b[32];
	int i, t;
	n &= ~15;
	for (i = 0; i < k; i++, y += 32, to += stride) {
		const int16_t flip = flips[i];
		for (t = 0; t < n; t++) {
			const uint16_t rest = (uint16_t)((uint32_t)(uint16_t)y[t] * (uint16_t)r[t]);
			int16_t v = (int16_t)(y[t] * r[t] >> 16);
			v = (int16_t)((uint16_t)(v * 2) + (uint16_t)((rest >> 14) + 1) / 2);
			v = v < low[t] ? low[t] : v;
			v = v > high[t] ? high[t] : v;
			v = (int16_t)(v + m[t]);
			b[t] = (int16_t)(v * by[t] >> 16);
		}
		for (t = 0; t < n; t++) {
			const int16_t x = b[t] < -128 ? -128 : b[t];
			to[t] = (int8_t)((x > 127 ? 127 : x) ^ flip);
		}
	}
}

LOOP int16_t c_maximum(const int16_t *v, int16_t flip, int n)
{
	int16_t best = -32768;
	int t;
	n &= ~15;
	for (t = 0; t < n; t++) {
		const int16_t x = (int16_t)(v[t] ^ flip);
		best = x > best ? x : best;
	}
	return best;
}

/* the layer's rest, from the LayerNorm's input y and its sums */
static void c_norm(const gated_layer *g, const int16_t *y, const int16_t *s1, const int32_t *s2, void *out, int out_stride, int n, int w)
{
	int16_t r[32], m[32], low[32], high[32], by[32], v[32];
	int8_t bytes[32];
	/* up to 8 bits' shift, the rounding can be added before the saturation: both end at 127 */
	const int fast = g->wide == 0 && g->shift > 1 && g->shift <= 8, half = g->wide == 0 ? 1 << (g->shift - 1) : 0, early = fast ? half : 0;
	int t, c;
	for (t = 0; t < n; t++) {
		norm_factors(s1[t], s2[t], g->channels, g->mean_m, g->eps, g->a, g->s, &r[t], &m[t]);
	}
	for (; t < w; t++) {
		r[t] = m[t] = 0;
	}
	for (t = 0; t < w; t++) {
		const int32_t k = m[t] + early;
		low[t] = (int16_t)(k < 0 ? -32768 - k : -32768);
		high[t] = (int16_t)(k > 0 ? 32767 - k : 32767);
		m[t] = (int16_t)k;
		by[t] = fast ? (int16_t)(1 << (16 - g->shift)) : 0;
	}
	for (c = 0; c < g->channels && fast && n == w; c += 8) {
		const int k = g->channels - c < 8 ? g->channels - c : 8;
		int16_t flips[8];
		for (t = 0; t < k; t++) {
			flips[t] = (int16_t)g->w[(c + t) * g->words + 8];
		}
		c_bytes(y + c * 32, r, m, low, high, by, flips, (int8_t *)out + c * out_stride, out_stride, w, k);
	}
	for (; c < g->channels; c++) {
		const int16_t flip = (int16_t)g->w[c * g->words + 8], *of = y + c * 32;
		if (fast) {
			c_bytes(of, r, m, low, high, by, &flip, bytes, 0, w, 1);
			memcpy((int8_t *)out + c * out_stride, bytes, (size_t)n);
			continue;
		}
		c_normal(of, r, m, low, high, v, w);
		if (g->wide == 0) {
			int8_t *to = (int8_t *)out + c * out_stride;
			for (t = 0; t < n; t++) {
				const int32_t q = (v[t] + half) >> g->shift;
				to[t] = (int8_t)((q < -128 ? -128 : q > 127 ? 127 : q) ^ flip);
			}
		} else if (g->wide == 1) {
			int16_t *to = (int16_t *)out + c * out_stride;
			for (t = 0; t < n; t++) {
				to[t] = (int16_t)(v[t] ^ flip);
			}
		} else {
			int16_t *top = (int16_t *)out + c, best;
			for (t = n; t < w; t++) {
				v[t] = v[0];
			}
			best = c_maximum(v, flip, w);
			*top = best > *top ? best : *top;
		}
	}
}

/* One block of a gated layer: at most 32 positions, of which n are stored. x is the first tap's value at the first of them. */
static void gated_c(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride, int n, int16_t *y)
{
	static const int8_t none[32] = {0};
	const int w = n > 16 ? 32 : 16, paired = g->paired, words = g->words;
	const int16_t half = (int16_t)(1 << (g->shift - 1));
	int16_t inputs[2][8 * 48], s1[32], by[32];
	uint16_t sums[2][8 * 32];
	uint8_t gates[8 * 32];
	int32_t s2[32];
	int c, i, f, t;
	memset(s1, 0, sizeof s1);
	memset(s2, 0, sizeof s2);
	for (t = 0; t < w; t++) {
		by[t] = g->shift > 1 && g->shift < 16 ? (int16_t)(1 << (16 - g->shift)) : 0;
	}
	for (c = 0; c < g->channels; c += 8) {
		const int k = g->channels - c < 8 ? g->channels - c : 8;
		const uint32_t *of = g->w + c * words;
		for (i = 0; i < k; i += 1 + paired) {
			const uint32_t at = of[i * words + 9];
			c_widen(x + (int)(at & 0xffff) * stride, inputs[0] + (i >> paired) * 48, w + 16);
			c_widen(x + (int)(at >> 16) * stride, inputs[1] + (i >> paired) * 48, w + 16);
		}
		for (f = 0; f < 2; f++) {
			const int16_t *at = inputs[f];
			c_filter(of + 2 * f, of + 4 + f, words, paired, at, at + 1, at + 2, at + 3, sums[f], w, k);
			if (words > 14) {
				c_more(of + 14 + 2 * f, words, paired, at + 4, at + 5, at + 6, at + 7, sums[f], w, k);
			}
		}
		c_upper(sums[1], gates, k * w);
		c_gates(g->gate + 64, gates, k * w);
		if (g->norm) {
			int16_t *to = y + c * 32, rho[8], constant[8];
			for (i = 0; i < k; i++) {
				constant[i] = (int16_t)of[i * words + 6];
				rho[i] = (int16_t)of[i * words + 7];
			}
			c_join(sums[0], gates, g->rho != 0 ? res + c * res_stride : none, g->rho != 0 ? res_stride : 0, rho, constant, to, w, k);
			c_sums(to, s1, s2, w, k);
			continue;
		}
		for (i = 0; i < k; i++) {
			int8_t *to = (int8_t *)out + (c + i) * out_stride, bytes[32];
			if (g->shift == 1) {
				for (t = 0; t < n; t++) {
					const int v = (((int16_t)sums[0][i * w + t] >> 8) * gates[i * w + t] + 1) >> 1;
					to[t] = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
				}
			} else if (n == w) {
				c_plain(sums[0], gates, half, by, to, out_stride, w, k);
				break;
			} else {
				c_plain(sums[0] + i * w, gates + i * w, half, by, bytes, 0, w, 1);
				memcpy(to, bytes, (size_t)n);
			}
		}
	}
	if (g->norm) {
		c_norm(g, y, s1, s2, out, out_stride, n, w);
	}
}
