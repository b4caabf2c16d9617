// Vector, x87 and control registers keep their values across bypassed system calls.
#include "t.h"

enum { N = 20000 };

// Everything is loaded once, before the loop, and looked at once, after it: in between only BTC could spoil it.
static uint8_t ymm_in[16][32] __attribute__((aligned(32))), ymm_out[16][32] __attribute__((aligned(32)));

__attribute__((target("avx"), noinline)) static void ymm(long n, long nr) {
#define L(i) "vmovdqa 32*" #i "(%[in]), %%ymm" #i "\n"
#define S(i) "vmovdqa %%ymm" #i ", 32*" #i "(%[out])\n"
	asm volatile(L(0) L(1) L(2) L(3) L(4) L(5) L(6) L(7) L(8) L(9) L(10) L(11) L(12) L(13) L(14) L(15)
		     "1: mov %[nr], %%rax\n"
		     "syscall\n"
		     "dec %[n]\n"
		     "jnz 1b\n"
		     S(0) S(1) S(2) S(3) S(4) S(5) S(6) S(7) S(8) S(9) S(10) S(11) S(12) S(13) S(14) S(15)
		     "vzeroupper\n"
		     : [n] "+r"(n)
		     : [in] "r"(ymm_in), [out] "r"(ymm_out), [nr] "r"(nr)
		     : "rax", "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#undef L
#undef S
}

__attribute__((noinline)) static void xmm(long n, long nr) {
#define L(i) "movdqa 32*" #i "(%[in]), %%xmm" #i "\n"
#define S(i) "movdqa %%xmm" #i ", 32*" #i "(%[out])\n"
	asm volatile(L(0) L(1) L(2) L(3) L(4) L(5) L(6) L(7) L(8) L(9) L(10) L(11) L(12) L(13) L(14) L(15)
		     "1: mov %[nr], %%rax\n"
		     "syscall\n"
		     "dec %[n]\n"
		     "jnz 1b\n"
		     S(0) S(1) S(2) S(3) S(4) S(5) S(6) S(7) S(8) S(9) S(10) S(11) S(12) S(13) S(14) S(15)
		     : [n] "+r"(n)
		     : [in] "r"(ymm_in), [out] "r"(ymm_out), [nr] "r"(nr)
		     : "rax", "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#undef L
#undef S
}

__attribute__((noinline)) static void x87(long n, long nr, long double out[8]) {
	asm volatile("fld1; fldpi; fldl2e; fldln2; fldlg2; fldl2t; fldz; fld1\n"
		     "1: mov %[nr], %%rax\n"
		     "syscall\n"
		     "dec %[n]\n"
		     "jnz 1b\n"
		     "fstpt (%[out]); fstpt 16(%[out]); fstpt 32(%[out]); fstpt 48(%[out])\n"
		     "fstpt 64(%[out]); fstpt 80(%[out]); fstpt 96(%[out]); fstpt 112(%[out])\n"
		     : [n] "+r"(n)
		     : [nr] "r"(nr), [out] "r"(out)
		     : "rax", "rcx", "r11", "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
}

// mixed does arithmetic between the calls, in code that is partly not translatable.
__attribute__((noinline)) static double mixed(int n) {
	double a = 1, b = 0.5;
	float c = 3;
	for (int i = 0; i < n; i++) {
		long pid = sys0(SYS_getuid);
		a = a * 1.0000001 + b;
		b = b * 0.999 + (double)(i + pid);
		c = c / 1.5f + (float)i;
	}
	return a + b + c;
}

static void dump(const char *what, const void *p, int n) {
	uint64_t h = 0;
	for (int i = 0; i < n; i++) h = h * 131 + ((const uint8_t *)p)[i];
	say("%s %#llx", what, (unsigned long long)h);
}

int main(void) {
	die_after(50);
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 32; k++) ymm_in[i][k] = i * 37 + k * 11 + 5;
	memset(ymm_out, 0, sizeof ymm_out);
	xmm(N, SYS_getpid);
	for (int i = 0; i < 16; i++) CHECK(memcmp(ymm_out[i], ymm_in[i], 16) == 0);
	dump("xmm", ymm_out, sizeof ymm_out);
	if (__builtin_cpu_supports("avx")) {
		memset(ymm_out, 0, sizeof ymm_out);
		ymm(N, SYS_getpid);
		for (int i = 0; i < 16; i++) CHECK(memcmp(ymm_out[i], ymm_in[i], 32) == 0);
		dump("ymm", ymm_out, sizeof ymm_out);
	}
	static long double st[8];
	memset(st, 0, sizeof st);
	x87(N, SYS_getpid, st);
	for (int i = 0; i < 8; i++) dump("x87", &st[i], 10);

	// MXCSR and the x87 control word: other rounding, flush to zero, sticky flags.
	uint32_t mxcsr = 0x1f80 | 0x6000 | 0x8000 | 0x21, got;
	uint16_t cw = 0x0c7f, gotcw;
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	asm volatile("fldcw %0" : : "m"(cw));
	spin(N);
	asm volatile("stmxcsr %0" : "=m"(got));
	asm volatile("fnstcw %0" : "=m"(gotcw));
	say("mxcsr %#x cw %#x", got, gotcw);
	double m = mixed(N);
	dump("mixed, rounding to zero", &m, sizeof m);
	mxcsr = 0x1f80;
	cw = 0x37f;
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	asm volatile("fldcw %0" : : "m"(cw));
	m = mixed(N);
	dump("mixed", &m, sizeof m);
	return 0;
}
