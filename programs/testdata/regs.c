// All general registers and flags, set before a system call and looked at behind it, thousands of times.
#include "t.h"

enum { N = 20000 };

// In and out of one round: registers in hardware order but RSP, then flags.
struct regs {
	uint64_t r[16];
	uint64_t flags;
};

struct regs in, out; // named by the assembly
static uint64_t saved_rsp;

// round sets everything from in, makes a system call, and puts everything into out. LAHF and SETO look at the flags: the
// stack is not used.
#define ROUND(name, call, clobber)                                                                        \
	__attribute__((noinline)) static void name(void) {                                                \
		asm volatile("push %%rbp; push %%rbx; push %%r12; push %%r13; push %%r14; push %%r15\n"   \
			     "mov %%rsp, %[rsp]\n"                                                        \
			     "mov in+0x80(%%rip), %%rax\n" /* OF into place first: AL + 0x7f */            \
			     "add $0x7f, %%al\n"                                                          \
			     "mov in+0x81(%%rip), %%ah\n"                                                 \
			     "sahf\n"                                                                     \
			     "mov in+0x00(%%rip), %%rax; mov in+0x08(%%rip), %%rcx; mov in+0x10(%%rip), %%rdx\n" \
			     "mov in+0x18(%%rip), %%rbx; mov in+0x20(%%rip), %%rsp; mov in+0x28(%%rip), %%rbp\n" \
			     "mov in+0x30(%%rip), %%rsi; mov in+0x38(%%rip), %%rdi; mov in+0x40(%%rip), %%r8\n"  \
			     "mov in+0x48(%%rip), %%r9; mov in+0x50(%%rip), %%r10; mov in+0x58(%%rip), %%r11\n"  \
			     "mov in+0x60(%%rip), %%r12; mov in+0x68(%%rip), %%r13; mov in+0x70(%%rip), %%r14\n" \
			     "mov in+0x78(%%rip), %%r15\n" call                                            \
			     "mov %%rax, out+0x00(%%rip); mov %%rcx, out+0x08(%%rip); mov %%rdx, out+0x10(%%rip)\n" \
			     "mov %%rbx, out+0x18(%%rip); mov %%rsp, out+0x20(%%rip); mov %%rbp, out+0x28(%%rip)\n" \
			     "mov %%rsi, out+0x30(%%rip); mov %%rdi, out+0x38(%%rip); mov %%r8, out+0x40(%%rip)\n"  \
			     "mov %%r9, out+0x48(%%rip); mov %%r10, out+0x50(%%rip); mov %%r11, out+0x58(%%rip)\n"  \
			     "mov %%r12, out+0x60(%%rip); mov %%r13, out+0x68(%%rip); mov %%r14, out+0x70(%%rip)\n" \
			     "mov %%r15, out+0x78(%%rip)\n"                                               \
			     "mov $0, %%eax\n"                                                            \
			     "seto %%al\n"                                                                \
			     "lahf\n"                                                                     \
			     "mov %%rax, out+0x80(%%rip)\n"                                               \
			     "mov %[rsp], %%rsp\n"                                                        \
			     "pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbx; pop %%rbp\n"          \
			     : [rsp] "+m"(saved_rsp)                                                      \
			     :                                                                            \
			     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc"); \
	}

ROUND(one, "syscall\n", )
// Two calls in a row, with an untouched gap: RAX of the first is the number of the second (its result is 0 or an error).
ROUND(two, "syscall\nmov in+0x00(%%rip), %%rax\nsyscall\n", )

static uint64_t mix(uint64_t x) {
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	return x * 0xc4ceb9fe1a85ec53ULL;
}

static uint64_t hash;

static void check(int i, void (*round)(void), uint64_t nr, uint64_t want) {
	for (int r = 0; r < 16; r++) in.r[r] = mix(i * 16 + r);
	in.r[0] = nr;
	// RSP too: a system call does not use it, and BTC must not either. Low values are fine, there is no signal.
	uint64_t o = i & 1, ah = mix(i) & 0xd5; // SF ZF AF PF CF
	in.flags = o | ah << 8;
	round();
	for (int r = 0; r < 16; r++) {
		if (r == 0) EQ(out.r[0], want);
		else if (r == 1) hash = hash * 31 + (out.r[1] - (uint64_t)round);
		else if (r == 11) hash = hash * 31 + (out.r[11] & 0xcd5);
		else if (out.r[r] != in.r[r]) {
			say("round %d: register %d is %#llx, was %#llx", i, r, (unsigned long long)out.r[r], (unsigned long long)in.r[r]);
			_exit(99);
		}
	}
	EQ(out.flags & 1, o);
	EQ(out.flags >> 8 & 0xd5, ah);
	// R11 has the flags, RCX the address behind the instruction.
	EQ(out.r[11] & 0xd5, ah);
	EQ(out.r[11] >> 11 & 1, o);
	EQ(out.r[11] & ~0x8d5ULL, 0x202);
}

int main(void) {
	die_after(50);
	uint64_t pid = getpid();
	for (int i = 0; i < N; i++) check(i, one, SYS_getpid, pid);
	say("one ok");
	for (int i = 0; i < N; i++) check(i, two, SYS_getpid, pid);
	say("two ok");
	for (int i = 0; i < N; i++) check(i, one, 0x3ff, (uint64_t)-ENOSYS);
	say("unknown ok");
	say("%#llx", (unsigned long long)hash);
	return 0;
}
