// Trees of short-lived processes. Each does some work in a tight loop, has children, and returns a sum.
#include "t.h"

static uint64_t *total;

static int tree(int depth, int width, int id) {
	long sum = 0;
	for (int i = 0; i < 400; i++) sum += sys0(SYS_getuid) + id;
	ADD(total, sum);
	pid_t c[8];
	if (depth > 0)
		for (int i = 0; i < width; i++) {
			c[i] = fork();
			CHECK(c[i] >= 0);
			if (c[i] == 0) _exit(tree(depth - 1, width, id * width + i) & 0x3f);
			for (int k = 0; k < 50; k++) sys0(SYS_getpid);
		}
	int ret = id;
	if (depth > 0)
		for (int i = 0; i < width; i++) {
			int s = reap(c[i]);
			CHECK(s < 64);
			ret += s;
		}
	return ret;
}

int main(void) {
	die_after(50);
	total = shared(4096);
	say("tree %d", tree(4, 3, 1));
	say("sum %llu", (unsigned long long)*total);
	// A long thin one: each process has one child.
	*total = 0;
	say("chain %d", tree(40, 1, 1));
	say("sum %llu", (unsigned long long)*total);
	return 0;
}
