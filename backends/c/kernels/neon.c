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
 * biases are less by 128 times the taps' sum. Where RAISED is 1, planes hold them so, and the constants are less by 128 times rho. Constants lie by pairs of channels, 24 words, with LayerNorm 40, and 4 more where
 * there are more than four taps:
 *
 *	0   biases of h, h, g, g, each as 16 bits eight times
 *	16  the first four taps of h, h, g, g
 *	20  input channels of h and g, 16 bits each, of both
 *	22  flip, 0 or -1, of both
 *	24  the constants, each as 16 bits eight times
 *	32  rho, each as 8 bits 16 times
 *	40  (without LayerNorm: 24) the other four taps of h, h, g, g
 */

#define FOUR(x) x, x, x, x

/* What was loaded before is loaded again: constants that begin many sums come from memory, two by an instruction, instead of by
 * copies of a register. */
#define AGAIN() __asm__ volatile("" ::: "memory")

/* The compiler knows no more what p points to, so that what is loaded from there has its address in p and a constant; or what is in the vector
 * v, so that parts of it are taken out of it, not loaded one by one. */
#define OPAQUE(p) __asm__("" : "+r"(p))
#define OPAQUE_VECTOR(v) __asm__("" : "+w"(v))

/* The four are in registers at once, so that they are loaded two by an instruction. */
#define TOGETHER(a, b, c, d) __asm__("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d))

/* A gate's base and slope. Compilers that know no better keep pairs of registers in memory, so these have names there. */
#if defined(__clang__) || __GNUC__ >= 14 || defined(NEPCO_INTRINSICS)
#define GATE(p) const uint8x16x2_t base = vld1q_u8_x2(p), slope = vld1q_u8_x2((p) + 32)
#define LOOK_UP(i, u, v) ((u) = vqtbl2q_u8(base, i), (v) = vqtbl2q_u8(slope, i))
#else
#define GATE(p) \
	register uint8x16_t base0 __asm__("v28") = vld1q_u8(p); \
	register uint8x16_t base1 __asm__("v29") = vld1q_u8((p) + 16); \
	register uint8x16_t slope0 __asm__("v30") = vld1q_u8((p) + 32); \
	register uint8x16_t slope1 __asm__("v31") = vld1q_u8((p) + 48)
#define LOOK_UP(i, u, v) do { \
		__asm__("tbl %0.16b, {%1.16b, %2.16b}, %3.16b" : "=w"(u) : "w"(base0), "w"(base1), "w"(i)); \
		__asm__("tbl %0.16b, {%1.16b, %2.16b}, %3.16b" : "=w"(v) : "w"(slope0), "w"(slope1), "w"(i)); \
	} while (0)
#endif

/* s = the gate in 1/127 of the bytes g */
#define SIGMOID(s, g) do { \
		const uint8x16_t of = (g), segment = vshrq_n_u8(of, 3); \
		uint8x16_t b, m; \
		LOOK_UP(segment, b, m); \
		(s) = vreinterpretq_s8_u8(vshrq_n_u8(vmlaq_u8(b, m, of), 1)); \
	} while (0)

/* 16 bytes of a plane, as x + 128 */
NEON uint8x16_t neon_unsigned(const int8_t *x)
{
	const uint8x16_t v = vld1q_u8((const uint8_t *)x);
	return RAISED ? v : veorq_u8(v, vdupq_n_u8(0x80));
}

/* bytes as planes hold them */
NEON int8x16_t neon_raise(int8x16_t v) { return RAISED ? veorq_s8(v, vdupq_n_s8(-128)) : v; }

