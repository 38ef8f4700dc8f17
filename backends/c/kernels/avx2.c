#if defined(HAVE_X86)
#define AVX2 static inline __attribute__((target("avx2"), always_inline))
#define AVX2_KERNEL static __attribute__((target("avx2"), unused))

/* The AVX2 kernels of gated layers: 32 positions of a channel, the even ones (e) and the odd ones (o) words of one register
 * each, as maddubs of pairs of taps gives them; bytes in between are in the order of time. */

/* pairs of taps at w times the values from x on, plus a bias */
AVX2 void avx2_filter(const int8_t *x, const uint32_t *w, const uint32_t *more, uint32_t bias, int pairs, __m256i *e, __m256i *o)
{
	__m256i b = _mm256_set1_epi32((int)bias);
	int i;
	*e = *o = b;
	for (i = 0; i < pairs; i++) {
		__m256i t = _mm256_set1_epi32((int)(i < 2 ? w[i] : more[i - 2]));
		*e = _mm256_add_epi16(*e, _mm256_maddubs_epi16(t, _mm256_loadu_si256((const __m256i *)(x + 2 * i))));
		*o = _mm256_add_epi16(*o, _mm256_maddubs_epi16(t, _mm256_loadu_si256((const __m256i *)(x + 2 * i + 1))));
	}
}

/* the gate's pieces: base and slope of the lower and of the upper half of its range */
typedef struct {
	__m256i base0, base1, slope0, slope1;
} avx2_gate;

AVX2 avx2_gate avx2_pieces(const uint8_t *p)
{
	avx2_gate g;
	g.base0 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
	g.base1 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p + 16)));
	g.slope0 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p + 32)));
	g.slope1 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p + 48)));
	return g;
}

/* twice the gate in 1/127, and a bit, of the sums e and o: in the low bytes of se, and in the high bytes of so */
AVX2 void avx2_doubled(const avx2_gate *p, __m256i e, __m256i o, __m256i *se, __m256i *so)
{
	const __m256i low = _mm256_set1_epi16(255), segment = _mm256_set1_epi8(31), odd = _mm256_andnot_si256(low, o);
	const __m256i b = _mm256_or_si256(_mm256_srli_epi16(e, 8), odd), i = _mm256_and_si256(_mm256_srli_epi16(b, 3), segment);
	const __m256i slope = _mm256_blendv_epi8(_mm256_shuffle_epi8(p->slope0, i), _mm256_shuffle_epi8(p->slope1, i), b);
	const __m256i base = _mm256_blendv_epi8(_mm256_shuffle_epi8(p->base0, i), _mm256_shuffle_epi8(p->base1, i), b);
	*se = _mm256_add_epi16(_mm256_mullo_epi16(slope, b), base);
	*so = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_srli_epi16(slope, 8), odd), base);
}

/* the same, but the gate itself in so */
AVX2 void avx2_sigmoid(const avx2_gate *p, __m256i e, __m256i o, __m256i *se, __m256i *so)
{
	avx2_doubled(p, e, o, se, so);
	*so = _mm256_srli_epi16(*so, 9);
}

/* h, and the gate, of 32 positions of the channel of constants w */
AVX2 void avx2_front(const avx2_gate *p, const uint32_t *w, const int8_t *x, ptrdiff_t stride, int pairs, __m256i *he, __m256i *ho, __m256i *se, __m256i *so)
{
	__m256i e, o;
	avx2_filter(x + (ptrdiff_t)(w[9] >> 16) * stride, w + 2, w + 16, w[5], pairs, &e, &o);
	avx2_sigmoid(p, e, o, se, so);
	avx2_filter(x + (ptrdiff_t)(w[9] & 0xffff) * stride, w, w + 14, w[4], pairs, he, ho);
	*he = _mm256_srai_epi16(*he, 8);
	*ho = _mm256_srai_epi16(*ho, 8);
}

/* the words of even and of odd positions as bytes in the order of time, saturated */
AVX2 __m256i avx2_bytes(__m256i e, __m256i o)
{
	const __m256i order = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
	return _mm256_shuffle_epi8(_mm256_packs_epi16(e, o), order);
}

