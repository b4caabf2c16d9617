// Memory above 2^47, which only 5-level paging has: reads into it, and what a gap does with it there. And addresses that differ
// from its own in one high bit, which are nobody's.
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 1 << 20, ROUNDS = 4000 };

static sigjmp_buf back;
static volatile sig_atomic_t armed;
static unsigned long faults[64];
static int bit;
static unsigned char *memory;

static void on_fault(int sig, siginfo_t *info, void *ctx) {
	(void)ctx;
	if (!armed) _exit(97);
	uintptr_t at = (uintptr_t)info->si_addr;
	faults[bit] = faults[bit] * 31 + sig + info->si_code * 100 + (at ? at ^ (uintptr_t)memory : 1);
	siglongjmp(back, 1);
}

int main(void) {
	int fd = memfd_create("data", 0);
	unsigned char block[4096];
	for (unsigned i = 0; i < sizeof block; i++) block[i] = i * 7 + i / 256;
	if (fd < 0 || write(fd, block, sizeof block) != sizeof block) return 98;
	unsigned char *m = mmap((void *)(1UL << 52), SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED) return 98;
	memory = m;
	int high = (uintptr_t)m >> 47 != 0;
	printf("memory %s 2^47\n", high ? "above" : "below");
	unsigned long sum = 0;
	for (int i = 0; i < ROUNDS; i++) {
		unsigned char *at = m + (unsigned)i * 61 % (SIZE - 64);
		if (pread(fd, at, 64, i % 4000) != 64) return 98;
		for (int k = 0; k < 64; k += 8) {
			uint64_t v;
			memcpy(&v, at + k, 8);
			sum = (sum ^ v) * 1099511628211UL;
		}
		at[i % 64] ^= i;
		if (pwrite(fd, at, 64, i % 4000) != 64) return 98;
	}
	printf("%lx\n", sum);
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	for (bit = 47; bit < 64; bit++) {
		// One that leads to other memory of this program, or to none, in any case the same each time.
		volatile unsigned char *at = (unsigned char *)((uintptr_t)m ^ 1UL << bit);
		for (int i = 0; i < 200; i++) {
			if (pread(fd, block, 64, i) != 64) return 98;
			armed = 1;
			if (!sigsetjmp(back, 0)) sum += *at;
			armed = 0;
		}
	}
	for (bit = 47; bit < 64; bit++) printf("bit %d: %lx\n", bit, faults[bit]);
	printf("%lx\n", sum);
	return 0;
}
