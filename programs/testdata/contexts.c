// Ways of going elsewhere: setjmp and longjmp, handlers that change the interrupted registers, signals on an alternate stack,
// handlers within handlers.
#include "t.h"

enum { N = 4000 };

static jmp_buf env;
__attribute__((noinline)) static void thrower(int i) {
	sys0(SYS_getpid);
	longjmp(env, i + 1);
}

static volatile long handled, nested, depth;
static void on_usr1(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	(void)sig, (void)si;
	handled++;
	// The interrupted code finds its registers changed: R12 counts up, the carry flag is inverted.
	uc->uc_mcontext.gregs[REG_R12] += 3;
	uc->uc_mcontext.gregs[REG_EFL] ^= 1;
}
static void on_usr2(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	char here;
	depth++;
	nested += depth;
	sys0(SYS_getpid);
	if (depth < 4) raise(SIGUSR2);
	depth--;
	CHECK(&here != NULL);
}

static sigjmp_buf away;
static void on_winch(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	(void)sig, (void)si;
	extern char landing[];
	uc->uc_mcontext.gregs[REG_RBX] = 0x1234;
	uc->uc_mcontext.gregs[REG_RIP] = (long)landing;
}
static void on_jump(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	siglongjmp(away, 1);
}

int main(void) {
	die_after(50);
	pid_t me = getpid();
	volatile long sum = 0;
	for (volatile int i = 0; i < N; i++) {
		int r = setjmp(env);
		if (r == 0) thrower(i);
		EQ(r, i + 1);
		sum += r;
		sys0(SYS_getppid);
	}
	say("longjmp %ld", sum);

	handle(SIGUSR1, on_usr1, 0);
	long r12 = 0, carries = 0;
	for (int i = 0; i < N; i++) {
		long cf = i & 1;
		// kill(me, SIGUSR1): the handler runs before the instruction behind the call.
		asm volatile("mov %[v], %%r12\n"
			     "bt $0, %[c]\n"
			     "mov $62, %%eax; mov %[pid], %%edi; mov $10, %%esi\n"
			     "syscall\n"
			     "sbb %[c], %[c]\n"
			     "mov %%r12, %[v]\n"
			     : [v] "+r"(r12), [c] "+r"(cf)
			     : [pid] "r"(me)
			     : "rax", "rcx", "r11", "rdi", "rsi", "r12", "memory", "cc");
		carries += cf;
		EQ(r12, 3 * (i + 1));
	}
	say("changed registers %ld %ld %ld", r12, carries, handled);

	static char alt[1 << 16];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt}, old;
	CHECK(sigaltstack(&ss, NULL) == 0);
	handle(SIGUSR2, on_usr2, SA_ONSTACK | SA_NODEFER);
	for (int i = 0; i < N / 8; i++) {
		sys3(SYS_kill, me, SIGUSR2, 0);
		CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == alt && old.ss_flags == 0);
	}
	say("nested %ld", nested);

	handle(SIGWINCH, on_winch, 0);
	long landed = 0;
	for (int i = 0; i < N; i++) {
		long got = 0;
		asm volatile("mov $0, %%ebx\n"
			     "mov $62, %%eax; mov %[pid], %%edi; mov $28, %%esi\n"
			     "syscall\n"
			     "mov $1, %%ebx\n" // never
			     ".globl landing\n"
			     "landing: mov %%rbx, %[g]\n"
			     : [g] "=r"(got)
			     : [pid] "r"(me)
			     : "rax", "rcx", "r11", "rdi", "rsi", "rbx", "memory", "cc");
		landed += got;
	}
	say("landed %#lx", landed);

	handle(SIGURG, on_jump, 0);
	volatile long left = 0;
	for (volatile int i = 0; i < N / 4; i++) {
		if (sigsetjmp(away, 1) == 0) {
			sys3(SYS_kill, me, SIGURG, 0);
			CHECK(!"not reached");
		}
		left++;
	}
	say("siglongjmp %ld", left);
	return 0;
}
