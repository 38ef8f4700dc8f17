/* Sums of convolutions: windows of four positions share what is loaded of the weights. Sums are modulo 2^32, for the whole ones are known to fit. */
LOOP void conv_widen(const int8_t *restrict x, int16_t *restrict to, int n)
{
	int i;
	n &= ~15;
	for (i = 0; i < n; i++) {
		to[i] = x[i];
	}
}

/* Adds to the sums of rows outputs, 64 from one position's to the next, the products of w, step a row, and of four windows, 256 from one to the next;
 * n are the numbers of each, a multiple of 16, at most 256. */
LOOP void conv_products(const int8_t *restrict w, int step, const int16_t *restrict x, int n, uint32_t *restrict sum, int rows)
{
	int o, i;
	n &= ~15;
	for (o = 0; o < rows; o++, w += step, sum++) {
		int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
		for (i = 0; i < n; i++) {
			const int16_t v = w[i];
			a0 += v * x[i];
			a1 += v * x[256 + i];
			a2 += v * x[512 + i];
			a3 += v * x[768 + i];
		}
		sum[0] += (uint32_t)a0;
		sum[64] += (uint32_t)a1;
		sum[128] += (uint32_t)a2;
		sum[192] += (uint32_t)a3;
	}
}

#if defined(HAVE_X86)
/* the same; of some number of outputs that is no multiple of four, sums behind them change, too */
AVX2_KERNEL void conv_products_avx2(const int8_t *w, int step, const int16_t *x, int n, uint32_t *sum, int rows)
{
	int o, i, k, t;
	for (o = 0; o < rows; o += 4) {
		const int8_t *row[4];
		for (k = 0; k < 4; k++) {
			row[k] = w + (o + k < rows ? o + k : o) * step;
		}
		for (t = 0; t < 4; t += 2) {
			const int16_t *x0 = x + 256 * t, *x1 = x0 + 256;
			__m256i a[4], b[4];
			__m128i v[2];
			for (k = 0; k < 4; k++) {
				a[k] = b[k] = _mm256_setzero_si256();
			}
			for (i = 0; i < n; i += 16) {
				const __m256i xa = _mm256_loadu_si256((const __m256i *)(x0 + i)), xb = _mm256_loadu_si256((const __m256i *)(x1 + i));
				for (k = 0; k < 4; k++) {
					const __m256i wk = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(row[k] + i)));
					a[k] = _mm256_add_epi32(a[k], _mm256_madd_epi16(wk, xa));
					b[k] = _mm256_add_epi32(b[k], _mm256_madd_epi16(wk, xb));
				}
			}
			a[0] = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), _mm256_hadd_epi32(a[2], a[3]));
			b[0] = _mm256_hadd_epi32(_mm256_hadd_epi32(b[0], b[1]), _mm256_hadd_epi32(b[2], b[3]));
			v[0] = _mm_add_epi32(_mm256_castsi256_si128(a[0]), _mm256_extracti128_si256(a[0], 1));
			v[1] = _mm_add_epi32(_mm256_castsi256_si128(b[0]), _mm256_extracti128_si256(b[0], 1));
			for (k = 0; k < 2; k++) {
				__m128i *to = (__m128i *)(sum + 64 * (t + k) + o);
				_mm_storeu_si128(to, _mm_add_epi32(_mm_loadu_si128(to), v[k]));
			}
		}
	}
}

AVX2_KERNEL void conv_widen_avx2(const int8_t *x, int16_t *to, int n)
{
	int i;
	for (i = 0; i < n; i += 16) {
		_mm256_storeu_si256((__m256i *)(to + i), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x + i))));
	}
}
#endif

/* Adds to the sums of rows outputs, 64 from one position's to the next, the products of w and of count windows x, at most 4, of n numbers of 8 or 16 bits; n is a
 * multiple of 16. There are sums of four positions in any case. */
