// Code that makes system calls is replaced while such a call runs: the call must return to the new code. The code is a page of
// one of two files, mapped at one address; a call that it makes tells of which.
//
//	self     the page replaces itself, in a process of one thread
//	two      the same, with another thread in the process
//	sleeper  one thread replaces it while another sleeps in a call that it has made
//	busy     the same, while the other makes one call after another
#include "t.h"

struct answer {
	long page, result;
};
typedef struct answer call_t(long nr, long a, long b, long c, long d, long e, long f);
struct request {
	long nr, a, b, c, d, e, f;
};

// Each round has a page of its own: whoever translates waits before it translates again what was replaced.
enum { ROUNDS = 40, CALLS = 50 };
static char *at(int round) { return (char *)0x7e0000000000 + round * 65536L; }
static int files[2];

// page makes the file of a page that answers n.
static int page(int n) {
	unsigned char code[4096] = {
		0x48, 0x89, 0xf8,             // mov rax, rdi
		0x48, 0x89, 0xf7,             // mov rdi, rsi
		0x48, 0x89, 0xd6,             // mov rsi, rdx
		0x48, 0x89, 0xca,             // mov rdx, rcx
		0x4d, 0x89, 0xc2,             // mov r10, r8
		0x4d, 0x89, 0xc8,             // mov r8, r9
		0x4c, 0x8b, 0x4c, 0x24, 0x08, // mov r9, [rsp+8]
		0x0f, 0x05,                   // syscall
		0x48, 0x89, 0xc2,             // mov rdx, rax
		0xb8, n,    0,    0,    0,    // mov eax, n
		0xc3,                         // ret
	};
	char name[] = "page0";
	name[4] += n;
	int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0755);
	CHECK(fd >= 0 && write(fd, code, sizeof code) == sizeof code && close(fd) == 0);
	fd = open(name, O_RDONLY);
	CHECK(fd >= 0);
	return fd;
}

static void map(int round, int n) {
	CHECK(mmap(at(round), 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, files[n], 0) == at(round));
}

// run makes calls. All of them are made in one place, so that those that are made once are reached in translated code too.
static __attribute__((noinline)) void run(int round, const struct request *r, struct answer *a, int n) {
	call_t *call = (call_t *)at(round);
	for (int i = 0; i < n; i++) a[i] = call(r[i].nr, r[i].a, r[i].b, r[i].c, r[i].d, r[i].e, r[i].f);
}

// among makes a call among many others, when those are translated. Those before it are answered by page 0.
static int ready;
static long among(int round, struct request call, int after) {
	struct request r[CALLS];
	struct answer a[CALLS];
	long pid = getpid();
	for (int i = 0; i < CALLS; i++) r[i] = (struct request){.nr = SYS_getpid};
	for (long long until = now_ns() + 80000000; now_ns() < until;) {
		run(round, r, a, CALLS);
		for (int i = 0; i < CALLS; i++) CHECK(a[i].page == 0 && a[i].result == pid);
	}
	r[CALLS / 2] = call;
	STORE(&ready, round + 1);
	run(round, r, a, CALLS);
	for (int i = 0; i < CALLS; i++) {
		EQ(a[i].page, i < CALLS / 2 ? 0 : after);
		if (i != CALLS / 2) EQ(a[i].result, pid);
	}
	return a[CALLS / 2].result;
}

static void self(void) {
	for (int i = 0; i < ROUNDS; i++) {
		map(i, 0);
		struct request r = {SYS_mmap, (long)at(i), 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, files[1], 0};
		EQ(among(i, r, 1), (long)at(i));
	}
}

static void *idle(void *arg) {
	for (;;) pause();
	return arg;
}

static int pipes[2];
static pid_t tid;
static void *sleeper(void *arg) {
	STORE(&tid, syscall(SYS_gettid));
	for (int i = 0; i < ROUNDS; i++) {
		char c;
		map(i, 0);
		EQ(among(i, (struct request){SYS_read, pipes[0], (long)&c, 1, 0, 0, 0}, 1), 1);
	}
	return arg;
}

