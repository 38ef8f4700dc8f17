/* A data path on DPDK with a model in it: one core receives, the others keep flows and classify them; see README.md. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_ring.h>
#include <rte_thash.h>

#include "eve.h"
#include "packet.h"
#include "table.h"

enum {
	BURST = 32,
	RING = 2048, /* packets that wait for a worker */
	CACHE = 128, /* buffers that a core keeps for itself */
	CHAIN = 1 + 65535 / RTE_MBUF_DEFAULT_DATAROOM, /* buffers of a packet */
	SPIN = 256 /* empty polls before a core sleeps for some microseconds */
};

struct worker {
	struct rte_ring *ring;
	struct table *table;
	void *context; /* of the model */
	struct text text;
	int32_t tokens[NEPCO_MODEL_LENGTH];
	uint8_t *whole; /* a packet that lies in several buffers */
	uint64_t verdicts, errors;
} __rte_cache_aligned;

static struct {
	uint16_t port;
	int file; /* the port reads a capture, which ends */
	int timestamp; /* where mbufs have their time, in nanoseconds */
	unsigned workers;
	struct rte_mempool *pool;
	FILE *out;
	const uint8_t *rss_key;
	struct worker worker[RTE_MAX_LCORE];
	/* what the receiving core counts */
	uint64_t received, bytes, other, broken, fragments, dropped;
	atomic_ullong lost; /* packets that no worker has seen: dropped here or before */
	atomic_ullong last; /* time of the latest packet, set before ended */
	atomic_int ended, stop;
} app;

