/* A verdict for each flow of a capture: verdicts CAPTURE [TABLES]. model/ is what nepcoc emit c --name model wrote. */
#define _DEFAULT_SOURCE /* libpcap's headers want it */

#include "nepco_model.h"

#include <arpa/inet.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>

#if NEPCO_MODEL_NUMBERS > 0 /* some models read numbers beside the tokens */
#define RUN(ctx, tokens, n, e, r) (nepco_model_flow_numbers(&(e)->flow, numbers), nepco_model_run(ctx, tokens, n, numbers, r))
static int32_t numbers[NEPCO_MODEL_NUMBERS];
#else
#define RUN(ctx, tokens, n, e, r) nepco_model_run(ctx, tokens, n, r)
#endif

static void end(const nepco_model_entry *e, int i, const char *before)
{
	const uint8_t *at = e->key + (i == 0 ? 2 : 20); /* address, port */
	char text[INET6_ADDRSTRLEN];
	inet_ntop(e->key[1] == 6 ? AF_INET6 : AF_INET, at, text, sizeof text);
	printf(e->key[1] == 6 ? "%s[%s]:%d" : "%s%s:%d", before, text, at[16] << 8 | at[17]);
}

/* a flow is ready: the model runs */
static void verdict(void *ctx, const nepco_model_entry *e)
{
	static int32_t tokens[NEPCO_MODEL_LENGTH];
	int i, n = (int)nepco_model_flow_tokens(&e->flow, tokens), enough = (int)nepco_model_flow_payload(&e->flow) >= NEPCO_MODEL_MIN_PAYLOAD;
	nepco_model_result r;
	nepco_model_verdict v;
	if (RUN(ctx, tokens, n, e, &r) != 0) {
		return;
	}
	end(e, e->client, e->key[0] == 6 ? "TCP " : "UDP ");
	end(e, !e->client, " > ");
	for (i = 0; i < NEPCO_MODEL_OUTPUTS; i++) {
		if (nepco_model_judge(&r, i, &v) == 0) {
			printf(" %s=%s score=%.4f", nepco_model_output(i), !enough ? "insufficient" : v.unknown ? "unknown" : nepco_model_label(i, v.label), v.score / 16777216.0);
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
	void *tables = malloc(NEPCO_MODEL_TABLE_BYTES + 1), *ctx = aligned_alloc(NEPCO_MODEL_CTX_ALIGN, NEPCO_MODEL_CTX_BYTES);
	size_t bytes = nepco_model_table_bytes(65536);
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
	pcap_close(in);
	return 0;
}
