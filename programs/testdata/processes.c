// Processes that begin and end in all ways, with hot loops in all of them. By the argument.
#include "t.h"
#include <sched.h>
#include <spawn.h>

extern char **environ;

static void forks(void) {
	long sum = 0;
	for (int i = 0; i < 150; i++) {
		pid_t c = fork();
		CHECK(c >= 0);
		if (c == 0) {
			spin(50 + i % 7 * 30);
			_exit(i & 63);
		}
		spin(20);
		sum += reap(c);
	}
	say("forks %ld", sum);
}

static void vforks(const char *self) {
	long sum = 0;
	for (int i = 0; i < 100; i++) {
		spin(100);
		pid_t c = vfork();
		if (c == 0) {
			sys0(SYS_getpid);
			if (i % 2) _exit(i & 31);
			execl(self, self, "child", "300", i % 3 ? "7" : "9", NULL);
			_exit(99);
		}
		CHECK(c > 0);
		sum += reap(c);
	}
	for (int i = 0; i < 30; i++) {
		char *argv[] = {(char *)self, "child", "200", "11", NULL};
		pid_t c;
		CHECK(posix_spawn(&c, self, NULL, NULL, argv, environ) == 0);
		spin(100);
		sum += reap(c);
	}
	say("vforks %ld", sum);
}

// execs: a program that executes itself again and again, the same code at the same addresses in a new address space.
static void execs(const char *self, const char *count) {
	int n = atoi(count);
	spin(300);
	if (n == 0) {
		say("execs end");
		_exit(0);
	}
	char less[20];
	snprintf(less, sizeof less, "%d", n - 1);
	execl(self, self, "execs", less, NULL);
	CHECK(!"exec");
}

static volatile long *beats;
static void *looper(void *arg) {
	for (;;) {
		sys0(SYS_getpid);
		ADD(&beats[(long)arg], 1);
	}
}
static void three_loopers(void) {
	pthread_t t;
	for (long i = 0; i < 3; i++) {
		beats[i] = 0;
		CHECK(pthread_create(&t, NULL, looper, (void *)i) == 0);
	}
	for (int i = 0; i < 3; i++)
		while (beats[i] < 500) usleep(100);
}

// endings: threads are in hot loops when one of them ends the process.
static void endings(const char *self) {
	for (int i = 0; i < 30; i++) {
		pid_t c = fork();
		if (c == 0) {
			three_loopers();
			switch (i % 6) {
			case 0: _exit(40 + i);
			case 1: exit(i);
			case 2: abort();
			case 3: execl(self, self, "child", "100", "23", NULL); break;
			case 4: *(volatile int *)NULL = 1; break;
			case 5: kill(getpid(), SIGTERM); pause();
			}
			_exit(99);
		}
		say("ending %d: %d", i, reap(c));
	}
}

static int clone_child(void *arg) {
	long sum = 0;
	for (int i = 0; i < 400; i++) {
		sys0(SYS_getpid);
		sum += ADD((long *)arg, 1) & 0;
	}
	return 9 + sum;
}

// clones: processes that share an address space without being threads, and short-lived threads.
static void clones(void) {
	static char stack[4][1 << 16];
	long count = 0, sum = 0;
	for (int i = 0; i < 40; i++) {
		pid_t c[4];
		for (int k = 0; k < 4; k++) {
			c[k] = clone(clone_child, stack[k] + sizeof stack[k], CLONE_VM | SIGCHLD, &count);
			CHECK(c[k] > 0);
		}
		for (int k = 0; k < 4; k++) sum += reap(c[k]);
	}
	say("clones %ld %ld", sum, count);
	void *short_thread(void *arg) {
		spin(20);
		return arg;
	}
	long got = 0;
	for (long i = 0; i < 300; i++) {
		pthread_t t;
		void *r;
		CHECK(pthread_create(&t, NULL, short_thread, (void *)i) == 0);
		spin(10);
		CHECK(pthread_join(t, &r) == 0);
		got += (long)r;
	}
	say("threads %ld", got);
}

// many: more address spaces that loop at the same time than the sandbox has mirrors.
static void many(const char *count) {
	enum { MOST = 128 };
	int n = atoi(count);
	CHECK(n <= MOST);
	volatile long *b = shared(4096);
	pid_t c[MOST];
	for (int i = 0; i < n; i++) {
		c[i] = fork();
		CHECK(c[i] >= 0);
		if (c[i] == 0) {
			long sum = 0;
			for (int k = 0; k < 1500 || b[MOST] < n; k++) {
				if (k == 1500) ADD(&b[MOST], 1);
				if (k > 1500 && k % 64 == 0) sched_yield();
				sum += sys0(SYS_getuid) + (k < 1500 ? i : 0);
			}
			b[i] = sum;
			_exit(i & 31);
		}
	}
	long sum = 0, status = 0;
	for (int i = 0; i < n; i++) {
		status += reap(c[i]);
		sum += b[i];
	}
	say("many %ld %ld", sum, status);
}

static void *quick(void *arg) {
	long sum = 0;
	for (int i = 0; i < 3000; i++) sum += sys0(SYS_getuid) + i;
	return (void *)(sum + (long)arg);
}

int main(int argc, char **argv) {
	CHECK(argc >= 2);
	const char *how = argv[1], *self = argv[0];
	beats = shared(4096);
	if (!strcmp(how, "child")) {
		spin(atoi(argv[2]));
		_exit(atoi(argv[3]));
	}
	die_after(50);
	if (!strcmp(how, "forks")) forks();
	else if (!strcmp(how, "vforks")) vforks(self);
	else if (!strcmp(how, "execs")) execs(self, argv[2]);
	else if (!strcmp(how, "endings")) endings(self);
	else if (!strcmp(how, "clones")) clones();
	else if (!strcmp(how, "many")) many(argv[2]);
	else if (!strcmp(how, "threads")) {
		// More threads than there are CPUs, all in hot loops.
		pthread_t t[40];
		long sum = 0;
		for (long i = 0; i < 40; i++) CHECK(pthread_create(&t[i], NULL, quick, (void *)i) == 0);
		for (int i = 0; i < 40; i++) {
			void *r;
			pthread_join(t[i], &r);
			sum += (long)r;
		}
		say("threads %ld", sum);
	} else CHECK(!"how?");
	say("%s end", how);
	return 0;
}
