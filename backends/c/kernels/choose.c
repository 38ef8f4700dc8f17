/* The kernels of this build, and the block of a gated layer by one of them: n positions, of at most 32. */
static MAYBE_UNUSED void gated_block(int path, const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
#if defined(HAVE_X86)
	if (path == PATH_AVX512 && g->paired && (g->wide < 2 || g->channels % 8 == 0)) {
		gated_avx512(g, x, stride, res, res_stride, out, out_stride, n, y);
		return;
	}
	gated_avx2(g, x, stride, res, res_stride, out, out_stride, n, y);
#else
#if defined(HAVE_DOTPROD)
	if (path == PATH_DOTPROD && g->paired && g->words == 14) {
		gated_dotprod(g, x, stride, res, res_stride, out, out_stride, n, y);
		return;
	}
#endif
	(void)path;
	gated_neon(g, x, stride, res, res_stride, out, out_stride, n, y);
#endif
}

static MAYBE_UNUSED void token_rows(int path, const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out, int stride)
{
	(void)path;
#if defined(HAVE_X86)
	rows_avx2(table, cols, tokens, n, out, stride);
#else
	rows_neon(table, cols, tokens, n, out, stride);
#endif
}

static MAYBE_UNUSED void dense(int path, const int8_t *w, int rows, int n, const void *x, int bits, int32_t *sum)
{
	(void)path;
#if defined(HAVE_X86)
	dense_avx2(w, rows, n, x, bits, sum);
#else
	dense_neon(w, rows, n, x, bits, sum);
#endif
}
