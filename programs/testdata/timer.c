// SIGALRM at 1 kHz while the program is in tight loops of system calls. The handler looks at the interrupted state: between
// any two instructions of the loop it must be exactly what executing up to there gives.
#include "t.h"

enum { ALARMS = 400 };

static volatile sig_atomic_t alarms;
static volatile int bad;

// The loop: R12 counts the calls begun, R13 the calls done, RBX is always 3*R12 behind label 3, and so on. Each label is an
// instruction boundary with its own relation.
void loop(volatile sig_atomic_t *alarms, long until, long nr);
extern char l0[], l1[], l2[], l3[], l4[], l5[], l6[], l7[], l8[], l9[];
asm(".text\n.globl loop\n.type loop,@function\nloop:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "xor %r12d, %r12d; xor %r13d, %r13d; xor %ebx, %ebx; xor %ebp, %ebp; xor %r14d, %r14d\n"
    "mov %rdx, %r15\n"
    ".globl l0, l1, l2, l3, l4, l5, l6, l7, l8, l9\n"
    "l0: mov %r15, %rax\n"          // r13 = r12, rbx = 3 r12, rbp = 7 r12, r14 = r12
    "l1: inc %r12\n"
    "l2: syscall\n"                 // r12 is one ahead of the others from here
    "l3: lea (%r12,%r12,2), %rbx\n"
    "l4: inc %r13\n"
    "l5: add $7, %rbp\n"
    "l6: push %r13\n"               // through memory and the stack
    "l7: pop %r14\n"
    "l8: cmpl %esi, (%rdi)\n"
    "l9: jl l0\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "ret\n");

static uint64_t base_rsp;
static volatile long in_loop;

static void wrong(const char *what, ucontext_t *uc) {
	greg_t *g = uc->uc_mcontext.gregs;
	say("%s at loop+%lld: r12 %lld r13 %lld r14 %lld rbx %lld rbp %lld", what, (long long)(g[REG_RIP] - (long)l0), (long long)g[REG_R12],
	    (long long)g[REG_R13], (long long)g[REG_R14], (long long)g[REG_RBX], (long long)g[REG_RBP]);
	bad = 1;
}

static void on_alarm(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	greg_t *g = uc->uc_mcontext.gregs;
	(void)sig, (void)si;
	alarms++;
	uint64_t rip = g[REG_RIP];
	if (rip < (uint64_t)l0 || rip > (uint64_t)l9) return;
	in_loop++;
	long n = g[REG_R12];
	int ahead = rip > (uint64_t)l1; // R12 has been counted up
	long done = n - ahead;
	if (g[REG_RBX] != 3 * (rip > (uint64_t)l3 ? n : done)) wrong("RBX", uc);
	if (g[REG_R13] != (rip > (uint64_t)l4 ? n : done)) wrong("R13", uc);
	if (g[REG_RBP] != 7 * (rip > (uint64_t)l5 ? n : done)) wrong("RBP", uc);
	if (g[REG_R14] != (rip > (uint64_t)l7 ? n : done)) wrong("R14", uc);
	int pushed = rip == (uint64_t)l7;
	if (base_rsp == 0) base_rsp = g[REG_RSP] + 8 * pushed;
	if ((uint64_t)g[REG_RSP] != base_rsp - 8 * pushed) wrong("RSP", uc);
	if (pushed && *(long *)g[REG_RSP] != n) wrong("pushed value", uc);
	if (rip == (uint64_t)l3 && g[REG_RAX] != getpid() && g[REG_RAX] != -EINTR) wrong("RAX", uc);
	if (rip == (uint64_t)l9) {
		int less = g[REG_EFL] & 0x80 ? 1 : 0; // SF; both are small and positive
		if (!less && alarms < ALARMS) wrong("flags", uc);
	}
}

static void on_plain(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	alarms++;
}

static void khz(int on) {
	struct itimerval it = {{0, on ? 1000 : 0}, {0, on ? 1000 : 0}};
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
}

int main(void) {
	handle(SIGALRM, on_alarm, 0);
	khz(1);
	loop(&alarms, ALARMS, SYS_getpid);
	khz(0);
	CHECK(alarms >= ALARMS && !bad);
	say("state ok");

	// Counts in C code, with calls through libc, and memory written in between.
	handle(SIGALRM, on_plain, SA_RESTART);
	static volatile long n[64];
	int null = open("/dev/null", O_WRONLY);
	alarms = 0;
	khz(1);
	long i = 0;
	while (alarms < ALARMS) {
		n[i % 64]++;
		EQ(write(null, (void *)n, sizeof n), sizeof n);
		i++;
	}
	khz(0);
	long total = 0;
	for (int k = 0; k < 64; k++) total += n[k];
	EQ(total, i);
	say("counts ok");

	// Alarms come while the program is in bypassed code, without it ever leaving of its own accord. A hundred take a tenth of a
	// second; a machine that has other things to do may take longer, but not for ever.
	alarms = 0;
	khz(1);
	long long until = now_ns() + 20 * 1000000000LL;
	while (alarms < 100 && now_ns() < until) sys0(SYS_getpid);
	khz(0);
	CHECK(alarms >= 100);
	say("rate ok");

	// A loop that makes no system call, entered from bypassed code.
	alarms = 0;
	khz(1);
	int last = 0;
	while (last < 100) {
		sys0(SYS_getpid);
		while (alarms == last) {
		}
		last = alarms;
	}
	khz(0);
	say("no calls ok");
	return 0;
}