/* stores the first n bytes: what stands behind them stays */
AVX2 void avx2_store(void *to, __m256i v, int n)
{
	if (n < 32) {
		const __m256i at = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
		v = _mm256_blendv_epi8(_mm256_loadu_si256((const __m256i *)to), v, _mm256_cmpgt_epi8(_mm256_set1_epi8((char)n), at));
	}
	_mm256_storeu_si256((__m256i *)to, v);
}

AVX2 void avx2_plain_of(const gated_layer *g, const int8_t *x, ptrdiff_t stride, int8_t *out, int out_stride, int n, int pairs)
{
	const int channels = g->channels, words = g->words;
	const uint32_t *w = g->w;
	const avx2_gate p = avx2_pieces(g->gate);
	const __m256i half = _mm256_set1_epi16((short)(1 << (14 - g->shift))), whole = _mm256_set1_epi16((short)(1 << (15 - g->shift)));
	const __m256i twice = _mm256_set1_epi16(254);
	int c;
	for (c = 0; c < channels; c++, w += words, out += out_stride) {
		__m256i he, ho, se, so;
		avx2_front(&p, w, x, stride, pairs, &he, &ho, &se, &so);
		/* the low bytes of se are twice the gate, and a bit */
		he = _mm256_mulhrs_epi16(_mm256_mullo_epi16(he, _mm256_and_si256(se, twice)), half);
		ho = _mm256_mulhrs_epi16(_mm256_mullo_epi16(ho, so), whole);
		avx2_store(out, avx2_bytes(he, ho), n);
	}
}

AVX2 void avx2_tile_of(const gated_layer *g, const int8_t *x, ptrdiff_t stride, const int8_t *res, int res_stride, int16_t *y, int pairs, int rho)
{
	const int channels = g->channels, words = g->words;
	const uint32_t *w = g->w;
	const avx2_gate p = avx2_pieces(g->gate);
	const __m256i low = _mm256_set1_epi16(255);
	int c;
	for (c = 0; c < channels; c++, w += words, y += 32) {
		const __m256i cst = _mm256_set1_epi32((int)w[6]);
		__m256i he, ho, se, so;
		avx2_front(&p, w, x, stride, pairs, &he, &ho, &se, &so);
		he = _mm256_mullo_epi16(he, _mm256_srli_epi16(_mm256_slli_epi16(se, 8), 9));
		ho = _mm256_mullo_epi16(ho, so);
		he = _mm256_add_epi16(he, cst);
		ho = _mm256_add_epi16(ho, cst);
		if (rho != 0) {
			__m256i r = _mm256_loadu_si256((const __m256i *)res);
			__m256i by = _mm256_set1_epi32((int)w[7]);
			if (rho > 0) { /* unsigned by signed, one product a word */
				he = _mm256_add_epi16(he, _mm256_maddubs_epi16(by, r));
				ho = _mm256_add_epi16(ho, _mm256_maddubs_epi16(_mm256_slli_epi16(by, 8), r));
			} else { /* high halves of 256 * r times 256 * rho */
				by = _mm256_slli_epi16(by, 8);
				he = _mm256_add_epi16(he, _mm256_mulhi_epi16(_mm256_slli_epi16(r, 8), by));
				ho = _mm256_add_epi16(ho, _mm256_mulhi_epi16(_mm256_andnot_si256(low, r), by));
			}
		}
		_mm256_store_si256((__m256i *)y, he);
		_mm256_store_si256((__m256i *)(y + 16), ho);
		if (rho != 0) {
			res += res_stride;
		}
	}
}

/* v << e in [2^29, 2^31) step by step: where v is below 2^(31 - by), it is shifted, and half of that is counted */
AVX2 void avx2_shift_up(__m256i *v, __m256i *count, int by)
{
	__m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(1 << (31 - by)), *v);
	*v = _mm256_blendv_epi8(*v, _mm256_slli_epi32(*v, by), small);
	*count = _mm256_add_epi32(*count, _mm256_and_si256(small, _mm256_set1_epi32(by / 2)));
}

