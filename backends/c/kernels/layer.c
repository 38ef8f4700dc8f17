/* A gated layer as the kernels take it. */
typedef struct {
	const uint8_t *gate; /* base and slope of the 32 segments, then the gate of every byte */
	const uint32_t *w;   /* constants of each channel, words of them: see the kernels */
	int words;
	int channels;
	int paired;          /* channels 0 and 1, 2 and 3, ... read the same inputs */
	int norm;
	int wide;            /* what LayerNorm gives: 0 8 bits, 1 16 bits, 2 of these the maximum over the positions */
	int rho;             /* 0: no residual, 1: factors of it are positive, -1: some are not */
	int shift;
	int32_t mean_m, eps, a;
	int s;
	int flipped;         /* some channel of LayerNorm is */
	const uint32_t *pairs; /* the constants by pairs of channels: see the kernels for Arm */
} gated_layer;

#if defined(HAVE_NEON)
#define PAIRS(table) table
#else
#define PAIRS(table) NULL
#endif
#if defined(HAVE_X86)
#define X86(table) table
#else
#define X86(table) NULL
#endif

/* a loop that compilers make vectors of */
#if defined(__GNUC__)
#define LOOP static __attribute__((noinline))
#else
#define LOOP static
#endif
