#if defined(HAVE_X86)
#define AVX512_TARGET target("avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi,avx512vnni")
#define AVX512 static inline __attribute__((AVX512_TARGET, always_inline))

/* The AVX-512 kernels of gated layers whose neighbours, channels 0 and 1, 2 and 3 and so on, read the same inputs: 32 positions of
 * two channels, one in each half of a register, else as with AVX2. The gate is a table of 256 bytes in four registers. */

/* word i of the constants of two channels */
AVX512 __m512i avx512_pair(const uint32_t *w, int words, int i)
{
	return _mm512_mask_set1_epi32(_mm512_set1_epi32((int)w[i]), 0xff00, (int)w[words + i]);
}

AVX512 __m512i avx512_twice(const void *x) { return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)x)); }

/* pairs of taps from word at and more on, times the values from x on, plus the bias */
AVX512 void avx512_filter(const int8_t *x, const uint32_t *w, int words, int at, int more, int bias, int pairs, __m512i *e, __m512i *o)
{
	int i;
	*e = *o = avx512_pair(w, words, bias);
	for (i = 0; i < pairs; i++) {
		__m512i t = avx512_pair(w, words, i < 2 ? at + i : more + i - 2);
		*e = _mm512_add_epi16(*e, _mm512_maddubs_epi16(t, avx512_twice(x + 2 * i)));
		*o = _mm512_add_epi16(*o, _mm512_maddubs_epi16(t, avx512_twice(x + 2 * i + 1)));
	}
}

/* the products of h and the gate */
AVX512 void avx512_front(const uint32_t *w, int words, const __m512i *table, const int8_t *x, int stride, int pairs, __m512i *e, __m512i *o)
{
	const __m512i low = _mm512_set1_epi16(255);
	__m512i b, s;
	avx512_filter(x + (int)(w[9] >> 16) * stride, w, words, 2, 16, 5, pairs, e, o);
	b = _mm512_or_si512(_mm512_srli_epi16(*e, 8), _mm512_andnot_si512(low, *o));
	s = _mm512_mask_blend_epi8(_mm512_movepi8_mask(b), _mm512_permutex2var_epi8(table[0], b, table[1]), _mm512_permutex2var_epi8(table[2], b, table[3]));
	avx512_filter(x + (int)(w[9] & 0xffff) * stride, w, words, 0, 14, 4, pairs, e, o);
	*e = _mm512_mullo_epi16(_mm512_srai_epi16(*e, 8), _mm512_and_si512(s, low));
	/* high halves of 256 * h times 256 * gate */
	*o = _mm512_mulhi_epi16(_mm512_andnot_si512(low, *o), _mm512_andnot_si512(low, s));
}

/* stores the first n bytes of each of two channels */
AVX512 void avx512_store(int8_t *to, int stride, __m512i v, __mmask32 n)
{
	_mm256_mask_storeu_epi8(to, n, _mm512_castsi512_si256(v));
	_mm256_mask_storeu_epi8(to + stride, n, _mm512_extracti64x4_epi64(v, 1));
}

AVX512 __m512i avx512_bytes(__m512i e, __m512i o)
{
	const __m128i order = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
	return _mm512_shuffle_epi8(_mm512_packs_epi16(e, o), _mm512_broadcast_i32x4(order));
}

AVX512 void avx512_plain_of(const gated_layer *g, const int8_t *x, int stride, int8_t *out, int out_stride, __mmask32 n, int words)
{
	const __m512i mult = _mm512_set1_epi16((short)(1 << (15 - g->shift)));
	__m512i table[4], e, o;
	int c;
	for (c = 0; c < 4; c++) {
		table[c] = _mm512_loadu_si512(g->gate + 64 + 64 * c);
	}
	for (c = 0; c < g->channels; c += 2) {
		avx512_front(g->w + c * words, words, table, x, stride, words == 14 ? 2 : 4, &e, &o);
		e = avx512_bytes(_mm512_mulhrs_epi16(e, mult), _mm512_mulhrs_epi16(o, mult));
		avx512_store(out + c * out_stride, out_stride, e, n);
	}
}