/* norm_factors of 8 positions */
AVX2 void avx2_factors(const gated_layer *g, __m256i s1, __m256i s2, __m256i *r, __m256i *m)
{
	const __m256i round = _mm256_set1_epi32(1 << 14), zero = _mm256_setzero_si256();
	__m256i v, u, x, t, e = zero, s, f, mean;
	v = _mm256_sub_epi32(_mm256_mullo_epi32(s2, _mm256_set1_epi32(g->channels)), _mm256_mullo_epi32(s1, s1));
	v = _mm256_max_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(g->eps)), _mm256_set1_epi32(1));
	avx2_shift_up(&v, &e, 16);
	avx2_shift_up(&v, &e, 8);
	avx2_shift_up(&v, &e, 4);
	avx2_shift_up(&v, &e, 2);
	u = _mm256_srli_epi32(v, 16);
	x = _mm256_set1_epi32(-9988);
	x = _mm256_add_epi32(_mm256_set1_epi32(25518), _mm256_srai_epi32(_mm256_mullo_epi32(u, x), 15));
	x = _mm256_add_epi32(_mm256_set1_epi32(-24211), _mm256_srai_epi32(_mm256_mullo_epi32(u, x), 15));
	x = _mm256_add_epi32(_mm256_set1_epi32(12748), _mm256_srai_epi32(_mm256_mullo_epi32(u, x), 15));
	t = _mm256_srai_epi32(_mm256_mullo_epi32(x, x), 10);
	t = _mm256_srai_epi32(_mm256_mullo_epi32(t, u), 15);
	x = _mm256_srai_epi32(_mm256_mullo_epi32(x, _mm256_sub_epi32(_mm256_set1_epi32(49152), t)), 13);
	s = _mm256_max_epi32(_mm256_sub_epi32(_mm256_set1_epi32(g->s), e), zero);
	f = _mm256_srlv_epi32(_mm256_mullo_epi32(x, _mm256_set1_epi32(g->a)), s);
	f = _mm256_min_epu32(f, _mm256_set1_epi32(32767));
	mean = _mm256_srai_epi32(_mm256_add_epi32(_mm256_mullo_epi32(s1, _mm256_set1_epi32(g->mean_m)), round), 15);
	mean = _mm256_mullo_epi32(_mm256_add_epi32(mean, _mm256_set1_epi32(128)), f);
	mean = _mm256_sub_epi32(zero, _mm256_srai_epi32(_mm256_add_epi32(mean, round), 15));
	*r = f;
	*m = _mm256_max_epi32(_mm256_min_epi32(mean, _mm256_set1_epi32(16383)), _mm256_set1_epi32(-16384));
}

/* the factors of 16 positions, of whose words sums are the sums and low and high the squares' */
AVX2 void avx2_factors16(const gated_layer *g, __m256i sums, __m256i low, __m256i high, __m256i *r, __m256i *m)
{
	__m256i r0, r1, m0, m1;
	avx2_factors(g, _mm256_srai_epi32(_mm256_unpacklo_epi16(sums, sums), 16), low, &r0, &m0);
	avx2_factors(g, _mm256_srai_epi32(_mm256_unpackhi_epi16(sums, sums), 16), high, &r1, &m1);
	*r = _mm256_packs_epi32(r0, r1);
	*m = _mm256_packs_epi32(m0, m1);
}

/* adds two channels' words y >> 8 to the sums, and their squares */
AVX2 void avx2_sum(const int16_t *y0, const int16_t *y1, __m256i *sums, __m256i *low, __m256i *high)
{
	__m256i a = _mm256_srai_epi16(_mm256_load_si256((const __m256i *)y0), 8), b = _mm256_srai_epi16(_mm256_load_si256((const __m256i *)y1), 8), t;
	*sums = _mm256_add_epi16(*sums, _mm256_add_epi16(a, b));
	t = _mm256_unpacklo_epi16(a, b);
	*low = _mm256_add_epi32(*low, _mm256_madd_epi16(t, t));
	t = _mm256_unpackhi_epi16(a, b);
	*high = _mm256_add_epi32(*high, _mm256_madd_epi16(t, t));
}

/* the maxima of eight channels, of whose partial ones v are */
AVX2 __m128i avx2_maxima(const __m128i *v)
{
	__m128i a[4], b[2];
	int i;
	for (i = 0; i < 4; i++) {
		a[i] = _mm_max_epi16(_mm_unpacklo_epi16(v[2 * i], v[2 * i + 1]), _mm_unpackhi_epi16(v[2 * i], v[2 * i + 1]));
	}
	for (i = 0; i < 2; i++) {
		b[i] = _mm_max_epi16(_mm_unpacklo_epi32(a[2 * i], a[2 * i + 1]), _mm_unpackhi_epi32(a[2 * i], a[2 * i + 1]));
	}
	return _mm_max_epi16(_mm_unpacklo_epi64(b[0], b[1]), _mm_unpackhi_epi64(b[0], b[1]));
}

