// Shared by the test programs. A program prints only what is the same each time it runs. A line that begins with '~' is not
// the same on Linux and under gVisor, whatever the platform: it is compared between the sandboxes only.
#ifndef T_H
#define T_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

// say writes a line in one piece, without a buffer that a fork could duplicate. It may be called in signal handlers.
__attribute__((unused, format(printf, 1, 2))) static void say(const char *fmt, ...) {
	char line[2048];
	int saved = errno;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2) n = sizeof line - 2;
	line[n++] = '\n';
	for (int off = 0; off < n;) {
		ssize_t w = write(1, line + off, n - off);
		if (w < 0 && errno != EINTR) _exit(98);
		if (w > 0) off += w;
	}
	errno = saved;
}

#define CHECK(cond)                                                                                       \
	do {                                                                                              \
		if (!(cond)) {                                                                            \
			say("%s:%d: not true: %s (errno %d)", __FILE__, __LINE__, #cond, errno);          \
			_exit(99);                                                                        \
		}                                                                                         \
	} while (0)

// EQ checks that two integers are equal and shows both when they are not.
#define EQ(a, b)                                                                                          \
	do {                                                                                              \
		long long eq_a = (long long)(a), eq_b = (long long)(b);                                   \
		if (eq_a != eq_b) {                                                                       \
			say("%s:%d: %s is %lld (%#llx), %s is %lld (%#llx)", __FILE__, __LINE__, #a,      \
			    eq_a, (unsigned long long)eq_a, #b, eq_b, (unsigned long long)eq_b);           \
			_exit(99);                                                                        \
		}                                                                                         \
	} while (0)

// The syscall instruction itself, in line: a loop around it is a site with a gap of a few instructions.
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	long ret;
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	asm volatile("syscall" : "=a"(ret) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}
static inline long sys3(long n, long a, long b, long c) {
	long ret;
	asm volatile("syscall" : "=a"(ret) : "0"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}
static inline long sys0(long n) {
	long ret;
	asm volatile("syscall" : "=a"(ret) : "0"(n) : "rcx", "r11", "memory");
	return ret;
}

// spin makes n system calls in a tight loop.
__attribute__((unused, noinline)) static void spin(int n) {
	long pid = getpid();
	for (int i = 0; i < n; i++) CHECK(sys0(SYS_getpid) == pid);
}

__attribute__((unused)) static long long now_ns(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

__attribute__((unused)) static void handle(int sig, void (*f)(int, siginfo_t *, void *), int flags) {
	struct sigaction sa;
	memset(&sa, 0, sizeof sa);
	sa.sa_sigaction = f;
	sa.sa_flags = SA_SIGINFO | flags;
	CHECK(sigaction(sig, &sa, NULL) == 0);
}

// region maps memory at an address that is the same in each run.
__attribute__((unused)) static char *region(uintptr_t at, size_t len, int prot) {
	char *p = mmap((void *)at, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(p == (char *)at);
	return p;
}

// shared maps memory that children share.
__attribute__((unused)) static void *shared(size_t len) {
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

__attribute__((unused)) static int futex_wait(int *at, int val) { return sys6(SYS_futex, (long)at, FUTEX_WAIT, val, 0, 0, 0); }
__attribute__((unused)) static int futex_wake(int *at, int n) { return sys6(SYS_futex, (long)at, FUTEX_WAKE, n, 0, 0, 0); }

// reap waits for a child and returns its status as a shell gives it.
__attribute__((unused)) static int reap(pid_t child) {
	int status;
	while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// die_after gives the whole program a limit, so that a lost wake-up shows as a death by SIGALRM and not as a hang. Not for
// programs that use the alarm clock.
__attribute__((unused)) static void die_after(int seconds) { alarm(seconds); }

#define LOAD(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)

#endif
