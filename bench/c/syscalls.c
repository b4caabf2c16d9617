// Measures system calls, one workload after the other, under the control of whoever has its standard input and output:
//
//	> ready NAME                     warmed up, and waits for a line
//	> done NAME CALLS MEDIAN BEST    nanoseconds per operation over batches, and waits for a line
//
// so that a controller can look at the sandbox's counters while nothing happens. Arguments: milliseconds of warming up
// and of measuring per workload, a directory on tmpfs, and names of workloads (all if there are none).
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000, MAX_BATCHES = 100000, FILE_SIZE = BATCH * 4096 };

static char buf[4096];
static int file, zero, null, pipe_r, pipe_w;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static void check(long got, long want, const char *what) {
	if (got != want) {
		fprintf(stderr, "%s: %ld, not %ld\n", what, got, want);
		exit(1);
	}
}

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

// A workload's batch. Results are added up, not looked at one by one: a program that reads blocks does little more.
#define LOOP(name, expr, want) \
	static void name(long size) { \
		long sum = 0; \
		(void)size; \
		for (int i = 0; i < BATCH; i++) sum += (expr); \
		check(sum, BATCH * (long)(want), #name); \
	}

static void do_getpid(long size) {
	long first = getpid();
	(void)size;
	for (int i = 1; i < BATCH; i++)
		if (getpid() != first) check(0, 1, "getpid");
}
LOOP(do_read, read(file, buf, size), size)
LOOP(do_pread, pread(file, buf, size, 0), size)
LOOP(do_write, write(file, buf, size), size)
LOOP(do_pwrite, pwrite(file, buf, size, 0), size)
LOOP(do_zero, read(zero, buf, size), size)
LOOP(do_null, write(null, buf, size), size)
LOOP(do_pipe, write(pipe_w, buf, size) + read(pipe_r, buf, size), 2 * size)
LOOP(do_lseek, lseek(file, 0, SEEK_SET) + read(file, buf, size), size)

static const struct workload {
	const char *name;
	void (*batch)(long size);
	long size;
} workloads[] = {
	{"getpid", do_getpid, 0},
	{"read-1", do_read, 1}, {"read-64", do_read, 64}, {"read-512", do_read, 512}, {"read-4096", do_read, 4096},
	{"pread-1", do_pread, 1}, {"pread-64", do_pread, 64}, {"pread-512", do_pread, 512}, {"pread-4096", do_pread, 4096},
	{"write-1", do_write, 1}, {"write-64", do_write, 64}, {"write-512", do_write, 512}, {"write-4096", do_write, 4096},
	{"pwrite-1", do_pwrite, 1}, {"pwrite-64", do_pwrite, 64}, {"pwrite-512", do_pwrite, 512}, {"pwrite-4096", do_pwrite, 4096},
	{"zero-64", do_zero, 64}, {"null-64", do_null, 64},
	{"pipe-64", do_pipe, 64}, {"lseek-read-64", do_lseek, 64},
};

static int by_value(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void go_on(void) {
	char line[64];
	if (!fgets(line, sizeof line, stdin)) exit(1);
}

static void run(const struct workload *w, long warm, long measure) {
	static double each[MAX_BATCHES];
	for (long until = now() + warm; now() < until;) {
		lseek(file, 0, SEEK_SET);
		w->batch(w->size);
	}
	printf("ready %s\n", w->name);
	go_on();
	int n = 0;
	for (long until = now() + measure; n < MAX_BATCHES && (n < 3 || now() < until); n++) {
		lseek(file, 0, SEEK_SET);
		long began = now();
		w->batch(w->size);
		each[n] = (double)(now() - began) / BATCH;
	}
	qsort(each, n, sizeof *each, by_value);
	printf("done %s %ld %.1f %.1f\n", w->name, (long)n * BATCH, each[n / 2], each[0]);
	go_on();
}

int main(int argc, char **argv) {
	if (argc < 4) {
		fprintf(stderr, "usage: %s WARM-MS MEASURE-MS TMPFS [WORKLOAD...]\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	long warm = atol(argv[1]) * 1000000, measure = atol(argv[2]) * 1000000;
	char path[4096];
	snprintf(path, sizeof path, "%s/ub-bench.XXXXXX", argv[3]);
	if ((file = mkstemp(path)) < 0) die(path);
	unlink(path);
	for (long n = 0; n < FILE_SIZE; n += sizeof buf)
		if (write(file, buf, sizeof buf) != sizeof buf) die("filling the file");
	if ((zero = open("/dev/zero", O_RDONLY)) < 0) die("/dev/zero");
	if ((null = open("/dev/null", O_WRONLY)) < 0) die("/dev/null");
	int p[2];
	if (pipe(p)) die("pipe");
	pipe_r = p[0], pipe_w = p[1];
	for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++) {
		int wanted = argc == 4;
		for (int a = 4; a < argc; a++) wanted |= !strcmp(argv[a], workloads[i].name);
		if (wanted) run(&workloads[i], warm, measure);
	}
	printf("end\n");
	return 0;
}
