// Goes through phases that differ in what happens between system calls, and reports how much it gets done:
//
//	MS PHASE OPERATIONS
//
// for each interval, MS being when it ended. Arguments: the interval in milliseconds, then PHASE:MILLISECONDS pairs.
// Output is written at the end, so that it disturbs nothing.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buf[4096];
static int file, pair[2], ep;
static volatile unsigned long sink;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

// Reads of 64 bytes with next to nothing between them.
static void tight(void) {
	if (pread(file, buf, 64, 0) != 64) die("pread");
}

// A read, and 100 µs or so of computation.
static void compute(void) {
	tight();
	unsigned long h = buf[0];
	for (int i = 0; i < 60000; i++) h = (h ^ i) * 1099511628211UL;
	sink += h;
}

// A request and its answer over a socket as a server with an event loop handles them: waiting, reading, parsing through
// function pointers, looking up, writing. Both ends are here.
typedef unsigned long (*handler)(const char *, int);
#define HANDLER(n) \
	__attribute__((noinline)) static unsigned long h##n(const char *s, int len) { \
		unsigned long h = n; \
		for (int i = 0; i < len; i++) h = h * 31 + s[i]; \
		return h; \
	}
HANDLER(1) HANDLER(2) HANDLER(3) HANDLER(4) HANDLER(5) HANDLER(6) HANDLER(7) HANDLER(8)
static handler handlers[] = {h1, h2, h3, h4, h5, h6, h7, h8};

static void server(void) {
	static unsigned n;
	static unsigned long table[4096];
	char req[64], in[64], out[32];
	int len = snprintf(req, sizeof req, "GET key:%u\r\n", n++ % 1000);
	if (write(pair[0], req, len) != len) die("write");
	struct epoll_event ev;
	if (epoll_wait(ep, &ev, 1, -1) != 1) die("epoll_wait");
	int got = read(pair[1], in, sizeof in);
	if (got != len) die("read");
	unsigned long h = handlers[in[8] & 7](in, got);
	table[h & 4095] += h;
	int olen = snprintf(out, sizeof out, "$%lu\r\n", table[h & 4095] & 0xffff);
	if (write(pair[1], out, olen) != olen) die("write");
	if (read(pair[0], in, sizeof in) != olen) die("read");
}

// Hardly anything.
static void idle(void) {
	struct timespec t = {0, 5000000};
	nanosleep(&t, NULL);
}

static struct {
	const char *name;
	void (*op)(void);
	int batch;
} kinds[] = {{"tight", tight, 64}, {"compute", compute, 1}, {"server", server, 8}, {"idle", idle, 1}};

static struct {
	long ms;
	const char *name;
	long ops;
} rows[100000];

int main(int argc, char **argv) {
	if (argc < 3) return 2;
	long interval = atol(argv[1]) * 1000000L;
	file = memfd_create("data", 0);
	if (file < 0 || write(file, buf, sizeof buf) != sizeof buf) die("memfd");
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) die("socketpair");
	if ((ep = epoll_create1(0)) < 0) die("epoll_create1");
	struct epoll_event ev = {.events = EPOLLIN};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], &ev)) die("epoll_ctl");
	int n = 0;
	long begin = now();
	for (int a = 2; a < argc; a++) {
		char name[32];
		long ms;
		if (sscanf(argv[a], "%31[^:]:%ld", name, &ms) != 2) return 2;
		unsigned k = 0;
		while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k].name, name)) k++;
		if (k == sizeof kinds / sizeof *kinds) return 2;
		long end = now() + ms * 1000000L;
		for (long t = now(); t < end;) {
			long until = t + interval, ops = 0;
			do {
				for (int i = 0; i < kinds[k].batch; i++) kinds[k].op();
				ops += kinds[k].batch;
			} while ((t = now()) < until);
			if (n < (int)(sizeof rows / sizeof *rows)) {
				rows[n].ms = (t - begin) / 1000000;
				rows[n].name = kinds[k].name;
				// Per interval, however much longer than one it took.
				rows[n].ops = (double)ops * interval / (t - until + interval);
				n++;
			}
		}
	}
	for (int i = 0; i < n; i++) printf("%ld %s %ld\n", rows[i].ms, rows[i].name, rows[i].ops);
	return 0;
}
