// The 128 bytes below the stack pointer belong to the function, across system calls too. Also: large stack frames, deep
// recursion, and stacks made by the program.
#include "t.h"

enum { N = 10000 };

// loop keeps 16 quadwords in the red zone over n system calls and returns the sum of what it finds there.
uint64_t loop(long n, long nr);
asm(".text\n.globl loop\n.type loop,@function\nloop:\n"
    "mov %rdi, %r8\n"
    "mov %rsi, %r9\n"
    "xor %r10d, %r10d\n"
    "1:\n"
    "lea (%r8,%r8,2), %rdx\n"
    ".set i, 1\n.rept 16\n"
    "add $0x1234567, %rdx\n"
    "mov %rdx, -8*i(%rsp)\n"
    ".set i, i+1\n.endr\n"
    "mov %r9, %rax\n"
    "syscall\n"
    "lea (%r8,%r8,2), %rdx\n"
    ".set i, 1\n.rept 16\n"
    "add $0x1234567, %rdx\n"
    "cmp %rdx, -8*i(%rsp)\n"
    "jne 2f\n"
    "add -8*i(%rsp), %r10\n"
    ".set i, i+1\n.endr\n"
    "dec %r8\n"
    "jnz 1b\n"
    "mov %r10, %rax\n"
    "ret\n"
    "2: mov $-1, %rax\n"
    "ret\n");

__attribute__((noinline)) static long frame(int i) {
	volatile char big[200 * 1024];
	for (unsigned k = 0; k < sizeof big; k += 4096) big[k] = i + k / 4096;
	long pid = sys0(SYS_getpid), sum = 0;
	for (unsigned k = 0; k < sizeof big; k += 4096) sum += big[k];
	return sum + (pid == 0);
}

__attribute__((noinline)) static long deep(int n) {
	volatile long here[8];
	here[n % 8] = sys0(SYS_getuid) + n;
	if (n == 0) return here[0];
	long below = deep(n - 1);
	return below + here[n % 8];
}

static ucontext_t main_uc, co_uc;
static int co_count;
static void coroutine(void) {
	for (;;) {
		co_count++;
		sys0(SYS_getpid);
		swapcontext(&co_uc, &main_uc);
	}
}

static sigjmp_buf jump;
static volatile int overflows;
static void on_overflow(int sig, siginfo_t *si, void *uc) {
	(void)si, (void)uc;
	overflows += sig == SIGSEGV;
	siglongjmp(jump, 1);
}
__attribute__((noinline)) static long endless(long n) {
	volatile char pad[512];
	pad[n % 512] = n;
	if (sys0(SYS_getpid) == 0) return 0; // never: it ends by a fault
	return endless(n + 1) + pad[n % 512];
}

int main(void) {
	die_after(50);
	say("red zone %#llx", (unsigned long long)loop(N, SYS_getpid));
	long s = 0;
	for (int i = 0; i < N / 10; i++) s += frame(i);
	say("frames %ld", s);
	s = 0;
	for (int i = 0; i < 20; i++) s += deep(5000);
	say("deep %ld", s);

	static char stack[64 * 1024];
	getcontext(&co_uc);
	co_uc.uc_stack.ss_sp = stack;
	co_uc.uc_stack.ss_size = sizeof stack;
	makecontext(&co_uc, coroutine, 0);
	for (int i = 0; i < N; i++) swapcontext(&main_uc, &co_uc);
	say("swapcontext %d", co_count);

	static char alt[64 * 1024];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	CHECK(sigaltstack(&ss, NULL) == 0);
	handle(SIGSEGV, on_overflow, SA_ONSTACK | SA_NODEFER);
	for (volatile int i = 0; i < 5; i++)
		if (sigsetjmp(jump, 1) == 0) endless(0);
	say("stack overflows %d", overflows);
	return 0;
}
