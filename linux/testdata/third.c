// A seccomp filter that kills on the third system call of a chain: what comes before has happened, what comes after has
// not, and the process dies as it does without bypass. The loop is hot before the filter is there.
#include "t.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void forbid(long nr, uint32_t action) {
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0);
}

// loop counts each call right after it has returned.
__attribute__((noinline)) static void loop(volatile long *n, int rounds) {
	for (int i = 0; i < rounds; i++) {
		sys0(SYS_getppid);
		n[0]++;
		sys0(SYS_getuid);
		n[1]++;
		sys0(SYS_getgid);
		n[2]++;
		sys0(SYS_geteuid);
		n[3]++;
	}
}

int main(void) {
	die_after(80);
	volatile long *n = shared(4096);
	static const uint32_t actions[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO | EPERM};
	for (int i = 0; i < 16; i++) {
		memset((void *)n, 0, 4096);
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
			usleep(150000); // so that whoever watches for children has seen it
			loop(n, 2000 + i);
			forbid(SYS_getgid, actions[i % 4]);
			memset((void *)n, 0, 4096);
			loop(n, 100);
			_exit(7);
		}
		int status = reap(child);
		say("%d: status %d, calls %ld %ld %ld %ld", i, status, n[0], n[1], n[2], n[3]);
	}
	return 0;
}
