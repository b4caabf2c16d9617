// A process in hot loops is traced by another one in the sandbox. By the argument: its system calls are counted (calls), it is
// stepped through instructions (step), its code is changed between two stops (poke), or while it is stopped for a moment only
// (attach), its registers are changed (regs), or the one that is traced asks for it (traceme).
#include "t.h"
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

static volatile long *sh; // [0] beats of the child, [1] what its function returns, [2] tells it to end

// The child's loop. `number` is in its code, at number_at.
int number(void);
extern char number_at[];
asm(".text\n.p2align 4\n.globl number, number_at\n.type number,@function\nnumber:\n"
    "mov $102, %eax\nsyscall\n"
    "number_at: mov $1000, %eax\nret\n");

static pid_t start(void) {
	sh[0] = sh[1] = sh[2] = 0;
	pid_t child = fork();
	if (child) return child;
	while (!sh[2]) {
		sys0(SYS_getpid);
		sh[1] = number();
		sh[0]++;
	}
	_exit(33);
}

static void wait_beats(long n) {
	long from = sh[0];
	while (sh[0] - from < n) usleep(100);
}

static int stopped(pid_t child) {
	int status;
	CHECK(waitpid(child, &status, __WALL) == child);
	CHECK(WIFSTOPPED(status));
	return status >> 8;
}

static void end(pid_t child) {
	sh[2] = 1;
	EQ(reap(child), 33);
}

static void calls(void) {
	pid_t child = start();
	wait_beats(3000);
	CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
	EQ(stopped(child), SIGSTOP);
	CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
	long n[2] = {0, 0}, other = 0;
	struct user_regs_struct r, first = {0};
	for (int i = 0; i < 400; i++) {
		CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
		EQ(stopped(child), SIGTRAP | 0x80);
		CHECK(ptrace(PTRACE_GETREGS, child, 0, &r) == 0);
		if (i == 0) first = r;
		CHECK(r.rsp == first.rsp || r.rsp == first.rsp + 8 || r.rsp == first.rsp - 8);
		if (r.orig_rax == SYS_getpid) n[0]++;
		else if (r.orig_rax == SYS_getuid) n[1]++;
		else other++;
		if (i % 2) {
			// At the exit the result is there.
			CHECK(r.rax == (r.orig_rax == SYS_getpid ? (unsigned long)child : 0UL));
		}
	}
	// 400 stops are 200 calls, 100 of each kind.
	say("calls %ld %ld %ld", n[0], n[1], other);
	long at = sh[0];
	CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
	wait_beats(3000);
	CHECK(sh[0] > at);
	end(child);
}

static void step(void) {
	pid_t child = start();
	wait_beats(3000);
	CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
	EQ(stopped(child), SIGSTOP);
	struct user_regs_struct r;
	long in_number = 0, before = sh[0];
	for (int i = 0; i < 3000; i++) {
		CHECK(ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0);
		EQ(stopped(child), SIGTRAP);
		CHECK(ptrace(PTRACE_GETREGS, child, 0, &r) == 0);
		if (r.rip >= (uintptr_t)number && r.rip <= (uintptr_t)number_at + 5) in_number++;
	}
	// Each round steps over five places of number: its four instructions, and back.
	long rounds = sh[0] - before;
	CHECK(rounds > 100 && in_number >= 3 * rounds && in_number <= 6 * rounds + 6);
	CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
	wait_beats(1000);
	end(child);
	say("step ok");
}

static void poke_number(pid_t child, int n) {
	errno = 0;
	long word = ptrace(PTRACE_PEEKTEXT, child, number_at, 0);
	CHECK(errno == 0);
	memcpy((char *)&word + 1, &n, 4);
	CHECK(ptrace(PTRACE_POKETEXT, child, number_at, word) == 0);
}

