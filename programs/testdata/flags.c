// Flags with effects of their own, set by the program itself around system calls in hot loops: TF (a trap after each
// instruction), AC (misaligned accesses fault), DF, ID, NT, and RF by way of a signal frame.
#include "t.h"

enum { N = 3000 };

static volatile long traps;
static volatile uint64_t trap_hash;
extern char span0[], span1[];

static void on_trap(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	uint64_t rip = uc->uc_mcontext.gregs[REG_RIP];
	CHECK(sig == SIGTRAP);
	(void)si;
	traps++;
	if (rip >= (uint64_t)span0 && rip <= (uint64_t)span1) trap_hash = trap_hash * 31 + (rip - (uint64_t)span0);
}

// step runs a few instructions and a system call with TF set. The handler hears of each.
__attribute__((noinline)) static long step(long a) {
	long ret;
	asm volatile("lea -128(%%rsp), %%rsp\n"
		     "mov $39, %%eax\n"
		     "syscall\n"
		     "pushfq; orl $0x100, (%%rsp); popfq\n"
		     ".globl span0, span1\n"
		     "span0: add $1, %[a]\n"
		     "mov $39, %%eax\n"
		     "syscall\n"
		     "lea (%[a],%[a],2), %[a]\n"
		     "nop\n"
		     "span1: pushfq; andl $~0x100, (%%rsp); popfq\n"
		     "lea 128(%%rsp), %%rsp\n"
		     "mov $39, %%eax\n"
		     "syscall\n"
		     : "=a"(ret), [a] "+r"(a)
		     :
		     : "rcx", "r11", "memory", "cc");
	return a;
}

// Several calls in a row: PUSHF and POPF are not translated, what is between the calls is.
#define CALL "mov %[nr], %%rax\nsyscall\nlea 1(%%rax), %%rcx\nadd %%rcx, %[sum]\n"
#define CALLS CALL CALL CALL CALL
static long pids;

static volatile long buses;
static void on_bus(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	(void)sig, (void)si;
	buses++;
	uc->uc_mcontext.gregs[REG_EFL] &= ~0x40000LL; // AC off, and again
}

__attribute__((noinline)) static long misaligned(char *p, int ac) {
	long ret, flags = ac ? 0x40000 : 0, nr = SYS_getpid;
	asm volatile("lea -128(%%rsp), %%rsp\n"
		     "pushfq; or %[f], (%%rsp); popfq\n"
		     CALLS
		     "mov 1(%[p]), %%rbx\n" // misaligned
		     CALLS
		     "pushfq; pop %%rdx; shr $18, %%rdx; and $1, %%edx; lea (%%rbx,%%rdx), %%rbx\n"
		     "pushfq; andl $~0x40000, (%%rsp); popfq\n"
		     CALLS
		     "lea 128(%%rsp), %%rsp\n"
		     : "=&b"(ret), [sum] "+r"(pids)
		     : [p] "r"(p), [f] "r"(flags), [nr] "r"(nr)
		     : "rax", "rcx", "rdx", "r11", "memory", "cc");
	return ret;
}

// flag sets bits of the flags register, makes a system call, and returns the bits that are there after it.
__attribute__((noinline)) static long flag(long bits) {
	long ret, nr = SYS_getpid;
	asm volatile("lea -128(%%rsp), %%rsp\n"
		     "pushfq; or %[b], (%%rsp); popfq\n"
		     CALLS
		     "pushfq; pop %[r]\n"
		     "pushfq; andl $~0x244500, (%%rsp); popfq\n"
		     CALLS
		     "lea 128(%%rsp), %%rsp\n"
		     : [r] "=&r"(ret), [sum] "+r"(pids)
		     : [b] "r"(bits), [nr] "r"(nr)
		     : "rax", "rcx", "r11", "memory", "cc");
	return ret & bits;
}

int main(int argc, char **argv) {
	die_after(50);
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "trap")) {
		handle(SIGTRAP, on_trap, 0);
		for (int i = 0; i < N; i++) EQ(flag(0), 0);
		say("without");
		EQ(flag(0x100), 0x100);
		long a = 0;
		for (int i = 0; i < N / 3; i++) a = step(a & 0xffff);
		say("TF: %ld traps at %#llx, %ld", traps, (unsigned long long)trap_hash, a);
		return 0;
	}
	handle(SIGBUS, on_bus, 0);
	static char bytes[64] __attribute__((aligned(16)));
	for (int i = 0; i < 64; i++) bytes[i] = i * 3;
	uint64_t h = 0;
	for (int i = 0; i < N; i++) h = h * 31 + misaligned(bytes + i % 5 * 8, i % 3 == 2);
	say("AC: %ld faults, %#llx", buses, (unsigned long long)h);

	long df = 0, id = 0, nt = 0;
	for (int i = 0; i < N; i++) df += flag(0x400) >> 10;
	for (int i = 0; i < N; i++) id += flag(0x200000) >> 21;
	for (int i = 0; i < N / 10; i++) nt += flag(0x4000) >> 14;
	EQ(pids % (getpid() + 1), 0);
	say("DF %ld ID %ld, calls %ld", df, id, pids / (getpid() + 1));
	say("~NT %ld", nt);
	return 0;
}
