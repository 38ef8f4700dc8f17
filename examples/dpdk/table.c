#include "table.h"

#include <rte_malloc.h>
#include <string.h>
#include <sys/random.h>

#include "hash.h"

/* Flows that wait for the same time lie in one list in the order in which they were touched, so the one that is due first stands at the head.
 * A contract has three such times at most. */
enum { LISTS = 4 };

struct list {
	uint64_t patience;
	uint32_t head, tail; /* places plus 1; 0: none */
};

struct table {
	void (*verdict)(void *to, const struct flow *f, enum reason why);
	void *to;
	struct table_counts count;
	uint64_t now, secret[4];
	uint32_t most, fresh, free, mask;
	struct list lists[LISTS];
	uint32_t *buckets; /* places plus 1 */
	struct flow *flows;
};

struct table *table_new(uint32_t most, int socket, void (*verdict)(void *, const struct flow *, enum reason), void *to)
{
	struct table *t = rte_zmalloc_socket("flows", sizeof *t, 64, socket);
	uint32_t buckets = 1;
	while (buckets < most) {
		buckets *= 2;
	}
	if (t == NULL) {
		return NULL;
	}
	t->buckets = rte_zmalloc_socket("flows", buckets * sizeof *t->buckets, 64, socket);
	t->flows = rte_malloc_socket("flows", most * sizeof *t->flows, 64, socket);
	if (t->buckets == NULL || t->flows == NULL || getrandom(t->secret, sizeof t->secret, 0) != (ssize_t)sizeof t->secret) {
		return NULL; /* and the program ends */
	}
	t->most = most;
	t->mask = buckets - 1;
	t->verdict = verdict;
	t->to = to;
	return t;
}

const struct table_counts *table_counts(const struct table *t)
{
	return &t->count;
}

static void judge(struct table *t, struct flow *f, enum reason why)
{
	if (!f->judged) {
		f->judged = 1;
		t->verdict(t->to, f, why);
	}
}

static void list_unlink(struct table *t, struct flow *f)
{
	struct list *l = &t->lists[f->list];
	*(f->prev != 0 ? &t->flows[f->prev - 1].next : &l->head) = f->next;
	*(f->next != 0 ? &t->flows[f->next - 1].prev : &l->tail) = f->prev;
}

/* puts a flow at the end of the list of those that wait as long */
static void list_append(struct table *t, struct flow *f, uint64_t deadline)
{
	uint32_t place = (uint32_t)(f - t->flows) + 1;
	uint64_t patience = deadline - t->now;
	struct list *l = t->lists;
	while (l->patience != patience && l->patience != 0 && l < t->lists + LISTS - 1) {
		l++;
	}
	l->patience = patience;
	f->list = (uint8_t)(l - t->lists);
	f->touched = t->now;
	f->deadline = deadline;
	f->prev = l->tail;
	f->next = 0;
	*(l->tail != 0 ? &t->flows[l->tail - 1].next : &l->head) = place;
	l->tail = place;
}

static void flow_remove(struct table *t, struct flow *f)
{
	uint32_t place = (uint32_t)(f - t->flows) + 1, *at = &t->buckets[f->hash & t->mask];
	while (*at != place) {
		at = &t->flows[*at - 1].chain;
	}
	*at = f->chain;
	list_unlink(t, f);
	f->chain = t->free;
	t->free = place;
}

/* what a flow has waited for, where its time is past */
static enum reason due(const struct flow *f)
{
	if (f->deadline - f->touched == NEPCO_MODEL_FLOW_IDLE_NS) {
		return REASON_IDLE;
	}
	return f->finished ? REASON_CLOSED : REASON_QUIET;
}

void table_advance(struct table *t, uint64_t ns)
{
	struct list *l;
	t->now = ns > t->now ? ns : t->now;
	for (l = t->lists; l < t->lists + LISTS; l++) {
		while (l->head != 0 && t->flows[l->head - 1].deadline < t->now) {
			struct flow *f = &t->flows[l->head - 1];
			int over = f->judged || due(f) == REASON_IDLE;
			judge(t, f, due(f));
			if (over) {
				flow_remove(t, f);
			} else { /* its further packets are still known to be its */
				list_unlink(t, f);
				list_append(t, f, t->now + NEPCO_MODEL_FLOW_IDLE_NS);
			}
		}
	}
}

void table_flush(struct table *t)
{
	int i;
	for (i = 0; i < LISTS; i++) {
		while (t->lists[i].head != 0) {
			struct flow *f = &t->flows[t->lists[i].head - 1];
			judge(t, f, REASON_END);
			flow_remove(t, f);
		}
	}
}