/* the first n of 16 bytes */
NEON uint8x16_t neon_first(int n)
{
	static const int8_t at[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	return vcltq_s8(vld1q_s8(at), vdupq_n_s8((int8_t)(n < 16 ? n : 16)));
}

/* stores the bytes of 16 that are in: what stands in the others' places stays */
NEON void neon_store(int8_t *to, int8x16_t v, uint8x16_t in, int part) { vst1q_s8(to, part ? vbslq_s8(in, v, vld1q_s8(to)) : v); }
NEON void neon_store_eight(int8_t *to, int8x8_t v, uint8x16_t in) { vst1_s8(to, vbsl_s8(vget_low_u8(in), v, vld1_s8(to))); }

/* v rounded to v / 2^shift, saturated, as signed bytes or as unsigned ones; by is -shift where shift is none of those that have code of their own, 0 */
#if defined(NEPCO_INTRINSICS)
#define NARROW(u, n) return (u) ? vreinterpretq_s8_u8(vqrshrun_high_n_s16(vqrshrun_n_s16(low, n), high, n)) : vqrshrn_high_n_s16(vqrshrn_n_s16(low, n), high, n)
#else
#define NARROW(u, n) \
	if (u) { \
		__asm__("sqrshrun %0.8b, %1.8h, #" #n "\n\tsqrshrun2 %0.16b, %2.8h, #" #n : "=&w"(v) : "w"(low), "w"(high)); \
	} else { \
		__asm__("sqrshrn %0.8b, %1.8h, #" #n "\n\tsqrshrn2 %0.16b, %2.8h, #" #n : "=&w"(v) : "w"(low), "w"(high)); \
	} \
	return v
#endif
NEON int8x16_t neon_narrow(int16x8_t low, int16x8_t high, int shift, int16x8_t by, int u)
{
	int8x16_t v;
	(void)v;
	switch (shift) {
	case 4:
		NARROW(u, 4);
	case 5:
		NARROW(u, 5);
	case 6:
		NARROW(u, 6);
	}
	low = vrshlq_s16(low, by);
	high = vrshlq_s16(high, by);
	return u ? vreinterpretq_s8_u8(vqmovun_high_s16(vqmovun_s16(low), high)) : vqmovn_high_s16(vqmovn_s16(low), high);
}

/* calls f(..., shift) with a constant for shift, 0 for those that have no code of their own */
#define BY_SHIFT(shift, f, ...) do { \
		switch (shift) { \
		case 4: f(__VA_ARGS__, 4); break; \
		case 5: f(__VA_ARGS__, 5); break; \
		case 6: f(__VA_ARGS__, 6); break; \
		default: f(__VA_ARGS__, 0); \
		} \
	} while (0)

/* where a block's results go */
typedef struct {
	const int8_t *res;
	int res_stride;
	int8_t *out;
	int out_stride;
	int16_t *y;
	uint8x16_t in; /* of the last 16 positions those that are wanted */
	int16x8_t by;
} neon_sink;

/* adds a residual's bytes r times rho */
NEON void neon_residual(int16x8_t *low, int16x8_t *high, int8x16_t r, int8x16_t rho)
{
	if (RAISED) {
		const uint8x16_t u = vreinterpretq_u8_s8(r), f = vreinterpretq_u8_s8(rho);
		*low = vreinterpretq_s16_u16(vmlal_u8(vreinterpretq_u16_s16(*low), vget_low_u8(u), vget_low_u8(f)));
		*high = vreinterpretq_s16_u16(vmlal_high_u8(vreinterpretq_u16_s16(*high), u, f));
	} else {
		*low = vmlal_s8(*low, vget_low_s8(r), vget_low_s8(rho));
		*high = vmlal_high_s8(*high, r, rho);
	}
}

/* The results of halves times 16 positions of pair channels from c on, of which h and the gate s are: the layer's output, of the last
 * half perhaps in part, or with norm LayerNorm's input, with norm 2 from a residual too. Constants of channel c are at w. */
NEON void neon_after(const uint32_t *w, const neon_sink *to, int c, int8x16_t h[2][2], int8x16_t s[2][2], int pair, int halves, int part, int norm, int shift)
{
	int8x16_t rho[2];
	int i, j;
	for (j = 0; j < pair && norm == 2; j++) {
		rho[j] = vreinterpretq_s8_u32(vld1q_u32(w + 32 + 4 * j));
	}
	for (i = 0; i < halves; i++) {
		int16x8_t low[2], high[2];
		AGAIN();
		for (j = 0; j < pair && norm; j++) {
			low[j] = vreinterpretq_s16_u32(vld1q_u32(w + 24 + 4 * j));
		}
		AGAIN();
		for (j = 0; j < pair && norm; j++) {
			high[j] = vreinterpretq_s16_u32(vld1q_u32(w + 24 + 4 * j));
		}
		if (pair == 2 && norm) {
			TOGETHER(low[0], low[1], high[0], high[1]);
		}
		for (j = 0; j < pair; j++) {
			if (norm) {
				int16_t *y = to->y + (c + j) * 32 + 16 * i;
				low[j] = vmlal_s8(low[j], vget_low_s8(h[i][j]), vget_low_s8(s[i][j]));
				high[j] = vmlal_high_s8(high[j], h[i][j], s[i][j]);
				if (norm == 2) {
					neon_residual(&low[j], &high[j], vld1q_s8(to->res + (c + j) * to->res_stride + 16 * i), rho[j]);
				}
				vst1q_s16(y, low[j]);
				vst1q_s16(y + 8, high[j]);
			} else {
				const int16x8_t a = vmull_s8(vget_low_s8(h[i][j]), vget_low_s8(s[i][j])), b = vmull_high_s8(h[i][j], s[i][j]);
				neon_store(to->out + (c + j) * to->out_stride + 16 * i, neon_raise(neon_narrow(a, b, shift, to->by, 0)), to->in, part && i == halves - 1);
			}
		}
	}
}

/* The same of eight positions of the pair of channels c and c + 1, eight bytes each. */
NEON void neon_after_eight(const uint32_t *w, const neon_sink *to, int c, int8x16_t h, int8x16_t s, int norm, int shift)
{
	const int16x8_t zero = vdupq_n_s16(0);
	int16x8_t a = norm ? vreinterpretq_s16_u32(vld1q_u32(w + 24)) : zero, b = norm ? vreinterpretq_s16_u32(vld1q_u32(w + 28)) : zero;
	a = vmlal_s8(a, vget_low_s8(h), vget_low_s8(s));
	b = vmlal_high_s8(b, h, s);
	if (norm) {
		if (norm == 2) {
			const int8_t *res = to->res + c * to->res_stride;
			neon_residual(&a, &b, vcombine_s8(vld1_s8(res), vld1_s8(res + to->res_stride)), vreinterpretq_s8_u32(vld1q_u32(w + 34)));
		}
		vst1q_s16(to->y + c * 32, a);
		vst1q_s16(to->y + c * 32 + 32, b);
	} else {
		int8_t *out = to->out + c * to->out_stride;
		const int8x16_t v = neon_raise(neon_narrow(a, b, shift, to->by, 0));
		neon_store_eight(out, vget_low_s8(v), to->in);
		neon_store_eight(out + to->out_stride, vget_high_s8(v), to->in);
	}
}

/* the taps of two channels' filters, each 16 times; f is 0 for h, 1 for g */
NEON void neon_taps(const uint32_t *w, int f, uint8x16_t t[2][4])
{
	uint8x16_t all = vreinterpretq_u8_u32(vld1q_u32(w + 16));
	OPAQUE_VECTOR(all);
	t[0][0] = f ? vdupq_laneq_u8(all, 8) : vdupq_laneq_u8(all, 0);
	t[0][1] = f ? vdupq_laneq_u8(all, 9) : vdupq_laneq_u8(all, 1);
	t[0][2] = f ? vdupq_laneq_u8(all, 10) : vdupq_laneq_u8(all, 2);
	t[0][3] = f ? vdupq_laneq_u8(all, 11) : vdupq_laneq_u8(all, 3);
	t[1][0] = f ? vdupq_laneq_u8(all, 12) : vdupq_laneq_u8(all, 4);
	t[1][1] = f ? vdupq_laneq_u8(all, 13) : vdupq_laneq_u8(all, 5);
	t[1][2] = f ? vdupq_laneq_u8(all, 14) : vdupq_laneq_u8(all, 6);
	t[1][3] = f ? vdupq_laneq_u8(all, 15) : vdupq_laneq_u8(all, 7);
}

/* One filter of up to four taps of two channels on halves times 16 positions of the same inputs: the second bytes of the sums. f is 0 for h,
 * 1 for g. */
NEON void neon_filters(const int8_t *x, const uint32_t *w, int f, uint8x16_t out[2][2], int halves)
{
	uint8x16_t t[2][4];
	int i, j, k;
	neon_taps(w, f, t);
	for (i = 0; i < halves; i++) {
		uint16x8_t low[2], high[2];
		AGAIN();
		low[0] = vreinterpretq_u16_u32(vld1q_u32(w + 8 * f));
		low[1] = vreinterpretq_u16_u32(vld1q_u32(w + 8 * f + 4));
		AGAIN();
		high[0] = vreinterpretq_u16_u32(vld1q_u32(w + 8 * f));
		high[1] = vreinterpretq_u16_u32(vld1q_u32(w + 8 * f + 4));
		for (k = 0; k < 4; k++) {
			const uint8x16_t v = neon_unsigned(x + 16 * i + k);
			for (j = 0; j < 2; j++) {
				low[j] = vmlal_u8(low[j], vget_low_u8(v), vget_low_u8(t[j][k]));
				high[j] = vmlal_high_u8(high[j], v, t[j][k]);
			}
		}
		for (j = 0; j < 2; j++) {
			out[i][j] = vuzp2q_u8(vreinterpretq_u8_u16(low[j]), vreinterpretq_u8_u16(high[j]));
		}
	}
}

/* Layers whose neighbours read the same inputs, of at most four taps, 16 or 32 positions. */
NEON void neon_pairs(const gated_layer *g, const int8_t *x, int stride, const neon_sink *to, int halves, int part, int norm, int shift)
{
	GATE(g->gate);
	const neon_sink sink = *to;
	const uint32_t *w = g->pairs;
	const int channels = g->channels;
	int c, i, j;
	for (c = 0; c < channels; c += 2, w += norm ? 40 : 24) {
		uint8x16_t v[2][2];
		int8x16_t s[2][2], h[2][2];
		const int8_t *in = x + (ptrdiff_t)(w[20] >> 16) * stride;
		OPAQUE(in);
		neon_filters(in, w, 1, v, halves);
		for (i = 0; i < halves; i++) {
			for (j = 0; j < 2; j++) {
				SIGMOID(s[i][j], v[i][j]);
			}
		}
		in = x + (ptrdiff_t)(w[20] & 0xffff) * stride;
		OPAQUE(in);
		neon_filters(in, w, 0, v, halves);
		for (i = 0; i < halves; i++) {
			for (j = 0; j < 2; j++) {
				h[i][j] = vreinterpretq_s8_u8(v[i][j]);
			}
		}
		neon_after(w, &sink, c, h, s, 2, halves, part, norm, shift);
	}
}

/* one filter of two channels on eight positions: the second bytes of the sums, eight of each */
NEON uint8x16_t neon_filters_eight(const int8_t *x, const uint32_t *w, int f)
{
	uint16x8_t a = vreinterpretq_u16_u32(vld1q_u32(w + 8 * f)), b = vreinterpretq_u16_u32(vld1q_u32(w + 8 * f + 4));
	uint8x16_t t[2][4];
	int k;
	neon_taps(w, f, t);
	for (k = 0; k < 4; k++) {
		const uint8x8_t v = RAISED ? vld1_u8((const uint8_t *)x + k) : veor_u8(vld1_u8((const uint8_t *)x + k), vdup_n_u8(0x80));
		a = vmlal_u8(a, v, vget_low_u8(t[0][k]));
		b = vmlal_u8(b, v, vget_low_u8(t[1][k]));
	}
	return vuzp2q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
}

/* Layers whose neighbours read the same inputs, of at most four taps, eight positions. */
NEON void neon_eight(const gated_layer *g, const int8_t *x, int stride, const neon_sink *to, int norm, int shift)
{
	GATE(g->gate);
	const neon_sink sink = *to;
	const uint32_t *w = g->pairs;
	const int channels = g->channels;
	int c;
	for (c = 0; c < channels; c += 2, w += norm ? 40 : 24) {
		const int8_t *in = x + (ptrdiff_t)(w[20] >> 16) * stride;
		uint8x16_t v;
		int8x16_t s;
		OPAQUE(in);
		v = neon_filters_eight(in, w, 1);
		SIGMOID(s, v);
		in = x + (ptrdiff_t)(w[20] & 0xffff) * stride;
		OPAQUE(in);
		neon_after_eight(w, &sink, c, vreinterpretq_s8_u8(neon_filters_eight(in, w, 0)), s, norm, shift);
	}
}

/* one filter of a channel, f of its pair's four, on 16 positions; the fifth tap and so on at more */
NEON uint8x16_t neon_filter(const int8_t *x, const uint32_t *w, int f, int taps, int more)
{
	uint16x8_t low = vreinterpretq_u16_u32(vld1q_u32(w + 4 * f)), high = low;
	int i;
	for (i = 0; i < taps; i++) {
		const uint8x16_t v = neon_unsigned(x + i), t = vld1q_dup_u8((const uint8_t *)(w + (i < 4 ? 16 : more) + f) + i % 4);
		low = vmlal_u8(low, vget_low_u8(v), vget_low_u8(t));
		high = vmlal_high_u8(high, v, t);
	}
	return vuzp2q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
}

/* layers of all kinds, channel by channel, 16 positions */
NEON void neon_channels(const gated_layer *g, const int8_t *x, int stride, const neon_sink *to, int taps, int norm, int shift)
{
	GATE(g->gate);
	const neon_sink sink = *to;
	const uint32_t *w = g->pairs;
	const int channels = g->channels, more = g->norm ? 40 : 24, words = more + (taps > 4 ? 4 : 0);
	int c;
	for (c = 0; c < channels; c++) {
		const int j = c & 1;
		const uint32_t in = w[20 + j];
		int8x16_t s[2][2], h[2][2];
		const uint8x16_t v = neon_filter(x + (ptrdiff_t)(in >> 16) * stride, w, 2 + j, taps, more);
		SIGMOID(s[0][0], v);
		h[0][0] = vreinterpretq_s8_u8(neon_filter(x + (ptrdiff_t)(in & 0xffff) * stride, w, j, taps, more));
		neon_after(w + 4 * j, &sink, c, h, s, 1, 1, 1, norm, shift);
		w += j * words;
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

/* the sums of 16 positions' words y >> 8 over all channels from c on, and their squares' */
NEON void neon_sums(const gated_layer *g, const int16_t *y, int c, int32x4_t *s1, int32x4_t *s2)
{
	const int channels = g->channels;
	int16x8_t low = vdupq_n_s16(0), high = low; /* at most 256 channels have LayerNorm */
	for (; c + 1 < channels; c += 2) {
		const int16x8_t a0 = vld1q_s16(y + c * 32), a1 = vld1q_s16(y + c * 32 + 8), b0 = vld1q_s16(y + c * 32 + 32), b1 = vld1q_s16(y + c * 32 + 40);
		const int8x16_t a = vuzp2q_s8(vreinterpretq_s8_s16(a0), vreinterpretq_s8_s16(a1)), b = vuzp2q_s8(vreinterpretq_s8_s16(b0), vreinterpretq_s8_s16(b1));
		/* up to 2^15: unsigned */
		const uint16x8_t p = vreinterpretq_u16_s16(vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(a)), vget_low_s8(b), vget_low_s8(b)));
		const uint16x8_t q = vreinterpretq_u16_s16(vmlal_high_s8(vmull_high_s8(a, a), b, b));
		low = vsraq_n_s16(vsraq_n_s16(low, a0, 8), b0, 8);
		high = vsraq_n_s16(vsraq_n_s16(high, a1, 8), b1, 8);
		s2[0] = vreinterpretq_s32_u32(vaddw_u16(vreinterpretq_u32_s32(s2[0]), vget_low_u16(p)));
		s2[1] = vreinterpretq_s32_u32(vaddw_high_u16(vreinterpretq_u32_s32(s2[1]), p));
		s2[2] = vreinterpretq_s32_u32(vaddw_u16(vreinterpretq_u32_s32(s2[2]), vget_low_u16(q)));
		s2[3] = vreinterpretq_s32_u32(vaddw_high_u16(vreinterpretq_u32_s32(s2[3]), q));
	}
	if (c < channels) {
		const int16x8_t a0 = vshrq_n_s16(vld1q_s16(y + c * 32), 8), a1 = vshrq_n_s16(vld1q_s16(y + c * 32 + 8), 8);
		low = vaddq_s16(low, a0);
		high = vaddq_s16(high, a1);
		s2[0] = vmlal_s16(s2[0], vget_low_s16(a0), vget_low_s16(a0));
		s2[1] = vmlal_high_s16(s2[1], a0, a0);
		s2[2] = vmlal_s16(s2[2], vget_low_s16(a1), vget_low_s16(a1));
		s2[3] = vmlal_high_s16(s2[3], a1, a1);
	}
	s1[0] = vaddw_s16(s1[0], vget_low_s16(low));
	s1[1] = vaddw_high_s16(s1[1], low);
	s1[2] = vaddw_s16(s1[2], vget_low_s16(high));
	s1[3] = vaddw_high_s16(s1[3], high);
}

/* the same of eight positions of an even number of channels */
NEON void neon_sums_eight(const gated_layer *g, const int16_t *y, int c, int32x4_t *s1, int32x4_t *s2)
{
	const int channels = g->channels;
	int16x8_t low = vdupq_n_s16(0);
	for (; c < channels; c += 2) {
		const int16x8_t a0 = vld1q_s16(y + c * 32), b0 = vld1q_s16(y + c * 32 + 32);
		const int8x8_t a = vshrn_n_s16(a0, 8), b = vshrn_n_s16(b0, 8);
		const uint16x8_t p = vreinterpretq_u16_s16(vmlal_s8(vmull_s8(a, a), b, b)); /* up to 2^15 */
		low = vsraq_n_s16(vsraq_n_s16(low, a0, 8), b0, 8);
		s2[0] = vreinterpretq_s32_u32(vaddw_u16(vreinterpretq_u32_s32(s2[0]), vget_low_u16(p)));
		s2[1] = vreinterpretq_s32_u32(vaddw_high_u16(vreinterpretq_u32_s32(s2[1]), p));
	}
	s1[0] = vaddw_s16(s1[0], vget_low_s16(low));
	s1[1] = vaddw_high_s16(s1[1], low);
}

/* the factors of 32 positions, by eight */
typedef struct {
	int16x8_t r[4], m[4];
} neon_norms;

/* the factors of 16 positions, or eight, from i eights on, of whose words s1 are the sums and s2 the squares' */
NEON void neon_norms_of(const gated_layer *g, const int32x4_t *s1, const int32x4_t *s2, neon_norms *f, int i, int eights)
{
	int j;
	f->r[i + 1] = f->m[i + 1] = vdupq_n_s16(0);
	for (j = 0; j < eights; j++) {
		int32x4_t r0, r1, m0, m1;
		neon_factors(g, s1[2 * j], s2[2 * j], &r0, &m0);
		neon_factors(g, s1[2 * j + 1], s2[2 * j + 1], &r1, &m1);
		f->r[i + j] = vcombine_s16(vmovn_s32(r0), vmovn_s32(r1));
		f->m[i + j] = vcombine_s16(vmovn_s32(m0), vmovn_s32(m1));
	}
}

/* the normalised words of eight positions */
NEON int16x8_t neon_normal(const int16_t *y, int16x8_t r, int16x8_t m) { return vqaddq_s16(vqrdmulhq_s16(vld1q_s16(y), r), m); }

/* the bytes of halves times 16 positions, of the last half perhaps in part */
NEON void neon_bytes(const gated_layer *g, const int16_t *y, const neon_norms *norms, const neon_sink *to, int halves, int part, int shift)
{
	neon_norms f = *norms;
	const uint8x16_t in = to->in;
	const int16x8_t by = to->by;
	const int channels = g->channels, stride = to->out_stride;
	int8_t *out = to->out;
	int c, i;
	for (i = 0; i < 2 * halves && RAISED; i++) { /* 128 of the results */
		f.m[i] = vaddq_s16(f.m[i], vdupq_n_s16((int16_t)(128 << g->shift)));
	}
	for (c = 0; c < channels; c++, y += 32, out += stride) {
		for (i = 0; i < halves; i++) {
			const int16x8_t a = neon_normal(y + 16 * i, f.r[2 * i], f.m[2 * i]), b = neon_normal(y + 16 * i + 8, f.r[2 * i + 1], f.m[2 * i + 1]);
			neon_store(out + 16 * i, neon_narrow(a, b, shift, by, RAISED), in, part && i == halves - 1);
		}
	}
}

/* the bytes of eight positions */
NEON void neon_bytes_eight(const gated_layer *g, const int16_t *y, int16x8_t r, int16x8_t m, const neon_sink *to)
{
	const neon_sink sink = *to;
	const int channels = g->channels;
	int8_t *out = sink.out;
	int c;
	for (c = 0; c < channels; c++, y += 32, out += sink.out_stride) {
		const int8x8_t v = vqmovn_s16(vrshlq_s16(neon_normal(y, r, m), sink.by));
		neon_store_eight(out, RAISED ? veor_s8(v, vdup_n_s8(-128)) : v, sink.in);
	}
}

/* takes n of up to 32 positions into the maxima of the channels from c on, eight at a time */
NEON int neon_maxima(const gated_layer *g, const int16_t *y, const neon_norms *norms, int16_t *top, int n, int halves)
{
	static const int16_t at[32] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
	neon_norms f = *norms;
	const int channels = g->channels;
	int c, i, j;
	for (i = 0; i < 2 * halves; i++) { /* others become the least value */
		const uint16x8_t in = vcltq_s16(vld1q_s16(at + 8 * i), vdupq_n_s16((int16_t)n));
		f.r[i] = vandq_s16(f.r[i], vreinterpretq_s16_u16(in));
		f.m[i] = vbslq_s16(in, f.m[i], vdupq_n_s16(-32768));
	}
	for (c = 0; c + 8 <= channels; c += 8) {
		int16x8_t v[8];
		for (j = 0; j < 8; j++, y += 32) {
			v[j] = vmaxq_s16(neon_normal(y, f.r[0], f.m[0]), neon_normal(y + 8, f.r[1], f.m[1]));
			if (halves == 2) {
				v[j] = vmaxq_s16(v[j], vmaxq_s16(neon_normal(y + 16, f.r[2], f.m[2]), neon_normal(y + 24, f.r[3], f.m[3])));
			}
		}
		for (i = 1; i < 8; i *= 2) {
			for (j = 0; j < 8; j += 2 * i) {
				v[j] = vpmaxq_s16(v[j], v[j + i]);
			}
		}
		vst1q_s16(top + c, vmaxq_s16(v[0], vld1q_s16(top + c)));
	}
	return c;
}

/* The rest of a layer with LayerNorm for n positions, of any kind, from channel c on. A channel's bytes may be written over its words and
 * those before them. */
NEON void neon_norm(const gated_layer *g, const int16_t *y, const neon_norms *f, int c, void *out, int out_stride, int n)
{
	const int16x8_t by = vdupq_n_s16((int16_t)-g->shift), least = vdupq_n_s16(-32768);
	const int channels = g->channels, words = g->words == 14 ? 40 : 44, wide = g->wide;
	for (; c < channels; c++) {
		const int16x8_t flip = vreinterpretq_s16_u32(vld1q_dup_u32(g->pairs + (c / 2) * words + 22 + c % 2));
		int i;
		for (i = 0; i < n; i += 8) {
			const uint8x16_t first = neon_first(n - i);
			const uint16x8_t in = vreinterpretq_u16_u8(vzip1q_u8(first, first));
			const int16x8_t v = neon_normal(y + c * 32 + i, f->r[i / 8], f->m[i / 8]);
			if (wide == 0) {
				int8_t *to = (int8_t *)out + c * out_stride + i;
				const int8x8_t narrow = veor_s8(vqmovn_s16(vrshlq_s16(v, by)), vget_low_s8(vreinterpretq_s8_s16(flip)));
				neon_store_eight(to, vget_low_s8(neon_raise(vcombine_s8(narrow, narrow))), first);
			} else if (wide == 1) {
				neon_store((int8_t *)((int16_t *)out + c * out_stride + i), vreinterpretq_s8_s16(veorq_s16(v, flip)), vreinterpretq_u8_u16(in), 1);
			} else {
				int16_t *to = (int16_t *)out + c, top = vmaxvq_s16(vbslq_s16(in, veorq_s16(v, flip), least));
				*to = top > *to ? top : *to;
			}
		}
	}
}

/* where the results from position i on of n go */
static __attribute__((unused)) neon_sink neon_from(const neon_sink *to, int i, int n)
{
	neon_sink from = *to;
	from.in = neon_first(n - i);
	from.out += i;
	from.res = from.res == NULL ? NULL : from.res + i;
	from.y = from.y == NULL ? NULL : from.y + i;
	return from;
}

/* the rest of a layer with LayerNorm for a block of n positions */
static __attribute__((unused)) void neon_finish(const gated_layer *g, const int16_t *y, const neon_norms *f, const neon_sink *to, int n)
{
	int c = 0, i;
	if (!g->flipped && g->wide == 0) {
		if (n == 32) {
			BY_SHIFT(g->shift, neon_bytes, g, y, f, to, 2, 0);
			return;
		}
		if (n <= 16 || to->out != (int8_t *)to->y) { /* where bytes are written over words, only once */
			for (i = 0; n - i > 8; i += 16) {
				const neon_sink part = neon_from(to, i, n);
				neon_norms half;
				half.r[0] = f->r[i / 8], half.r[1] = f->r[i / 8 + 1], half.m[0] = f->m[i / 8], half.m[1] = f->m[i / 8 + 1];
				neon_bytes(g, y + i, &half, &part, 1, 1, 0);
			}
			if (i < n) {
				const neon_sink part = neon_from(to, i, n);
				neon_bytes_eight(g, y + i, f->r[i / 8], f->m[i / 8], &part);
			}
			return;
		}
	}
	if (!g->flipped && g->wide == 2) {
		c = n > 16 ? neon_maxima(g, y, f, (int16_t *)to->out, n, 2) : neon_maxima(g, y, f, (int16_t *)to->out, n, 1);
	}
	neon_norm(g, y, f, c, to->out, to->out_stride, n);
}

NEON neon_sink neon_to(const gated_layer *g, const int8_t *res, int res_stride, void *out, int out_stride, int n, int16_t *y)
{
	neon_sink to;
	to.res = res;
	to.res_stride = res_stride;
	to.out = out;
	to.out_stride = out_stride;
	to.y = y;
	to.in = neon_first(n > 16 ? n - 16 : n);
	to.by = vdupq_n_s16((int16_t)-g->shift);
	return to;
}

/* calls f(..., norm, 0) with a constant for norm: 0, 1 or, with a residual, 2 */
#define BY_NORM(norm, f, ...) do { \
		if ((norm) == 0) { \
			f(__VA_ARGS__, 0, 0); \
		} else if ((norm) == 1) { \
			f(__VA_ARGS__, 1, 0); \
		} else { \
			f(__VA_ARGS__, 2, 0); \
		} \
	} while (0)

/* One block of a gated layer, as gated_avx2. */
static __attribute__((unused)) void gated_neon(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
	const neon_sink to = neon_to(g, res, res_stride, out, out_stride, n, y);
	const int norm = !g->norm ? 0 : res != NULL && g->rho != 0 ? 2 : 1; /* a residual's factors come with one; compilers don't know */
	const int eight = g->paired && g->words == 14; /* eight positions have code of their own */
	neon_norms f;
	int i, done = 0;
	if (eight) {
		if (n == 32 && !norm) {
			BY_SHIFT(g->shift, neon_pairs, g, x, stride, &to, 2, 0, 0);
			done = 32;
		} else if (n > 24 && norm == 1) {
			neon_pairs(g, x, stride, &to, 2, 0, 1, 0);
			done = 32;
		} else if (n > 24 && norm == 2) {
			neon_pairs(g, x, stride, &to, 2, 0, 2, 0);
			done = 32;
		}
	}
	for (i = done; i < n; i += 16) {
		const neon_sink part = neon_from(&to, i, n);
		if (!eight) {
			if (g->words == 14) {
				BY_NORM(norm, neon_channels, g, x + i, stride, &part, 4);
			} else {
				BY_NORM(norm, neon_channels, g, x + i, stride, &part, 8);
			}
		} else if (n - i > 8) {
			BY_NORM(norm, neon_pairs, g, x + i, stride, &part, 1, 1);
		} else {
			BY_NORM(norm, neon_eight, g, x + i, stride, &part);
		}
	}
	if (g->norm) {
		for (i = 0; 16 * i < n; i++) {
			int32x4_t s1[4], s2[4];
			s1[0] = s1[1] = s1[2] = s1[3] = s2[0] = s2[1] = s2[2] = s2[3] = vdupq_n_s32(0);
			if (!eight || n - 16 * i > 8) {
				neon_sums(g, y + 16 * i, 0, s1, s2);
				neon_norms_of(g, s1, s2, &f, 2 * i, 2);
			} else {
				neon_sums_eight(g, y + 16 * i, 0, s1, s2);
				neon_norms_of(g, s1, s2, &f, 2 * i, 1);
			}
		}
		neon_finish(g, y, &f, &to, n);
	}
}

#if defined(HAVE_DOTPROD)
/* One filter of two channels, as neon_filters, of four taps or eight, the others at more. */
DOTPROD void dot_filters(const int8_t *x, const uint32_t *w, int f, uint8x16_t out[2][2], int halves, int taps, int more)
{
	const uint8x16_t first = vreinterpretq_u8_u32(vld1q_u32(w + 16)), second = vreinterpretq_u8_u32(vld1q_u32(w + (taps > 4 ? more : 16)));
	int i, j, k;
	for (i = 0; i < halves; i++) {
		uint32x4_t a[2][4];
		for (k = 0; k < taps; k++) {
			const uint8x16_t v = neon_unsigned(x + 16 * i + k), t = k < 4 ? first : second;
			if (k < 4) {
				AGAIN();
				a[0][k] = vld1q_u32(w + 8 * f);
				a[1][k] = vld1q_u32(w + 8 * f + 4);
			}
			a[0][k % 4] = f ? vdotq_laneq_u32(a[0][k % 4], v, t, 2) : vdotq_laneq_u32(a[0][k % 4], v, t, 0);
			a[1][k % 4] = f ? vdotq_laneq_u32(a[1][k % 4], v, t, 3) : vdotq_laneq_u32(a[1][k % 4], v, t, 1);
		}
		for (j = 0; j < 2; j++) { /* of every fourth position each, in the order of time */
			const uint16x8_t even = vtrn1q_u16(vreinterpretq_u16_u32(a[j][0]), vreinterpretq_u16_u32(a[j][2]));
			const uint16x8_t odd = vtrn1q_u16(vreinterpretq_u16_u32(a[j][1]), vreinterpretq_u16_u32(a[j][3]));
			out[i][j] = vtrn2q_u8(vreinterpretq_u8_u16(even), vreinterpretq_u8_u16(odd));
		}
	}
}

/* layers whose neighbours read the same inputs, as neon_pairs */
DOTPROD void dot_pairs(const gated_layer *g, const int8_t *x, int stride, const neon_sink *to, int taps, int halves, int part, int norm, int shift)
{
	GATE(g->gate);
	const neon_sink sink = *to;
	const uint32_t *w = g->pairs;
	const int channels = g->channels, more = norm ? 40 : 24;
	int c, i, j;
	for (c = 0; c < channels; c += 2, w += taps > 4 ? more + 4 : more) {
		uint8x16_t v[2][2];
		int8x16_t s[2][2], h[2][2];
		const int8_t *in = x + (ptrdiff_t)(w[20] >> 16) * stride;
		OPAQUE(in);
		dot_filters(in, w, 1, v, halves, taps, more);
		for (i = 0; i < halves; i++) {
			for (j = 0; j < 2; j++) {
				SIGMOID(s[i][j], v[i][j]);
			}
		}
		in = x + (ptrdiff_t)(w[20] & 0xffff) * stride;
		OPAQUE(in);
		dot_filters(in, w, 0, v, halves, taps, more);
		for (i = 0; i < halves; i++) {
			for (j = 0; j < 2; j++) {
				h[i][j] = vreinterpretq_s8_u8(v[i][j]);
			}
		}
		neon_after(w, &sink, c, h, s, 2, halves, part, norm, shift);
	}
}

/* Up to four taps, eight positions: one filter of two channels, eight bytes of each. at are the bytes that sums of four positions have of
 * 16, then those of the next four. */
DOTPROD uint8x16_t dot_filters_eight(const int8_t *x, const uint32_t *w, int f, const uint8x16_t *at)
{
	const uint8x16_t t = vreinterpretq_u8_u32(vld1q_u32(w + 16)), v = neon_unsigned(x);
	uint16x8_t sum[2];
	uint32x4_t a[2][2];
	int i;
	for (i = 0; i < 2; i++) {
		const uint8x16_t u = vqtbl1q_u8(v, at[i]);
		AGAIN();
		a[0][i] = vld1q_u32(w + 8 * f);
		a[1][i] = vld1q_u32(w + 8 * f + 4);
		a[0][i] = f ? vdotq_laneq_u32(a[0][i], u, t, 2) : vdotq_laneq_u32(a[0][i], u, t, 0);
		a[1][i] = f ? vdotq_laneq_u32(a[1][i], u, t, 3) : vdotq_laneq_u32(a[1][i], u, t, 1);
	}
	for (i = 0; i < 2; i++) {
		sum[i] = vuzp1q_u16(vreinterpretq_u16_u32(a[i][0]), vreinterpretq_u16_u32(a[i][1]));
	}
	return vuzp2q_u8(vreinterpretq_u8_u16(sum[0]), vreinterpretq_u8_u16(sum[1]));
}

DOTPROD void dot_eight(const gated_layer *g, const int8_t *x, int stride, const neon_sink *to, int norm, int shift)
{
	static const uint8_t bytes[32] = {0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5, 6, 7, 5, 6, 7, 8, 6, 7, 8, 9, 7, 8, 9, 10};
	GATE(g->gate);
	const neon_sink sink = *to;
	const uint32_t *w = g->pairs;
	const int channels = g->channels;
	uint8x16_t at[2];
	int c;
	at[0] = vld1q_u8(bytes);
	at[1] = vld1q_u8(bytes + 16);
	for (c = 0; c < channels; c += 2, w += norm ? 40 : 24) {
		const uint8x16_t v = dot_filters_eight(x + (ptrdiff_t)(w[20] >> 16) * stride, w, 1, at);
		int8x16_t s;
		SIGMOID(s, v);
		neon_after_eight(w, &sink, c, vreinterpretq_s8_u8(dot_filters_eight(x + (ptrdiff_t)(w[20] & 0xffff) * stride, w, 0, at)), s, norm, shift);
	}
}

/* the sums of 16 positions, or eight, of four channels at a time, and of their squares */
DOTPROD void dot_sums(const gated_layer *g, const int16_t *y, int32x4_t *s1, int32x4_t *s2, int eights)
{
	const int8x16_t one = vdupq_n_s8(1);
	const int channels = g->channels;
	int c, i;
	for (c = 0; c + 4 <= channels; c += 4) {
		for (i = 0; i < eights; i++) { /* upper bytes: of two channels, then of four */
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
	if (eights == 2) {
		neon_sums(g, y, c, s1, s2);
	} else {
		neon_sums_eight(g, y, c, s1, s2);
	}
}

/* One block of a gated layer whose neighbours read the same inputs. */
static DOTPROD_TARGET void gated_dotprod(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
	const neon_sink to = neon_to(g, res, res_stride, out, out_stride, n, y);
	const int norm = !g->norm ? 0 : res != NULL && g->rho != 0 ? 2 : 1; /* a residual's factors come with one; compilers don't know */
	const int eight = g->words == 14; /* up to four taps: eight positions have code of their own */
	neon_norms f;
	int i, done = 0;
	if (eight) {
		if (n == 32 && !norm) {
			BY_SHIFT(g->shift, dot_pairs, g, x, stride, &to, 4, 2, 0, 0);
			done = 32;
		} else if (n > 24 && norm == 1) {
			dot_pairs(g, x, stride, &to, 4, 2, 0, 1, 0);
			done = 32;
		} else if (n > 24 && norm == 2) {
			dot_pairs(g, x, stride, &to, 4, 2, 0, 2, 0);
			done = 32;
		}
	}
	for (i = done; i < n; i += 16) {
		const neon_sink part = neon_from(&to, i, n);
		if (!eight) {
			BY_NORM(norm, dot_pairs, g, x + i, stride, &part, 8, 1, 1);
		} else if (n - i > 8) {
			BY_NORM(norm, dot_pairs, g, x + i, stride, &part, 4, 1, 1);
		} else {
			BY_NORM(norm, dot_eight, g, x + i, stride, &part);
		}
	}
	if (g->norm) {
		for (i = 0; 16 * i < n; i++) {
			int32x4_t s1[4], s2[4];
			s1[0] = s1[1] = s1[2] = s1[3] = s2[0] = s2[1] = s2[2] = s2[3] = vdupq_n_s32(0);
			if (!eight || n - 16 * i > 8) {
				dot_sums(g, y + 16 * i, s1, s2, 2);
				neon_norms_of(g, s1, s2, &f, 2 * i, 2);
			} else {
				dot_sums(g, y + 16 * i, s1, s2, 1);
				neon_norms_of(g, s1, s2, &f, 2 * i, 1);
			}
		}
		neon_finish(g, y, &f, &to, n);
	}
}
#endif

/* Rows of n tokens, of 8 bits and cols channels, to planes. */
static __attribute__((unused)) void rows_neon(const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out, int stride)
{
	int t, c, i, j;
	for (t = 0; t < n; t += 16) {
		const int left = n - t;
		const uint8x16_t in = neon_first(left);
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
				neon_store(out + (ptrdiff_t)(c + i) * stride + t, neon_raise(vreinterpretq_s8_u8(a[i])), in, left < 16);
			}
		}
		for (c = cols & ~15; c < cols; c++) {
			int8_t *to = out + (ptrdiff_t)c * stride + t;
			for (i = 0; i < 16 && i < left; i++) {
				to[i] = (int8_t)(RAISED ? row[i][c] ^ 0x80 : row[i][c]);
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

#if defined(HAVE_DOTPROD)
/* dense_neon of 8 bits, four rows at a time */
static DOTPROD_TARGET void dense_dotprod(const int8_t *w, int rows, int n, const int8_t *x, int32_t *sum)
{
	int o, i, j;
	for (o = 0; o + 4 <= rows; o += 4, w += 4 * n) {
		int32x4_t a[4];
		a[0] = a[1] = a[2] = a[3] = vdupq_n_s32(0);
		for (i = 0; i + 16 <= n; i += 16) {
			const int8x16_t v = vld1q_s8(x + i);
			for (j = 0; j < 4; j++) {
				a[j] = vdotq_s32(a[j], vld1q_s8(w + j * n + i), v);
			}
		}
		vst1q_s32(sum + o, vaddq_s32(vld1q_s32(sum + o), vpaddq_s32(vpaddq_s32(a[0], a[1]), vpaddq_s32(a[2], a[3]))));
		for (; i < n; i++) {
			for (j = 0; j < 4; j++) {
				sum[o + j] += w[j * n + i] * x[i];
			}
		}
	}
	dense_neon(w, rows - o, n, x, 8, sum + o);
}
#endif
#endif
