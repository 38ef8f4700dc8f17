#if defined(HAVE_X86)
/* The AVX2 kernels on rows: registers hold 32 channels of a position, the even ones (E) and the odd ones (O) words of one each. Neighbours
 * read the same input, of which a word holds two: x[t] and x[t+1]. All gates of 32 channels come before all of the rest, so that constants stay in
 * registers. Constants are those of AVX-512, vectors of 32 words for 64 channels, of which w points to 16. */

/* pairs of rows for two taps: those of even and of odd positions from the next one on, and the last row */
typedef struct {
	__m256i pair[2], last;
} avx2_window;

AVX2 __m256i avx2_row(const int8_t *x) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)x)); }

AVX2 avx2_window avx2_open(const int8_t *x, int in)
{
	const __m256i first = avx2_row(x), then = avx2_row(x + in);
	avx2_window v;
	v.last = avx2_row(x + 2 * in);
	v.pair[0] = _mm256_or_si256(first, _mm256_slli_epi16(then, 8));
	v.pair[1] = _mm256_or_si256(then, _mm256_slli_epi16(v.last, 8));
	return v;
}

/* four taps at the next position, which is even (0) or odd (1), of whose taps x is the last; w are taps 01 and 23, E, then O, and biases */
AVX2 void avx2_taps(avx2_window *v, int odd, const int8_t *x, const __m256i *w, const int16_t *bias, __m256i *e, __m256i *o)
{
	const __m256i next = avx2_row(x);
	*e = _mm256_add_epi16(_mm256_maddubs_epi16(w[0], v->pair[odd]), _mm256_load_si256((const __m256i *)bias));
	*o = _mm256_add_epi16(_mm256_maddubs_epi16(w[2], v->pair[odd]), _mm256_load_si256((const __m256i *)(bias + 32)));
	v->pair[odd] = _mm256_or_si256(v->last, _mm256_slli_epi16(next, 8));
	v->last = next;
	*e = _mm256_add_epi16(*e, _mm256_maddubs_epi16(w[1], v->pair[odd]));
	*o = _mm256_add_epi16(*o, _mm256_maddubs_epi16(w[3], v->pair[odd]));
}

AVX2 void avx2_load_taps(__m256i *w, const int16_t *from)
{
	int i;
	for (i = 0; i < 4; i++) {
		w[i] = _mm256_load_si256((const __m256i *)(from + 32 * i));
	}
}

AVX2 __m256i avx2_row_gate(const avx2_gate *p, avx2_window *v, int odd, const int8_t *x, const __m256i *w, const int16_t *bias)
{
	__m256i e, o, se, so;
	avx2_taps(v, odd, x, w, bias, &e, &o);
	avx2_doubled(p, e, o, &se, &so);
	se = _mm256_blendv_epi8(so, se, _mm256_set1_epi16(255));
	return _mm256_and_si256(_mm256_srli_epi16(se, 1), _mm256_set1_epi8(127));
}

/* the gates in 1/127 of 32 channels in n rows; w are these channels' constants, x are the inputs at the first tap */
AVX2_KERNEL void avx2_row_gates(const uint8_t *pieces, const int16_t *w, const int8_t *x, int in, int n, uint8_t *to)
{
	const avx2_gate p = avx2_pieces(pieces);
	avx2_window v = avx2_open(x, in);
	__m256i taps[4];
	avx2_load_taps(taps, w + 4 * 32);
	for (x += 3 * in; n > 0; n -= 2, x += 2 * in, to += 64) {
		_mm256_store_si256((__m256i *)to, avx2_row_gate(&p, &v, 0, x, taps, w + 10 * 32));
		if (n > 1) {
			_mm256_store_si256((__m256i *)(to + 32), avx2_row_gate(&p, &v, 1, x + in, taps, w + 10 * 32));
		}
	}
}

/* h times the gates, E and O */
AVX2 void avx2_row_product(avx2_window *v, int odd, const int8_t *x, const __m256i *w, const int16_t *bias, const uint8_t *gates, __m256i *e, __m256i *o)
{
	const __m256i low = _mm256_set1_epi16(255), s = _mm256_load_si256((const __m256i *)gates);
	avx2_taps(v, odd, x, w, bias, e, o);
	*e = _mm256_mullo_epi16(_mm256_srai_epi16(*e, 8), _mm256_and_si256(s, low));
	*o = _mm256_maddubs_epi16(_mm256_andnot_si256(low, s), *o); /* unsigned by signed, one product a word */
}

