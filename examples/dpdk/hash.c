#include "hash.h"

#include <string.h>

static uint64_t rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static void sip_rounds(struct sip *s, int n)
{
	while (n-- > 0) {
		s->v0 += s->v1;
		s->v1 = rotl(s->v1, 13) ^ s->v0;
		s->v0 = rotl(s->v0, 32);
		s->v2 += s->v3;
		s->v3 = rotl(s->v3, 16) ^ s->v2;
		s->v0 += s->v3;
		s->v3 = rotl(s->v3, 21) ^ s->v0;
		s->v2 += s->v1;
		s->v1 = rotl(s->v1, 17) ^ s->v2;
		s->v2 = rotl(s->v2, 32);
	}
}

uint64_t siphash(const uint8_t *b, size_t n, const uint64_t secret[2])
{
	uint64_t k0 = secret[0], k1 = secret[1];
	struct sip s = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
	size_t i, left = n;
	uint64_t m;
	for (;;) {
		int last = left < 8;
		m = last ? (uint64_t)n << 56 : 0;
		for (i = 0; i < (last ? left : 8); i++) {
			m |= (uint64_t)b[i] << 8 * i;
		}
		s.v3 ^= m;
		sip_rounds(&s, 2);
		s.v0 ^= m;
		if (last) {
			s.v2 ^= 0xff;
			sip_rounds(&s, 4);
			return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
		}
		b += 8;
		left -= 8;
	}
}

uint64_t flow_id(const nepco_model_entry *e)
{
	const uint8_t *k = e->key; /* transport protocol, IP version, and of both ends address and port */
	const uint64_t secret[2] = {e->first, 0x6e65706364};
	uint8_t b[48] = {k[37], k[36], k[19], k[18], k[0]};
	size_t n = 13;
	uint64_t where = (uint64_t)e->tunnel << 32;
	int i;
#ifdef NEPCO_MODEL_TABLE_VLANS
	where |= (uint64_t)e->vlan[0] << 16 | e->vlan[1];
#endif
	if (k[1] == 6) {
		n = 38;
		b[5] = 6;
		memcpy(b + 6, k + 2, 16);
		memcpy(b + 22, k + 20, 16);
	} else {
		memcpy(b + 5, k + 2, 4);
		memcpy(b + 9, k + 20, 4);
	}
	if (where != 0) {
		for (i = 0; i < 8; i++) {
			b[n + (size_t)i] = (uint8_t)(where >> 8 * i);
		}
		n += 10; /* behind it stands which interface, 0 */
	}
	return siphash(b, n, secret) & (((uint64_t)1 << 51) - 1);
}

/* SHA-1 (FIPS 180-4) of a message that fits one block with its padding: n is below 56 */
static void sha1_short(const uint8_t *b, size_t n, uint8_t out[20])
{
	static const uint32_t constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, x[5], w[80];
	uint8_t block[64] = {0};
	int i;
	memcpy(block, b, n);
	block[n] = 0x80;
	block[62] = (uint8_t)(n >> 5);
	block[63] = (uint8_t)(n << 3);
	for (i = 0; i < 16; i++) {
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	}
	for (; i < 80; i++) {
		uint32_t v = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
		w[i] = v << 1 | v >> 31;
	}
	memcpy(x, h, sizeof x);
	for (i = 0; i < 80; i++) {
		uint32_t f = i < 20 ? (x[1] & x[2]) | (~x[1] & x[3]) : i >= 40 && i < 60 ? (x[1] & x[2]) | (x[1] & x[3]) | (x[2] & x[3]) : x[1] ^ x[2] ^ x[3];
		uint32_t v = (x[0] << 5 | x[0] >> 27) + f + x[4] + constant[i / 20] + w[i];
		x[4] = x[3];
		x[3] = x[2];
		x[2] = x[1] << 30 | x[1] >> 2;
		x[1] = x[0];
		x[0] = v;
	}
	for (i = 0; i < 20; i++) {
		uint32_t v = h[i / 4] + x[i / 4];
		out[i] = (uint8_t)(v >> (24 - 8 * (i % 4)));
	}
}

void community_id(const nepco_model_entry *e, char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t in[40] = {0}, sum[21] = {0};
	size_t n = 2, width = e->key[1] == 6 ? 16 : 4; /* in front stands the seed, 0 */
	int i;
	memcpy(in + n, e->key + 2, width);
	memcpy(in + n + width, e->key + 20, width);
	n += 2 * width;
	in[n] = e->key[0];
	memcpy(in + n + 2, e->key + 18, 2);
	memcpy(in + n + 4, e->key + 36, 2);
	sha1_short(in, n + 6, sum);
	memcpy(text, "1:", 2);
	for (i = 0; i < 28; i++) { /* base64 of 20 bytes: the last four digits hold two of them */
		uint32_t v = (uint32_t)sum[i / 4 * 3] << 16 | (uint32_t)sum[i / 4 * 3 + 1] << 8 | sum[i / 4 * 3 + 2];
		text[2 + i] = i == 27 ? '=' : digits[v >> (18 - 6 * (i % 4)) & 63];
	}
	text[30] = '\0';
}
