/* A verdict for each flow of a capture: verdicts CAPTURE [TABLES]. model/ is what nepcoc emit c --name model wrote; the flows stand in a plain
 * list, which is slow with very many. */
#define _DEFAULT_SOURCE /* libpcap's headers want it */

#include "nepco_model.h"

#include <arpa/inet.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if NEPCO_MODEL_NUMBERS
#error "this model takes numbers beside its tokens: give nepco_model_run those of nepco_model_flow_numbers, too"
#endif

struct entry {
	uint8_t key[NEPCO_MODEL_FLOW_KEY];
	int swapped, said; /* of the flow's first packet; it has had its verdict */
	nepco_model_flow flow;
};

static void *ctx;

/* where a frame's IP header begins, behind VLAN tags; frames that are no Ethernet have to be raw IP */
static uint32_t network(pcap_t *in, const u_char *frame, uint32_t captured)
{
	uint32_t at = 14;
	if (pcap_datalink(in) != DLT_EN10MB) {
		return 0;
	}
	while (at + 4 < captured && ((frame[at - 2] == 0x81 && frame[at - 1] == 0) || (frame[at - 2] == 0x88 && frame[at - 1] == 0xa8))) {
		at += 4;
	}
	return at;
}

static void verdict(struct entry *e)
{
	int32_t tokens[NEPCO_MODEL_LENGTH];
	nepco_model_result r;
	nepco_model_verdict v;
	int i, client = e->swapped ^ nepco_model_flow_client(&e->flow);
	if (e->said || nepco_model_run(ctx, tokens, (int)nepco_model_flow_tokens(&e->flow, tokens), &r) != 0) {
		return;
	}
	e->said = 1;
	for (i = 0; i < 2; i++) { /* from the client to the server */
		const uint8_t *end = e->key + (i == client ? 2 : 20);
		char text[INET6_ADDRSTRLEN];
		int v6 = e->key[1] == 6;
		inet_ntop(v6 ? AF_INET6 : AF_INET, end, text, sizeof text);
		printf(v6 ? "%s [%s]:%d" : "%s %s:%d", i == 1 ? " >" : e->key[0] == 6 ? "TCP" : "UDP", text, end[16] << 8 | end[17]);
	}
	for (i = 0; i < NEPCO_MODEL_OUTPUTS; i++) {
		if (nepco_model_judge(&r, i, &v) == 0) {
			const char *label = v.unknown ? "unknown" : nepco_model_label(i, v.label);
			if ((int)nepco_model_flow_payload(&e->flow) < NEPCO_MODEL_MIN_PAYLOAD) {
				label = "insufficient";
			}
			printf(" %s=%s score=%.4f", nepco_model_output(i), label, v.score / 16777216.0);
		}
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	char error[PCAP_ERRBUF_SIZE] = "verdicts CAPTURE [TABLES]";
	pcap_t *in = argc > 1 ? pcap_open_offline_with_tstamp_precision(argv[1], PCAP_TSTAMP_PRECISION_NANO, error) : NULL;
	FILE *file = argc > 2 ? fopen(argv[2], "rb") : NULL;
	void *tables = malloc(NEPCO_MODEL_TABLE_BYTES + 1);
	size_t tables_size = file != NULL ? fread(tables, 1, NEPCO_MODEL_TABLE_BYTES, file) : 0;
	struct entry *flows = NULL;
	struct pcap_pkthdr *h;
	const u_char *frame;
	int n = 0, i;
	ctx = aligned_alloc(NEPCO_MODEL_CTX_ALIGN, NEPCO_MODEL_CTX_BYTES);
	if (in == NULL || nepco_model_init(ctx, NEPCO_MODEL_CTX_BYTES, tables, tables_size) != 0) {
		fprintf(stderr, "verdicts: %s\n", in == NULL ? error : "no memory, or these are not the model's tables");
		return 2;
	}
	while (pcap_next_ex(in, &h, &frame) == 1) {
		uint8_t key[NEPCO_MODEL_FLOW_KEY];
		uint32_t at = network(in, frame, h->caplen);
		uint64_t now = (uint64_t)h->ts.tv_sec * 1000000000u + (uint64_t)h->ts.tv_usec;
		int swapped;
		if (h->caplen <= at || nepco_model_flow_key(frame + at, h->caplen - at, key, &swapped) != 0) {
			continue; /* no IP, neither TCP nor UDP, or a fragment without ports */
		}
		for (i = 0; i < n && memcmp(flows[i].key, key, sizeof key) != 0; i++) {
		}
		if (i == n) {
			flows = realloc(flows, (size_t)++n * sizeof *flows);
			memset(&flows[i], 0, sizeof *flows);
			memcpy(flows[i].key, key, sizeof key);
			flows[i].swapped = swapped;
			nepco_model_flow_init(&flows[i].flow);
		}
		if (nepco_model_flow_add(&flows[i].flow, frame + at, h->caplen - at, h->len - at, swapped ^ flows[i].swapped, now) == NEPCO_MODEL_EOTHER) {
			verdict(&flows[i]); /* another connection takes its place */
			flows[i].swapped = swapped;
			flows[i].said = 0;
			nepco_model_flow_next(&flows[i].flow);
			nepco_model_flow_add(&flows[i].flow, frame + at, h->caplen - at, h->len - at, 0, now);
		}
		if (nepco_model_flow_ready(&flows[i].flow)) {
			verdict(&flows[i]);
		}
	}
	for (i = 0; i < n; i++) {
		verdict(&flows[i]);
	}
	pcap_close(in);
	return 0;
}