/* takes the first n positions of a block into each channel's maximum */
AVX2 void avx2_top(const gated_layer *g, const int16_t *y, __m256i re, __m256i ro, __m256i me, __m256i mo, int16_t *top, int n)
{
	const int channels = g->channels, words = g->words;
	const uint32_t *const weights = g->w;
	const __m256i at = _mm256_setr_epi16(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), least = _mm256_set1_epi16(-32768);
	const __m256i in_e = _mm256_cmpgt_epi16(_mm256_set1_epi16((short)n), at), in_o = _mm256_cmpgt_epi16(_mm256_set1_epi16((short)(n - 1)), at);
	__m128i v[8];
	int16_t some[8];
	int c, i;
	for (c = 0; c < channels; c += 8) {
		const int k = channels - c < 8 ? channels - c : 8;
		for (i = 0; i < 8; i++) {
			const int j = c + (i < k ? i : 0);
			const __m256i flip = _mm256_set1_epi32((int)weights[j * words + 8]);
			__m256i e = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + j * 32)), re), me);
			__m256i o = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + j * 32 + 16)), ro), mo);
			e = _mm256_xor_si256(e, flip);
			o = _mm256_xor_si256(o, flip);
			if (n < 32) {
				e = _mm256_blendv_epi8(least, e, in_e);
				o = _mm256_blendv_epi8(least, o, in_o);
			}
			e = _mm256_max_epi16(e, o);
			v[i] = _mm_max_epi16(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
		}
		if (k == 8) {
			_mm_storeu_si128((__m128i *)(top + c), _mm_max_epi16(_mm_loadu_si128((const __m128i *)(top + c)), avx2_maxima(v)));
			continue;
		}
		_mm_storeu_si128((__m128i *)some, avx2_maxima(v));
		for (i = 0; i < k; i++) {
			top[c + i] = some[i] > top[c + i] ? some[i] : top[c + i];
		}
	}
}

/* the bytes of a block of words y with the factors r and m of even and of odd positions; of n 32 all are stored */
AVX2 void avx2_norm_bytes(const gated_layer *g, const int16_t *y, __m256i re, __m256i ro, __m256i me, __m256i mo, int8_t *out, int out_stride, int n)
{
	const int channels = g->channels, words = g->words;
	const uint32_t *flip = g->w + 8;
	const __m256i mult = _mm256_set1_epi16((short)(1 << (15 - g->shift)));
	int c;
	for (c = 0; c < channels; c++, y += 32, out += out_stride, flip += words) {
		__m256i e = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)y), re), me);
		__m256i o = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + 16)), ro), mo);
		e = avx2_bytes(_mm256_mulhrs_epi16(e, mult), _mm256_mulhrs_epi16(o, mult));
		avx2_store(out, _mm256_xor_si256(e, _mm256_set1_epi32((int)*flip)), n);
	}
}