AVX2_KERNEL void avx2_row_plain(const int16_t *w, const int8_t *x, int in, const uint8_t *gates, int shift, int8_t *out, int wide, int n)
{
	const __m256i mult = _mm256_set1_epi16((short)(1 << (15 - shift)));
	avx2_window v = avx2_open(x, in);
	__m256i taps[4], e, o;
	int t;
	avx2_load_taps(taps, w);
	x += 3 * in;
	for (t = 0; t < n; t += 2, x += 2 * in, gates += 64, out += 2 * wide) {
		avx2_row_product(&v, 0, x, taps, w + 8 * 32, gates, &e, &o);
		_mm256_storeu_si256((__m256i *)out, avx2_bytes(_mm256_mulhrs_epi16(e, mult), _mm256_mulhrs_epi16(o, mult)));
		if (t + 1 < n) {
			avx2_row_product(&v, 1, x + in, taps, w + 8 * 32, gates + 32, &e, &o);
			_mm256_storeu_si256((__m256i *)(out + wide), avx2_bytes(_mm256_mulhrs_epi16(e, mult), _mm256_mulhrs_epi16(o, mult)));
		}
	}
}

/* LayerNorm's input at a position */
AVX2 void avx2_row_input(const int16_t *w, __m256i e, __m256i o, __m256i rho_e, __m256i rho_o, const int8_t *res, int16_t *y, int rho)
{
	e = _mm256_add_epi16(e, _mm256_load_si256((const __m256i *)(w + 14 * 32)));
	o = _mm256_add_epi16(o, _mm256_load_si256((const __m256i *)(w + 15 * 32)));
	if (rho > 0) { /* rho_e in the lower bytes, rho_o in the upper ones */
		const __m256i r = _mm256_loadu_si256((const __m256i *)res);
		e = _mm256_add_epi16(e, _mm256_maddubs_epi16(rho_e, r));
		o = _mm256_add_epi16(o, _mm256_maddubs_epi16(rho_o, r));
	} else if (rho < 0) { /* high halves of 256 * r times 256 * rho */
		const __m256i r = _mm256_loadu_si256((const __m256i *)res);
		e = _mm256_add_epi16(e, _mm256_mulhi_epi16(_mm256_slli_epi16(r, 8), rho_e));
		o = _mm256_add_epi16(o, _mm256_mulhi_epi16(_mm256_andnot_si256(_mm256_set1_epi16(255), r), rho_o));
	}
	_mm256_store_si256((__m256i *)y, e);
	_mm256_store_si256((__m256i *)(y + 16), o);
}

AVX2 void avx2_row_inputs(const int16_t *w, const int8_t *x, int in, const uint8_t *gates, const int8_t *res, int16_t *y, int wide, int n, int rho)
{
	avx2_window v = avx2_open(x, in);
	__m256i rho_e = _mm256_load_si256((const __m256i *)(w + 12 * 32)), rho_o = _mm256_slli_epi16(_mm256_load_si256((const __m256i *)(w + 13 * 32)), 8);
	__m256i taps[4], e, o;
	int t;
	avx2_load_taps(taps, w);
	if (rho < 0) {
		rho_e = _mm256_slli_epi16(rho_e, 8);
	}
	x += 3 * in;
	for (t = 0; t < n; t += 2, x += 2 * in, gates += 64, res += rho != 0 ? 2 * wide : 0, y += 2 * wide) {
		avx2_row_product(&v, 0, x, taps, w + 8 * 32, gates, &e, &o);
		avx2_row_input(w, e, o, rho_e, rho_o, res, y, rho);
		if (t + 1 < n) {
			avx2_row_product(&v, 1, x + in, taps, w + 8 * 32, gates + 32, &e, &o);
			avx2_row_input(w, e, o, rho_e, rho_o, rho != 0 ? res + wide : res, y + wide, rho);
		}
	}
}

