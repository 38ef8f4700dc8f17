#if defined(HAVE_NEON)
#define NEON static inline __attribute__((always_inline, unused))
#if defined(__ARM_FEATURE_DOTPROD) /* all of the file has it */
#define DOTPROD_TARGET __attribute__((unused))
#define DOTPROD NEON
#elif defined(HAVE_DOTPROD)
#define DOTPROD_TARGET __attribute__((target("arch=armv8.2-a+dotprod"), unused))
#define DOTPROD static inline __attribute__((target("arch=armv8.2-a+dotprod"), always_inline, unused))
#endif

/* The kernels for Arm: 16 positions at a time, in the order of time. Taps are unsigned, so the values are taken as x + 128 and the
 * biases are less by 128 times the taps' sum. */

NEON uint8x16_t neon_unsigned(const int8_t *x) { return veorq_u8(vld1q_u8((const uint8_t *)x), vdupq_n_u8(0x80)); }

typedef struct {
	uint8x16x2_t base, slope;
} neon_gate;

NEON neon_gate neon_pieces(const uint8_t *p)
{
	neon_gate g;
	g.base.val[0] = vld1q_u8(p);
	g.base.val[1] = vld1q_u8(p + 16);
	g.slope.val[0] = vld1q_u8(p + 32);
	g.slope.val[1] = vld1q_u8(p + 48);
	return g;
}

NEON int8x16_t neon_sigmoid(const neon_gate *p, uint8x16_t g)
{
	const uint8x16_t i = vshrq_n_u8(g, 3);
	return vreinterpretq_s8_u8(vshrq_n_u8(vmlaq_u8(vqtbl2q_u8(p->base, i), vqtbl2q_u8(p->slope, i), g), 1));
}

