/* The flow table of one worker: both directions of a 5-tuple are one flow, which gets one verdict. It knows of time what it is told. */
#ifndef TABLE_H
#define TABLE_H

#include "nepco_model.h"
#include "packet.h"

#ifndef NEPCO_MODEL_FLOW
#error this bundle has no traffic contract, which says what of a packet its model reads
#endif

enum reason { /* why a flow got its verdict when it did */
	REASON_READY, /* no further packet changes its tokens */
	REASON_CLOSED, /* FIN or RST, and quiet since */
	REASON_QUIET, /* quiet since both sides have spoken */
	REASON_IDLE,
	REASON_EVICTED, /* the table was full */
	REASON_REUSED, /* another connection has its 5-tuple */
	REASON_END /* of the input */
};

struct flow {
	struct key key;
	uint32_t hash;
	uint8_t swapped; /* its first packet went from the key's second end to its first */
	uint8_t judged; /* has had its verdict */
	uint8_t finished; /* FIN or RST */
	uint8_t list;
	uint16_t vlan[2]; /* of the first packet */
	uint32_t chain, prev, next; /* places in the table, plus 1 */
	uint64_t touched, deadline; /* in the table's time */
	uint64_t first, last; /* times of packets */
	uint64_t packets[2], bytes[2]; /* the way of the first packet, and against it */
	uint64_t lost; /* packets that had been lost when it began */
	nepco_model_flow model;
};

struct table;

struct table_counts {
	uint64_t joined, fragments, refused, broken; /* packets */
	uint64_t flows, evicted;
};

/* table_new makes a table of most flows; NULL where there is no memory. verdict is called once for each flow. */
struct table *table_new(uint32_t most, int socket, void (*verdict)(void *to, const struct flow *f, enum reason why), void *to);
const struct table_counts *table_counts(const struct table *t);

/* table_add joins a packet of time ns to its flow, after what was due before it. checked: the network card has found its checksums right. lost are the packets
 * that the caller has lost up to now. */
void table_add(struct table *t, const struct packet *p, uint64_t ns, int checked, uint64_t lost);

/* table_advance tells the time, table_flush that there will be no more packets. */
void table_advance(struct table *t, uint64_t ns);
void table_flush(struct table *t);

#endif