AVX512 void avx512_tile_of(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, int16_t *y, int words, int rho)
{
	const __m512i low = _mm512_set1_epi16(255);
	__m512i table[4];
	int c;
	for (c = 0; c < 4; c++) {
		table[c] = _mm512_loadu_si512(g->gate + 64 + 64 * c);
	}
	for (c = 0; c < g->channels; c += 2) {
		const uint32_t *w = g->w + c * words;
		const __m512i cst = avx512_pair(w, words, 6);
		__m512i e, o;
		avx512_front(w, words, table, x, stride, words == 14 ? 2 : 4, &e, &o);
		e = _mm512_add_epi16(e, cst);
		o = _mm512_add_epi16(o, cst);
		if (rho != 0) {
			const int8_t *at = res + c * res_stride;
			const __m512i r = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)at)), _mm256_loadu_si256((const __m256i *)(at + res_stride)), 1);
			__m512i by = avx512_pair(w, words, 7);
			if (rho > 0) {
				e = _mm512_add_epi16(e, _mm512_maddubs_epi16(by, r));
				o = _mm512_add_epi16(o, _mm512_maddubs_epi16(_mm512_slli_epi16(by, 8), r));
			} else {
				by = _mm512_slli_epi16(by, 8);
				e = _mm512_add_epi16(e, _mm512_mulhi_epi16(_mm512_slli_epi16(r, 8), by));
				o = _mm512_add_epi16(o, _mm512_mulhi_epi16(_mm512_andnot_si512(low, r), by));
			}
		}
		_mm512_store_si512(y + c * 32, e);
		_mm512_store_si512(y + c * 32 + 32, o);
	}
}

/* norm_factors of 16 positions */
AVX512 void avx512_factors(const gated_layer *g, __m512i s1, __m512i s2, __m512i *r, __m512i *m)
{
	const __m512i round = _mm512_set1_epi32(1 << 14), zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
	__m512i v, u, x, t, e, s, f, mean;
	v = _mm512_sub_epi32(_mm512_mullo_epi32(s2, _mm512_set1_epi32(g->channels)), _mm512_mullo_epi32(s1, s1));
	v = _mm512_max_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(g->eps)), one);
	e = _mm512_and_si512(_mm512_sub_epi32(_mm512_lzcnt_epi32(v), one), _mm512_set1_epi32(-2));
	u = _mm512_srli_epi32(_mm512_sllv_epi32(v, e), 16);
	x = _mm512_set1_epi32(-9988);
	x = _mm512_add_epi32(_mm512_set1_epi32(25518), _mm512_srai_epi32(_mm512_mullo_epi32(u, x), 15));
	x = _mm512_add_epi32(_mm512_set1_epi32(-24211), _mm512_srai_epi32(_mm512_mullo_epi32(u, x), 15));
	x = _mm512_add_epi32(_mm512_set1_epi32(12748), _mm512_srai_epi32(_mm512_mullo_epi32(u, x), 15));
	t = _mm512_srai_epi32(_mm512_mullo_epi32(x, x), 10);
	t = _mm512_srai_epi32(_mm512_mullo_epi32(t, u), 15);
	x = _mm512_srai_epi32(_mm512_mullo_epi32(x, _mm512_sub_epi32(_mm512_set1_epi32(49152), t)), 13);
	s = _mm512_max_epi32(_mm512_sub_epi32(_mm512_set1_epi32(g->s), _mm512_srli_epi32(e, 1)), zero);
	f = _mm512_srlv_epi32(_mm512_mullo_epi32(x, _mm512_set1_epi32(g->a)), s);
	f = _mm512_min_epu32(f, _mm512_set1_epi32(32767));
	mean = _mm512_srai_epi32(_mm512_add_epi32(_mm512_mullo_epi32(s1, _mm512_set1_epi32(g->mean_m)), round), 15);
	mean = _mm512_mullo_epi32(_mm512_add_epi32(mean, _mm512_set1_epi32(128)), f);
	mean = _mm512_sub_epi32(zero, _mm512_srai_epi32(_mm512_add_epi32(mean, round), 15));
	*r = f;
	*m = _mm512_max_epi32(_mm512_min_epi32(mean, _mm512_set1_epi32(16383)), _mm512_set1_epi32(-16384));
}

