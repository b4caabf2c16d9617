// Address spaces: copies after fork, memory shared between processes, mremap, brk, files truncated under a mapping, private file
// mappings, mappings at the edges of the address space. Always with accesses between hot calls.
#include "t.h"

enum { N = 2000 };

// touch reads and writes memory in a hot loop and returns a sum.
__attribute__((noinline)) static long touch(volatile long *p, long words, int n, long add) {
	long sum = 0;
	for (int i = 0; i < n; i++) {
		sys0(SYS_getpid);
		long k = i * 97 % words;
		sum += p[k];
		p[k] += add;
	}
	return sum;
}

// look is touch without writing.
__attribute__((noinline)) static long look(volatile long *p, long words, int n) {
	long sum = 0;
	for (int i = 0; i < n; i++) {
		sys0(SYS_getpid);
		sum += p[i * 97 % words];
	}
	return sum;
}

static void cow(void) {
	enum { WORDS = 4 * 512 };
	long *p = (long *)region(0x1000000000, WORDS * 8, PROT_READ | PROT_WRITE);
	for (int i = 0; i < WORDS; i++) p[i] = i;
	touch(p, WORDS, N, 0);
	long *result = shared(4096);
	for (int r = 0; r < 20; r++) {
		pid_t child = fork();
		if (child == 0) {
			result[0] = touch(p, WORDS, N, 1000);
			result[1] = touch(p, WORDS, N, 0);
			_exit(0);
		}
		long mine = touch(p, WORDS, N, 1); // at the same time
		long after = touch(p, WORDS, N, 0);
		EQ(reap(child), 0);
		say("cow %d: %ld %ld, child %ld %ld", r, mine, after, result[0], result[1]);
	}
	// A child of a child, and the page written by the kernel.
	int fd[2];
	CHECK(pipe(fd) == 0);
	for (int r = 0; r < 10; r++) {
		pid_t child = fork();
		if (child == 0) {
			pid_t grandchild = fork();
			if (grandchild == 0) {
				CHECK(write(fd[1], "abcdefgh", 8) == 8 && read(fd[0], p, 8) == 8);
				CHECK(memcmp(p, "abcdefgh", 8) == 0);
				_exit(touch(p, 8, 100, 0) != 0);
			}
			EQ(reap(grandchild), 1);
			EQ(p[0], *(volatile long *)p);
			_exit(touch(p, WORDS, 500, 3) & 0x7f);
		}
		long s = touch(p, WORDS, 500, 0);
		say("grandchild %d: %d %ld", r, reap(child), s);
	}
}

static void shm(void) {
	int *w = shared(8192);
	unsigned long *sum = (unsigned long *)(w + 1024);
	pid_t child = fork();
	for (int i = 0; i < N; i++) {
		int me = child == 0, now;
		while ((now = LOAD(&w[0])) != 2 * i + me) futex_wait(&w[0], now);
		sum[me] += sum[!me] + i;
		ADD(&w[0], 1);
		futex_wake(&w[0], 1);
	}
	if (child == 0) _exit(0);
	EQ(reap(child), 0);
	say("shm %lx %lx", sum[0], sum[1]);
	// Counting without order: atomics on one side in bypass, on the other maybe not.
	pid_t c[3];
	for (int k = 0; k < 3; k++)
		if ((c[k] = fork()) == 0) {
			for (int i = 0; i < N * 2; i++) {
				sys0(SYS_getpid);
				ADD(&sum[100], k + 1);
				__atomic_xor_fetch(&sum[101], i, __ATOMIC_SEQ_CST);
			}
			_exit(0);
		}
	for (int k = 0; k < 3; k++) EQ(reap(c[k]), 0);
	say("atomics %lu %lu", sum[100], sum[101]);
}

