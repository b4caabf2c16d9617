// Vector code between system calls: values that live in vector registers over many calls, while signal handlers use the
// same registers, processes fork, threads run beside, and floating-point instructions fault.
#include "t.h"
#include <fenv.h>

enum { N = 20000 };

// Each mix is a recurrence over vector registers that a bypassed getpid is part of. One lost or stale bit changes the sum.
struct sum { uint64_t w[8]; };

#define SYSCALL "mov %[nr], %%rax\n syscall\n"
#define CLOBBERS "rax", "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
	"xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static const uint64_t seed[8] __attribute__((aligned(64))) = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0x2545f4914f6cdd1d,
	0xd6e8feb86659fd93, 0xa0761d6478bd642f, 0xe7037ed1a0b428db, 0x8ebc6af09c88c6e3};

__attribute__((noinline)) static struct sum sse(long n, long nr) {
	struct sum s = {{0}};
	asm volatile("movdqa (%[seed]), %%xmm0\n movdqa 16(%[seed]), %%xmm15\n pxor %%xmm7, %%xmm7\n"
		     "1:\n" SYSCALL
		     "movq %%rax, %%xmm3\n"
		     "pshufd $0x4e, %%xmm0, %%xmm1\n paddq %%xmm15, %%xmm1\n pmuludq %%xmm15, %%xmm0\n pxor %%xmm1, %%xmm0\n"
		     "movdqa %%xmm0, %%xmm2\n psrlq $7, %%xmm2\n paddq %%xmm2, %%xmm7\n"
		     "movdqu %%xmm7, (%[out])\n movdqu (%[out]), %%xmm6\n pxor %%xmm6, %%xmm15\n"
		     "dec %[n]\n jnz 1b\n"
		     "movdqu %%xmm0, 16(%[out])\n movdqu %%xmm15, 32(%[out])\n"
		     : [n] "+r"(n) : [nr] "r"(nr), [out] "r"(&s), [seed] "r"(seed) : CLOBBERS);
	return s;
}

__attribute__((noinline, target("avx2"))) static struct sum avx2(long n, long nr) {
	struct sum s = {{0}};
	asm volatile("vmovdqa (%[seed]), %%ymm0\n vmovdqa 32(%[seed]), %%ymm15\n vpxor %%ymm7, %%ymm7, %%ymm7\n"
		     "1:\n" SYSCALL
		     "vpermq $0x93, %%ymm0, %%ymm1\n vpaddq %%ymm15, %%ymm1, %%ymm1\n vpmuludq %%ymm15, %%ymm0, %%ymm0\n vpxor %%ymm1, %%ymm0, %%ymm0\n"
		     "vpsrlq $7, %%ymm0, %%ymm2\n vpaddq %%ymm2, %%ymm7, %%ymm7\n"
		     "vmovdqu %%ymm7, (%[out])\n vpxor (%[out]), %%ymm15, %%ymm15\n"
		     "dec %[n]\n jnz 1b\n"
		     "vmovdqu %%ymm0, 32(%[out])\n vzeroupper\n"
		     : [n] "+r"(n) : [nr] "r"(nr), [out] "r"(&s), [seed] "r"(seed) : CLOBBERS);
	return s;
}

__attribute__((noinline, target("avx512f,avx512bw,avx512vl"))) static struct sum avx512(long n, long nr) {
	struct sum s = {{0}};
	asm volatile("vmovdqa64 (%[seed]), %%zmm20\n vpxorq %%zmm31, %%zmm31, %%zmm31\n mov $0x5aa5, %%eax\n kmovd %%eax, %%k3\n"
		     "1:\n" SYSCALL
		     "vpermq $0x93, %%zmm20, %%zmm21\n vpaddq (%[seed])%{1to8%}, %%zmm21, %%zmm21\n vpmuludq %%zmm21, %%zmm20, %%zmm20\n"
		     "vpternlogq $0x96, %%zmm20, %%zmm21, %%zmm31\n vpsrlq $7, %%zmm31, %%zmm20 %{%%k3%}\n vpcmpuq $1, %%zmm31, %%zmm20, %%k3\n"
		     "vmovdqu64 %%zmm31, (%[out]) %{%%k3%}\n vpaddq %%zmm31, %%zmm20, %%zmm20\n"
		     "dec %[n]\n jnz 1b\n"
		     "vpxorq (%[out]), %%zmm20, %%zmm20\n vmovdqu64 %%zmm20, (%[out])\n vzeroupper\n"
		     : [n] "+r"(n) : [nr] "r"(nr), [out] "r"(&s), [seed] "r"(seed)
		     : CLOBBERS, "xmm16", "xmm20", "xmm21", "xmm31", "k3");
	return s;
}