/* stores the first n of 16 bytes: what stands behind them stays */
NEON void neon_store(int8_t *to, int8x16_t v, int n)
{
	if (n < 16) {
		static const int8_t at[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
		v = vbslq_s8(vcltq_s8(vld1q_s8(at), vdupq_n_s8((int8_t)n)), v, vld1q_s8(to));
	}
	vst1q_s8(to, v);
}

/* what becomes of h and the gate g of 16 positions of channel c: the layer's output, or LayerNorm's input */
NEON void neon_after(const uint32_t *constants, int shift, int c, int8x16_t h, int8x16_t s, const int8_t *res, int res_stride, void *out, int out_stride, int n, int16_t *y, int norm)
{
	if (norm) {
		const uint32x2_t w = vld1_u32(constants + 6);
		int16x8_t low = vdupq_lane_s16(vreinterpret_s16_u32(w), 0), high = low;
		if (norm > 1) {
			const int8x16_t r = vld1q_s8(res + c * res_stride), rho = vdupq_lane_s8(vreinterpret_s8_u32(w), 4);
			low = vmlal_s8(low, vget_low_s8(r), vget_low_s8(rho));
			high = vmlal_high_s8(high, r, rho);
		}
		vst1q_s16(y + c * 32, vmlal_s8(low, vget_low_s8(h), vget_low_s8(s)));
		vst1q_s16(y + c * 32 + 8, vmlal_high_s8(high, h, s));
	} else {
		const int16x8_t by = vdupq_n_s16((int16_t)-shift);
		const int16x8_t low = vrshlq_s16(vmull_s8(vget_low_s8(h), vget_low_s8(s)), by), high = vrshlq_s16(vmull_high_s8(h, s), by);
		neon_store((int8_t *)out + c * out_stride, vqmovn_high_s16(vqmovn_s16(low), high), n);
	}
}

NEON uint8x16_t neon_filter(const int8_t *x, const uint32_t *w, int at, int more, int bias, int taps)
{
	uint16x8_t low = vreinterpretq_u16_u32(vld1q_dup_u32(w + bias)), high = low;
	int i;
	for (i = 0; i < taps; i++) {
		/* taps lie by pairs, each pair twice in a word */
		const uint8x16_t v = neon_unsigned(x + i), t = vld1q_dup_u8((const uint8_t *)(w + (i < 4 ? at + i / 2 : more + i / 2 - 2)) + i % 2);
		low = vmlal_u8(low, vget_low_u8(v), vget_low_u8(t));
		high = vmlal_high_u8(high, v, t);
	}
	return vuzp2q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
}

NEON void neon_front(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride, int n, int16_t *y, int taps, int norm)
{
	const neon_gate p = neon_pieces(g->gate);
	const uint32_t *w = g->w;
	const int channels = g->channels, words = g->words, shift = g->shift;
	int c;
	for (c = 0; c < channels; c++, w += words) {
		const int8x16_t s = neon_sigmoid(&p, neon_filter(x + (int)(w[9] >> 16) * stride, w, 2, 16, 11, taps));
		const int8x16_t h = vreinterpretq_s8_u8(neon_filter(x + (int)(w[9] & 0xffff) * stride, w, 0, 14, 10, taps));
		neon_after(w, shift, c, h, s, res, res_stride, out, out_stride, n, y, norm);
	}
}

/* the factors of 4 positions: norm_factors */
NEON void neon_factors(const gated_layer *g, int32x4_t s1, int32x4_t s2, int32x4_t *r, int32x4_t *m)
{
	const int32x4_t round = vdupq_n_s32(1 << 14), one = vdupq_n_s32(1), zero = vdupq_n_s32(0);
	int32x4_t v, e, u, x, t, s, mean;
	uint32x4_t f;
	v = vmlsq_s32(vmlaq_n_s32(vdupq_n_s32(g->eps), s2, g->channels), s1, s1);
	v = vmaxq_s32(v, one);
	e = vandq_s32(vsubq_s32(vclzq_s32(v), one), vdupq_n_s32(~1));
	u = vreinterpretq_s32_u32(vshrq_n_u32(vshlq_u32(vreinterpretq_u32_s32(v), e), 16));
	x = vaddq_s32(vdupq_n_s32(25518), vshrq_n_s32(vmulq_n_s32(u, -9988), 15));
	x = vaddq_s32(vdupq_n_s32(-24211), vshrq_n_s32(vmulq_s32(u, x), 15));
	x = vaddq_s32(vdupq_n_s32(12748), vshrq_n_s32(vmulq_s32(u, x), 15));
	t = vshrq_n_s32(vmulq_s32(x, x), 10);
	t = vshrq_n_s32(vmulq_s32(t, u), 15);
	x = vshrq_n_s32(vmulq_s32(x, vsubq_s32(vdupq_n_s32(49152), t)), 13);
	s = vmaxq_s32(vsubq_s32(vdupq_n_s32(g->s), vshrq_n_s32(e, 1)), zero);
	f = vshlq_u32(vreinterpretq_u32_s32(vmulq_n_s32(x, g->a)), vnegq_s32(s));
	*r = vreinterpretq_s32_u32(vminq_u32(f, vdupq_n_u32(32767)));
	mean = vaddq_s32(vshrq_n_s32(vaddq_s32(vmulq_n_s32(s1, g->mean_m), round), 15), vdupq_n_s32(128));
	mean = vshrq_n_s32(vaddq_s32(vmulq_s32(mean, *r), round), 15);
	*m = vmaxq_s32(vminq_s32(vnegq_s32(mean), vdupq_n_s32(16383)), vdupq_n_s32(-16384));
}

/* adds the words y >> 8 of 8 positions of a channel to the sums, and their squares */
NEON void neon_sum(const int16_t *y, int32x4_t *s1, int32x4_t *s2)
{
	const int16x8_t v = vshrq_n_s16(vld1q_s16(y), 8);
	s1[0] = vaddw_s16(s1[0], vget_low_s16(v));
	s1[1] = vaddw_high_s16(s1[1], v);
	s2[0] = vmlal_s16(s2[0], vget_low_s16(v), vget_low_s16(v));
	s2[1] = vmlal_high_s16(s2[1], v, v);
}

NEON void neon_sums(const gated_layer *g, const int16_t *y, int from, int32x4_t *s1, int32x4_t *s2)
{
	int c;
	for (c = from; c < g->channels; c++) {
		neon_sum(y + c * 32, s1, s2);
		neon_sum(y + c * 32 + 8, s1 + 2, s2 + 2);
	}
}

/* the normalised words of 8 positions */
NEON int16x8_t neon_normal(const int16_t *y, int16x8_t r, int16x8_t m) { return vqaddq_s16(vqrdmulhq_s16(vld1q_s16(y), r), m); }

/* the rest of a layer with LayerNorm, from its input y and the sums of its 16 positions */
NEON void neon_norm(const gated_layer *g, const int16_t *y, const int32x4_t *s1, const int32x4_t *s2, void *out, int out_stride, int n)
{
	static const int16_t at[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	const int16x8_t by = vdupq_n_s16((int16_t)-g->shift), least = vdupq_n_s16(-32768), most = vdupq_n_s16((int16_t)n);
	const uint16x8_t in0 = vcltq_s16(vld1q_s16(at), most), in1 = vcltq_s16(vld1q_s16(at + 8), most);
	const uint32_t *w = g->w;
	const int channels = g->channels, words = g->words, wide = g->wide;
	int16x8_t r[2], m[2];
	int c;
	for (c = 0; c < 2; c++) {
		int32x4_t r0, r1, m0, m1;
		neon_factors(g, s1[2 * c], s2[2 * c], &r0, &m0);
		neon_factors(g, s1[2 * c + 1], s2[2 * c + 1], &r1, &m1);
		r[c] = vcombine_s16(vmovn_s32(r0), vmovn_s32(r1));
		m[c] = vcombine_s16(vmovn_s32(m0), vmovn_s32(m1));
	}
	for (c = 0; c < channels; c++, w += words) {
		const int16x8_t flip = vreinterpretq_s16_u32(vld1q_dup_u32(w + 8));
		int16x8_t a = neon_normal(y + c * 32, r[0], m[0]), b = neon_normal(y + c * 32 + 8, r[1], m[1]);
		if (wide == 0) {
			const int8x16_t v = vqmovn_high_s16(vqmovn_s16(vrshlq_s16(a, by)), vrshlq_s16(b, by));
			neon_store((int8_t *)out + c * out_stride, veorq_s8(v, vreinterpretq_s8_s16(flip)), n);
			continue;
		}
		a = veorq_s16(a, flip);
		b = veorq_s16(b, flip);
		if (wide == 1) {
			int16_t *to = (int16_t *)out + c * out_stride;
			neon_store((int8_t *)to, vreinterpretq_s8_s16(a), 2 * n);
			if (n > 8) {
				neon_store((int8_t *)(to + 8), vreinterpretq_s8_s16(b), 2 * n - 16);
			}
		} else {
			int16_t *to = (int16_t *)out + c, top;
			top = vmaxvq_s16(vmaxq_s16(vbslq_s16(in0, a, least), vbslq_s16(in1, b, least)));
			*to = top > *to ? top : *to;
		}
	}
}

/* One block of a gated layer, as gated_avx2. */
static __attribute__((unused)) void gated_neon(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
	int i;
	for (i = 0; i < n; i += 16) {
		int32x4_t s1[4], s2[4];
		void *to = g->wide == 2 ? out : (void *)((int8_t *)out + i * (g->wide + 1));
		const int8_t *r = g->rho != 0 ? res + i : NULL;
		if (g->norm && g->words == 14) {
			neon_front(g, x + i, stride, r, res_stride, NULL, 0, n - i, y, 4, 1 + (g->rho != 0));
		} else if (g->norm) {
			neon_front(g, x + i, stride, r, res_stride, NULL, 0, n - i, y, 8, 1 + (g->rho != 0));
		} else if (g->words == 14) {
			neon_front(g, x + i, stride, NULL, 0, to, out_stride, n - i, NULL, 4, 0);
		} else {
			neon_front(g, x + i, stride, NULL, 0, to, out_stride, n - i, NULL, 8, 0);
		}
		if (g->norm) {
			s1[0] = s1[1] = s1[2] = s1[3] = s2[0] = s2[1] = s2[2] = s2[3] = vdupq_n_s32(0);
			neon_sums(g, y, 0, s1, s2);
			neon_norm(g, y, s1, s2, to, out_stride, n - i);
		}
	}
}

#if defined(HAVE_DOTPROD)
/* four taps on the values at x and at one, two and three behind it; the second bytes of the sums, in the order of time */
DOTPROD uint8x16_t dot_filter(const uint8x16_t *x, uint8x16_t t, uint32x4_t b)
{
	const uint16x8_t c0 = vreinterpretq_u16_u32(vdotq_u32(b, x[0], t)), c1 = vreinterpretq_u16_u32(vdotq_u32(b, x[1], t));
	const uint16x8_t c2 = vreinterpretq_u16_u32(vdotq_u32(b, x[2], t)), c3 = vreinterpretq_u16_u32(vdotq_u32(b, x[3], t));
	return vtrn2q_u8(vreinterpretq_u8_u16(vtrn1q_u16(c0, c2)), vreinterpretq_u8_u16(vtrn1q_u16(c1, c3)));
}

DOTPROD void dot_load(const int8_t *x, uint8x16_t *v)
{
	int i;
	for (i = 0; i < 4; i++) {
		v[i] = neon_unsigned(x + i);
	}
}

DOTPROD void dot_front(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride, int n, int16_t *y, int norm)
{
	const neon_gate p = neon_pieces(g->gate);
	const uint32_t *w = g->w;
	const int channels = g->channels, shift = g->shift;
	int c, i;
	for (c = 0; c < channels; c += 2, w += 28) {
		int8x16_t s[2];
		uint8x16_t v[4];
		dot_load(x + (int)(w[9] >> 16) * stride, v);
		for (i = 0; i < 2; i++) {
			const uint32x2_t bias = vld1_u32(w + i * 14 + 10), taps = vld1_u32(w + i * 14 + 12);
			s[i] = neon_sigmoid(&p, dot_filter(v, vreinterpretq_u8_u32(vdupq_lane_u32(taps, 1)), vdupq_lane_u32(bias, 1)));
		}
		dot_load(x + (int)(w[9] & 0xffff) * stride, v);
		for (i = 0; i < 2; i++) {
			const uint32x2_t bias = vld1_u32(w + i * 14 + 10), taps = vld1_u32(w + i * 14 + 12);
			const int8x16_t h = vreinterpretq_s8_u8(dot_filter(v, vreinterpretq_u8_u32(vdupq_lane_u32(taps, 0)), vdupq_lane_u32(bias, 0)));
			neon_after(w + i * 14, shift, c + i, h, s[i], res, res_stride, out, out_stride, n, y, norm);
		}
	}
}

/* the sums of four channels at a time, and of their squares */
DOTPROD void dot_sums(const gated_layer *g, const int16_t *y, int32x4_t *s1, int32x4_t *s2)
{
	const int8x16_t one = vdupq_n_s8(1);
	int c, i;
	for (c = 0; c + 4 <= g->channels; c += 4) {
		for (i = 0; i < 2; i++) { /* upper bytes: of two channels, then of four */
			const int8_t *at = (const int8_t *)(y + c * 32 + 8 * i);
			const int16x8_t a = vreinterpretq_s16_s8(vtrn2q_s8(vld1q_s8(at), vld1q_s8(at + 64)));
			const int16x8_t b = vreinterpretq_s16_s8(vtrn2q_s8(vld1q_s8(at + 128), vld1q_s8(at + 192)));
			const int8x16_t low = vreinterpretq_s8_s16(vzip1q_s16(a, b)), high = vreinterpretq_s8_s16(vzip2q_s16(a, b));
			s1[2 * i] = vdotq_s32(s1[2 * i], low, one);
			s1[2 * i + 1] = vdotq_s32(s1[2 * i + 1], high, one);
			s2[2 * i] = vdotq_s32(s2[2 * i], low, low);
			s2[2 * i + 1] = vdotq_s32(s2[2 * i + 1], high, high);
		}
	}
	neon_sums(g, y, c, s1, s2);
}

/* One block of a gated layer of at most four taps, whose neighbours read the same inputs. */
static DOTPROD_TARGET void gated_dotprod(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
	int i;
	for (i = 0; i < n; i += 16) {
		int32x4_t s1[4], s2[4];
		void *to = g->wide == 2 ? out : (void *)((int8_t *)out + i * (g->wide + 1));
		if (!g->norm) {
			dot_front(g, x + i, stride, NULL, 0, to, out_stride, n - i, NULL, 0);
			continue;
		}
		if (g->rho != 0) {
			dot_front(g, x + i, stride, res + i, res_stride, NULL, 0, n - i, y, 2);
		} else {
			dot_front(g, x + i, stride, NULL, 0, NULL, 0, n - i, y, 1);
		}
		s1[0] = s1[1] = s1[2] = s1[3] = s2[0] = s2[1] = s2[2] = s2[3] = vdupq_n_s32(0);
		dot_sums(g, y, s1, s2);
		neon_norm(g, y, s1, s2, to, out_stride, n - i);
	}
}
#endif

/* Rows of n tokens, of 8 bits and cols channels, to planes. */
static __attribute__((unused)) void rows_neon(const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out, int stride)
{
	int t, c, i, j;
	for (t = 0; t < n; t += 16) {
		const int left = n - t;
		const uint8_t *row[16];
		for (i = 0; i < 16; i++) {
			row[i] = table + (size_t)tokens[i < left ? t + i : t] * (size_t)cols;
		}
		for (c = 0; c + 16 <= cols; c += 16) {
			uint8x16_t a[16], b[16];
			for (i = 0; i < 16; i++) {
				a[i] = vld1q_u8(row[i] + c);
			}
			/* four times, vector i and i + 8 side by side: a transposition of 16 by 16 bytes */
			for (j = 0; j < 2; j++) {
				for (i = 0; i < 8; i++) {
					b[2 * i] = vzip1q_u8(a[i], a[i + 8]);
					b[2 * i + 1] = vzip2q_u8(a[i], a[i + 8]);
				}
				for (i = 0; i < 8; i++) {
					a[2 * i] = vzip1q_u8(b[i], b[i + 8]);
					a[2 * i + 1] = vzip2q_u8(b[i], b[i + 8]);
				}
			}
			for (i = 0; i < 16; i++) {
				neon_store(out + (ptrdiff_t)(c + i) * stride + t, vreinterpretq_s8_u8(a[i]), left);
			}
		}
		for (c = cols & ~15; c < cols; c++) {
			int8_t *to = out + (ptrdiff_t)c * stride + t;
			for (i = 0; i < 16 && i < left; i++) {
				to[i] = (int8_t)row[i][c];
			}
		}
	}
}

/* adds to the sums of rows outputs the products of w, n a row, and x, which has 8 bits a number or 16 */
static __attribute__((unused)) void dense_neon(const int8_t *w, int rows, int n, const void *x, int bits, int32_t *sum)
{
	const int16_t *words = x;
	const int8_t *bytes = x;
	int o, i;
	for (o = 0; o < rows; o++, w += n) {
		int32x4_t a = vdupq_n_s32(0), b = a;
		int32_t rest = 0;
		if (bits == 8) {
			for (i = 0; i + 16 <= n; i += 16) {
				const int8x16_t v = vld1q_s8(w + i), u = vld1q_s8(bytes + i);
				a = vpadalq_s16(a, vmull_s8(vget_low_s8(v), vget_low_s8(u)));
				b = vpadalq_s16(b, vmull_high_s8(v, u));
			}
			for (; i < n; i++) {
				rest += w[i] * bytes[i];
			}
		} else {
			for (i = 0; i + 8 <= n; i += 8) {
				const int16x8_t v = vmovl_s8(vld1_s8(w + i)), u = vld1q_s16(words + i);
				a = vmlal_s16(a, vget_low_s16(v), vget_low_s16(u));
				b = vmlal_high_s16(b, v, u);
			}
			for (; i < n; i++) {
				rest += w[i] * words[i];
			}
		}
		sum[o] += rest + vaddvq_s32(vaddq_s32(a, b));
	}
}
#endif
