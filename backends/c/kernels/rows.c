#if defined(HAVE_X86)
#define ROWS_TARGET target("avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi,avx512vbmi2,avx512vnni")
#define ROWS static inline __attribute__((ROWS_TARGET, always_inline))
#define ROWS_KERNEL static __attribute__((ROWS_TARGET, unused))

/* The AVX-512 kernels on rows: registers hold 64 channels of a position, the even ones (E) and the odd ones (O) words of one each.
 * Neighbours read the same input, of which a word holds two: x[t] and x[t+1]. From position to position one shift brings the next
 * value in. The gate is a table of 256 bytes in four registers. */

/* constants of 64 channels, vectors of 32 words: see the emitter's rowConstants */
typedef struct {
	__m512i taps[8], bias[4], table[4];
} rows_constants;

ROWS __m512i rows_next(__m512i last, const int8_t *x)
{
	return _mm512_shrdi_epi16(last, _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)x)), 8);
}

/* two pairs of taps */
ROWS __m512i rows_filter(__m512i x01, __m512i x23, __m512i w01, __m512i w23, __m512i bias)
{
	return _mm512_add_epi16(_mm512_add_epi16(_mm512_maddubs_epi16(w01, x01), bias), _mm512_maddubs_epi16(w23, x23));
}

/* n positions of 64 channels. h and g are the inputs at the first tap, in bytes from one position to the next. rho is the residual's sign as in
 * gated_layer; with y NULL the layer has no LayerNorm, and out are its rows, wide bytes apart, else y are LayerNorm's inputs, wide words apart. */
ROWS void rows_front(const gated_layer *layer, const int16_t *w, const int8_t *h, const int8_t *g, int in, const int8_t *res, int8_t *out, int16_t *y, int wide, int n, int rho)
{
	const __m512i low = _mm512_set1_epi16(255), mult = _mm512_set1_epi16((short)(1 << (15 - layer->shift)));
	const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
	const __m512i rho_e = _mm512_load_si512(w + 12 * 32), rho_o = _mm512_load_si512(w + 13 * 32);
	__m512i h0, h1, h2, g0, g1, g2;
	rows_constants k;
	int i, t;
	for (i = 0; i < 8; i++) {
		k.taps[i] = _mm512_load_si512(w + 32 * i);
	}
	for (i = 0; i < 4; i++) {
		k.bias[i] = _mm512_load_si512(w + 32 * (8 + i));
		k.table[i] = _mm512_loadu_si512(layer->gate + 64 + 64 * i);
	}
	h0 = rows_next(_mm512_setzero_si512(), h);
	g0 = rows_next(_mm512_setzero_si512(), g);
	h0 = rows_next(h0, h + in);
	g0 = rows_next(g0, g + in);
	h1 = rows_next(h0, h + 2 * in);
	g1 = rows_next(g0, g + 2 * in);
	h += 3 * in;
	g += 3 * in;
	for (t = 0; t < n; t++, h += in, g += in) {
		__m512i e, o, b, s;
		h2 = rows_next(h1, h);
		g2 = rows_next(g1, g);
		e = rows_filter(g0, g2, k.taps[4], k.taps[5], k.bias[2]);
		o = rows_filter(g0, g2, k.taps[6], k.taps[7], k.bias[3]);
		b = _mm512_ternarylogic_epi32(_mm512_srli_epi16(e, 8), o, low, 0xf4); /* bytes of E and O */
		s = _mm512_mask_blend_epi8(_mm512_movepi8_mask(b), _mm512_permutex2var_epi8(k.table[0], b, k.table[1]), _mm512_permutex2var_epi8(k.table[2], b, k.table[3]));
		e = rows_filter(h0, h2, k.taps[0], k.taps[1], k.bias[0]);
		o = rows_filter(h0, h2, k.taps[2], k.taps[3], k.bias[1]);
		e = _mm512_mullo_epi16(_mm512_srai_epi16(e, 8), _mm512_and_si512(s, low));
		/* high halves of 256 * h times 256 * gate */
		o = _mm512_mulhi_epi16(_mm512_andnot_si512(low, o), _mm512_andnot_si512(low, s));
		if (y == NULL) {
			e = _mm512_packs_epi16(_mm512_mulhrs_epi16(e, mult), _mm512_mulhrs_epi16(o, mult));
			_mm512_storeu_si512(out, _mm512_shuffle_epi8(e, order));
			out += wide;
		} else {
			if (rho > 0) { /* unsigned by signed, one product a word */
				const __m512i r = _mm512_loadu_si512(res);
				e = _mm512_add_epi16(e, _mm512_maddubs_epi16(rho_e, r));
				o = _mm512_add_epi16(o, _mm512_maddubs_epi16(_mm512_slli_epi16(rho_o, 8), r));
			} else if (rho < 0) { /* high halves of 256 * r times 256 * rho */
				const __m512i r = _mm512_loadu_si512(res);
				e = _mm512_add_epi16(e, _mm512_mulhi_epi16(_mm512_slli_epi16(r, 8), _mm512_slli_epi16(rho_e, 8)));
				o = _mm512_add_epi16(o, _mm512_mulhi_epi16(_mm512_andnot_si512(low, r), _mm512_slli_epi16(rho_o, 8)));
			}
			if (rho != 0) {
				res += wide;
			}
			_mm512_store_si512(y, _mm512_add_epi16(e, _mm512_load_si512(w + 14 * 32)));
			_mm512_store_si512(y + 32, _mm512_add_epi16(o, _mm512_load_si512(w + 15 * 32)));
			y += wide;
		}
		h0 = h1;
		h1 = h2;
		g0 = g1;
		g1 = g2;
	}
}

