#include "packet.h"

#include <string.h>

enum { TCP = 6, UDP = 17 };

static uint16_t be16(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

/* passes over the extension headers of IPv6; at is where the next one begins, 0 behind the last for a later fragment */
static enum packet_kind extensions(const uint8_t *b, size_t n, uint8_t *proto, size_t *at)
{
	for (;;) {
		size_t size;
		switch (*proto) {
		case 0: /* hop-by-hop options, routing, destination options, mobility, HIP, Shim6 */
		case 43:
		case 60:
		case 135:
		case 139:
		case 140:
		case 51: /* authentication */
		case 44: /* fragment */
			if (n - *at < 8) {
				return PACKET_BROKEN;
			}
			size = *proto == 44 ? 8 : *proto == 51 ? 8 + 4u * b[*at + 1] : 8 + 8u * b[*at + 1];
			if (*proto == 44 && be16(b + *at + 2) >> 3 != 0) {
				return PACKET_FRAGMENT;
			}
			*proto = b[*at];
			*at += size;
			if (*at > n || *at > 40 + 2048) {
				return PACKET_BROKEN;
			}
			break;
		default:
			return PACKET_TAKEN;
		}
	}
}

enum packet_kind packet_read(struct packet *p, const uint8_t *frame, size_t n)
{
	const uint8_t *b = frame + 14, *ends;
	size_t at, size, width;
	uint16_t type, port[2];
	uint8_t proto;
	int tags = 0;
	memset(p, 0, sizeof *p);
	if (n < 14) {
		return PACKET_BROKEN;
	}
	p->mac = frame;
	type = be16(frame + 12);
	n -= 14;
	while (type == 0x8100 || type == 0x88a8 || type == 0x9100 || type == 0x9200 || type == 0x9300) {
		if (n < 4 || tags == 8) {
			return PACKET_BROKEN;
		}
		if ((be16(b) & 0xfff) != 0) { /* else it gives only a priority */
			if (p->vlan[0] == 0) {
				p->vlan[0] = be16(b) & 0xfff;
			} else if (p->vlan[1] == 0) {
				p->vlan[1] = be16(b) & 0xfff;
			}
		}
		type = be16(b + 2);
		b += 4;
		n -= 4;
		tags++;
	}
	p->ip = b;
	if (type == 0x0800) {
		if (n < 20 || b[0] >> 4 != 4) {
			return PACKET_BROKEN;
		}
		at = (size_t)(b[0] & 15) * 4;
		size = be16(b + 2) == 0 ? n : be16(b + 2); /* 0: what segmentation offload is to cut */
		if (at < 20 || at > n || size < at) {
			return PACKET_BROKEN;
		}
		proto = b[9];
		if ((be16(b + 6) & 0x1fff) != 0) {
			return PACKET_FRAGMENT;
		}
		n = size < n ? size : n;
		while (proto == 51) {
			if (n - at < 8) {
				return PACKET_BROKEN;
			}
			proto = b[at];
			at += 8 + 4u * b[at + 1];
			if (at > n) {
				return PACKET_BROKEN;
			}
		}
		ends = b + 12;
		width = 4;
	} else if (type == 0x86dd) {
		enum packet_kind kind;
		if (n < 40 || b[0] >> 4 != 6) {
			return PACKET_BROKEN;
		}
		at = 40;
		proto = b[6];
		size = be16(b + 4) == 0 && proto != 59 ? n : 40u + be16(b + 4);
		n = size < n ? size : n;
		kind = extensions(b, n, &proto, &at);
		if (kind != PACKET_TAKEN) {
			return kind;
		}
		ends = b + 8;
		width = 16;
		p->key.v6 = 1;
	} else {
		return PACKET_OTHER;
	}
	if (proto != TCP && proto != UDP) {
		return PACKET_OTHER;
	}
	if (n - at < 4) {
		return PACKET_BROKEN;
	}
	p->captured = (uint32_t)n;
	p->wire = (uint32_t)size;
	p->key.proto = proto;
	if (proto == TCP && n - at >= 14) {
		p->flags = b[at + 13];
	}
	port[0] = be16(b + at);
	port[1] = be16(b + at + 2);
	p->swapped = memcmp(ends, ends + width, width) > 0 || (memcmp(ends, ends + width, width) == 0 && port[0] > port[1]);
	memcpy(p->key.addr[0], ends + (p->swapped ? width : 0), width);
	memcpy(p->key.addr[1], ends + (p->swapped ? 0 : width), width);
	p->key.port[0] = port[p->swapped];
	p->key.port[1] = port[!p->swapped];
	return PACKET_TAKEN;
}
