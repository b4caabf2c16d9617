// String instructions between system calls: across pages, with count 0, long, overlapping, and backward.
#include "t.h"

static unsigned char *a, *b;
enum { LEN = 1 << 18 };

static uint64_t sum(const unsigned char *p, size_t n) {
	uint64_t h = 1;
	for (size_t i = 0; i < n; i++) h = h * 31 + p[i];
	return h;
}

struct after { uint64_t di, si, cx; };

#define REP(name, ins)                                                                                    \
	__attribute__((noinline)) static struct after name(void *d, const void *s, uint64_t n, uint64_t v) { \
		struct after r = {(uint64_t)d, (uint64_t)s, n};                                           \
		long nr = SYS_getpid;                                                                     \
		asm volatile("push %[n]\n mov %[nr], %%rax\n syscall\n mov %[v], %%rax\n pop %%rcx\n" ins  \
			     : "+D"(r.di), "+S"(r.si), "=&c"(r.cx)                                        \
			     : [v] "r"(v), [nr] "r"(nr), [n] "r"(n)                                       \
			     : "rax", "r11", "memory", "cc");                                             \
		return r;                                                                                 \
	}
REP(movsb, "rep movsb")
REP(movsw, "rep movsw")
REP(movsl, "rep movsl")
REP(movsq, "rep movsq")
REP(stosb, "rep stosb")
REP(stosw, "rep stosw")
REP(stosl, "rep stosl")
REP(stosq, "rep stosq")
REP(movsb1, "movsb")
REP(movsw1, "movsw")
REP(movsl1, "movsl")
REP(movsq1, "movsq")
REP(stosb1, "stosb")
REP(stosq1, "stosq")
REP(lodsb1, "lodsb")
REP(scasb, "repne scasb")
REP(scasw1, "scasw")
REP(cmpsb, "repe cmpsb")
REP(cmpsq1, "cmpsq")
REP(lodsq, "rep lodsq")
// Backward: DF is 1 for the instruction only, and once during a system call too.
REP(movsb_back, "std; rep movsb; cld")
REP(stosq_back, "std; rep stosq; cld")
REP(movsb_back_call, "std; push %%rax; push %%rcx; mov $39, %%eax; syscall; pop %%rcx; pop %%rax; rep movsb; cld")
// 32-bit addresses and counts.
REP(stosb32, "addr32 rep stosb")

typedef struct after (*op)(void *, const void *, uint64_t, uint64_t);
static const struct {
	const char *name;
	op f;
	int size, back;
} ops[] = {
	{"movsb", movsb, 1, 0}, {"movsw", movsw, 2, 0}, {"movsl", movsl, 4, 0}, {"movsq", movsq, 8, 0},
	{"stosb", stosb, 1, 0}, {"stosw", stosw, 2, 0}, {"stosl", stosl, 4, 0}, {"stosq", stosq, 8, 0},
	{"movsb1", movsb1, 1, 0}, {"movsw1", movsw1, 2, 0}, {"movsl1", movsl1, 4, 0}, {"movsq1", movsq1, 8, 0},
	{"stosb1", stosb1, 1, 0}, {"stosq1", stosq1, 8, 0}, {"lodsb1", lodsb1, 1, 0}, {"scasb", scasb, 1, 0},
	{"scasw1", scasw1, 2, 0}, {"cmpsb", cmpsb, 1, 0}, {"cmpsq1", cmpsq1, 8, 0}, {"lodsq", lodsq, 8, 0},
	{"movsb back", movsb_back, 1, 1}, {"stosq back", stosq_back, 8, 1}, {"movsb back call", movsb_back_call, 1, 1},
};

static void fill(int seed) {
	for (int i = 0; i < LEN; i++) a[i] = (i * 7 + seed) >> 2, b[i] = (i * 13 + seed) >> 3;
}

int main(void) {
	die_after(55);
	a = (unsigned char *)region(0x1000000000, LEN, PROT_READ | PROT_WRITE);
	b = (unsigned char *)region(0x2000000000, LEN, PROT_READ | PROT_WRITE);
	for (unsigned o = 0; o < sizeof ops / sizeof *ops; o++) {
		fill(o);
		uint64_t h = 0;
		// Many short ones, so that the loop is hot.
		for (int i = 0; i < 1500; i++) {
			uint64_t n = i % 11 == 0 ? 0 : i * 37 % 600;
			uint64_t at = (uint64_t)i * 1021 % (LEN / 2) + LEN / 4;
			struct after r = ops[o].f(b + at, a + (at ^ 0x155) % (LEN / 2) + LEN / 4, n, 0x0123456789abcdefULL * i);
			h = h * 31 + r.di;
			h = h * 31 + r.si;
			h = h * 31 + r.cx;
		}
		say("%s %#llx %#llx", ops[o].name, (unsigned long long)h, (unsigned long long)sum(b, LEN));
		// Longer than one REP may be in BTC, and with overlap.
		struct after r = ops[o].f(ops[o].back ? b + LEN - 8 : b, ops[o].back ? a + LEN - 8 : a, 200000 / ops[o].size, 0x1122334455667788);
		say("%s long %#llx %#llx %#llx %#llx", ops[o].name, (unsigned long long)r.di, (unsigned long long)r.si, (unsigned long long)r.cx,
		    (unsigned long long)sum(b, LEN));
		r = ops[o].f(ops[o].back ? b + LEN - 8 : b + 3, ops[o].back ? b + LEN - 5 : b, 80000 / ops[o].size, 0x77);
		say("%s overlap %#llx %#llx", ops[o].name, (unsigned long long)r.cx, (unsigned long long)sum(b, LEN));
	}
	unsigned char *low = (unsigned char *)region(0x10000000, LEN, PROT_READ | PROT_WRITE);
	uint64_t h = 0;
	for (int i = 0; i < 3000; i++) {
		struct after r = stosb32(low + i * 80, a, 300, i);
		h = h * 31 + r.di + r.cx;
	}
	say("stosb32 %#llx %#llx", (unsigned long long)h, (unsigned long long)sum(low, LEN));

	// What libc makes of them.
	for (int i = 0; i < 3000; i++) {
		sys0(SYS_getpid);
		memmove(a + i % 97, a + 5, 3000 + i);
		memset(b + i % 13, i, 5000 - i);
		sys0(SYS_getpid);
	}
	say("libc %#llx %#llx", (unsigned long long)sum(a, LEN), (unsigned long long)sum(b, LEN));
	return 0;
}
