// Computes for a while without system calls and prints how long that took, in nanoseconds, and a check sum. Arguments:
// what to do ("integer": registers only, "memory": a working set of 8 MiB), and how many rounds.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORDS = 1 << 20 };

static uint64_t words[WORDS];

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static uint64_t step(uint64_t x) {
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static uint64_t integer(long rounds) {
	uint64_t x = 88172645463325252u;
	for (long i = 0; i < rounds * 1000000; i++) x = step(x);
	return x;
}

static uint64_t memory(long rounds) {
	uint64_t x = 88172645463325252u, sum = 0;
	for (long i = 0; i < rounds * 100000; i++) {
		x = step(x);
		sum += words[x % WORDS]++;
	}
	return sum;
}

int main(int argc, char **argv) {
	if (argc != 3) {
		fprintf(stderr, "usage: %s integer|memory ROUNDS\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < WORDS; i++) words[i] = i; // so that page faults are not measured
	long began = now();
	uint64_t sum = strcmp(argv[1], "memory") ? integer(atol(argv[2])) : memory(atol(argv[2]));
	printf("%ld %lx\n", now() - began, (unsigned long)sum);
	return 0;
}
