/* The positions of a block of which left are wanted: whole eights are stored, by C alone whole sixteens, where there is room for so many, since
 * what lies behind the last position is not yet there or padding, which is written anew where it is looked at. */
static MAYBE_UNUSED int positions(int path, int left, int room)
{
	const int n = left < 32 ? left : 32, more = path == PORTABLE ? 15 : 7, whole = (n + more) & ~more;
	return whole <= room ? whole : n;
}

/* The block of a gated layer by the kernels of a path: n positions, of at most 32. */
static MAYBE_UNUSED void gated_block(int path, const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
#if defined(HAVE_X86)
	if (path == PATH_AVX512 && g->paired && (g->wide < 2 || g->channels % 8 == 0)) {
		gated_avx512(g, x, stride, res, res_stride, out, out_stride, n, y);
		return;
	}
	if (path != PORTABLE) {
		gated_avx2(g, x, stride, res, res_stride, out, out_stride, n, y);
		return;
	}
#elif defined(HAVE_NEON)
#if defined(HAVE_DOTPROD)
	if (path == PATH_DOTPROD && g->paired) {
		gated_dotprod(g, x, stride, res, res_stride, out, out_stride, n, y);
		return;
	}
#endif
	if (path != PORTABLE) {
		gated_neon(g, x, stride, res, res_stride, out, out_stride, n, y);
		return;
	}
#endif
	(void)path;
#if !defined(ROWS_OF)
	gated_c(g, x, stride, res, res_stride, out, out_stride, n, y);
#endif
}
