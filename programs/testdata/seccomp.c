// A seccomp filter installed in a hot loop: from then on a call that was bypassed fails, traps or kills.
#include "t.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

enum { N = 3000 };

static void install(uint32_t action, long nr) {
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0);
}

static volatile long traps;
static volatile uintptr_t trap_at;
static void on_sys(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	CHECK(sig == SIGSYS);
	EQ(si->si_code, 1); // SYS_SECCOMP
	EQ(si->si_syscall, SYS_getppid);
	traps++;
	CHECK((uintptr_t)si->si_call_addr == (uintptr_t)uc->uc_mcontext.gregs[REG_RIP]);
	uc->uc_mcontext.gregs[REG_RAX] = 4321;
}

// One loop before and after: the same site.
__attribute__((noinline)) static long loop(int n, long nr) {
	long sum = 0;
	for (int i = 0; i < n; i++) sum += sys3(nr, 0, 0, 0);
	return sum;
}

int main(int argc, char **argv) {
	die_after(50);
	CHECK(argc == 2);
	EQ(loop(N, SYS_getuid), 0);
	if (!strcmp(argv[1], "errno")) {
		install(SECCOMP_RET_ERRNO | 77, SYS_getuid);
		say("errno %ld", loop(N, SYS_getuid));
		EQ(loop(N, SYS_geteuid), 0);
		// By number and argument, in a second filter: lseek(fd) only of fd 5.
		struct sock_filter f[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 2),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5, 1, 0),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 66),
		};
		struct sock_fprog p = {sizeof f / sizeof *f, f};
		CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0);
		long n[2] = {0, 0};
		for (int i = 0; i < N; i++) {
			long r = sys3(SYS_lseek, 1000 + (i % 3 == 0) * -995, 0, 0);
			if (r == -66) n[0]++;
			else if (r == -EBADF) n[1]++;
		}
		say("arguments %ld %ld", n[0], n[1]);
	}
	if (!strcmp(argv[1], "trap")) {
		handle(SIGSYS, on_sys, 0);
		CHECK(loop(N, SYS_getppid) > 0);
		install(SECCOMP_RET_TRAP, SYS_getppid);
		say("trap %ld %ld", loop(N, SYS_getppid), traps);
	}
	if (!strcmp(argv[1], "kill")) {
		for (int i = 0; i < 20; i++) {
			pid_t child = fork();
			if (child == 0) {
				CHECK(loop(N / 4, SYS_getppid) > 0);
				install(i % 2 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_KILL_THREAD, SYS_getppid);
				loop(N, SYS_getuid);
				loop(N, SYS_getppid);
				_exit(1);
			}
			say("child %d", reap(child));
		}
	}
	if (!strcmp(argv[1], "self")) {
		// The program itself is killed: its exit status tells.
		install(SECCOMP_RET_KILL_PROCESS, SYS_getuid);
		say("still here");
		loop(N, SYS_getuid);
	}
	if (!strcmp(argv[1], "thread")) {
		// Installed by one thread for all while others are in the loop.
		static volatile long stop, errors[3];
		void *f(void *arg) {
			long me = (long)arg;
			while (!stop) {
				long r = sys0(SYS_getppid);
				if (r == -55) errors[me]++;
				else CHECK(r > 0 && errors[me] == 0);
			}
			return NULL;
		}
		pthread_t t[3];
		for (long i = 0; i < 3; i++) CHECK(pthread_create(&t[i], NULL, f, (void *)i) == 0);
		usleep(50000);
		struct sock_filter p[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 55),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog prog = {sizeof p / sizeof *p, p};
		CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) == 0);
		long from[3];
		for (int i = 0; i < 3; i++) from[i] = errors[i];
		for (int i = 0; i < 3; i++)
			while (errors[i] - from[i] < 100) usleep(100);
		stop = 1;
		for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
		say("all threads");
	}
	say("%s end", argv[1]);
	return 0;
}
