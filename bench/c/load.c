// Makes system calls for some time, one kind, and says what one operation took on average: CPU time and time, in ns. An
// average, not a median: a profiler that stops the program now and then must show.
// Arguments: kind, milliseconds, a directory on tmpfs.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 2000 };

static char buf[4096];
static int file;
static volatile unsigned sink;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static double now(clockid_t clock) {
	struct timespec t;
	if (clock_gettime(clock, &t)) die("clock_gettime");
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void empty(void) { syscall(SYS_getppid); }

static void file_read(void) {
	if (pread(file, buf, 64, 0) != 64) die("pread");
}

// A few microseconds of computation between two calls.
static void compute(void) {
	unsigned x = sink;
	for (int i = 0; i < 4000; i++) x = x * 1664525 + 1013904223;
	sink = x;
	file_read();
}

int main(int argc, char **argv) {
	static const struct { const char *name; void (*run)(void); } kinds[] = {
		{"getppid", empty}, {"pread-64", file_read}, {"compute", compute},
	};
	void (*run)(void) = 0;
	if (argc != 4) return 2;
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (!strcmp(argv[1], kinds[i].name)) run = kinds[i].run;
	if (!run) return 2;
	file = open(argv[3], O_TMPFILE | O_RDWR, 0600);
	if (file < 0) die(argv[3]);
	if (write(file, buf, sizeof buf) != sizeof buf) die("write");
	double end = now(CLOCK_MONOTONIC) + atof(argv[2]) * 1e6;
	double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	long n = 0;
	do {
		for (int i = 0; i < BATCH; i++) run();
		n += BATCH;
	} while (now(CLOCK_MONOTONIC) < end);
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = now(CLOCK_MONOTONIC) - wall;
	printf("%.3f %.3f\n", cpu / n, wall / n);
	return 0;
}