// wait_asleep waits until the sleeper is in its read, as the kernel shows it to others: with the program's own address.
static void wait_asleep(int round) {
	char name[64], text[256];
	long nr = -1, fd = -1, rest[4];
	unsigned long sp = 0, ip = 0;
	while (LOAD(&ready) != round + 1) usleep(1000);
	snprintf(name, sizeof name, "/proc/self/task/%d/syscall", LOAD(&tid));
	for (int i = 0; nr != SYS_read || fd != pipes[0]; i++) {
		CHECK(i < 5000);
		usleep(1000);
		int f = open(name, O_RDONLY);
		CHECK(f >= 0);
		ssize_t n = read(f, text, sizeof text - 1);
		CHECK(n > 0 && close(f) == 0);
		text[n] = 0;
		if (sscanf(text, "%ld %lx %lx %lx %lx %lx %lx %lx %lx", &nr, (unsigned long *)&fd, (unsigned long *)&rest[0], (unsigned long *)&rest[1],
			   (unsigned long *)&rest[2], (unsigned long *)&rest[3], (unsigned long *)&rest[3], &sp, &ip) != 9) nr = -1;
	}
	EQ(ip, (unsigned long)at(round) + 25);
	// Its buffer is on the same stack, further up.
	CHECK(sp < (unsigned long)rest[0] && sp > (unsigned long)rest[0] - 65536);
}

// Twice the round, and one more when the page's replacement has begun, or is done.
static long begun, done, calls;
static int enough;
static void *busy(void *arg) {
	long pid = getpid();
	while (!LOAD(&enough)) {
		long before = LOAD(&done);
		struct answer a = ((call_t *)at(before / 2))(SYS_getpid, 0, 0, 0, 0, 0, 0);
		EQ(a.result, pid);
		// If nothing was under way meanwhile it is clear who must have answered.
		if (LOAD(&begun) == before) EQ(a.page, before & 1);
		calls++;
	}
	return arg;
}

int main(int argc, char **argv) {
	pthread_t t;
	CHECK(argc == 2);
	// Without an rseq area: with one, a chain is looked at closer each time that a thread has slept.
	if (!getenv("GLIBC_TUNABLES")) {
		CHECK(setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1) == 0);
		execv("/proc/self/exe", argv);
		CHECK(0);
	}
	die_after(80);
	files[0] = page(0);
	files[1] = page(1);
	CHECK(pipe(pipes) == 0);
	switch (argv[1][0] * 256 + argv[1][1]) {
	case 't' * 256 + 'w':
		CHECK(pthread_create(&t, NULL, idle, NULL) == 0);
		// fall through
	case 's' * 256 + 'e':
		self();
		break;
	case 's' * 256 + 'l':
		CHECK(pthread_create(&t, NULL, sleeper, NULL) == 0);
		for (int i = 0; i < ROUNDS; i++) {
			wait_asleep(i);
			map(i, 1);
			CHECK(write(pipes[1], "x", 1) == 1);
		}
		CHECK(pthread_join(t, NULL) == 0);
		break;
	case 'b' * 256 + 'u':
		map(0, 0);
		CHECK(pthread_create(&t, NULL, busy, NULL) == 0);
		for (int i = 0; i < ROUNDS; i++) {
			usleep(70000 + i % 7 * 900); // enough for a translation, mostly
			STORE(&begun, 2 * i + 1);
			map(i, 1);
			STORE(&done, 2 * i + 1);
			usleep(3000);
			map(i + 1, 0);
			STORE(&begun, 2 * i + 2);
			STORE(&done, 2 * i + 2);
		}
		STORE(&enough, 1);
		CHECK(pthread_join(t, NULL) == 0);
		CHECK(calls > 1000);
		break;
	}
	say("ok");
	return 0;
}
