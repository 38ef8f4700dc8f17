/* Kernels for machines that a compiler with gcc's attributes makes code for. */
#if defined(__GNUC__) && !defined(NEPCO_PORTABLE)
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define HAVE_X86
#define HAVE_KERNELS
#endif
#endif