/* the rest of a layer with LayerNorm, from its input y */
AVX2 void avx2_norm(const gated_layer *g, const int16_t *y, void *out, int out_stride, int n)
{
	const int channels = g->channels, words = g->words;
	const uint32_t *const weights = g->w;
	const __m256i zero = _mm256_setzero_si256();
	ALIGNED static const int16_t none[32] = {0};
	__m256i se = zero, so = zero, el = zero, eh = zero, ol = zero, oh = zero, re, ro, me, mo;
	int c;
	for (c = 0; c + 1 < channels; c += 2) {
		avx2_sum(y + c * 32, y + c * 32 + 32, &se, &el, &eh);
		avx2_sum(y + c * 32 + 16, y + c * 32 + 48, &so, &ol, &oh);
	}
	if (c < channels) {
		avx2_sum(y + c * 32, none, &se, &el, &eh);
		avx2_sum(y + c * 32 + 16, none, &so, &ol, &oh);
	}
	avx2_factors16(g, se, el, eh, &re, &me);
	avx2_factors16(g, so, ol, oh, &ro, &mo);
	if (g->wide == 2) {
		avx2_top(g, y, re, ro, me, mo, out, n);
		return;
	}
	if (g->wide == 0) {
		if (n == 32) {
			avx2_norm_bytes(g, y, re, ro, me, mo, out, out_stride, 32);
		} else {
			avx2_norm_bytes(g, y, re, ro, me, mo, out, out_stride, n);
		}
		return;
	}
	for (c = 0; c < channels; c++) {
		__m256i e = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + c * 32)), re), me);
		__m256i o = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + c * 32 + 16)), ro), mo);
		const __m256i flip = _mm256_set1_epi32((int)weights[c * words + 8]);
		int16_t *to = (int16_t *)out + c * out_stride;
		__m256i lo, hi;
		e = _mm256_xor_si256(e, flip);
		o = _mm256_xor_si256(o, flip);
		lo = _mm256_unpacklo_epi16(e, o);
		hi = _mm256_unpackhi_epi16(e, o);
		avx2_store(to, _mm256_permute2x128_si256(lo, hi, 0x20), 2 * n);
		if (n > 16) {
			avx2_store(to + 16, _mm256_permute2x128_si256(lo, hi, 0x31), 2 * n - 32);
		}
	}
}

/* Quarter blocks: 8 positions of four channels, of which the first two and the last two read the same inputs, a quarter of a register
 * each; everything else as above. A flow's last positions are seldom a whole block. */

/* words at and at + 1 of the constants of four channels, as AVX2_FIRST and AVX2_SECOND take them, then those two behind */
AVX2 void avx2_constants(const uint32_t *w, int at, __m256i *first, __m256i *then)
{
	const __m128i *const w0 = (const __m128i *)(w + at), *const w1 = (const __m128i *)(w + 14 + at), *const w2 = (const __m128i *)(w + 28 + at), *const w3 = (const __m128i *)(w + 42 + at);
	const __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(w0)), _mm_loadu_si128(w2), 1);
	const __m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(w1)), _mm_loadu_si128(w3), 1);
	*first = _mm256_unpacklo_epi32(a, b);
	*then = _mm256_unpackhi_epi32(a, b);
}
#define AVX2_FIRST(v) _mm256_shuffle_epi32(v, 0x50)
#define AVX2_SECOND(v) _mm256_shuffle_epi32(v, 0xfa)

/* 8 bytes at a for the first two channels, at b for the others */
AVX2 __m256i avx2_inputs(const int8_t *a, const int8_t *b)
{
	int64_t x, y;
	memcpy(&x, a, 8);
	memcpy(&y, b, 8);
	return _mm256_blend_epi32(_mm256_set1_epi64x(x), _mm256_set1_epi64x(y), 0xf0);
}

AVX2 void avx2_four_taps(const int8_t *a, const int8_t *b, __m256i taps, __m256i bias, __m256i *e, __m256i *o)
{
	const __m256i w01 = AVX2_FIRST(taps), w23 = AVX2_SECOND(taps);
	*e = _mm256_add_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(w01, avx2_inputs(a, b)), bias), _mm256_maddubs_epi16(w23, avx2_inputs(a + 2, b + 2)));
	*o = _mm256_add_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(w01, avx2_inputs(a + 1, b + 1)), bias), _mm256_maddubs_epi16(w23, avx2_inputs(a + 3, b + 3)));
}

/* 8 bytes of each of four rows */
AVX2 __m256i avx2_rows(const int8_t *x, int stride)
{
	const __m128i a = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)x), _mm_loadl_epi64((const __m128i *)(x + stride)));
	const __m128i b = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)(x + 2 * stride)), _mm_loadl_epi64((const __m128i *)(x + 3 * stride)));
	return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* stores those of v that mask has: what stands behind them stays */
AVX2 void avx2_put_rows(int8_t *to, int stride, __m256i v, __m256i mask, int whole)
{
	__m128i a, b;
	if (!whole) {
		v = _mm256_blendv_epi8(avx2_rows(to, stride), v, mask);
	}
	a = _mm256_castsi256_si128(v);
	b = _mm256_extracti128_si256(v, 1);
	_mm_storel_epi64((__m128i *)to, a);
	_mm_storel_epi64((__m128i *)(to + stride), _mm_unpackhi_epi64(a, a));
	_mm_storel_epi64((__m128i *)(to + 2 * stride), b);
	_mm_storel_epi64((__m128i *)(to + 3 * stride), _mm_unpackhi_epi64(b, b));
}

