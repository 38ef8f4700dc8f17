/* The kernels of this build, and the block of a gated layer by one of them: n positions, of at most 32. */
static void gated_block(int path, const gated_layer *g, const int8_t *x, int stride, const int8_t *res, int res_stride, void *out, int out_stride,
	int n, int16_t *y)
{
#if defined(HAVE_X86)
	(void)path;
	gated_avx2(g, x, stride, res, res_stride, out, out_stride, n, y);
#endif
}
