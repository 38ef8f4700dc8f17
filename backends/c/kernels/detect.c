/* the fastest path that this machine has */
static int best_path(void)
{
#if defined(HAVE_X86)
	unsigned a, b, c, d, low, high;
	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & 1u << 27) == 0) {
		return PORTABLE; /* the system does not keep wide registers */
	}
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	if ((low & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & 1u << 5) == 0) {
		return PORTABLE;
	}
	/* F, DQ, CD, BW, VL; VBMI, VBMI2 and VNNI; the system keeps their registers */
	return (low & 0xe6) == 0xe6 && (b & 0xd0030000u) == 0xd0030000u && (c & 0x842) == 0x842 ? PATH_AVX512 : PATH_AVX2;
#elif defined(HAVE_NEON)
#if defined(__ARM_FEATURE_DOTPROD)
	return PATH_DOTPROD;
#elif defined(HAVE_DOTPROD) && defined(__linux__)
	uint64_t features; /* which Linux lets programs read */
	__asm__("mrs %0, ID_AA64ISAR0_EL1" : "=r"(features));
	return (features >> 44 & 15) != 0 ? PATH_DOTPROD : PATH_NEON;
#else
	return PATH_NEON;
#endif
#else
	return PORTABLE;
#endif
}