static void remap(void) {
	char *at = region(0x1000000000, 64 * 4096, PROT_READ | PROT_WRITE);
	munmap(at, 64 * 4096);
	char *p = mmap(at, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	long sum = 0;
	for (int i = 0; i < 60; i++) {
		for (int k = 0; k < 4; k++) *(long *)(p + k * 4096) = i * 10 + k;
		sum += touch((long *)p, 4 * 512, 100, 0);
		char *q = at + (i * 7 % 15 + 1) * 4 * 4096;
		if (q != p) {
			CHECK(mremap(p, 4 * 4096, 4 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
			p = q;
		}
		for (int k = 0; k < 4; k++) EQ(*(long *)(p + k * 4096), i * 10 + k);
		sum += touch((long *)p, 4 * 512, 100, 1);
	}
	// Growing and shrinking.
	for (int i = 0; i < 40; i++) {
		long pages = i % 8 + 1, old = (i + 7) % 8 + 1;
		if (i == 0) old = 4;
		p = mremap(p, old * 4096, pages * 4096, MREMAP_MAYMOVE);
		CHECK(p != MAP_FAILED);
		sum += touch((long *)p, pages * 512, 100, 1);
	}
	say("mremap %ld", sum);
	sum = 0;
	char *b = sbrk(0);
	for (int i = 0; i < 40; i++) {
		CHECK(sbrk(4096 * 5) != (void *)-1);
		sum += touch((long *)((uintptr_t)(b + 7) & ~7ULL), 5 * 512, 100, i);
		CHECK(sbrk(-4096 * 5) != (void *)-1);
	}
	say("brk %ld", sum);
}

static sigjmp_buf jump;
static volatile int got_sig;
static void on_fault(int sig, siginfo_t *si, void *uc) {
	(void)si, (void)uc;
	got_sig = sig;
	siglongjmp(jump, 1);
}

static void files(void) {
	handle(SIGBUS, on_fault, SA_NODEFER);
	handle(SIGSEGV, on_fault, SA_NODEFER);
	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, 4 * 4096) == 0);
	long *s = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(s != MAP_FAILED);
	long sum = touch(s, 4 * 512, N, 3), buses = 0;
	// What is written through the mapping is in the file, and the other way round.
	for (int i = 0; i < N; i++) {
		long v = i * 5, w;
		s[i % 2048] = v;
		CHECK(pread(fd, &w, 8, i % 2048 * 8) == 8);
		EQ(w, v);
		w = ~v;
		CHECK(pwrite(fd, &w, 8, i % 2048 * 8) == 8);
		EQ(*(volatile long *)&s[i % 2048], ~v);
	}
	for (volatile int i = 0; i < 100; i++) {
		CHECK(ftruncate(fd, (i % 4) * 4096) == 0);
		if (sigsetjmp(jump, 1) == 0) sum += touch(s, 4 * 512, 200, 1);
		else buses += got_sig == SIGBUS;
		CHECK(ftruncate(fd, 4 * 4096) == 0);
		sum += touch(s, 4 * 512, 100, 1);
	}
	say("shared file %ld, %ld of SIGBUS", sum, buses);

	CHECK(ftruncate(fd, 4 * 4096) == 0);
	for (int i = 0; i < 2048; i++) s[i] = i;
	long *p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	sum = look(p, 2048, N);
	sum += touch(p, 512, N, 7);       // the first page is private now
	for (int i = 0; i < 2048; i++) EQ(s[i], i);
	// The last may not be. gVisor copies more than the page that is written, up to a boundary that depends on the address.
	s[2000] = -5;
	long other = *(volatile long *)&p[2000];
	CHECK(other == 2000 || other == -5);
	s[2000] = 2000;
	sum += look(p, 2048, N);
	long *r = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	volatile long faults = 0;
	for (volatile int i = 0; i < 50; i++) {
		if (sigsetjmp(jump, 1) == 0) {
			for (int k = 0; k < 100; k++) {
				sys0(SYS_getpid);
				sum += r[k];
			}
			sys0(SYS_getpid);
			*(volatile long *)r = 5;
			CHECK(!"written");
		} else faults += got_sig == SIGSEGV;
	}
	say("private file %ld, %ld of SIGSEGV", sum, faults);
}

static void edges(void) {
	// Addresses where arithmetic goes wrong if it can: low, around 2 and 4 GiB, and as high as a program may go in a sandbox.
	static const uintptr_t at[] = {0x10000, 0x7fff0000, 0x80000000, 0xfffff000, 0x100000000, 0x3fffff00000, 0x20000000000, 0x1fffffff000};
	for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
		void *p = mmap((void *)at[i], 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (p != (void *)at[i]) {
			say("~%#lx: %d", (long)at[i], errno);
			continue;
		}
		memset(p, i + 1, 4096);
		say("~%#lx: %ld", (long)at[i], touch(p, 512, N, i));
		if (at[i] + 4096 <= 0x100000000) {
			// 32-bit addresses wrap around, and their registers are zero-extended.
			long sum = 0;
			for (int k = 0; k < N; k++) {
				long v;
				sys0(SYS_getpid);
				asm volatile("movl $0xffffffff, %%ecx\n addr32 mov 1(%%ecx,%k1), %0" : "=r"(v) : "r"(at[i]) : "rcx");
				sum += v;
			}
			say("~addr32 %ld", sum);
		}
		munmap(p, 4096);
	}
}

int main(int argc, char **argv) {
	die_after(50);
	CHECK(argc == 2);
	if (!strcmp(argv[1], "cow")) cow();
	if (!strcmp(argv[1], "shm")) shm();
	if (!strcmp(argv[1], "remap")) remap();
	if (!strcmp(argv[1], "files")) files();
	if (!strcmp(argv[1], "edges")) edges();
	say("%s ok", argv[1]);
	return 0;
}
