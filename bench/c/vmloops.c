// Loops over system calls for virtual machines that count instructions: NAME, then rounds. Between stretches of warming up
// it sleeps, which costs a guest without idle time nothing, so that whoever translates gets to it. Prints
//
//	loop NAME CALLS NANOSECONDS CHECKSUM
//
// with the time of all measured rounds, system calls in them, and a checksum of results that is the same in each run.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned char buf[4096];
static int file, zero, null, pipe_r, pipe_w;
static uint64_t sum;

static void check(long got, long want, const char *what) {
	if (got != want) {
		fprintf(stderr, "%s: %ld, not %ld\n", what, got, want);
		exit(1);
	}
	sum = sum * 31 + (uint64_t)got;
}

static void do_getpid(long i) {
	(void)i;
	check(syscall(SYS_getuid), 0, "getuid");
}
static void do_zero(long i) {
	check(read(zero, buf, 1), 1, "read");
	check(buf[0], i & 0, "byte");
}
static void do_read(long i) {
	(void)i;
	check(pread(file, buf, 64, i % 512 * 64), 64, "pread");
	sum += buf[i & 63];
}
static void do_write(long i) {
	buf[i & 63] = i;
	check(pwrite(file, buf, 64, i % 512 * 64), 64, "pwrite");
}
static void do_null(long i) {
	(void)i;
	check(write(null, buf, 64), 64, "write");
}
static void do_lseek(long i) {
	check(lseek(file, i % 512 * 64, SEEK_SET), i % 512 * 64, "lseek");
	check(read(file, buf, 64), 64, "read");
	sum += buf[i & 63];
}
static void do_pipe(long i) {
	buf[0] = i;
	check(write(pipe_w, buf, 64), 64, "write");
	buf[0] = 0;
	check(read(pipe_r, buf, 64), 64, "read");
	check(buf[0], i & 255, "byte");
}

static const struct {
	const char *name;
	void (*f)(long i);
	int calls;
} loops[] = {
	{"getuid", do_getpid, 1}, {"read-1-zero", do_zero, 1}, {"pread-64-tmpfs", do_read, 1}, {"pwrite-64-tmpfs", do_write, 1},
	{"write-64-null", do_null, 1}, {"lseek-read-64", do_lseek, 2}, {"pipe-64", do_pipe, 2},
};

// now is the thread's CPU time: whoever translates may run meanwhile, on the guest's only processor.
static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv) {
	if (argc != 3) return 2;
	long rounds = atol(argv[2]);
	file = open("/tmp/vmloops.data", O_RDWR | O_CREAT | O_TRUNC, 0600);
	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
	int p[2];
	if (file < 0 || zero < 0 || null < 0 || pipe(p)) {
		perror("vmloops");
		return 1;
	}
	pipe_r = p[0], pipe_w = p[1];
	for (int i = 0; i < 512; i++) {
		memset(buf, i, 64);
		check(pwrite(file, buf, 64, i * 64), 64, "fill");
	}
	for (unsigned k = 0; k < sizeof loops / sizeof *loops; k++) {
		if (strcmp(loops[k].name, argv[1])) continue;
		for (int w = 0; w < 8; w++) {
			for (long i = 0; i < 200; i++) loops[k].f(i);
			usleep(30000);
		}
		long began = now();
		for (long i = 0; i < rounds; i++) loops[k].f(i);
		long took = now() - began;
		printf("loop %s %ld %ld %016llx\n", loops[k].name, rounds * loops[k].calls, took, (unsigned long long)sum);
		return 0;
	}
	return 2;
}
