// SIGSTOP, SIGCONT and SIGKILL of processes that are in tight bypassed loops.
#include "t.h"

static volatile uint64_t *beat;

// wait_beats waits until the loop has gone round n times more.
static void wait_beats(uint64_t n) {
	uint64_t from = *beat;
	while (*beat - from < n) usleep(200);
}

static pid_t start(int threads) {
	*beat = 0;
	pid_t child = fork();
	if (child) return child;
	for (int i = 1; i < threads; i++) {
		pthread_t t;
		void *f(void *arg) {
			for (;;) sys0(SYS_getppid);
			return arg;
		}
		CHECK(pthread_create(&t, NULL, f, NULL) == 0);
	}
	for (;;) {
		sys0(SYS_getpid);
		++*beat;
	}
}

int main(void) {
	die_after(50);
	beat = shared(4096);
	for (int threads = 1; threads <= 3; threads += 2) {
		pid_t child = start(threads);
		int status;
		for (int i = 0; i < 10; i++) {
			wait_beats(1000);
			CHECK(kill(child, SIGSTOP) == 0);
			CHECK(waitpid(child, &status, WUNTRACED) == child);
			CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
			uint64_t at = *beat;
			usleep(5000);
			EQ(*beat, at);
			CHECK(kill(child, SIGCONT) == 0);
			CHECK(waitpid(child, &status, WCONTINUED) == child);
			CHECK(WIFCONTINUED(status));
		}
		wait_beats(1000);
		say("stopped and continued, %d threads", threads);
		long long began = now_ns();
		CHECK(kill(child, SIGKILL) == 0);
		CHECK(waitpid(child, &status, 0) == child);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		CHECK(now_ns() - began < 2000000000LL);
		uint64_t at = *beat;
		usleep(2000);
		EQ(*beat, at);
		say("killed, %d threads", threads);
	}
	for (int i = 0; i < 20; i++) {
		pid_t child = start(1);
		wait_beats(i * 300);
		CHECK(kill(child, i % 2 ? SIGKILL : SIGTERM) == 0);
		say("child %d: %d", i, reap(child));
	}
	return 0;
}
