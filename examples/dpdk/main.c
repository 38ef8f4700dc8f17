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
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <pcap/pcap.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_ring.h>

#include "eve.h"
#include "hash.h"

enum {
	BURST = 32,
	RING = 2048, /* packets that wait for a worker */
	CACHE = 128, /* buffers that a core keeps for itself */
	CHAIN = 1 + 65535 / RTE_MBUF_DEFAULT_DATAROOM, /* buffers of a packet */
	WHOLE = 65535 + 64, /* bytes of the largest packet that is read where it lies in several buffers */
	SPIN = 256 /* empty polls before a core sleeps for some microseconds */
};

struct worker {
	struct rte_ring *ring;
	nepco_model_table *table; /* of flows */
	void *context; /* of the model */
	struct text text;
	int32_t tokens[NEPCO_MODEL_LENGTH];
	uint8_t *whole; /* a packet that lies in several buffers */
	uint64_t lost; /* as its table has been told */
	uint64_t verdicts, errors;
} __rte_cache_aligned;

static struct {
	uint16_t port;
	int file; /* the port reads a capture, which ends */
	int link; /* the link layer's number in pcap files */
	int timestamp; /* where mbufs have their time, in nanoseconds */
	unsigned workers;
	struct rte_mempool *pool;
	FILE *out;
	uint64_t secret[2]; /* by which packets are dealt */
	struct worker worker[RTE_MAX_LCORE];
	/* what the receiving core counts */
	uint64_t received, bytes, dropped;
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

static void verdict(void *to, const nepco_model_entry *e)
{
	struct worker *w = to;
	nepco_model_result result;
	uint32_t n = nepco_model_flow_tokens(&e->flow, w->tokens);
	int rc;
#if NEPCO_MODEL_NUMBERS > 0
	int32_t numbers[NEPCO_MODEL_NUMBERS];
	nepco_model_flow_numbers(&e->flow, numbers);
	rc = nepco_model_run(w->context, w->tokens, (int)n, numbers, &result);
#else
	rc = nepco_model_run(w->context, w->tokens, (int)n, &result);
#endif
	if (rc != 0) {
		w->errors++;
		return;
	}
	w->text.n = 0;
	eve_event(&w->text, e, &result, n);
	/* one call for a line, so that lines of workers don't mix */
	if (w->text.failed || fwrite(w->text.b, 1, w->text.n, app.out) != w->text.n) {
		w->errors++;
		return;
	}
	w->verdicts++;
}

/* a packet's bytes, in one piece; what is longer than any packet is cut */
static const uint8_t *bytes_of(struct rte_mbuf *m, uint32_t *n, uint8_t *whole)
{
	*n = rte_pktmbuf_pkt_len(m);
	if (m->nb_segs > 1) {
		*n = RTE_MIN(*n, (uint32_t)WHOLE);
	}
	return rte_pktmbuf_read(m, 0, *n, whole);
}

static void work_on(struct worker *w, struct rte_mbuf *m)
{
	uint32_t n;
	const uint8_t *frame = bytes_of(m, &n, w->whole);
	int about = 0;
#ifdef NEPCO_MODEL_FLOW_CHECKED
	const uint64_t good = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	about = (m->ol_flags & good) == good ? NEPCO_MODEL_FLOW_CHECKED : 0;
#endif
	nepco_model_table_frame(w->table, app.link, frame, n, rte_pktmbuf_pkt_len(m), about, *time_of(m));
	rte_pktmbuf_free(m);
}

/* flows that are open when packets were lost get a mark */
static void tell_losses(struct worker *w)
{
	uint64_t lost = app.lost;
	if (lost != w->lost) {
		nepco_model_table_lost(w->table);
		w->lost = lost;
	}
}

static int work(void *arg)
{
	struct worker *w = arg;
	struct rte_mbuf *m[BURST];
	unsigned n, i, empty = 0;
	for (;;) {
		int ended = app.ended;
		n = rte_ring_sc_dequeue_burst(w->ring, (void **)m, BURST, NULL);
		tell_losses(w);
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
			nepco_model_table_time(w->table, wall_clock());
		}
		if (++empty > SPIN) {
			fflush(app.out); /* who reads the lines shall not wait for the next ones */
			rte_delay_us_sleep(50);
		}
	}
	tell_losses(w);
	nepco_model_table_time(w->table, app.last);
	nepco_model_table_end(w->table);
	return 0;
}

/* --- the receiving core --- */

