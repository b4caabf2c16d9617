// A program with three gaps: a short one, for which bypass pays; a long one full of indirect calls with more targets than a
// path tells apart, for which it does not; and one that ends in a system call at which no chain can begin, mmap. It runs for so
// many milliseconds.
#include "t.h"
#include <sys/mman.h>

#define F(n) __attribute__((noinline)) static unsigned f##n(unsigned x) { return x * 2654435761u + n; }
F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28) F(29) F(30) F(31)

static unsigned (*const table[32])(unsigned) = {
	f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15,
	f16, f17, f18, f19, f20, f21, f22, f23, f24, f25, f26, f27, f28, f29, f30, f31,
};

int main(int argc, char **argv) {
	long long until = now_ns() + (argc > 1 ? atoll(argv[1]) : 1000) * 1000000LL;
	unsigned sum = 0;
	long bad = 0, pid = getppid();
	do {
		for (int i = 0; i < 200; i++) {
			if (sys0(SYS_getppid) != pid)
				bad++;
		}
		for (int i = 0; i < 4; i++) {
			if (sys0(SYS_getuid) != 0)
				bad++;
			unsigned x = i;
			for (int k = 0; k < 500; k++)
				x = table[x >> 27](x);
			sum += x;
		}
		sys0(SYS_gettid);
		void *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED || munmap(p, 4096))
			bad++;
	} while (now_ns() < until);
	// The same each round, however many there are.
	printf("%ld wrong, %d\n", bad, sum != 0);
	return bad != 0;
}
