// One gap, again and again, whose code is changed while it runs: for each byte on standard input, 'b' makes it end in an
// instruction that bypass cannot execute, after work that then was in vain; 'g' makes it short again.
#include "t.h"

static volatile int bad, over;
static volatile unsigned long sink;

__attribute__((noinline)) static long gap(void) {
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "0"(SYS_getppid) : "rcx", "r11", "memory");
	if (bad) {
		for (int i = 0; i < 3000; i++) sink += i;
		__asm__ volatile("fld1; fstp %%st(0)" ::: "st");
	}
	return r;
}

static void *listen(void *arg) {
	char c;
	while (read(0, &c, 1) == 1) bad = c == 'b';
	over = 1;
	return arg;
}

int main(void) {
	pthread_t t;
	long first = gap();
	die_after(150);
	CHECK(pthread_create(&t, NULL, listen, NULL) == 0);
	while (!over) EQ(gap(), first);
	CHECK(pthread_join(t, NULL) == 0);
	say("ok");
	return 0;
}
