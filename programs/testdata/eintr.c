// Waiting system calls that signals interrupt, in loops hot enough that the calls are reached by bypass.
#include "t.h"
#include <poll.h>

enum { N = 300 };
static volatile int got;
static void on(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	got++;
}
static void timer(long first, long then) {
	struct itimerval it = {{0, then}, {0, first}};
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
}
static void in_us(long us) { timer(us, 0); }
// again_us rings again and again: the first time may be before the call that it is to interrupt.
static void again_us(long us) { timer(us, 2000); }
static void quiet(void) {
	timer(0, 0);
	CHECK(got > 0);
	got = 0;
}

static int pipes[2];
static void on_write(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	got++;
	// The third interruption lets the read end.
	if (got % 3 == 0) CHECK(write(pipes[1], "x", 1) == 1);
	else in_us(200);
}

int main(void) {
	CHECK(pipe(pipes) == 0);
	char c;

	handle(SIGALRM, on, 0);
	for (int i = 0; i < N; i++) {
		again_us(300);
		EQ(read(pipes[0], &c, 1), -1);
		EQ(errno, EINTR);
		quiet();
		spin(20);
	}
	say("read ok");

	for (int i = 0; i < N; i++) {
		again_us(300);
		EQ(pause(), -1);
		EQ(errno, EINTR);
		quiet();
		spin(20);
	}
	say("pause ok");

	got = 0;
	sigset_t block, old;
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	CHECK(sigprocmask(SIG_BLOCK, &block, &old) == 0);
	for (int i = 0; i < N; i++) {
		in_us(200);
		EQ(sigsuspend(&old), -1);
		EQ(errno, EINTR);
		EQ(got, i + 1);
		spin(20);
	}
	say("sigsuspend %d", got);
	got = 0;
	for (int i = 0; i < N; i++) {
		kill(getpid(), SIGALRM);
		siginfo_t si;
		struct timespec ts = {1, 0};
		EQ(sigtimedwait(&block, &si, &ts), SIGALRM);
		EQ(si.si_pid, getpid());
		struct timespec zero = {0, 0};
		EQ(sigtimedwait(&block, &si, &zero), -1);
		EQ(errno, EAGAIN);
	}
	say("sigtimedwait %d", got);
	CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);

	got = 0;
	for (int i = 0; i < N / 3; i++) {
		again_us(300);
		struct timespec ts = {5, 0}, left = {0, 0};
		EQ(nanosleep(&ts, &left), -1);
		EQ(errno, EINTR);
		// Linux rounds the end of a sleep up by the timer slack, 50 µs, and counts from there: of a sleep that a signal ends at
		// once, more than 5 s are left.
		if (!((left.tv_sec == 4 && left.tv_nsec > 0) || (left.tv_sec == 5 && left.tv_nsec <= 50000))) {
			say("left %ld %ld", (long)left.tv_sec, (long)left.tv_nsec);
			exit(99);
		}
		again_us(300);
		struct pollfd p = {pipes[0], POLLIN, 0};
		EQ(poll(&p, 1, 5000), -1);
		EQ(errno, EINTR);
		int word = 0;
		again_us(300);
		EQ(futex_wait(&word, 0), -EINTR);
		EQ(futex_wait(&word, 1), -EAGAIN);
		quiet();
		spin(10);
	}
	say("nanosleep, poll, futex ok");

	// With SA_RESTART the call goes on.
	got = 0;
	handle(SIGALRM, on_write, SA_RESTART);
	for (int i = 0; i < N / 3; i++) {
		in_us(300);
		EQ(read(pipes[0], &c, 1), 1);
		EQ(got, 3 * (i + 1));
		spin(20);
	}
	say("SA_RESTART %d", got);
	return 0;
}