/* deals a packet to a worker's burst: by its addresses, so that both directions and all fragments meet; what has none only has to be counted */
static void deal(struct rte_mbuf *m, struct rte_mbuf *burst[][BURST], unsigned *n)
{
	static uint8_t whole[WHOLE];
	uint8_t ends[32];
	uint32_t size, to;
	const uint8_t *frame = bytes_of(m, &size, whole);
	int width = nepco_model_frame_ends(app.link, frame, size, ends);
	if (width > 0) {
		to = (uint32_t)((siphash(ends, (size_t)width, app.secret) >> 32) * app.workers >> 32);
	} else {
		to = (uint32_t)(app.received % app.workers);
	}
	app.received++;
	app.bytes += rte_pktmbuf_pkt_len(m);
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
		flows += nepco_model_table_counts(app.worker[i].table)->flows;
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
			if ((m[i]->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
				rte_vlan_insert(&m[i]); /* where there is no room for the tag, the packet goes without */
			}
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
	nepco_model_counts all = {0};
	uint64_t errors = 0;
	unsigned i;
	for (i = 0; i < app.workers; i++) {
		const nepco_model_counts *c = nepco_model_table_counts(app.worker[i].table);
		all.joined += c->joined;
		all.refused += c->refused;
		all.broken += c->broken;
		all.fragments += c->fragments;
		all.other += c->other;
		all.evicted += c->evicted;
		errors += app.worker[i].errors;
	}
	fprintf(stderr, "%" PRIu64 " packets received: %" PRIu64 " of flows, %" PRIu64 " fragments, %" PRIu64 " refused, %" PRIu64 " broken, %" PRIu64
		" other, %" PRIu64 " dropped; %" PRIu64 " flows evicted, %" PRIu64 " verdicts failed\n",
		app.received, all.joined, all.fragments, all.refused, all.broken, all.other, app.dropped, all.evicted, errors);
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

/* the link layer of a capture, whose name ends at a comma; DPDK doesn't say it */
static int link_type(const char *name)
{
	char path[4096], error[PCAP_ERRBUF_SIZE];
	pcap_t *in;
	int link;
	snprintf(path, sizeof path, "%.*s", (int)strcspn(name, ","), name);
	in = pcap_open_offline(path, error);
	if (in == NULL) {
		fail("%s", error);
	}
	link = pcap_datalink(in);
	pcap_close(in);
	return link;
}

static void start_port(void)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	const struct rte_devargs *args;
	const char *capture;
	uint16_t descriptors = 1024, unused = 64;
	uint64_t flag;
	unsigned mbufs = app.workers * (RING + BURST) + BURST * CHAIN + CACHE * 2 * (app.workers + 1);
	int rc;
	app.port = (uint16_t)rte_eth_find_next(0);
	if (rte_eth_dev_count_avail() != 1) {
		fail("%u ports: give one, as by --vdev net_pcap0,rx_pcap=FILE or --vdev net_af_packet0,iface=eth0", rte_eth_dev_count_avail());
	}
	if ((rc = rte_eth_dev_info_get(app.port, &info)) != 0) {
		fail("port: %s", rte_strerror(-rc));
	}
	args = rte_dev_devargs(info.device);
	capture = strcmp(info.driver_name, "net_pcap") == 0 && args != NULL && args->args != NULL ? strstr(args->args, "rx_pcap=") : NULL;
	app.file = capture != NULL && strstr(args->args, "infinite_rx=1") == NULL;
	app.link = capture != NULL ? link_type(capture + strlen("rx_pcap=")) : 1; /* Ethernet */
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
	uint64_t secret[2];
	size_t bytes;
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
			if (*end != '\0' || flows < 1 || flows > 1 << 26) {
				fail("--flows %s: 1 to %d", optarg, 1 << 26);
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
	bytes = nepco_model_table_bytes((uint32_t)flows);
	if (getrandom(app.secret, sizeof app.secret, 0) != (ssize_t)sizeof app.secret || getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret) {
		fail("random numbers: %s", strerror(errno));
	}
	i = 0;
	RTE_LCORE_FOREACH_WORKER(lcore) {
		struct worker *w = &app.worker[i];
		int socket = (int)rte_lcore_to_socket_id(lcore);
		char name[32];
		snprintf(name, sizeof name, "worker%u", i++);
		w->ring = rte_ring_create(name, RING, socket, RING_F_SP_ENQ | RING_F_SC_DEQ);
		w->table = nepco_model_table_new(rte_malloc_socket("flows", bytes, 64, socket), bytes, (uint32_t)flows, secret, verdict, w);
		w->context = rte_malloc_socket("context", NEPCO_MODEL_CTX_BYTES, NEPCO_MODEL_CTX_ALIGN, socket);
		w->whole = rte_malloc_socket("packet", WHOLE, 0, socket);
		if (w->ring == NULL || w->table == NULL || w->context == NULL || w->whole == NULL) {
			fail("no memory for a worker whose %lu flows take %zu bytes: fewer by --flows, or with --no-huge more by -m MEGABYTES", flows, bytes);
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
