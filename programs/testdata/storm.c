// Signals from a sibling process that come as fast as it can send them, while this one is in tight loops.
#include "t.h"

enum { SIGNALS = 3000 };

static volatile long usr1, rt, rt_sum, order_bad;

static void on_usr1(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	usr1++;
}
static void on_rt(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)uc;
	if (si->si_value.sival_int != rt) order_bad++;
	rt++;
	rt_sum += si->si_value.sival_int;
	sys0(SYS_getpid); // a site of the handler's
}

int main(void) {
	die_after(50);
	pid_t me = getpid();
	handle(SIGUSR1, on_usr1, 0);
	handle(SIGRTMIN, on_rt, 0);

	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < SIGNALS; i++) {
			CHECK(kill(me, SIGUSR1) == 0);
			if (i % 100 == 0) usleep(1000);
		}
		_exit(7);
	}
	long calls = 0;
	int status;
	for (;; calls++) {
		CHECK(sys0(SYS_getppid) != me);
		if (calls % 64 == 0 && waitpid(child, &status, WNOHANG) == child) break;
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(usr1 > 0 && usr1 <= SIGNALS);
	say("SIGUSR1 ok");

	child = fork();
	if (child == 0) {
		for (int i = 0; i < SIGNALS; i++) {
			union sigval v = {.sival_int = i};
			while (sigqueue(me, SIGRTMIN, v) < 0) {
				CHECK(errno == EAGAIN);
				usleep(100);
			}
		}
		_exit(8);
	}
	for (calls = 0; rt < SIGNALS; calls++) {
		long n = calls * 3;
		asm volatile("" : "+r"(n));
		CHECK(sys0(SYS_getppid) != me);
		EQ(n, calls * 3);
	}
	EQ(reap(child), 8);
	EQ(order_bad, 0);
	say("queued %ld, sum %ld", rt, rt_sum);

	return 0;
}