/* the sums of the eight numbers of each of eight vectors */
AVX2 __m256i avx2_row_fold(const __m256i *v)
{
	const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
	const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
	return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* norm_factors of n positions */
AVX2_KERNEL void avx2_row_factors(const gated_layer *g, const int16_t *y, int n, int16_t *r, int16_t *m)
{
	const int channels = g->channels;
	int t, i, c;
	for (t = 0; t < n; t += 8) {
		__m256i sums[8], squares[8], f, k;
		for (i = 0; i < 8; i++) {
			__m256i s = _mm256_setzero_si256(), a = s, b = s;
			for (c = 0; c < channels && t + i < n; c += 32, y += 32) {
				const __m256i e = _mm256_srai_epi16(_mm256_load_si256((const __m256i *)y), 8), o = _mm256_srai_epi16(_mm256_load_si256((const __m256i *)(y + 16)), 8);
				s = _mm256_add_epi16(s, _mm256_add_epi16(e, o));
				a = _mm256_add_epi32(a, _mm256_madd_epi16(e, e));
				b = _mm256_add_epi32(b, _mm256_madd_epi16(o, o));
			}
			sums[i] = _mm256_madd_epi16(s, _mm256_set1_epi16(1));
			squares[i] = _mm256_add_epi32(a, b);
		}
		avx2_factors(g, avx2_row_fold(sums), avx2_row_fold(squares), &f, &k);
		f = _mm256_permute4x64_epi64(_mm256_packs_epi32(f, k), 0xd8);
		_mm_storeu_si128((__m128i *)(r + t), _mm256_castsi256_si128(f));
		_mm_storeu_si128((__m128i *)(m + t), _mm256_extracti128_si256(f, 1));
	}
}

AVX2 __m256i avx2_row_normal(const int16_t *y, __m256i r, __m256i m)
{
	return _mm256_adds_epi16(_mm256_mulhrs_epi16(r, _mm256_load_si256((const __m256i *)y)), m);
}

AVX2 __m256i avx2_word(const int16_t *v) { return _mm256_set1_epi16(*v); }

/* what follows LayerNorm: n rows of bytes, or their maxima */
AVX2 void avx2_row_bytes(const gated_layer *g, const int16_t *w, const int16_t *y, const int16_t *r, const int16_t *m, int8_t *out, int n, int flipped)
{
	const __m256i mult = _mm256_set1_epi16((short)(1 << (15 - g->shift)));
	const int channels = g->channels;
	int t, c;
	for (t = 0; t < n; t++) {
		const __m256i rt = avx2_word(r + t), mt = avx2_word(m + t);
		for (c = 0; c < channels; c += 32, y += 32, out += 32) {
			__m256i v = avx2_bytes(_mm256_mulhrs_epi16(avx2_row_normal(y, rt, mt), mult), _mm256_mulhrs_epi16(avx2_row_normal(y + 16, rt, mt), mult));
			if (flipped) {
				const int16_t *flip = w + c / 64 * 18 * 32 + c % 64 / 2 + 16 * 32;
				v = _mm256_xor_si256(v, avx2_bytes(_mm256_load_si256((const __m256i *)flip), _mm256_load_si256((const __m256i *)(flip + 32))));
			}
			_mm256_storeu_si256((__m256i *)out, v);
		}
	}
}

AVX2 void avx2_row_top(const gated_layer *g, const int16_t *w, const int16_t *y, const int16_t *r, const int16_t *m, int16_t *top, int n)
{
	const int channels = g->channels;
	int t, c;
	for (c = 0; c < channels; c += 32, y += 32, top += 32) {
		const int16_t *flip = w + c / 64 * 18 * 32 + c % 64 / 2 + 16 * 32;
		const __m256i flip_e = _mm256_load_si256((const __m256i *)flip), flip_o = _mm256_load_si256((const __m256i *)(flip + 32));
		__m256i e = _mm256_set1_epi16(-32768), o = e, low, high;
		for (t = 0; t < n; t++) {
			const __m256i rt = avx2_word(r + t), mt = avx2_word(m + t);
			e = _mm256_max_epi16(e, _mm256_xor_si256(avx2_row_normal(y + t * channels, rt, mt), flip_e));
			o = _mm256_max_epi16(o, _mm256_xor_si256(avx2_row_normal(y + t * channels + 16, rt, mt), flip_o));
		}
		low = _mm256_unpacklo_epi16(e, o);
		high = _mm256_unpackhi_epi16(e, o);
		e = _mm256_permute2x128_si256(low, high, 0x20);
		o = _mm256_permute2x128_si256(low, high, 0x31);
		_mm256_storeu_si256((__m256i *)top, _mm256_max_epi16(_mm256_loadu_si256((const __m256i *)top), e));
		_mm256_storeu_si256((__m256i *)(top + 16), _mm256_max_epi16(_mm256_loadu_si256((const __m256i *)(top + 16)), o));
	}
}

/* n rows of a gated layer, at most 32; the arguments are those of gated_rows */
AVX2_KERNEL void gated_rows_avx2(const gated_layer *g, const int16_t *w, const int8_t *x, int h, int gate, int in, const int8_t *res, void *out, int n, int16_t *y)
{
	const int channels = g->channels;
	ALIGNED uint8_t gates[32 * 32];
	int16_t r[32], m[32];
	int c;
	for (c = 0; c < channels; c += 32) {
		const int16_t *of = w + c / 64 * 18 * 32 + c % 64 / 2;
		const int8_t *xh = x + h + c / 2;
		avx2_row_gates(g->gate, of, x + gate + c / 2, in, n, gates);
		if (!g->norm) {
			avx2_row_plain(of, xh, in, gates, g->shift, (int8_t *)out + c, channels, n);
		} else if (g->rho > 0) {
			avx2_row_inputs(of, xh, in, gates, res + c, y + c, channels, n, 1);
		} else {
			avx2_row_inputs(of, xh, in, gates, g->rho != 0 ? res + c : NULL, y + c, channels, n, g->rho);
		}
	}
	if (!g->norm) {
		return;
	}
	avx2_row_factors(g, y, n, r, m);
	if (g->wide != 0) {
		avx2_row_top(g, w, y, r, m, out, n);
	} else if (g->flipped) {
		avx2_row_bytes(g, w, y, r, m, out, n, 1);
	} else {
		avx2_row_bytes(g, w, y, r, m, out, n, 0);
	}
}

/* Rows of n tokens, of 8 bits and cols channels, a multiple of 16. */
AVX2_KERNEL void copy_rows(const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out)
{
	int t, c;
	for (t = 0; t < n && t < 16; t++) {
		for (c = 0; c < cols; c += 64) {
			_mm_prefetch((const char *)table + (size_t)tokens[t] * (size_t)cols + c, _MM_HINT_T0);
		}
	}
	for (t = 0; t < n; t++, out += cols) {
		const uint8_t *row = table + (size_t)tokens[t] * (size_t)cols;
		if (t + 16 < n) {
			for (c = 0; c < cols; c += 64) {
				_mm_prefetch((const char *)table + (size_t)tokens[t + 16] * (size_t)cols + c, _MM_HINT_T0);
			}
		}
		memcpy(out, row, (size_t)cols);
	}
}

/* n rows, as columns of each channel into a state, where they lie as on every path, and back */
AVX2_KERNEL void save_rows(const int8_t *rows, int8_t *state, int n, int cols)
{
	int c, t;
	for (c = 0; c < cols && n == 4; c += 16, rows += 16, state += 64) {
		const __m128i a = _mm_loadu_si128((const __m128i *)rows), b = _mm_loadu_si128((const __m128i *)(rows + cols));
		const __m128i u = _mm_loadu_si128((const __m128i *)(rows + 2 * cols)), v = _mm_loadu_si128((const __m128i *)(rows + 3 * cols));
		const __m128i ab = _mm_unpacklo_epi8(a, b), uv = _mm_unpacklo_epi8(u, v), ab1 = _mm_unpackhi_epi8(a, b), uv1 = _mm_unpackhi_epi8(u, v);
		_mm_storeu_si128((__m128i *)state, _mm_unpacklo_epi16(ab, uv));
		_mm_storeu_si128((__m128i *)(state + 16), _mm_unpackhi_epi16(ab, uv));
		_mm_storeu_si128((__m128i *)(state + 32), _mm_unpacklo_epi16(ab1, uv1));
		_mm_storeu_si128((__m128i *)(state + 48), _mm_unpackhi_epi16(ab1, uv1));
	}
	for (c = 0; c < cols && n != 4; c++) {
		for (t = 0; t < n; t++) {
			state[c * n + t] = rows[t * cols + c];
		}
	}
}

AVX2_KERNEL void restore_rows(int8_t *rows, const int8_t *state, int n, int cols)
{
	const __m128i bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	int c, t;
	for (c = 0; c < cols && n == 4; c += 16, rows += 16, state += 64) {
		const __m128i a = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)state), bytes), b = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(state + 16)), bytes);
		const __m128i u = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(state + 32)), bytes), v = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(state + 48)), bytes);
		const __m128i ab = _mm_unpacklo_epi32(a, b), uv = _mm_unpacklo_epi32(u, v), ab1 = _mm_unpackhi_epi32(a, b), uv1 = _mm_unpackhi_epi32(u, v);
		_mm_storeu_si128((__m128i *)rows, _mm_unpacklo_epi64(ab, uv));
		_mm_storeu_si128((__m128i *)(rows + cols), _mm_unpackhi_epi64(ab, uv));
		_mm_storeu_si128((__m128i *)(rows + 2 * cols), _mm_unpacklo_epi64(ab1, uv1));
		_mm_storeu_si128((__m128i *)(rows + 3 * cols), _mm_unpackhi_epi64(ab1, uv1));
	}
	for (c = 0; c < cols && n != 4; c++) {
		for (t = 0; t < n; t++) {
			rows[t * cols + c] = state[c * n + t];
		}
	}
}
#endif
