#include "eve.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "hash.h"

static int text_reserve(struct text *t, size_t n)
{
	if (t->failed || t->n + n > t->room) {
		size_t room = 2 * (t->n + n) + 4096;
		char *b = t->failed ? NULL : realloc(t->b, room);
		if (b == NULL) {
			t->failed = 1;
			return 0;
		}
		t->b = b;
		t->room = room;
	}
	return 1;
}

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list args;
	int n;
	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0 || !text_reserve(t, (size_t)n + 1)) {
		return;
	}
	va_start(args, format);
	vsnprintf(t->b + t->n, (size_t)n + 1, format, args);
	va_end(args);
	t->n += (size_t)n;
}

/* a JSON string; labels are UTF-8 */
static void put_string(struct text *t, const char *s)
{
	put(t, "\"");
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\') {
			put(t, "\\%c", c);
		} else if (c < ' ' || c == 0x7f) {
			put(t, "\\u%04x", c);
		} else {
			put(t, "%c", c);
		}
	}
	put(t, "\"");
}

static void put_time(struct text *t, uint64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm utc;
	char day[32];
	gmtime_r(&s, &utc);
	strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
	put(t, "\"%s.%06" PRIu64 "+0000\"", day, ns % 1000000000 / 1000);
}

static double probability(int32_t p)
{
	return p / 16777216.0;
}

/* what one output says of the flow, as fields of an object */
static void put_verdict(struct text *t, const nepco_model_result *result, int output, int insufficient)
{
	nepco_model_verdict v;
	uint8_t given[NEPCO_MODEL_MOST_LABELS];
	int32_t score[NEPCO_MODEL_MOST_LABELS], share;
	const char *separator = "";
	int i, n;
	if (nepco_model_kind(output) == NEPCO_MODEL_LABELS) {
		n = nepco_model_judge_labels(result, output, given, score);
		put(t, "\"labels\":[");
		for (i = 0; i < n && !insufficient; i++) {
			if (given[i]) {
				put(t, "%s{\"label\":", separator);
				put_string(t, nepco_model_label(output, i));
				put(t, ",\"class\":%d,\"score\":%.6g}", i, probability(score[i]));
				separator = ",";
			}
		}
		put(t, "]");
		return;
	}
	nepco_model_judge(result, output, &v);
	put(t, "\"label\":");
	if (insufficient || v.unknown) {
		put(t, "\"%s\",\"candidate\":", insufficient ? "insufficient" : "unknown");
	}
	put_string(t, nepco_model_label(output, v.label));
	put(t, ",\"class\":%d,\"score\":%.6g,\"margin\":%.6g", v.label, probability(v.score), probability(v.margin));
	share = nepco_model_belonging(output, v.distance);
	if (share >= 0) {
		put(t, ",\"belonging\":%.6g", probability(share));
	}
}

static void put_verdicts(struct text *t, const nepco_model_result *result, int insufficient)
{
	int i, verdicts = 0;
	for (i = 0; i < NEPCO_MODEL_OUTPUTS; i++) {
		verdicts += nepco_model_kind(i) != NEPCO_MODEL_VALUES;
	}
	if (verdicts != 1) {
		put(t, "\"outputs\":[");
	}
	for (i = 0; i < NEPCO_MODEL_OUTPUTS; i++) {
		if (nepco_model_kind(i) == NEPCO_MODEL_VALUES) {
			continue;
		}
		if (verdicts != 1) {
			put(t, "%s{\"output\":", t->b[t->n - 1] == '[' ? "" : ",");
			put_string(t, nepco_model_output(i));
			put(t, ",");
		}
		put_verdict(t, result, i, insufficient);
		if (verdicts != 1) {
			put(t, "}");
		}
	}
	if (verdicts != 1) {
		put(t, "]");
	}
}

static void put_marks(struct text *t, uint32_t marks, const char *name, int from, int to)
{
	static const char *const names[] = {"lost", "cut", "one_sided", "evicted", "overload", "refused", "outside", "overlap", "reused", "ttl", "options", "urgent"};
	int i, first = 1;
	for (i = from; i < to; i++) {
		if ((marks >> i & 1) != 0) {
			put(t, first ? ",\"%s\":[\"%s\"" : ",%.0s\"%s\"", name, names[i]);
			first = 0;
		}
	}
	put(t, first ? "" : "]");
}

