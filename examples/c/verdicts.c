/* A verdict for each flow of a capture: verdicts CAPTURE [TABLES]. model/ is what nepcoc emit c --name model wrote. */
#define _DEFAULT_SOURCE /* libpcap's headers want it */
#include "nepco_model.h"
#include <pcap/pcap.h>
#include <stdlib.h>

/* a flow is ready: the model runs */
static void verdict(void *ctx, const nepco_model_entry *e)
{
	char name[NEPCO_MODEL_ENTRY_NAME];
	nepco_model_result r;
	nepco_model_verdict v;
	int i;
	nepco_model_entry_name(e, name);
	printf("%s", name);
	for (i = 0; nepco_model_flow_run(ctx, &e->flow, &r) == 0 && i < NEPCO_MODEL_OUTPUTS; i++) {
		if (nepco_model_judge(&r, i, &v) == 0) {
			printf(" %s=%s score=%.4f", nepco_model_output(i), nepco_model_flow_word(&e->flow, i, &v), v.score / 16777216.0);
		}
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	char error[PCAP_ERRBUF_SIZE] = "verdicts CAPTURE [TABLES]";
	const uint64_t secret[2] = {1, 2}; /* of captures; on a link they are to be random */
	pcap_t *in = argc > 1 ? pcap_open_offline_with_tstamp_precision(argv[1], PCAP_TSTAMP_PRECISION_NANO, error) : NULL;
	FILE *file = argc > 2 ? fopen(argv[2], "rb") : NULL;
	size_t bytes = nepco_model_table_bytes(65536);
	void *tables = malloc(NEPCO_MODEL_TABLE_BYTES + 1), *ctx = aligned_alloc(NEPCO_MODEL_CTX_ALIGN, NEPCO_MODEL_CTX_BYTES);
	nepco_model_table *table = nepco_model_table_new(malloc(bytes), bytes, 65536, secret, verdict, ctx);
	struct pcap_pkthdr *h;
	const u_char *frame;
	if (in == NULL || table == NULL || nepco_model_init(ctx, NEPCO_MODEL_CTX_BYTES, tables, file != NULL ? fread(tables, 1, NEPCO_MODEL_TABLE_BYTES, file) : 0) != 0) {
		fprintf(stderr, "verdicts: %s\n", in == NULL ? error : "no memory, or these are not the model's tables");
		return 2;
	}
	while (pcap_next_ex(in, &h, &frame) == 1) {
		nepco_model_table_frame(table, pcap_datalink(in), frame, h->caplen, h->len, 0, (uint64_t)h->ts.tv_sec * 1000000000 + (uint64_t)h->ts.tv_usec);
	}
	nepco_model_table_end(table);
	return 0;
}
