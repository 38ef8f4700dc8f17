/* Hashes: of what strangers choose, and of what other tools know flows by. */
#ifndef HASH_H
#define HASH_H

#include "nepco_model.h"

#ifndef NEPCO_MODEL_FLOW
#error this bundle has no traffic contract, which says what of a packet its model reads
#endif

/* siphash is SipHash-2-4 (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012) of n bytes by a secret. */
uint64_t siphash(const uint8_t *b, size_t n, const uint64_t secret[2]);

/* flow_id numbers a flow by its key and the time of its first packet, as nepcod does: 51 bits. */
uint64_t flow_id(const nepco_model_entry *e);

/* community_id writes a flow's Community ID, version 1, with seed 0; text has room for COMMUNITY_ID bytes. */
enum { COMMUNITY_ID = 2 + 28 + 1 };
void community_id(const nepco_model_entry *e, char *text);

#endif
