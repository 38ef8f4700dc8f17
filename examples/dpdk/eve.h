/* Verdicts as Suricata's EVE events, as nepcod writes them. */
#ifndef EVE_H
#define EVE_H

#include "nepco_model.h"

#ifndef NEPCO_MODEL_FLOW
#error "this bundle has no traffic contract: it takes tokens, not packets (docs/c.md)"
#endif

/* text that grows; zero is empty */
struct text {
	char *b;
	size_t n, room;
	int failed; /* there was no memory */
};

/* eve_event appends a flow's event, with its newline. result is of the flow's tokens, of which there were n. */
void eve_event(struct text *t, const nepco_model_entry *e, const nepco_model_result *result, uint32_t n);

#endif