static void poke(void) {
	pid_t child = start();
	wait_beats(3000);
	CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
	EQ(stopped(child), SIGSTOP);
	for (int i = 0; i < 20; i++) {
		poke_number(child, i);
		for (int k = 0; k < 8; k++) {
			CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
			stopped(child);
		}
		EQ(sh[1], i);
	}
	CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
	wait_beats(1000);
	EQ(sh[1], 19);
	end(child);
	say("poke ok");
}

static void attach(void) {
	pid_t child = start();
	for (int i = 0; i < 40; i++) {
		wait_beats(600);
		CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
		EQ(stopped(child), SIGSTOP);
		poke_number(child, i);
		CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
		wait_beats(3); // the round that was under way may end with the old number
		EQ(sh[1], i);
	}
	end(child);
	say("attach ok");
}

static void regs(void) {
	pid_t child = start();
	wait_beats(3000);
	CHECK(ptrace(PTRACE_ATTACH, child, 0, 0) == 0);
	EQ(stopped(child), SIGSTOP);
	CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
	long seen = 0;
	struct user_regs_struct r;
	for (int i = 0; i < 400; i++) {
		CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
		stopped(child);
		CHECK(ptrace(PTRACE_GETREGS, child, 0, &r) == 0);
		if (r.orig_rax == SYS_getuid && r.rip == (uintptr_t)number_at && r.rax == 0) {
			// Skip what sets the number.
			r.rip += 5;
			r.rax = 70000 + i;
			CHECK(ptrace(PTRACE_SETREGS, child, 0, &r) == 0);
			seen++;
			CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0); // to the next entry
			stopped(child);
			i++;
			EQ(sh[1], 70000 + i - 1);
		}
	}
	CHECK(seen > 50);
	CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
	wait_beats(1000);
	EQ(sh[1], 1000);
	end(child);
	say("regs ok");
}

static void traceme(void) {
	sh[0] = 0;
	pid_t child = fork();
	if (child == 0) {
		spin(3000);
		CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		raise(SIGSTOP);
		for (int i = 0; i < 100; i++) sys0(SYS_getpid);
		_exit(5);
	}
	EQ(stopped(child), SIGSTOP);
	CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
	long n = 0;
	for (;;) {
		int status;
		CHECK(ptrace(PTRACE_SYSCALL, child, 0, 0) == 0);
		CHECK(waitpid(child, &status, 0) == child);
		if (WIFEXITED(status)) {
			EQ(WEXITSTATUS(status), 5);
			break;
		}
		struct user_regs_struct r;
		CHECK(ptrace(PTRACE_GETREGS, child, 0, &r) == 0);
		n += r.orig_rax == SYS_getpid;
	}
	say("traceme %ld", n);
}

// other memory: process_vm_writev from another process, into data that the loop reads.
static void vmwrite(void) {
	pid_t child = start();
	wait_beats(3000);
	long v[2] = {1, 2}, got[2];
	static long target[2];
	for (int i = 0; i < 500; i++) {
		v[0] = i, v[1] = -i;
		struct iovec l = {v, sizeof v}, r = {target, sizeof target}, g = {got, sizeof got};
		CHECK(process_vm_writev(child, &l, 1, &r, 1, 0) == sizeof v);
		CHECK(process_vm_readv(child, &g, 1, &r, 1, 0) == sizeof got);
		CHECK(got[0] == i && got[1] == -i);
	}
	end(child);
	say("vmwrite ok");
}

int main(int argc, char **argv) {
	die_after(50);
	CHECK(argc == 2);
	sh = shared(4096);
	if (!strcmp(argv[1], "calls")) calls();
	if (!strcmp(argv[1], "step")) step();
	if (!strcmp(argv[1], "poke")) poke();
	if (!strcmp(argv[1], "attach")) attach();
	if (!strcmp(argv[1], "regs")) regs();
	if (!strcmp(argv[1], "traceme")) traceme();
	if (!strcmp(argv[1], "vmwrite")) vmwrite();
	say("end");
	return 0;
}
