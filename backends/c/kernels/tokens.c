/* Rows of n tokens, of 8 bits and cols channels, to planes: 8 tokens at a time. */
static void tokens_c(const uint8_t *table, int cols, const int32_t *tokens, int n, int8_t *out, int stride)
{
	int t, c, i;
	for (t = 0; t < n; t += 8, tokens += 8, out += 8) {
		const int8_t *row[8];
		if (n - t < 8) {
			for (i = 0; i < n - t; i++) {
				row[0] = (const int8_t *)table + (size_t)tokens[i] * (size_t)cols;
				for (c = 0; c < cols; c++) {
					out[c * stride + i] = row[0][c];
				}
			}
			return;
		}
		for (i = 0; i < 8; i++) {
			row[i] = (const int8_t *)table + (size_t)tokens[i] * (size_t)cols;
		}
		for (c = 0; c < cols; c++) {
			int8_t *to = out + c * stride;
			to[0] = row[0][c];
			to[1] = row[1][c];
			to[2] = row[2][c];
			to[3] = row[3][c];
			to[4] = row[4][c];
			to[5] = row[5][c];
			to[6] = row[6][c];
			to[7] = row[7][c];
		}
	}
}
