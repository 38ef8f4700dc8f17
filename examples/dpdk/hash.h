/* Hashes: of keys that strangers choose, and of what other tools know flows by. */
#ifndef HASH_H
#define HASH_H

#include "packet.h"

/* key_hash is SipHash-2-4 (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012) of a key, by two secret numbers. */
uint64_t key_hash(const struct key *k, uint64_t k0, uint64_t k1);

/* flow_id numbers a flow by its key and the time of its first packet, as nepcod does: 51 bits. */
uint64_t flow_id(const struct key *k, uint64_t first_ns);

/* community_id writes a flow's Community ID, version 1, with seed 0; text has room for COMMUNITY_ID bytes. */
enum { COMMUNITY_ID = 2 + 28 + 1 };
void community_id(const struct key *k, char *text);

#endif