/* the sums of four groups of four words, as numbers of 32 bits: of e, and of o */
AVX2 __m256i avx2_fold16(__m256i e, __m256i o)
{
	const __m256i v = _mm256_add_epi16(_mm256_unpacklo_epi64(e, o), _mm256_unpackhi_epi64(e, o));
	return _mm256_cvtepi16_epi32(_mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

AVX2 __m256i avx2_fold32(__m256i e, __m256i o)
{
	return _mm256_add_epi32(_mm256_permute2x128_si256(e, o, 0x20), _mm256_permute2x128_si256(e, o, 0x31));
}

/* a quarter block, of which n positions are stored; the layer's output has 8 bits, or its maximum is taken */
static __attribute__((target("avx2"), noinline, unused)) void avx2_quarter(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride, int n, int16_t *y)
{
	const __m256i zero = _mm256_setzero_si256(), low = _mm256_set1_epi16(255), twice = _mm256_set1_epi16(254), least = _mm256_set1_epi16(-32768);
	const __m256i whole = _mm256_set1_epi16((short)(1 << (15 - g->shift))), half = _mm256_srli_epi16(whole, 1);
	const __m256i mask = _mm256_cmpgt_epi8(_mm256_set1_epi8((char)(n < 8 ? n : 8)), _mm256_set1_epi64x(0x0706050403020100));
	const __m256i at = _mm256_setr_epi16(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
	const __m256i in_e = _mm256_cmpgt_epi16(_mm256_set1_epi16((short)n), at), in_o = _mm256_cmpgt_epi16(_mm256_set1_epi16((short)(n - 1)), at);
	const avx2_gate p = avx2_pieces(g->gate);
	const int channels = g->channels, norm = g->norm, rho = g->rho;
	const uint32_t *w = g->w;
	__m256i se = zero, so = zero, el = zero, eh = zero, ol = zero, oh = zero, r, m, re, ro, me, mo;
	int c, i;
	for (c = 0; c < channels; c += 4, w += 56) {
		const uint32_t first = w[9], then = w[37];
		__m256i taps_h, taps_g, bias, constant, e, o, s, u;
		avx2_constants(w, 0, &taps_h, &taps_g);
		avx2_constants(w, 4, &bias, &constant);
		avx2_four_taps(x + (int)(first >> 16) * stride, x + (int)(then >> 16) * stride, taps_g, AVX2_SECOND(bias), &e, &o);
		avx2_sigmoid(&p, e, o, &s, &u);
		avx2_four_taps(x + (int)(first & 0xffff) * stride, x + (int)(then & 0xffff) * stride, taps_h, AVX2_FIRST(bias), &e, &o);
		e = _mm256_srai_epi16(e, 8);
		o = _mm256_srai_epi16(o, 8);
		if (!norm) {
			e = _mm256_mulhrs_epi16(_mm256_mullo_epi16(e, _mm256_and_si256(s, twice)), half);
			o = _mm256_mulhrs_epi16(_mm256_mullo_epi16(o, u), whole);
			avx2_put_rows((int8_t *)out + c * out_stride, out_stride, avx2_bytes(e, o), mask, n >= 8);
			continue;
		}
		e = _mm256_add_epi16(_mm256_mullo_epi16(e, _mm256_srli_epi16(_mm256_slli_epi16(s, 8), 9)), AVX2_FIRST(constant));
		o = _mm256_add_epi16(_mm256_mullo_epi16(o, u), AVX2_FIRST(constant));
		if (rho != 0) { /* high halves of 256 * res times 256 * rho */
			const __m256i v = avx2_rows(res + c * res_stride, res_stride), by = _mm256_slli_epi16(AVX2_SECOND(constant), 8);
			e = _mm256_add_epi16(e, _mm256_mulhi_epi16(_mm256_slli_epi16(v, 8), by));
			o = _mm256_add_epi16(o, _mm256_mulhi_epi16(_mm256_andnot_si256(low, v), by));
		}
		_mm256_store_si256((__m256i *)(y + c * 8), e);
		_mm256_store_si256((__m256i *)(y + c * 8 + 16), o);
	}
	if (!norm) {
		return;
	}
	if (channels % 8 != 0) {
		memset(y + c * 8, 0, 64);
	}
	for (c = 0; c < channels; c += 8) {
		avx2_sum(y + c * 8, y + c * 8 + 32, &se, &el, &eh);
		avx2_sum(y + c * 8 + 16, y + c * 8 + 48, &so, &ol, &oh);
	}
	avx2_factors(g, avx2_fold16(se, so), avx2_fold32(_mm256_add_epi32(el, eh), _mm256_add_epi32(ol, oh)), &r, &m);
	r = _mm256_packs_epi32(r, r);
	m = _mm256_packs_epi32(m, m);
	re = _mm256_permute4x64_epi64(r, 0);
	ro = _mm256_permute4x64_epi64(r, 0xaa);
	me = _mm256_permute4x64_epi64(m, 0);
	mo = _mm256_permute4x64_epi64(m, 0xaa);
	for (c = 0, w = g->w; c < channels; c += 4, w += 56) {
		__m256i e = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + c * 8)), re), me);
		__m256i o = _mm256_adds_epi16(_mm256_mulhrs_epi16(_mm256_load_si256((const __m256i *)(y + c * 8 + 16)), ro), mo), flip, rest;
		avx2_constants(w, 8, &flip, &rest);
		flip = AVX2_FIRST(flip);
		if (g->wide == 0) {
			e = avx2_bytes(_mm256_mulhrs_epi16(e, whole), _mm256_mulhrs_epi16(o, whole));
			avx2_put_rows((int8_t *)out + c * out_stride, out_stride, _mm256_xor_si256(e, flip), mask, n >= 8);
		} else {
			int16_t v[16], *top = (int16_t *)out + c;
			e = _mm256_max_epi16(_mm256_blendv_epi8(least, _mm256_xor_si256(e, flip), in_e), _mm256_blendv_epi8(least, _mm256_xor_si256(o, flip), in_o));
			e = _mm256_max_epi16(e, _mm256_srli_epi64(e, 32));
			_mm256_storeu_si256((__m256i *)v, _mm256_max_epi16(e, _mm256_srli_epi32(e, 16)));
			for (i = 0; i < 4; i++) {
				top[i] = v[4 * i] > top[i] ? v[4 * i] : top[i];
			}
		}
	}
}

