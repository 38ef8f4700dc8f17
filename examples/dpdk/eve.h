/* Verdicts as Suricata's EVE events, as nepcod writes them. */
#ifndef EVE_H
#define EVE_H

#include "table.h"

/* text that grows; zero is empty */
struct text {
	char *b;
	size_t n, room;
	int failed; /* there was no memory */
};

/* eve_event appends a flow's event, with its newline. result is of the flow's tokens, of which there were n; marks are
 * NEPCO_MODEL_MARK_... and the two that only the table knows. */
enum { MARK_EVICTED = 8, MARK_OVERLOAD = 16 };
void eve_event(struct text *t, const struct flow *f, enum reason why, const nepco_model_result *result, uint32_t n, uint32_t marks);

#endif
