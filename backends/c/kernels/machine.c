/* Kernels for machines that a compiler with gcc's attributes makes code for. */
#if defined(__GNUC__) && !defined(NEPCO_PORTABLE)
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define HAVE_X86
#define HAVE_KERNELS
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#include <arm_neon.h>
#define HAVE_NEON
#define HAVE_KERNELS
#if defined(__ARM_FEATURE_DOTPROD) || (defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 8)
#define HAVE_DOTPROD
#endif
#endif
#endif

/* what is added to the bytes of planes on a path: 0 or 128 */
#if defined(HAVE_NEON) && RAISED
#define RAISE(path) ((path) != PORTABLE ? 128 : 0)
#else
#define RAISE(path) 0
#endif