static void on_signal(int signal)
{
	(void)signal;
	app.stop = 1;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
	va_list args;
	fprintf(stderr, "nepco-dpdk: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

static uint64_t wall_clock(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t *time_of(struct rte_mbuf *m)
{
	return RTE_MBUF_DYNFIELD(m, app.timestamp, uint64_t *);
}

/* --- workers --- */

static void verdict(void *to, const struct flow *f, enum reason why)
{
	struct worker *w = to;
	nepco_model_result result;
	uint32_t n = nepco_model_flow_tokens(&f->model, w->tokens), marks = nepco_model_flow_marks(&f->model);
	int rc;
#if NEPCO_MODEL_NUMBERS > 0
	int32_t numbers[NEPCO_MODEL_NUMBERS];
	nepco_model_flow_numbers(&f->model, numbers);
	rc = nepco_model_run(w->context, w->tokens, (int)n, numbers, &result);
#else
	rc = nepco_model_run(w->context, w->tokens, (int)n, &result);
#endif
	if (rc != 0) {
		w->errors++;
		return;
	}
	marks |= why == REASON_EVICTED ? MARK_EVICTED : 0;
	marks |= f->lost != app.lost ? MARK_OVERLOAD : 0;
	w->text.n = 0;
	eve_event(&w->text, f, why, &result, n, marks);
	/* one call for a line, so that lines of workers don't mix */
	if (w->text.failed || fwrite(w->text.b, 1, w->text.n, app.out) != w->text.n) {
		w->errors++;
		return;
	}
	w->verdicts++;
}

static void work_on(struct worker *w, struct rte_mbuf *m)
{
	uint32_t n = rte_pktmbuf_pkt_len(m);
	const uint64_t good = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	struct packet p;
	if (m->nb_segs == 1 || n <= 65535 + 64) {
		const uint8_t *frame = rte_pktmbuf_read(m, 0, n, w->whole);
		packet_read(&p, frame, n);
		if ((m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && p.vlan[0] == 0) {
			p.vlan[0] = m->vlan_tci & 0xfff;
		}
		table_add(w->table, &p, *time_of(m), (m->ol_flags & good) == good, app.lost);
	}
	rte_pktmbuf_free(m);
}

static int work(void *arg)
{
	struct worker *w = arg;
	struct rte_mbuf *m[BURST];
	unsigned n, i, empty = 0;
	for (;;) {
		int ended = app.ended;
		n = rte_ring_sc_dequeue_burst(w->ring, (void **)m, BURST, NULL);
		for (i = 0; i < n; i++) {
			work_on(w, m[i]);
		}
		if (n > 0) {
			empty = 0;
			continue;
		}
		if (ended) {
			break; /* it had before the ring was found empty */
		}
		if (!app.file) {
			table_advance(w->table, wall_clock());
		}
		if (++empty > SPIN) {
			fflush(app.out); /* who reads the lines shall not wait for the next ones */
			rte_delay_us_sleep(50);
		}
	}
	table_advance(w->table, app.last);
	table_flush(w->table);
	return 0;
}

/* --- the receiving core --- */

/* the same for both directions, and that which a network card computes with the same key: Toeplitz, by a key that repeats after two bytes */
static uint32_t rss_hash(const struct key *k)
{
	uint32_t tuple[9], n = 0;
	int i, j, words = k->v6 ? 4 : 1;
	for (i = 0; i < 2; i++) {
		for (j = 0; j < words; j++) {
			uint32_t word;
			memcpy(&word, k->addr[i] + 4 * j, 4);
			tuple[n++] = rte_be_to_cpu_32(word);
		}
	}
	tuple[n++] = (uint32_t)k->port[0] << 16 | k->port[1];
	return rte_softrss(tuple, n, app.rss_key);
}

/* deals a packet to a worker's burst, or counts what it is */
static void deal(struct rte_mbuf *m, struct rte_mbuf *burst[][BURST], unsigned *n)
{
	struct packet p;
	uint8_t head[2304]; /* link layer, IP header and its extensions, ports: of a packet in several buffers */
	uint32_t size = RTE_MIN(rte_pktmbuf_pkt_len(m), m->nb_segs == 1 ? UINT32_MAX : (uint32_t)sizeof head), hash, to;
	enum packet_kind kind = packet_read(&p, rte_pktmbuf_read(m, 0, size, head), size);
	app.received++;
	app.bytes += rte_pktmbuf_pkt_len(m);
	if (kind != PACKET_TAKEN) {
		app.other += kind == PACKET_OTHER;
		app.broken += kind == PACKET_BROKEN;
		app.fragments += kind == PACKET_FRAGMENT;
		rte_pktmbuf_free(m);
		return;
	}
	hash = (m->ol_flags & RTE_MBUF_F_RX_RSS_HASH) != 0 ? m->hash.rss : rss_hash(&p.key);
	to = (uint32_t)(((uint64_t)hash * app.workers) >> 32);
	burst[to][n[to]++] = m;
}

/* gives a worker its packets: of a capture all, however long it takes; of a link as many as it has room for */
static void hand_over(struct worker *w, struct rte_mbuf **m, unsigned n)
{
	unsigned done = rte_ring_sp_enqueue_burst(w->ring, (void **)m, n, NULL);
	while (done < n && app.file) {
		rte_delay_us_sleep(50);
		done += rte_ring_sp_enqueue_burst(w->ring, (void **)m + done, n - done, NULL);
	}
	if (done < n) {
		app.dropped += n - done;
		app.lost += n - done;
		rte_pktmbuf_free_bulk(m + done, n - done);
	}
}

/* packets that the port has lost: its own queue was full, or there were no buffers */
static uint64_t missed(void)
{
	struct rte_eth_stats s;
	return rte_eth_stats_get(app.port, &s) == 0 ? s.imissed + s.rx_nombuf + s.ierrors : 0;
}

static void print_rates(uint64_t packets, uint64_t bytes, uint64_t cycles, uint64_t dropped)
{
	double s = (double)cycles / (double)rte_get_tsc_hz();
	uint64_t flows = 0, verdicts = 0;
	unsigned i;
	for (i = 0; i < app.workers; i++) {
		flows += table_counts(app.worker[i].table)->flows;
		verdicts += app.worker[i].verdicts;
	}
	fprintf(stderr, "%.0f packets/s, %.1f Mbit/s, %" PRIu64 " packets dropped, %" PRIu64 " flows, %" PRIu64 " verdicts\n",
		s > 0 ? (double)packets / s : 0, s > 0 ? (double)bytes * 8e-6 / s : 0, dropped, flows, verdicts);
}

static void receive(void)
{
	static struct rte_mbuf *burst[RTE_MAX_LCORE][BURST];
	unsigned count[RTE_MAX_LCORE] = {0}, i, empty = 0;
	uint64_t last = 0, before = missed(), at = rte_get_tsc_cycles(), begun = at, packets = 0, bytes = 0;
	while (!app.stop) {
		struct rte_mbuf *m[BURST];
		unsigned n;
		uint64_t now, lost;
		while (app.file && rte_mempool_avail_count(app.pool) < BURST * CHAIN + CACHE * 2 * (app.workers + 1) && !app.stop) {
			rte_delay_us_sleep(50); /* a capture loses none: what a read needs is there */
		}
		n = rte_eth_rx_burst(app.port, 0, m, BURST);
		now = app.file ? 0 : wall_clock();
		for (i = 0; i < n; i++) {
			if (!app.file) {
				*time_of(m[i]) = now;
			} else {
				*time_of(m[i]) *= 1000; /* net_pcap gives microseconds */
			}
			last = RTE_MAX(last, *time_of(m[i]));
			deal(m[i], burst, count);
		}
		for (i = 0; i < app.workers; i++) {
			if (count[i] > 0) {
				hand_over(&app.worker[i], burst[i], count[i]);
				count[i] = 0;
			}
		}
		if (n > 0) {
			empty = 0;
		} else if (app.file) { /* a file is never slow: that is its end, unless there was no buffer or a packet did not fit */
			lost = missed();
			if (lost == before) {
				break;
			}
			app.lost += lost - before;
			before = lost;
		} else if (++empty > SPIN) {
			rte_delay_us_sleep(50);
		}
		now = rte_get_tsc_cycles();
		if (now - at >= rte_get_tsc_hz()) {
			lost = missed();
			app.lost += lost - before;
			before = lost;
			print_rates(app.received - packets, app.bytes - bytes, now - at, app.lost);
			packets = app.received;
			bytes = app.bytes;
			at = now;
		}
	}
	app.last = app.file ? last : wall_clock();
	app.ended = 1;
	rte_eal_mp_wait_lcore();
	before = missed();
	fprintf(stderr, "all: ");
	print_rates(app.received, app.bytes, rte_get_tsc_cycles() - begun, app.dropped + before);
}

/* what became of all packets: the sums must be equal */
static int balance(void)
{
	struct table_counts all = {0};
	uint64_t errors = 0;
	unsigned i;
	for (i = 0; i < app.workers; i++) {
		const struct table_counts *c = table_counts(app.worker[i].table);
		all.joined += c->joined;
		all.refused += c->refused;
		all.broken += c->broken;
		all.fragments += c->fragments;
		all.evicted += c->evicted;
		errors += app.worker[i].errors;
	}
	fprintf(stderr, "%" PRIu64 " packets received: %" PRIu64 " of flows, %" PRIu64 " fragments, %" PRIu64 " refused, %" PRIu64 " broken, %" PRIu64
		" other, %" PRIu64 " dropped; %" PRIu64 " flows evicted, %" PRIu64 " verdicts failed\n",
		app.received, all.joined, app.fragments + all.fragments, all.refused, app.broken + all.broken, app.other, app.dropped, all.evicted, errors);
	if (fclose(app.out) != 0 || errors > 0) {
		fprintf(stderr, "nepco-dpdk: not all verdicts were written\n");
		return 1;
	}
	return 0;
}

/* --- start --- */

/* the model's tables, mapped: all workers read the same */
static const void *tables(const char *name)
{
	const void *at = NULL;
	if (NEPCO_MODEL_TABLE_BYTES > 0) {
		struct stat s;
		int fd = open(name, O_RDONLY);
		if (fd < 0 || fstat(fd, &s) != 0) {
			fail("tables %s: %s; name them by --tables", name, strerror(errno));
		}
		if ((uint64_t)s.st_size != NEPCO_MODEL_TABLE_BYTES) {
			fail("tables %s: %jd bytes, and the model's are %d", name, (intmax_t)s.st_size, NEPCO_MODEL_TABLE_BYTES);
		}
		at = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (at == MAP_FAILED) {
			fail("tables %s: %s", name, strerror(errno));
		}
		close(fd);
	}
	return at;
}

static void start_port(void)
{
	static uint8_t key[64];
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	const struct rte_devargs *args;
	uint16_t descriptors = 1024, unused = 64;
	uint64_t flag, types = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
	unsigned i, mbufs = app.workers * (RING + BURST) + BURST * CHAIN + CACHE * 2 * (app.workers + 1);
	int rc;
	app.port = (uint16_t)rte_eth_find_next(0);
	if (rte_eth_dev_count_avail() != 1) {
		fail("%u ports: give one, as by --vdev net_pcap0,rx_pcap=FILE or --vdev net_af_packet0,iface=eth0", rte_eth_dev_count_avail());
	}
	if ((rc = rte_eth_dev_info_get(app.port, &info)) != 0) {
		fail("port: %s", rte_strerror(-rc));
	}
	args = rte_dev_devargs(info.device);
	app.file = strcmp(info.driver_name, "net_pcap") == 0 && args != NULL && args->args != NULL && strstr(args->args, "rx_pcap=") != NULL && strstr(args->args, "infinite_rx=1") == NULL;
	for (i = 0; i < sizeof key; i += 2) { /* Woo, Park: Scalable TCP session monitoring with symmetric receive-side scaling, 2012 */
		key[i] = 0x6d;
		key[i + 1] = 0x5a;
	}
	app.rss_key = key;
	if ((info.flow_type_rss_offloads & types) == types && (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH) != 0 && info.hash_key_size <= sizeof key) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_RSS_HASH;
		conf.rx_adv_conf.rss_conf.rss_key = key;
		conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
		conf.rx_adv_conf.rss_conf.rss_hf = types;
	}
	if ((info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_CHECKSUM) == RTE_ETH_RX_OFFLOAD_CHECKSUM) {
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_CHECKSUM;
	}
	if (rte_mbuf_dyn_rx_timestamp_register(&app.timestamp, &flag) != 0) {
		fail("no room for times in mbufs: %s", rte_strerror(rte_errno));
	}
	app.pool = rte_pktmbuf_pool_create("mbufs", mbufs, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());
	if (app.pool == NULL) {
		fail("%u packet buffers: %s; with --no-huge, -m MEGABYTES says how much memory there is", mbufs, rte_strerror(rte_errno));
	}
	if ((rc = rte_eth_dev_configure(app.port, 1, 0, &conf)) != 0 && (rc = rte_eth_dev_configure(app.port, 1, 1, &conf)) != 0) {
		fail("port: configure: %s", rte_strerror(-rc));
	}
	if ((rc = rte_eth_dev_adjust_nb_rx_tx_desc(app.port, &descriptors, &unused)) != 0 ||
	    (rc = rte_eth_rx_queue_setup(app.port, 0, descriptors, rte_eth_dev_socket_id(app.port), NULL, app.pool)) != 0) {
		fail("port: receive queue: %s", rte_strerror(-rc));
	}
	if ((rc = rte_eth_dev_start(app.port)) != 0) {
		fail("port: start: %s", rte_strerror(-rc));
	}
	rte_eth_promiscuous_enable(app.port); /* files know no such thing */
}

static void usage(FILE *to)
{
	fprintf(to, "usage: nepco-dpdk EAL-OPTIONS -- [--tables FILE] [--output FILE] [--flows N]\n"
		"  --tables FILE  the model's tables (default %s)\n"
		"  --output FILE  where verdicts go, as EVE lines (default: standard output)\n"
		"  --flows N      flows that a worker holds (default 16384)\n"
		"The main core receives, every other one is a worker.\n", TABLES);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"tables", 1, NULL, 't'}, {"output", 1, NULL, 'o'}, {"flows", 1, NULL, 'f'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
	const char *table_name = TABLES, *output = NULL;
	const void *table;
	unsigned long flows = 16384;
	char *end;
	unsigned lcore, i;
	int option, rc, n;
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return 0;
	}
	n = rte_eal_init(argc, argv);
	if (n < 0) {
		fail("DPDK: %s", rte_strerror(rte_errno));
	}
	argc -= n;
	argv += n;
	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 't':
			table_name = optarg;
			break;
		case 'o':
			output = optarg;
			break;
		case 'f':
			flows = strtoul(optarg, &end, 10);
			if (*end != '\0' || flows < 1 || flows > 1 << 28) {
				fail("--flows %s: 1 to %d", optarg, 1 << 28);
			}
			break;
		default:
			usage(option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	app.workers = rte_lcore_count() - 1;
	if (app.workers < 1) {
		fail("one core: give two or more, as by -l 0,1; on a machine with one CPU by --lcores '(0,1)@0'");
	}
	app.out = output == NULL ? stdout : fopen(output, "w");
	if (app.out == NULL) {
		fail("--output %s: %s", output, strerror(errno));
	}
	setvbuf(app.out, NULL, _IOFBF, 1 << 16);
	table = tables(table_name);
	start_port();
	i = 0;
	RTE_LCORE_FOREACH_WORKER(lcore) {
		struct worker *w = &app.worker[i];
		int socket = (int)rte_lcore_to_socket_id(lcore);
		char name[32];
		snprintf(name, sizeof name, "worker%u", i++);
		w->ring = rte_ring_create(name, RING, socket, RING_F_SP_ENQ | RING_F_SC_DEQ);
		w->table = table_new((uint32_t)flows, socket, verdict, w);
		w->context = rte_malloc_socket("context", NEPCO_MODEL_CTX_BYTES, NEPCO_MODEL_CTX_ALIGN, socket);
		w->whole = rte_malloc_socket("packet", 65535 + 64, 0, socket);
		if (w->ring == NULL || w->table == NULL || w->context == NULL || w->whole == NULL) {
			fail("no memory for a worker with %lu flows of %zu bytes: fewer by --flows, or with --no-huge more by -m MEGABYTES", flows, sizeof(struct flow));
		}
		if ((rc = nepco_model_init(w->context, NEPCO_MODEL_CTX_BYTES, table, NEPCO_MODEL_TABLE_BYTES)) != 0) {
			fail("model: error %d; tables %s are of another one", rc, table_name);
		}
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	i = 0;
	RTE_LCORE_FOREACH_WORKER(lcore) {
		if (rte_eal_remote_launch(work, &app.worker[i++], lcore) != 0) {
			fail("core %u does not start", lcore);
		}
	}
	receive();
	rc = balance();
	rte_eth_dev_stop(app.port);
	rte_eth_dev_close(app.port);
	rte_eal_cleanup();
	return rc;
}