/* the sums of the 16 numbers of each of 16 vectors */
ROWS __m512i rows_sums(const __m512i *v)
{
	__m512i z[8];
	int i;
	for (i = 0; i < 8; i++) {
		z[i] = _mm512_add_epi32(_mm512_shuffle_i64x2(v[i], v[i + 8], 0x44), _mm512_shuffle_i64x2(v[i], v[i + 8], 0xee));
	}
	for (i = 0; i < 4; i++) {
		z[i] = _mm512_add_epi32(_mm512_shuffle_i64x2(z[i], z[i + 4], 0x88), _mm512_shuffle_i64x2(z[i], z[i + 4], 0xdd));
	}
	for (i = 0; i < 2; i++) {
		z[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(z[i], z[i + 2]), _mm512_unpackhi_epi64(z[i], z[i + 2]));
	}
	z[2] = _mm512_unpacklo_epi32(z[0], z[1]);
	z[3] = _mm512_unpackhi_epi32(z[0], z[1]);
	z[0] = _mm512_add_epi32(_mm512_unpacklo_epi64(z[2], z[3]), _mm512_unpackhi_epi64(z[2], z[3]));
	return _mm512_shuffle_i64x2(z[0], z[0], 0xd8);
}

/* norm_factors of n positions, at most 32 */
ROWS void rows_factors(const gated_layer *g, const int16_t *y, int n, int16_t *r, int16_t *m)
{
	const __m512i one = _mm512_set1_epi16(1);
	const int channels = g->channels;
	__m512i sums[32], squares[32], f, k;
	int t, c;
	for (t = 0; t < n; t++) {
		__m512i s = _mm512_setzero_si512(), a = s, b = s;
		for (c = 0; c < channels; c += 64, y += 64) {
			const __m512i e = _mm512_srai_epi16(_mm512_load_si512(y), 8), o = _mm512_srai_epi16(_mm512_load_si512(y + 32), 8);
			s = _mm512_add_epi16(s, _mm512_add_epi16(e, o));
			a = _mm512_dpwssd_epi32(a, e, e);
			b = _mm512_dpwssd_epi32(b, o, o);
		}
		sums[t] = _mm512_madd_epi16(s, one);
		squares[t] = _mm512_add_epi32(a, b);
	}
	for (; t % 16 != 0; t++) {
		sums[t] = squares[t] = _mm512_setzero_si512();
	}
	for (t = 0; t < n; t += 16) {
		avx512_factors(g, rows_sums(sums + t), rows_sums(squares + t), &f, &k);
		_mm256_storeu_si256((__m256i *)(r + t), _mm512_cvtepi32_epi16(f));
		_mm256_storeu_si256((__m256i *)(m + t), _mm512_cvtepi32_epi16(k));
	}
}