/* a place for a flow, in a full table that of the one that is due first */
static struct flow *flow_room(struct table *t)
{
	struct flow *f = NULL;
	int i;
	if (t->free == 0 && t->fresh < t->most) {
		return &t->flows[t->fresh++];
	}
	if (t->free == 0) {
		for (i = 0; i < LISTS; i++) {
			if (t->lists[i].head != 0 && (f == NULL || t->flows[t->lists[i].head - 1].deadline < f->deadline)) {
				f = &t->flows[t->lists[i].head - 1];
			}
		}
		t->count.evicted++;
		judge(t, f, REASON_EVICTED);
		flow_remove(t, f);
	}
	f = &t->flows[t->free - 1];
	t->free = f->chain;
	return f;
}

static int flow_take(struct table *t, struct flow *f, const struct packet *p, int checked)
{
	int direction = p->swapped != f->swapped;
#ifdef NEPCO_MODEL_FLOW_CHECKED
	direction |= checked ? NEPCO_MODEL_FLOW_CHECKED : 0;
#endif
	(void)checked;
#ifdef NEPCO_MODEL_FLOW_MAC
	nepco_model_flow_mac(&f->model, p->mac);
#endif
	return nepco_model_flow_add(&f->model, p->ip, p->captured, p->wire, direction, t->now);
}

/* what is not known of a flow's model begins anew with p */
static void flow_start(struct flow *f, const struct packet *p, uint64_t ns, uint64_t lost)
{
	f->swapped = (uint8_t)p->swapped;
	f->judged = f->finished = 0;
	memcpy(f->vlan, p->vlan, sizeof f->vlan);
	f->first = f->last = ns;
	f->packets[0] = f->packets[1] = f->bytes[0] = f->bytes[1] = 0;
	f->lost = lost;
}

void table_add(struct table *t, const struct packet *p, uint64_t ns, int checked, uint64_t lost)
{
	uint32_t hash = (uint32_t)key_hash(&p->key, t->secret[0], t->secret[1]), place, *bucket = &t->buckets[hash & t->mask];
	struct flow *f = NULL;
	uint64_t deadline;
	int rc, known, way;
	table_advance(t, ns);
	for (place = *bucket; place != 0; place = t->flows[place - 1].chain) {
		f = &t->flows[place - 1];
		if (f->hash == hash && memcmp(&f->key, &p->key, sizeof f->key) == 0) {
			break;
		}
	}
	known = place != 0;
	if (!known) {
		f = flow_room(t);
		f->key = p->key;
		f->hash = hash;
		nepco_model_flow_init(&f->model);
#ifdef NEPCO_MODEL_FLOW_CHECKED
		nepco_model_flow_secret(&f->model, t->secret[2], t->secret[3]);
#endif
		flow_start(f, p, ns, lost);
	}
	rc = flow_take(t, f, p, checked);
	if (rc == NEPCO_MODEL_EOTHER) {
		judge(t, f, REASON_REUSED);
		nepco_model_flow_next(&f->model);
		flow_start(f, p, ns, lost);
		t->count.flows++;
		rc = flow_take(t, f, p, checked);
		if (rc != 0) { /* it begins none */
			t->count.flows--;
			flow_remove(t, f);
		}
	} else if (!known && rc != 0) {
		f->chain = t->free;
		t->free = (uint32_t)(f - t->flows) + 1;
	}
	if (rc != 0) {
		uint64_t *n = &t->count.refused; /* its receiver drops it */
		n = rc == NEPCO_MODEL_EPACKET ? &t->count.broken : rc == NEPCO_MODEL_EFRAGMENT ? &t->count.fragments : n;
		++*n;
		return;
	}
	if (!known) {
		f->chain = *bucket;
		*bucket = (uint32_t)(f - t->flows) + 1;
		t->count.flows++;
		list_append(t, f, t->now + NEPCO_MODEL_FLOW_IDLE_NS);
	}
	t->count.joined++;
	way = p->swapped != f->swapped;
	f->packets[way]++;
	f->bytes[way] += p->wire;
	deadline = nepco_model_flow_deadline(&f->model);
	if (deadline != f->deadline) { /* else its receiver drops it, which keeps no flow open */
		f->last = ns;
	}
	f->finished |= (p->flags & 5) != 0; /* FIN, RST */
	if (!f->judged && nepco_model_flow_ready(&f->model)) {
		judge(t, f, REASON_READY);
	}
	if (f->judged) {
		deadline = t->now + NEPCO_MODEL_FLOW_IDLE_NS;
	}
	if (deadline != f->deadline) {
		list_unlink(t, f);
		list_append(t, f, deadline);
	}
}