AVX512 __m256i avx512_fold32(__m512i v) { return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)); }
AVX512 __m512i avx512_join(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

/* the factors of 16 positions, in both halves */
AVX512 void avx512_factors16(const gated_layer *g, __m512i sums, __m512i low, __m512i high, __m512i *r, __m512i *m)
{
	const __m256i s = _mm256_add_epi16(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
	__m512i s1 = avx512_join(_mm256_unpacklo_epi16(s, s), _mm256_unpackhi_epi16(s, s)), f, k;
	avx512_factors(g, _mm512_srai_epi32(s1, 16), avx512_join(avx512_fold32(low), avx512_fold32(high)), &f, &k);
	*r = _mm512_broadcast_i64x4(_mm256_packs_epi32(_mm512_castsi512_si256(f), _mm512_extracti64x4_epi64(f, 1)));
	*m = _mm512_broadcast_i64x4(_mm256_packs_epi32(_mm512_castsi512_si256(k), _mm512_extracti64x4_epi64(k, 1)));
}

/* adds two vectors' words y >> 8 to the sums, and their squares */
AVX512 void avx512_sum(const int16_t *y0, const int16_t *y1, __m512i *sums, __m512i *low, __m512i *high)
{
	__m512i a = _mm512_srai_epi16(_mm512_load_si512(y0), 8), b = _mm512_srai_epi16(_mm512_load_si512(y1), 8), t;
	*sums = _mm512_add_epi16(*sums, _mm512_add_epi16(a, b));
	t = _mm512_unpacklo_epi16(a, b);
	*low = _mm512_dpwssd_epi32(*low, t, t);
	t = _mm512_unpackhi_epi16(a, b);
	*high = _mm512_dpwssd_epi32(*high, t, t);
}

AVX512 void avx512_norm(const gated_layer *g, const int16_t *y, void *out, int out_stride, int n)
{
	const __m512i zero = _mm512_setzero_si512(), mult = _mm512_set1_epi16((short)(1 << (15 - g->shift)));
	const __mmask32 mask = n >= 32 ? 0xffffffffu : (1u << n) - 1;
	const __m512i least = _mm512_set1_epi16(-32768);
	/* of words, bits 0 to 15 for the first channel, 16 to 31 for the second: positions 2 * i, and 2 * i + 1 */
	const __mmask32 half_e = (1u << (n + 1) / 2) - 1, half_o = (1u << n / 2) - 1, in_e = half_e << 16 | half_e, in_o = half_o << 16 | half_o;
	ALIGNED static const int16_t none[64] = {0};
	__m512i se = zero, so = zero, el = zero, eh = zero, ol = zero, oh = zero, re, ro, me, mo;
	__m128i v[8];
	int c;
	for (c = 0; c < g->channels; c += 4) {
		const int16_t *y1 = c + 2 < g->channels ? y + c * 32 + 64 : none;
		avx512_sum(y + c * 32, y1, &se, &el, &eh);
		avx512_sum(y + c * 32 + 32, y1 == none ? none : y1 + 32, &so, &ol, &oh);
	}
	avx512_factors16(g, se, el, eh, &re, &me);
	avx512_factors16(g, so, ol, oh, &ro, &mo);
	for (c = 0; c < g->channels; c += 2) {
		const __m512i flip = avx512_pair(g->w + c * g->words, g->words, 8);
		__m512i e = _mm512_adds_epi16(_mm512_mulhrs_epi16(_mm512_load_si512(y + c * 32), re), me);
		__m512i o = _mm512_adds_epi16(_mm512_mulhrs_epi16(_mm512_load_si512(y + c * 32 + 32), ro), mo);
		if (g->wide == 0) {
			e = avx512_bytes(_mm512_mulhrs_epi16(e, mult), _mm512_mulhrs_epi16(o, mult));
			avx512_store((int8_t *)out + c * out_stride, out_stride, _mm512_xor_si512(e, flip), mask);
			continue;
		}
		e = _mm512_xor_si512(e, flip);
		o = _mm512_xor_si512(o, flip);
		if (g->wide == 1) {
			int16_t *to = (int16_t *)out + c * out_stride;
			const __m512i lo = _mm512_unpacklo_epi16(e, o), hi = _mm512_unpackhi_epi16(e, o);
			const __m512i first = _mm512_permutex2var_epi64(lo, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), hi);
			const __m512i second = _mm512_permutex2var_epi64(lo, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), hi);
			_mm512_mask_storeu_epi16(to, mask, first);
			_mm512_mask_storeu_epi16(to + out_stride, mask, second);
			continue;
		}
		e = _mm512_max_epi16(_mm512_mask_blend_epi16(in_e, least, e), _mm512_mask_blend_epi16(in_o, least, o));
		v[c % 8] = _mm_max_epi16(_mm512_castsi512_si128(e), _mm512_extracti32x4_epi32(e, 1));
		v[c % 8 + 1] = _mm_max_epi16(_mm512_extracti32x4_epi32(e, 2), _mm512_extracti32x4_epi32(e, 3));
		if (c % 8 == 6) {
			__m128i *to = (__m128i *)((int16_t *)out + c - 6);
			_mm_storeu_si128(to, _mm_max_epi16(_mm_loadu_si128(to), avx2_maxima(v)));
		}
	}
}

/* One block of a gated layer, as gated_avx2. The layer's channels go by twos, and where it takes maxima by eights. */
static __attribute__((AVX512_TARGET, unused)) void gated_avx512(const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride,
	void *out, int out_stride, int n, int16_t *y)
{
	const __mmask32 mask = n >= 32 ? 0xffffffffu : (1u << n) - 1;
	if (!g->norm) {
		if (g->words == 14) {
			avx512_plain_of(g, x, stride, out, out_stride, mask, 14);
		} else {
			avx512_plain_of(g, x, stride, out, out_stride, mask, 20);
		}
		return;
	}
	if (g->words == 14 && g->rho > 0) {
		avx512_tile_of(g, x, stride, res, res_stride, y, 14, 1);
	} else if (g->words == 14) {
		avx512_tile_of(g, x, stride, res, res_stride, y, 14, g->rho);
	} else {
		avx512_tile_of(g, x, stride, res, res_stride, y, 20, g->rho);
	}
	avx512_norm(g, y, out, out_stride, n);
}
#endif