/* One block of a gated layer: 32 positions, of which n are stored. x is the first tap's value at the first of them. */
AVX2_KERNEL void gated_avx2(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride,
	void *out, int out_stride, int n, int16_t *y)
{
	/* not where the output lies in y: quarters use that again */
	if (n <= 16 && g->paired && g->words == 14 && g->channels % 4 == 0 && g->wide != 1 && out != (void *)y) {
		int i;
		for (i = 0; i < n; i += 8) {
			void *to = g->wide == 2 ? out : (void *)((int8_t *)out + i);
			avx2_quarter(g, x + i, stride, g->rho != 0 ? res + i : NULL, res_stride, to, out_stride, n - i, y);
		}
		return;
	}
	if (!g->norm) {
		if (g->words == 14 && n == 32) {
			avx2_plain_of(g, x, stride, out, out_stride, 32, 2);
		} else if (g->words == 14) {
			avx2_plain_of(g, x, stride, out, out_stride, n, 2);
		} else {
			avx2_plain_of(g, x, stride, out, out_stride, n, 4);
		}
		return;
	}
	if (g->words == 14 && g->rho > 0) {
		avx2_tile_of(g, x, stride, res, res_stride, y, 2, 1);
	} else if (g->words == 14) {
		avx2_tile_of(g, x, stride, res, res_stride, y, 2, g->rho);
	} else {
		avx2_tile_of(g, x, stride, res, res_stride, y, 4, g->rho);
	}
	avx2_norm(g, y, out, out_stride, n);
}

