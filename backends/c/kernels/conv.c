/* Sums of convolutions: windows of four positions share what is loaded of the weights. */
LOOP void conv_widen(const int8_t *restrict x, int16_t *restrict to, int n)
{
	int i;
	n &= ~15;
	for (i = 0; i < n; i++) {
		to[i] = x[i];
	}
}

/* Adds to the sums of rows outputs, 64 from one position's to the next, the products of w, step a row, and of four windows, 256 from one to the next;
 * n are the numbers of each, a multiple of 16. */
LOOP void conv_products(const int8_t *restrict w, int step, const int16_t *restrict x, int n, int32_t *restrict sum, int rows)
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
		sum[0] += a0;
		sum[64] += a1;
		sum[128] += a2;
		sum[192] += a3;
	}
}

/* Adds to the sums of rows outputs, 64 from one position's to the next, the products of w and of count windows x, at most 4, of n numbers of 8 or 16 bits; n is a
 * multiple of 16. There are sums of four positions in any case. */
static MAYBE_UNUSED void conv_sums(int path, const int8_t *w, int rows, int n, const void *const *x, int count, int bits, int32_t *sum)
{
	int16_t b[4 * 256];
	int i, t;
#if defined(HAVE_KERNELS)
	if (path != PORTABLE) {
		for (t = 0; t < count; t++) {
			dense(path, w, rows, n, x[t], bits, sum + 64 * t);
		}
		return;
	}
#endif
	(void)path;
	for (i = 0; i < n; i += 256) {
		const int most = n - i < 256 ? n - i : 256;
		for (t = 0; t < 4; t++) { /* of fewer, the last again */
			const void *of = x[t < count ? t : count - 1];
			if (bits == 8) {
				conv_widen((const int8_t *)of + i, b + 256 * t, most);
			} else {
				memcpy(b + 256 * t, (const int16_t *)of + i, (size_t)most * sizeof *b);
			}
		}
		conv_products(w + i, n, b, most, sum, rows);
	}
}

/* adds to n sums the products of as many weights with a number */
LOOP MAYBE_UNUSED void conv_scale(const int16_t *restrict w, int16_t x, int32_t *restrict sum, int n)
{
	int c;
	for (c = 0; c < n; c++) {
		sum[c] += w[c] * x;
	}
}

/* adds to n sums the products of as many weights with a number each */
LOOP MAYBE_UNUSED void conv_each(const int16_t *restrict w, const int8_t *restrict x, int32_t *restrict sum, int n)
{
	int c;
	for (c = 0; c < n; c++) {
		sum[c] += w[c] * x[c];
	}
}