static uint64_t fold(struct sum s) {
	uint64_t h = 0;
	for (int i = 0; i < 8; i++) h = h * 0x100000001b3 + s.w[i];
	return h;
}

static const struct mix {
	const char *name;
	struct sum (*f)(long, long);
} mixes[] = {{"sse", sse}, {"avx2", avx2}, {"avx512", avx512}};

static int have(int i) {
	return i == 0 || (i == 1 && __builtin_cpu_supports("avx2")) ||
	       (i == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"));
}

// spoil writes to every vector register there is, and to MXCSR.
__attribute__((noinline)) static void spoil(void) {
	uint32_t mxcsr = 0x1f80 | 0x6000 | 0x8040;
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	if (have(2)) {
		asm volatile(".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
			     "vpternlogd $0xff, %%zmm\\i, %%zmm\\i, %%zmm\\i\n.endr\n kxnorq %%k3, %%k3, %%k3\n" : : : "memory");
	} else if (have(1)) {
		asm volatile(".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vpcmpeqd %%ymm\\i, %%ymm\\i, %%ymm\\i\n.endr\n" : : : "memory");
	}
	asm volatile(".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n pcmpeqd %%xmm\\i, %%xmm\\i\n.endr\n" : : : "memory");
}

static volatile int alarms;
static void on_alarm(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	alarms++;
	for (int i = 0; i < 3; i++) sys0(SYS_getppid); // bypassed, between the vector code of the handler
	spoil();
	sys0(SYS_getppid);
}

static uint64_t expected[3];
static void *thread(void *arg) {
	int me = (long)arg % 3;
	for (int r = 0; r < 4; r++)
		if (have(me)) EQ(fold(mixes[me].f(N, SYS_getpid)), expected[me]);
	return NULL;
}

static sigjmp_buf jump;
static volatile int code;
static volatile uint32_t seen_mxcsr;
static void on_fault(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	code = sig * 100 + si->si_code;
	seen_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
	siglongjmp(jump, 1);
}

// divide makes calls until it divides by zero, with the exception unmasked.
__attribute__((noinline)) static void divide(int calls) {
	double b = calls;
	uint32_t mxcsr = 0x1f80 & ~0x200; // ZM
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	for (;;) {
		sys0(SYS_getppid);
		double a = 1;
		asm volatile("divsd %1, %0" : "+x"(a) : "x"(b));
		b -= 1;
	}
}

// aligned makes calls until an aligned access is not.
__attribute__((noinline)) static void aligned(int calls) {
	static char mem[4096] __attribute__((aligned(64)));
	for (int i = 0;; i++) {
		sys0(SYS_getppid);
		asm volatile("movaps (%0), %%xmm0" : : "r"(mem + (i < calls ? 16 * (i % 64) : 8)) : "xmm0");
	}
}

static void on_change(int sig, siginfo_t *si, void *ucp) {
	(void)sig, (void)si;
	ucontext_t *uc = ucp;
	memset(&uc->uc_mcontext.fpregs->_xmm[5], 0x5a, 16);
}

// With an argument nothing is done that emulated processors do not know of: exceptions of vector instructions.
int main(int argc, char **argv) {
	(void)argv;
	die_after(55);
	for (int i = 0; i < 3; i++) {
		if (!have(i)) continue;
		expected[i] = fold(mixes[i].f(N, SYS_getpid));
		say("%s %#llx", mixes[i].name, (unsigned long long)expected[i]);
	}

	handle(SIGPROF, on_alarm, 0);
	struct itimerval it = {{0, 1000}, {0, 1000}};
	CHECK(setitimer(ITIMER_PROF, &it, NULL) == 0);
	for (int r = 0; r < 200 && alarms < 100; r++)
		for (int i = 0; i < 3; i++)
			if (have(i)) EQ(fold(mixes[i].f(N, SYS_getpid)), expected[i]);
	CHECK(alarms > 0);
	pthread_t t[6];
	for (long i = 0; i < 6; i++) CHECK(pthread_create(&t[i], NULL, thread, (void *)i) == 0);
	for (int i = 0; i < 6; i++) CHECK(pthread_join(t[i], NULL) == 0);
	struct itimerval none = {{0, 0}, {0, 0}};
	CHECK(setitimer(ITIMER_PROF, &none, NULL) == 0);
	say("signals and threads ok");

	// A child goes on with its parent's registers.
	for (int i = 0; i < 3; i++) {
		if (!have(i)) continue;
		pid_t child = 0;
		for (int k = 0; k < 5; k++) {
			child = fork();
			if (child == 0) _exit(fold(mixes[i].f(N / 10, SYS_getuid)) != fold(mixes[i].f(N / 10, SYS_geteuid)));
			EQ(reap(child), 0);
		}
	}
	uint8_t x[16];
	memset(x, 0x77, 16);
	for (int k = 0; k < 50; k++) {
		long pid;
		asm volatile("movdqu %[x], %%xmm9\n pshufd $0x1b, %%xmm9, %%xmm9\n mov $57, %%eax\n syscall\n movdqu %%xmm9, %[x]\n"
			     : "=a"(pid), [x] "+m"(x) : : "rcx", "r11", "memory", "xmm9"); // fork
		for (int i = 0; i < 16; i++) CHECK(x[i] == 0x77);
		if (pid == 0) _exit(0);
		EQ(reap(pid), 0);
	}
	say("fork ok");

	handle(SIGFPE, on_fault, SA_NODEFER);
	handle(SIGSEGV, on_fault, SA_NODEFER);
	for (volatile int r = 0; r < 20 && argc == 1; r++) {
		if (sigsetjmp(jump, 1) == 0) divide(500 + r);
		uint32_t mxcsr = 0x1f80;
		asm volatile("ldmxcsr %0" : : "m"(mxcsr));
		if (r == 0 || code != SIGFPE * 100 + FPE_FLTDIV) say("division: signal and code %d, mxcsr %#x", code, seen_mxcsr);
		if (sigsetjmp(jump, 1) == 0) aligned(500 + r);
		if (r == 0 || code != SIGSEGV * 100 + SI_KERNEL) say("alignment: signal and code %d", code);
	}

	// A handler changes a register of the code it interrupts.
	handle(SIGUSR1, on_change, 0);
	for (int r = 0; r < 300; r++) {
		memset(x, 0, 16);
		long pid = getpid(), ret = SYS_kill;
		asm volatile("movdqu %[x], %%xmm5\n paddb %%xmm5, %%xmm5\n syscall\n movdqu %%xmm5, %[x]\n"
			     : "+a"(ret), [x] "+m"(x) : "D"(pid), "S"((long)SIGUSR1) : "rcx", "r11", "memory", "xmm5");
		for (int i = 0; i < 16; i++) CHECK(x[i] == 0x5a);
	}
	say("handler's change ok");

	// The rounding mode holds over calls, and in what is computed between them.
	static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
	for (int m = 0; m < 4; m++) {
		CHECK(fesetround(modes[m]) == 0);
		volatile double one = 1, three = 3;
		double s = 0;
		for (int i = 0; i < 3000; i++) {
			sys0(SYS_getppid);
			s += one / three + (double)i * 1e-3;
		}
		CHECK(fegetround() == modes[m]);
		say("rounding %d: %a", m, s);
	}
	return 0;
}