ROWS __m512i rows_normal(const int16_t *y, __m512i r, __m512i m) { return _mm512_adds_epi16(_mm512_mulhrs_epi16(_mm512_load_si512(y), r), m); }

/* n rows of a gated layer. w are its constants, x is the first tap's row at the first position, in the bytes of a row; res and out have rows as
 * wide as the layer; where the layer's maximum is taken, out are the maxima. */
ROWS_KERNEL void gated_rows(const gated_layer *g, const int16_t *w, const int8_t *x, int h, int gate, int in, const int8_t *res, void *out, int n, int16_t *y)
{
	const __m512i mult = _mm512_set1_epi16((short)(1 << (15 - g->shift)));
	const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
	const int channels = g->channels;
	int16_t r[32], m[32];
	int c, t;
	for (c = 0; c < channels; c += 64, w += 18 * 32) {
		const int8_t *xh = x + h + c / 2, *xg = x + gate + c / 2;
		if (!g->norm) {
			rows_front(g, w, xh, xg, in, NULL, (int8_t *)out + c, NULL, channels, n, 0);
		} else if (g->rho > 0) {
			rows_front(g, w, xh, xg, in, res + c, NULL, y + c, channels, n, 1);
		} else if (g->rho < 0) {
			rows_front(g, w, xh, xg, in, res + c, NULL, y + c, channels, n, -1);
		} else {
			rows_front(g, w, xh, xg, in, NULL, NULL, y + c, channels, n, 0);
		}
	}
	if (!g->norm) {
		return;
	}
	rows_factors(g, y, n, r, m);
	w -= channels / 64 * 18 * 32;
	for (c = 0; c < channels; c += 64, w += 18 * 32, y += 64) {
		const __m512i flip_e = _mm512_load_si512(w + 16 * 32), flip_o = _mm512_load_si512(w + 17 * 32);
		if (g->wide == 0) {
			const __m512i flip = _mm512_shuffle_epi8(_mm512_packs_epi16(flip_e, flip_o), order);
			int8_t *to = (int8_t *)out + c;
			for (t = 0; t < n; t++, to += channels) {
				const __m512i rt = _mm512_set1_epi16(r[t]), mt = _mm512_set1_epi16(m[t]);
				const __m512i e = _mm512_mulhrs_epi16(rows_normal(y + t * channels, rt, mt), mult), o = _mm512_mulhrs_epi16(rows_normal(y + t * channels + 32, rt, mt), mult);
				_mm512_storeu_si512(to, _mm512_xor_si512(_mm512_shuffle_epi8(_mm512_packs_epi16(e, o), order), flip));
			}
		} else {
			int16_t *to = (int16_t *)out + c;
			__m512i best_e = _mm512_set1_epi16(-32768), best_o = best_e, low, high;
			for (t = 0; t < n; t++) {
				const __m512i rt = _mm512_set1_epi16(r[t]), mt = _mm512_set1_epi16(m[t]);
				best_e = _mm512_max_epi16(best_e, _mm512_xor_si512(rows_normal(y + t * channels, rt, mt), flip_e));
				best_o = _mm512_max_epi16(best_o, _mm512_xor_si512(rows_normal(y + t * channels + 32, rt, mt), flip_o));
			}
			low = _mm512_unpacklo_epi16(best_e, best_o);
			high = _mm512_unpackhi_epi16(best_e, best_o);
			best_e = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
			best_o = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
			_mm512_storeu_si512(to, _mm512_max_epi16(_mm512_loadu_si512(to), best_e));
			_mm512_storeu_si512(to + 32, _mm512_max_epi16(_mm512_loadu_si512(to + 32), best_o));
		}
	}
}
#endif