static MAYBE_UNUSED void conv_sums(int path, const int8_t *w, int rows, int n, const void *const *x, int count, int bits, int32_t *sum)
{
	int16_t b[4 * 256];
	int i, t;
	(void)path;
#if defined(HAVE_NEON)
	if (path != PORTABLE) {
		for (t = 0; t < count; t++) {
			dense(path, w, rows, n, x[t], bits, sum + 64 * t);
		}
		return;
	}
#endif
	for (i = 0; i < n; i += 256) {
		const int most = n - i < 256 ? n - i : 256;
		for (t = 0; t < 4; t++) { /* of fewer, the last again */
			const void *of = x[t < count ? t : count - 1];
			if (bits != 8) {
				memcpy(b + 256 * t, (const int16_t *)of + i, (size_t)most * sizeof *b);
				continue;
			}
#if defined(HAVE_X86)
			if (path != PORTABLE) {
				conv_widen_avx2((const int8_t *)of + i, b + 256 * t, most);
				continue;
			}
#endif
			conv_widen((const int8_t *)of + i, b + 256 * t, most);
		}
#if defined(HAVE_X86)
		if (path != PORTABLE) {
			conv_products_avx2(w + i, n, b, most, (uint32_t *)sum, rows);
			continue;
		}
#endif
		conv_products(w + i, n, b, most, (uint32_t *)sum, rows);
	}
}

/* adds to n sums the products of as many weights with a number */
LOOP MAYBE_UNUSED void conv_scale(const int16_t *restrict w, int16_t x, int32_t *restrict sum, int n)
{
	int c;
	for (c = 0; c < n; c++) {
		sum[c] = (int32_t)((uint32_t)sum[c] + (uint32_t)(w[c] * x));
	}
}

/* adds to n sums the products of as many weights with a number each */
LOOP MAYBE_UNUSED void conv_each(const int16_t *restrict w, const int8_t *restrict x, int32_t *restrict sum, int n)
{
	int c;
	for (c = 0; c < n; c++) {
		sum[c] = (int32_t)((uint32_t)sum[c] + (uint32_t)(w[c] * x[c]));
	}
}

/* n sums, each by mult, which is not negative, and by 2^-shift rounded, clamped to [lo, hi]; shift is 32 or more. The upper words of the products are
 * those of unsigned numbers, less mult for a negative sum. */
LOOP MAYBE_UNUSED void conv_scaled_c(int32_t *restrict sum, const int32_t *restrict mult, int shift, int32_t lo, int32_t hi, int n)
{
	const uint64_t half = (uint64_t)1 << (shift - 1);
	int c;
	shift -= 32;
	for (c = 0; c < n; c++) {
		const uint64_t p = (uint64_t)(uint32_t)sum[c] * (uint32_t)mult[c] + half;
		int32_t v = (int32_t)((uint32_t)(p >> 32) - (uint32_t)((sum[c] >> 31) & mult[c]));
		v >>= shift;
		v = v < lo ? lo : v;
		sum[c] = v > hi ? hi : v;
	}
}

#if defined(HAVE_X86)
AVX2_KERNEL void conv_scaled_avx2(int32_t *sum, const int32_t *mult, int shift, int32_t lo, int32_t hi, int n)
{
	const __m256i half = _mm256_set1_epi64x((long long)1 << (shift - 1)), low = _mm256_set1_epi32(lo), high = _mm256_set1_epi32(hi);
	const __m128i by = _mm_cvtsi32_si128(shift - 32);
	int c;
	for (c = 0; c + 8 <= n; c += 8) {
		const __m256i a = _mm256_loadu_si256((const __m256i *)(sum + c)), m = _mm256_loadu_si256((const __m256i *)(mult + c));
		const __m256i e = _mm256_add_epi64(_mm256_mul_epi32(a, m), half), o = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(m, 32)), half);
		const __m256i v = _mm256_sra_epi32(_mm256_blend_epi32(_mm256_srli_epi64(e, 32), o, 0xaa), by);
		_mm256_storeu_si256((__m256i *)(sum + c), _mm256_min_epi32(_mm256_max_epi32(v, low), high));
	}
	if (c < n) {
		conv_scaled_c(sum + c, mult + c, shift, lo, hi, n - c);
	}
}
#endif

static MAYBE_UNUSED void conv_scaled(int path, int32_t *sum, const int32_t *mult, int shift, int32_t lo, int32_t hi, int n)
{
	(void)path;
#if defined(HAVE_X86)
	if (path != PORTABLE) {
		conv_scaled_avx2(sum, mult, shift, lo, hi, n);
		return;
	}
#endif
	conv_scaled_c(sum, mult, shift, lo, hi, n);
}
