/* The label of each flow of a capture: minimal CAPTURE. The model's tables are in its source (nepcoc emit c --tables source); verdicts.c looks at errors, too. */
#define _DEFAULT_SOURCE
#include "nepco_model.h"
#include <pcap/pcap.h>
#include <stdlib.h>

#ifndef NEPCO_MODEL_FLOW
#error "this bundle has no traffic contract: it takes tokens, not packets (docs/c.md)"
#elif NEPCO_MODEL_TABLE_BYTES > 0
#error "the model's tables are in a file: nepcoc emit c --tables source"
#endif

static void verdict(void *ctx, const nepco_model_entry *e)
{
	char name[NEPCO_MODEL_ENTRY_NAME];
	nepco_model_result r;
	nepco_model_verdict v;
	nepco_model_entry_name(e, name);
	if (nepco_model_flow_run(ctx, &e->flow, &r) == 0 && nepco_model_judge(&r, 0, &v) == 0)
		printf("%s: %s\n", name, nepco_model_flow_word(&e->flow, 0, &v));
}

int main(int argc, char **argv)
{
	char error[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr *h;
	const u_char *frame;
	pcap_t *in = pcap_open_offline(argv[argc - 1], error);
	void *ctx = aligned_alloc(NEPCO_MODEL_CTX_ALIGN, NEPCO_MODEL_CTX_BYTES);
	size_t bytes = nepco_model_table_bytes(65536);
	nepco_model_table *table = nepco_model_table_new(malloc(bytes), bytes, 65536, (uint64_t[]){1, 2}, verdict, ctx);
	nepco_model_init(ctx, NEPCO_MODEL_CTX_BYTES, NULL, 0);
	while (in != NULL && pcap_next_ex(in, &h, &frame) == 1)
		nepco_model_table_frame(table, pcap_datalink(in), frame, h->caplen, h->len, 0, h->ts.tv_sec * 1000000000ull + h->ts.tv_usec * 1000ull);
	nepco_model_table_end(table);
	return in == NULL;
}
