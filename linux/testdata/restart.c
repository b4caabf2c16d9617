// System calls that the kernel begins again by itself after a process was stopped and continued, in loops hot enough that
// they are reached in translated code. The parent stops and continues; the child notices nothing.
#include "t.h"
#include <poll.h>
#include <sys/epoll.h>

static int p[2];
static volatile long *sh; // [0] what the child is in, [1] rounds done

static void child(void) {
	char c;
	for (int i = 0; i < 12; i++) {
		spin(300);
		sh[0] = 1;
		EQ(read(p[0], &c, 1), 1); // restarts
		spin(100);
		sh[0] = 2;
		struct timespec ts = {0, 30000000}, left = {9, 9};
		long long began = now_ns();
		EQ(nanosleep(&ts, &left), 0); // by restart_syscall, with the time that is left
		CHECK(now_ns() - began >= 30000000);
		spin(100);
		sh[0] = 3;
		struct pollfd pf = {p[0], POLLIN, 0};
		began = now_ns();
		EQ(poll(&pf, 1, 30), 0); // the same
		CHECK(now_ns() - began >= 29000000);
		spin(100);
		sh[0] = 4;
		int word = 0;
		struct timespec rel = {0, 30000000};
		EQ(sys6(SYS_futex, (long)&word, FUTEX_WAIT, 0, (long)&rel, 0, 0), -ETIMEDOUT);
		sh[1]++;
	}
	sh[0] = 0;
	_exit(0);
}

int main(void) {
	die_after(80);
	sh = shared(4096);
	CHECK(pipe(p) == 0);
	pid_t c = fork();
	CHECK(c >= 0);
	if (c == 0) child();
	int status;
	long stops = 0, given = 0;
	for (;;) {
		usleep(4000);
		pid_t r = waitpid(c, &status, WNOHANG);
		CHECK(r >= 0);
		if (r == c) break;
		CHECK(kill(c, SIGSTOP) == 0);
		CHECK(waitpid(c, &status, WUNTRACED) == c);
		if (!WIFSTOPPED(status)) break;
		stops++;
		long in = sh[0];
		CHECK(kill(c, SIGCONT) == 0);
		if (in == 1 && sh[1] == given) { // one for each round
			CHECK(write(p[1], "x", 1) == 1);
			given++;
		}
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(stops > 20);
	say("rounds %ld", sh[1]);
	return 0;
}
