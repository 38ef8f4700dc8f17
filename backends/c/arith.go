package c

// helper is a function of package arith in C99, and what it calls. Only those that a program uses are written.
type helper struct {
	calls []string
	text  string
}

// helpers mirror runtime/arith, name by name. Right shifts of negative numbers are arithmetic in every compiler
// that this is for; the emitted code has an assertion of it.
var helpers = map[string]helper{
	"clamp": {nil, `static int32_t clamp(int64_t v, int32_t lo, int32_t hi)
{
	return v < lo ? lo : v > hi ? hi : (int32_t)v;
}
`},
	"round_shift": {nil, `/* v / 2^s rounded to nearest, halves up; s in 1..62 */
static int64_t round_shift(int64_t v, int s)
{
	return (v + ((int64_t)1 << (s - 1))) >> s;
}
`},
	"le16": {nil, `/* element i of little-endian 16-bit numbers */
static int16_t le16(const uint8_t *p, size_t i)
{
	return (int16_t)(p[2 * i] | p[2 * i + 1] << 8);
}
`},
	"floor_div": {nil, `/* a / b rounded down; b > 0 */
static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}
`},
	"pad": {nil, `/* fills n columns of channels planes with v, a byte of each, plus raise, which is 0 or 128 */
static MAYBE_UNUSED void pad(int8_t *x, int stride, const int8_t *v, int channels, int n, int raise)
{
	int c, i, j;
	for (c = 0; c + 4 <= channels; c += 4) { /* by a load of four */
		const uint8_t *p = (const uint8_t *)v + c;
		const uint32_t four = (p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24) ^ (uint32_t)raise * 0x1010101u;
		for (j = 0; j < 4; j++, x += stride) {
			for (i = 0; i < n; i++) {
				x[i] = (int8_t)(four >> 8 * j);
			}
		}
	}
	for (; c < channels; c++, x += stride) {
		for (i = 0; i < n; i++) {
			x[i] = (int8_t)(v[c] ^ raise);
		}
	}
}
`},
	"carry": {nil, `/* n columns of a plane, a multiple of 4, to or from where they are kept; raise is 0, or 128 in each byte */
static MAYBE_UNUSED void carry(int8_t *to, const int8_t *from, int n, uint32_t raise)
{
	int i;
	for (i = 0; i < n; i += 4) {
		uint32_t v;
		memcpy(&v, from + i, 4);
		v ^= raise;
		memcpy(to + i, &v, 4);
	}
}
`},
	"div_round": {[]string{"floor_div"}, `/* sum / count rounded to nearest, halves up; count > 0 */
static int64_t div_round(int64_t sum, int64_t count)
{
	return floor_div(2 * sum + count, 2 * count);
}
`},
	"table_index": {nil, `/* the entry of a table of n for the rescaled value q: its middle is q = 0, both ends saturate */
static int32_t table_index(int64_t q, int32_t n)
{
	int32_t half = n / 2;
	return q < -half ? 0 : q >= half ? n - 1 : (int32_t)q + half;
}
`},
	"exp_index": {nil, `/* the entry of a table of n of exp(-d * scale); beyond its end is the last */
static int32_t exp_index(int64_t d, int32_t mult, int shift, int32_t n)
{
	uint64_t i = (uint64_t)d * (uint64_t)mult >> shift;
	return i < (uint64_t)n ? (int32_t)i : n - 1;
}
`},
	"sigmoid": {[]string{"exp_index", "div_round"}, `/* 1 / (1 + exp(-x * scale)) in 1/2^24; between two entries of the table it follows the straight line */
static int32_t sigmoid(int32_t x, const int32_t *exp, int32_t n, int32_t mult, int shift)
{
	const int64_t one = 1 << 24;
	int64_t d = x < 0 ? -(int64_t)x : x, e, part;
	int32_t i = exp_index(d, mult, shift, n), p;
	e = exp[i];
	if (i + 1 < n) {
		part = shift == 0 ? 0 : (int64_t)((uint64_t)d * (uint64_t)mult << (64 - shift) >> 48);
		e -= (e - exp[i + 1]) * part >> 16;
	}
	p = (int32_t)div_round(one * one, one + e);
	return x < 0 ? (int32_t)one - p : p;
}
`},
	"leading_zeros": {nil, `static int leading_zeros(uint64_t v)
{
	int n = 0, s;
	for (s = 32; s > 0; s >>= 1) {
		if (v >> (64 - n - s) == 0) {
			n += s;
		}
	}
	return v == 0 ? 64 : n;
}
`},
	"norm_factors": {[]string{"leading_zeros"}, `/* the factors of a fused LayerNorm from the sums of y>>8 and of its squares: r = scale/deviation in 1/2^15 and
 * k = -mean*r. A cubic approximates 1/sqrt; a Newton step follows. */
static void norm_factors(int32_t s1, int32_t s2, int32_t c, int32_t mean_m, int32_t eps, int32_t a, int shift, int16_t *r, int16_t *k)
{
	int32_t v = c * s2 - s1 * s1 + eps, u, x, t, w, q, mean, m;
	uint32_t f;
	int e, s;
	if (v < 1) {
		v = 1;
	}
	e = (leading_zeros((uint64_t)v) - 33) & ~1;
	u = (int32_t)((uint32_t)v << e >> 16);
	x = -9988;
	x = 25518 + (u * x >> 15);
	x = -24211 + (u * x >> 15);
	x = 12748 + (u * x >> 15);
	t = x * x >> 10;
	w = t * u >> 15;
	q = x * (49152 - w) >> 13;
	s = shift - (e >> 1);
	f = (uint32_t)q * (uint32_t)a >> (s < 0 ? 0 : s);
	if (f > 32767) {
		f = 32767;
	}
	mean = ((s1 * mean_m + (1 << 14)) >> 15) + 128;
	m = (mean * (int32_t)f + (1 << 14)) >> 15;
	*r = (int16_t)f;
	*k = (int16_t)(m > 16384 ? -16384 : m < -16383 ? 16383 : -m);
}
`},
	"isqrt": {nil, `/* the floor of the square root; v >= 2^62 */
static uint64_t isqrt(uint64_t v)
{
	const uint64_t start = 3037000500u;
	uint64_t r = (start + v / start + 1) / 2, q;
	for (;;) {
		q = (r + v / r) / 2;
		if (q >= r) {
			return r;
		}
		r = q;
	}
}
`},
	"mul_shift": {nil, `/* (d * m) >> s rounded down, the product in 128 bits; s in 0..63 */
static int64_t mul_shift(int64_t d, uint64_t m, int s)
{
	uint64_t a = d < 0 ? 0 - (uint64_t)d : (uint64_t)d;
	uint64_t al = a & 0xffffffffu, ah = a >> 32, ml = m & 0xffffffffu, mh = m >> 32;
	uint64_t ll = al * ml, lh = al * mh, hl = ah * ml;
	uint64_t mid = (ll >> 32) + (lh & 0xffffffffu) + (hl & 0xffffffffu);
	uint64_t hi = ah * mh + (lh >> 32) + (hl >> 32) + (mid >> 32), lo = mid << 32 | (ll & 0xffffffffu);
	uint64_t q = s == 0 ? lo : hi << (64 - s) | lo >> s;
	if (d < 0) {
		if ((lo & (((uint64_t)1 << s) - 1)) != 0) {
			q++;
		}
		q = 0 - q;
	}
	return (int64_t)q;
}
`},
	"layer_norm": {[]string{"leading_zeros", "isqrt", "mul_shift", "clamp"}, `/* 1/sqrt(c*s2 - s1*s1 + eps) = m / 2^s */
static uint64_t layer_norm_stats(int64_t s1, int64_t s2, int32_t c, int64_t eps, int *s)
{
	int64_t v = (int64_t)c * s2 - s1 * s1 + eps;
	int e;
	if (v < 1) {
		v = 1;
	}
	e = leading_zeros((uint64_t)v) & ~1;
	*s = 62 - e / 2;
	return ((uint64_t)1 << 62) / isqrt((uint64_t)v << e);
}

static int64_t layer_norm_apply(int32_t x, int64_t s1, int32_t c, uint64_t m, int s, int32_t gamma, int32_t beta, int shift)
{
	int64_t n = mul_shift((int64_t)c * x - s1, m, s - 15) * gamma + beta;
	return shift == 0 ? n : (n + ((int64_t)1 << (shift - 1))) >> shift;
}
`},
}

// helperOrder is that in which they are written: what is called before who calls it.
var helperOrder = []string{"clamp", "round_shift", "le16", "floor_div", "div_round", "table_index", "exp_index", "sigmoid", "leading_zeros", "norm_factors", "isqrt", "mul_shift", "layer_norm", "pad", "carry"}
