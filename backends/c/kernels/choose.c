/* What else the kernels of this build do. */
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
#if defined(HAVE_DOTPROD)
	if (path == PATH_DOTPROD && bits == 8) {
		dense_dotprod(w, rows, n, x, sum);
		return;
	}
#endif
	dense_neon(w, rows, n, x, bits, sum);
#endif
}
