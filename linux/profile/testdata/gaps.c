// Makes known numbers of system calls with known gaps. Each kind has a function of its own, which is the site, and a
// number of its own, so that nothing of libc and of the dynamic linker is mistaken for it.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUNCTION __attribute__((noinline, noclone, noipa))

// SITE makes a function with a system call in it, whose return address is at the top of the stack then.
#define SITE(name, nr) \
	FUNCTION long name(void) { \
		long r; \
		__asm__ volatile("syscall" : "=a"(r) : "a"((long)(nr)) : "rcx", "r11", "memory"); \
		return r; \
	}
SITE(site_short, SYS_getppid)
SITE(site_long, SYS_getuid)
SITE(site_thread, SYS_getgid)
SITE(site_child, SYS_getegid)
SITE(site_exec, SYS_geteuid)
SITE(site_load, SYS_getpgrp)

// deep_site has its return address further up, below words that are no addresses, as libc's cancellable wrappers have.
FUNCTION long deep_site(void) {
	long r;
	__asm__ volatile("sub $0x28, %%rsp\n\tmovq $12345, (%%rsp)\n\tmovq $0, 8(%%rsp)\n\tmovq $-1, 16(%%rsp)\n\tmovq $1, 24(%%rsp)\n\t"
		"movq $2, 32(%%rsp)\n\tsyscall\n\tadd $0x28, %%rsp"
		: "=a"(r) : "a"((long)SYS_getpriority), "D"(0L), "S"(0L) : "rcx", "r11", "memory", "cc");
	return r;
}

// lost_site has something else in the place of its return address each time.
FUNCTION long lost_site(long i) {
	long r;
	__asm__ volatile("sub $0x1000, %%rsp\n\tmov %%rdx, (%%rsp)\n\tsyscall\n\tadd $0x1000, %%rsp"
		: "=a"(r) : "a"((long)SYS_sched_get_priority_max), "D"(0L), "d"(i) : "rcx", "r11", "memory", "cc");
	return r;
}

FUNCTION void caller_a(int n) { while (n-- > 0) site_short(); }
FUNCTION void caller_b(int n) { while (n-- > 0) site_short(); }
FUNCTION void caller_deep(int n) { while (n-- > 0) deep_site(); }

// compute is a chain of a million multiplications: 3 cycles each.
FUNCTION void compute(void) {
	unsigned long x = 1;
	for (int i = 0; i < 1000000; i++) __asm__ volatile("imul %0, %0" : "+r"(x));
}

FUNCTION void caller_long(int n) {
	while (n-- > 0) {
		site_long();
		compute();
	}
	site_short(); // from a third place: ends the last long gap
	__asm__ volatile(""); // no tail call
}

static void *thread(void *n) {
	for (int i = 0; i < (long)n; i++) site_thread();
	return 0;
}

static void threads(int n, long calls) {
	for (int i = 0; i < n; i += 4) { // at most four at a time
		pthread_t t[4];
		for (int k = 0; k < 4; k++)
			if (pthread_create(&t[k], 0, thread, (void *)calls)) abort();
		for (int k = 0; k < 4; k++) pthread_join(t[k], 0);
	}
}

int main(int argc, char **argv) {
	if (argc == 2 && !strcmp(argv[1], "exec")) {
		char c;
		for (int i = 0; i < 900; i++) site_exec();
		if (read(0, &c, 1) != 0) return 1; // until whoever looks has looked
		return 7;
	}
	if (argc == 2 && !strcmp(argv[1], "load")) {
		puts("ready");
		fflush(stdout);
		for (;;) {
			site_load();
			for (volatile int i = 0; i < 1000; i++) {}
		}
	}
	caller_a(3000);
	caller_b(2000);
	caller_long(100);
	caller_deep(500);
	for (long i = 0; i < 6000; i++) lost_site(0x5555000 + i * 4096);
	threads(16, 250);
	pid_t pid = fork();
	if (!pid) {
		for (int i = 0; i < 700; i++) site_child();
		_exit(3);
	}
	int status;
	waitpid(pid, &status, 0);
	if (WEXITSTATUS(status) != 3) return 1;
	puts("data");
	fflush(stdout);
	execl("/proc/self/exe", argv[0], "exec", (char *)0);
	return 1;
}