/* Rows of n tokens, of 8 bits and cols channels, to planes. */
AVX2_KERNEL void rows_avx2(const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out, int stride)
{
	int t, c, i, j;
	for (t = 0; t < n && t < 16; t++) {
		for (c = 0; c < cols; c += 64) {
			_mm_prefetch((const char *)table + (size_t)tokens[t] * (size_t)cols + c, _MM_HINT_T0);
		}
	}
	for (t = 0; t < n; t += 16) {
		const int left = n - t;
		const uint8_t *row[16];
		for (i = 0; i < 16; i++) {
			row[i] = table + (size_t)tokens[i < left ? t + i : t] * (size_t)cols;
		}
		for (c = 0; c + 32 <= cols; c += 32) {
			__m256i a[16], b[16];
			if (c % 64 == 0) {
				for (i = t + 16; i < t + 32 && i < n; i++) {
					_mm_prefetch((const char *)table + (size_t)tokens[i] * (size_t)cols + c, _MM_HINT_T0);
				}
			}
			for (i = 0; i < 16; i++) {
				a[i] = _mm256_loadu_si256((const __m256i *)(row[i] + c));
			}
			/* four times, vector i and i + 8 side by side: a transposition of 16 by 16 bytes in each half */
			for (j = 0; j < 2; j++) {
				for (i = 0; i < 8; i++) {
					b[2 * i] = _mm256_unpacklo_epi8(a[i], a[i + 8]);
					b[2 * i + 1] = _mm256_unpackhi_epi8(a[i], a[i + 8]);
				}
				for (i = 0; i < 8; i++) {
					a[2 * i] = _mm256_unpacklo_epi8(b[i], b[i + 8]);
					a[2 * i + 1] = _mm256_unpackhi_epi8(b[i], b[i + 8]);
				}
			}
			for (i = 0; i < 16; i++) {
				__m128i low = _mm256_castsi256_si128(a[i]), high = _mm256_extracti128_si256(a[i], 1);
				int8_t *to = out + (c + i) * stride + t;
				if (left >= 16) {
					_mm_storeu_si128((__m128i *)to, low);
					_mm_storeu_si128((__m128i *)(to + 16 * stride), high);
				} else {
					int8_t some[32];
					_mm_storeu_si128((__m128i *)some, low);
					_mm_storeu_si128((__m128i *)(some + 16), high);
					memcpy(to, some, (size_t)left);
					memcpy(to + 16 * stride, some + 16, (size_t)left);
				}
			}
		}
		for (c = cols & ~31; c < cols; c++) {
			int8_t *to = out + (ptrdiff_t)c * stride + t;
			for (i = 0; i < 16 && i < left; i++) {
				to[i] = (int8_t)row[i][c];
			}
		}
	}
}

/* adds to four sums the products of four rows of w, n apart, and of x, cols of each */
AVX2 void avx2_four(const int8_t *w, int n, const int16_t *x, int cols, int32_t *sum)
{
	__m256i a[4];
	__m128i v;
	int i, k;
	for (k = 0; k < 4; k++) {
		a[k] = _mm256_setzero_si256();
	}
	for (i = 0; i < cols; i += 16) {
		const __m256i xi = _mm256_loadu_si256((const __m256i *)(x + i));
		for (k = 0; k < 4; k++) {
			a[k] = _mm256_add_epi32(a[k], _mm256_madd_epi16(xi, _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + k * n + i)))));
		}
	}
	a[0] = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), _mm256_hadd_epi32(a[2], a[3]));
	v = _mm_add_epi32(_mm256_castsi256_si128(a[0]), _mm256_extracti128_si256(a[0], 1));
	_mm_storeu_si128((__m128i *)sum, _mm_add_epi32(_mm_loadu_si128((const __m128i *)sum), v));
}

/* adds to the sums of rows outputs the products of w, n a row, and x, which has 8 bits a number or 16 */
AVX2_KERNEL void dense_avx2(const int8_t *w, int rows, int n, const void *x, int bits, int32_t *sum)
{
	const int16_t *words = x;
	const int8_t *bytes = x;
	int o, i, j;
	for (j = 0; j < n; j += 256) {
		const int cols = n - j < 256 ? n - j : 256, whole = cols & ~15;
		int16_t b[256];
		for (i = 0; i < cols; i++) {
			b[i] = bits == 8 ? bytes[j + i] : words[j + i];
		}
		for (o = 0; o + 4 <= rows; o += 4) {
			avx2_four(w + (ptrdiff_t)o * n + j, n, b, whole, sum + o);
		}
		for (o = 0; o < rows; o++) {
			for (i = o < (rows & ~3) ? whole : 0; i < cols; i++) {
				sum[o] += w[(ptrdiff_t)o * n + j + i] * b[i];
			}
		}
	}
}
#endif
