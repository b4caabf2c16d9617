// A signal that arrives between two system calls is handled before the second one: that one is not interrupted by it. poll
// without a wait tells, since it looks whether a signal is waiting. In a few cases one arrives within the call itself.
#include "t.h"
#include <poll.h>

enum { RINGS = 300 };
static volatile int rings;
static void on(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	rings++;
}

// compute takes far longer than a call of poll, and keeps to registers.
static unsigned long compute(unsigned long x) {
	for (int i = 0; i < 20000; i++) {
		x = x * 6364136223846793005 + 1;
		asm volatile("" : "+r"(x));
	}
	return x;
}

int main(void) {
	long calls = 0, interrupted = 0;
	unsigned long x = 1;
	handle(SIGALRM, on, 0);
	struct itimerval it = {{0, 1700}, {0, 1700}};
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
	while (rings < RINGS) {
		x = compute(x);
		long r = sys3(SYS_poll, 0, 0, 0);
		if (r == -EINTR) interrupted++;
		else EQ(r, 0);
		calls++;
	}
	CHECK(x != 0 && calls > RINGS);
	if (interrupted > RINGS / 6) say("%ld of %ld calls were interrupted by %d signals", interrupted, calls, rings);
	say("ok");
	return 0;
}
