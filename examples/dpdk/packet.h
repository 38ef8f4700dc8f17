/* Frames: where their IP packet lies, and whose flow it is of. */
#ifndef PACKET_H
#define PACKET_H

#include <stddef.h>
#include <stdint.h>

/* A flow's ends, the same for both directions: the smaller address, then the smaller port, comes first. IPv4 addresses lie in the first
 * four bytes, the others are zero, so that keys are compared by memcmp. */
struct key {
	uint8_t addr[2][16];
	uint16_t port[2]; /* in the host's order */
	uint8_t proto, v6, zero[2];
};

struct packet {
	const uint8_t *ip; /* from the IP header on */
	uint32_t captured; /* bytes that are there, at most wire */
	uint32_t wire; /* bytes of the packet, by its own header */
	struct key key;
	int swapped; /* it goes from the key's second end to its first */
	uint8_t flags; /* of TCP */
	uint16_t vlan[2]; /* ids of the first two tags, the outer one first; 0: none */
	const uint8_t *mac; /* the 12 bytes of the Ethernet addresses */
};

enum packet_kind {
	PACKET_TAKEN,
	PACKET_FRAGMENT, /* a later fragment, which has no ports */
	PACKET_OTHER, /* no TCP or UDP over IP, or behind what is not opened here: tunnels, MPLS, PPPoE */
	PACKET_BROKEN /* headers that contradict themselves, or end */
};

/* packet_read reads an Ethernet frame of n bytes; VLAN tags are passed over. p is set only where the result is PACKET_TAKEN. */
enum packet_kind packet_read(struct packet *p, const uint8_t *frame, size_t n);

#endif