/* the words of docs/verdicts.md for why the verdict came, and Suricata's for it, by BY_... */
static const char *const decided[] = {"tokens", "packets", "enough", "closed", "quiet", "idle", "evicted", "reused", "active", "end"};
static const char *const eve_reason[] = {"forced", "forced", "forced", "timeout", "timeout", "timeout", "forced", "forced", "timeout", "shutdown"};

/* an end of a flow's key, 0 or 1, with the names of its members */
static void put_end(struct text *t, const nepco_model_entry *e, int end, const char *name)
{
	const uint8_t *at = e->key + (end == 0 ? 2 : 20); /* address, port */
	char address[INET6_ADDRSTRLEN] = "";
	inet_ntop(e->key[1] == 6 ? AF_INET6 : AF_INET, at, address, sizeof address);
	put(t, ",\"%s_ip\":\"%s\",\"%s_port\":%d", name, address, name, at[16] << 8 | at[17]);
}

void eve_event(struct text *t, const nepco_model_entry *e, const nepco_model_result *result, uint32_t n)
{
	char id[COMMUNITY_ID];
	community_id(e, id);
	put(t, "{\"timestamp\":");
	put_time(t, e->last);
	put(t, ",\"flow_id\":%" PRIu64 ",\"event_type\":\"flow\"", flow_id(e));
	if (e->vlan[0] != 0) {
		put(t, ",\"vlan\":[%u", e->vlan[0]);
		put(t, e->vlan[1] != 0 ? ",%u]" : "]", e->vlan[1]);
	}
	put_end(t, e, e->client, "src");
	put_end(t, e, !e->client, "dest");
	put(t, ",\"proto\":\"%s\",\"ip_v\":%d", e->key[0] == 6 ? "TCP" : "UDP", e->key[1]);
	put(t, ",\"flow\":{\"pkts_toserver\":%" PRIu64 ",\"pkts_toclient\":%" PRIu64, e->packets[0], e->packets[1]);
	put(t, ",\"bytes_toserver\":%" PRIu64 ",\"bytes_toclient\":%" PRIu64 ",\"start\":", e->bytes[0], e->bytes[1]);
	put_time(t, e->first);
	put(t, ",\"end\":");
	put_time(t, e->last);
	put(t, ",\"age\":%" PRIu64, e->last > e->first ? e->last / 1000000000 - e->first / 1000000000 : 0);
	put(t, ",\"state\":\"%s\",\"reason\":\"%s\",\"alerted\":false}", e->why == NEPCO_MODEL_BY_CLOSED ? "closed" : e->packets[1] > 0 ? "established" : "new", eve_reason[e->why]);
	put(t, ",\"community_id\":\"%s\",\"nepco\":{", id);
	put_verdicts(t, result, (int)nepco_model_flow_payload(&e->flow) < NEPCO_MODEL_MIN_PAYLOAD);
	put(t, ",\"decided\":\"%s\",\"packets_used\":%u,\"bytes_used\":%u,\"tokens\":%u", decided[e->why], nepco_model_flow_packets(&e->flow),
		nepco_model_flow_bytes(&e->flow), n);
	if (e->level != 0) {
		put(t, ",\"tunnel\":{\"id\":%u,\"level\":%u}", e->tunnel, e->level);
	}
	put(t, ",\"payload\":%u", nepco_model_flow_payload(&e->flow));
	put_marks(t, e->marks, "incomplete", 0, 5);
	put_marks(t, e->marks, "anomaly", 5, 12);
	put(t, "%s", (e->marks & NEPCO_MODEL_MARK_INSUFFICIENT) != 0 ? ",\"insufficient\":true" : "");
	if (nepco_model_bundle[0] != '\0') {
		put(t, ",\"bundle\":");
		put_string(t, nepco_model_bundle);
	}
	put(t, ",\"digest\":\"%.12s\"", nepco_model_digest);
	if (nepco_model_model_version[0] != '\0') {
		put(t, ",\"model_version\":");
		put_string(t, nepco_model_model_version);
	}
	put(t, "}}\n");
}
