// FS and GS bases: thread-local variables between system calls, bases changed by arch_prctl and by instructions, and GS,
// which translated code has for itself.
#include "t.h"
#include <asm/prctl.h>

enum { N = 6000, THREADS = 3 };

static __thread long counter = 5;
static __thread char big[5000];

static void *thread(void *arg) {
	long me = (long)arg;
	for (int i = 0; i < N; i++) {
		sys0(SYS_getpid);
		counter += me + 1;
		big[(i * 37) % sizeof big] += counter;
		sys0(SYS_getuid);
	}
	long sum = counter;
	for (unsigned i = 0; i < sizeof big; i++) sum = sum * 31 + big[i];
	return (void *)sum;
}

static uint64_t slots[2][8];

static inline uint64_t gs_load(void) {
	uint64_t v;
	asm volatile("mov %%gs:8, %0" : "=r"(v));
	return v;
}
static inline uint64_t fs_self(void) {
	uint64_t v;
	asm volatile("mov %%fs:0, %0" : "=r"(v));
	return v;
}

static void on_ill(int sig, siginfo_t *si, void *uc) {
	(void)sig, (void)si, (void)uc;
	say("no FSGSBASE");
	_exit(0);
}

int main(void) {
	die_after(50);
	pthread_t t[THREADS];
	for (long i = 0; i < THREADS; i++) CHECK(pthread_create(&t[i], NULL, thread, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++) {
		void *r;
		pthread_join(t[i], &r);
		say("thread %d: %#lx", i, (unsigned long)r);
	}

	// FS moved about: the thread's own block stays in use by libc, so only raw calls happen meanwhile.
	uint64_t self = fs_self(), copy[8] = {42, 43}, sum = 0;
	for (int i = 0; i < N / 4; i++) {
		sys3(SYS_arch_prctl, ARCH_SET_FS, (long)copy, 0);
		long pid = sys0(SYS_getpid);
		uint64_t a = fs_self();
		sys3(SYS_arch_prctl, ARCH_SET_FS, (long)self, 0);
		sum += a + (pid <= 0);
		CHECK(a == 42 && fs_self() == self);
	}
	say("FS %llu", (unsigned long long)sum);

	// The instructions, where the CPU and the kernel allow them: gVisor does, without saying so in AT_HWCAP2. The base is used
	// before the next call, and FS is put back.
	handle(SIGILL, on_ill, 0);
	asm volatile("rdfsbase %0" : "=r"(sum));
	CHECK(sum == self);
	slots[0][1] = 111, slots[1][1] = 222;
	sum = 0;
	for (int i = 0; i < N / 2; i++) {
		sys0(SYS_getpid);
		asm volatile("wrgsbase %0" : : "r"(slots[i & 1]) : "memory");
		EQ(gs_load(), i & 1 ? 222 : 111);
		asm volatile("addq $1, %%gs:16" : : : "memory", "cc");
		sum += slots[i & 1][2];
		sys0(SYS_getppid);
		uint64_t a, b;
		asm volatile("wrfsbase %2\n mov %%fs:8, %0\n rdfsbase %1\n wrfsbase %3" : "=&r"(a), "=&r"(b) : "r"(copy), "r"(self) : "memory");
		CHECK(a == 43 && b == (uint64_t)copy && fs_self() == self);
		sys0(SYS_getpid);
		CHECK(fs_self() == self);
	}
	say("instructions %llu", (unsigned long long)sum);
	// A base written by the instruction is there behind system calls too.
	sum = 0;
	for (int i = 0; i < N / 2; i++) {
		asm volatile("wrfsbase %0" : : "r"(copy) : "memory");
		sys0(SYS_getpid);
		sum += fs_self();
		sys0(SYS_getpid);
		sum += fs_self();
		asm volatile("wrfsbase %0" : : "r"(self) : "memory");
		sys0(SYS_getpid);
	}
	say("across calls %llu", (unsigned long long)sum);
	return 0;
}
