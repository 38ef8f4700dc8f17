/* A verdict for each flow of a capture: verdicts CAPTURE [TABLES]. model/ is what nepcoc emit c --name model wrote. */
#define _DEFAULT_SOURCE /* libpcap's headers want it */
#include "nepco_model.h"
#include <pcap/pcap.h>
#include <stdlib.h>

#ifndef NEPCO_MODEL_FLOW
#error "this bundle has no traffic contract: it takes tokens, not packets (docs/c.md)"
#endif

/* the labels that are given to a flow, each with its score */
static void print_labels(const nepco_model_entry *e, const nepco_model_result *r, int output)
{
	uint8_t given[NEPCO_MODEL_MOST_LABELS + 1];
	int32_t score[NEPCO_MODEL_MOST_LABELS + 1];
	int i, n = nepco_model_judge_labels(r, output, given, score);
	const char *before = "";
	printf(" %s=", nepco_model_output(output));
	if ((int)nepco_model_flow_payload(&e->flow) < NEPCO_MODEL_MIN_PAYLOAD) {
		printf("insufficient");
		return;
	}
	for (i = 0; i < n; i++) {
		if (given[i]) {
			printf("%s%s:%.4f", before, nepco_model_label(output, i), score[i] / 16777216.0);
			before = ",";
		}
	}
}

/* a flow is ready: the model runs */
static void verdict(void *ctx, const nepco_model_entry *e)
{
	char name[NEPCO_MODEL_ENTRY_NAME];
	nepco_model_result r;
	nepco_model_verdict v;
	int i, rc = nepco_model_flow_run(ctx, &e->flow, &r);
	nepco_model_entry_name(e, name);
	printf("%s", name);
	for (i = 0; rc == 0 && i < NEPCO_MODEL_OUTPUTS; i++) {
		if (nepco_model_judge(&r, i, &v) == 0) {
			printf(" %s=%s score=%.4f", nepco_model_output(i), nepco_model_flow_word(&e->flow, i, &v), v.score / 16777216.0);
		} else if (nepco_model_kind(i) == NEPCO_MODEL_LABELS) {
			print_labels(e, &r, i);
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
	int rc;
	if (in == NULL || table == NULL || nepco_model_init(ctx, NEPCO_MODEL_CTX_BYTES, tables, file != NULL ? fread(tables, 1, NEPCO_MODEL_TABLE_BYTES, file) : 0) != 0) {
		fprintf(stderr, "verdicts: %s\n", in == NULL ? error : "no memory, or these are not the model's tables");
		return 2;
	}
	while ((rc = pcap_next_ex(in, &h, &frame)) == 1) {
		nepco_model_table_frame(table, pcap_datalink(in), frame, h->caplen, h->len, 0, (uint64_t)h->ts.tv_sec * 1000000000 + (uint64_t)h->ts.tv_usec);
	}
	nepco_model_table_end(table);
	if (rc == PCAP_ERROR) { /* verdicts stand on what came before */
		fprintf(stderr, "verdicts: %s\n", pcap_geterr(in));
		return 1;
	}
	return 0;
}
