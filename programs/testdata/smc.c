// Code that changes while it is hot. Each function that is called makes system calls and returns a number that is in its
// code; after each change the new number must come back at once. Ways of changing, by the argument.
#include "t.h"
#include <dlfcn.h>

enum { ROUNDS = 40, HOT = 600 };

// What is generated: a loop of EDI getpid calls, then return IMM.
//	mov r8d, edi
//	1: mov eax, 39; syscall; dec r8d; jnz 1b
//	mov eax, IMM; ret
static const unsigned char code[] = {0x41, 0x89, 0xf8, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x41, 0xff, 0xc8, 0x75, 0xf4, 0xb8, 0, 0, 0, 0, 0xc3};
enum { IMM = 16 };

typedef int (*fn)(int);

static void put(unsigned char *at, uint32_t imm) {
	memcpy(at, code, sizeof code);
	memcpy(at + IMM, &imm, 4);
}

static fn volatile f;
// call enters the code from bypassed code: from here it is a target of an indirect call.
__attribute__((noinline)) static void call(uint32_t want) {
	for (int i = 0; i < 8; i++) {
		for (int k = 0; k < 10; k++) sys0(SYS_getppid); // bypassed even where the code is writable, and so not translated
		EQ(f(HOT / 8), want);
	}
}

static void flip(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
	f = (fn)p;
	for (int i = 0; i < ROUNDS; i++) {
		CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
		put(p, i * 3);
		CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
		call(i * 3);
	}
}

// patch writes only the number, in place; write access comes and goes.
static void patch(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
	f = (fn)p;
	put(p, 0);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
		*(uint32_t *)(p + IMM) = i;
		if (i % 2) call(i); // while it is writable
		CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
		call(i);
	}
}

static void rwx(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	f = (fn)p;
	put(p, 0);
	for (int i = 0; i < ROUNDS; i++) {
		*(volatile uint32_t *)(p + IMM) = i;
		call(i);
	}
}

// twice maps the same memory a second time, writable, from the start or only while writing.
static void twice(int stays) {
	int fd = memfd_create("code", 0);
	CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(w != MAP_FAILED);
	put(w, 0);
	f = (fn)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK((void *)f != MAP_FAILED);
	for (int i = 0; i < ROUNDS; i++) {
		if (!stays) CHECK(munmap(w, 4096) == 0);
		if (i) call(i - 1 + 5);
		if (!stays) {
			w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			CHECK(w != MAP_FAILED);
		}
		*(volatile uint32_t *)(w + IMM) = i + 5;
		call(i + 5);
	}
}

// child has another process write through its own mapping.
static void child_writes(void) {
	int *turn = shared(4096);
	int fd = memfd_create("code", 0);
	CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	static unsigned char first[sizeof code];
	put(first, 0);
	CHECK(pwrite(fd, first, sizeof first, 0) == sizeof first);
	f = (fn)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK((void *)f != MAP_FAILED);
	pid_t child = fork();
	if (child == 0) {
		for (int i = 1; i < ROUNDS; i++) {
			while (LOAD(turn) != 2 * i - 1) futex_wait(turn, 2 * i - 2);
			unsigned char *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			CHECK(w != MAP_FAILED);
			*(volatile uint32_t *)(w + IMM) = i * 11;
			CHECK(munmap(w, 4096) == 0);
			STORE(turn, 2 * i);
			futex_wake(turn, 1);
		}
		_exit(0);
	}
	call(0);
	for (int i = 1; i < ROUNDS; i++) {
		STORE(turn, 2 * i - 1);
		futex_wake(turn, 1);
		while (LOAD(turn) != 2 * i) futex_wait(turn, 2 * i - 1);
		call(i * 11);
	}
	EQ(reap(child), 0);
}

// over maps another file over hot code, and unmaps it.
static void over(void) {
	int fd[2];
	for (int k = 0; k < 2; k++) {
		unsigned char c[4096] = {0};
		put(c, 100 + k);
		fd[k] = open(k ? "code1" : "code0", O_RDWR | O_CREAT | O_TRUNC, 0700);
		CHECK(fd[k] >= 0 && write(fd[k], c, sizeof c) == sizeof c);
	}
	unsigned char *p = (unsigned char *)region(0x1000000000, 8192, PROT_NONE);
	f = (fn)p;
	for (int i = 0; i < ROUNDS; i++) {
		CHECK(mmap(p, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd[i & 1], 0) == (void *)p);
		call(100 + (i & 1));
		if (i % 4 == 3) CHECK(munmap(p, 4096) == 0);
		if (i % 4 == 2) CHECK(mremap(p, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4096) == p + 4096);
	}
}

// moved moves hot code to another address and calls it there.
static void moved(void) {
	unsigned char *a = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE), *b = a + (1 << 20);
	put(a, 7);
	CHECK(mprotect(a, 4096, PROT_READ | PROT_EXEC) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		f = (fn)a;
		call(7);
		CHECK(mremap(a, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, b) == b);
		f = (fn)b;
		call(7);
		CHECK(mremap(b, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, a) == a);
	}
}

static sigjmp_buf jump;
static volatile int faults, fault_sig;
static void on_fault(int sig, siginfo_t *si, void *uc) {
	(void)si, (void)uc;
	faults++;
	fault_sig = sig;
	siglongjmp(jump, 1);
}

// gone takes hot code away in several ways; calling it must fault.
static void gone(void) {
	handle(SIGSEGV, on_fault, SA_NODEFER);
	handle(SIGBUS, on_fault, SA_NODEFER);
	for (volatile int i = 0; i < ROUNDS; i++) {
		unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
		put(p, i);
		CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
		f = (fn)p;
		call(i);
		switch (i % 4) {
		case 0: CHECK(munmap(p, 4096) == 0); break;
		case 1: CHECK(mprotect(p, 4096, PROT_READ) == 0); break;
		case 2: CHECK(mprotect(p, 4096, PROT_NONE) == 0); break;
		case 3: CHECK(mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p); break;
		}
		if (sigsetjmp(jump, 1) == 0) {
			f(1);
			CHECK(!"code ran that is gone");
		}
	}
	say("%d faults, last %d", faults, fault_sig);
}

// zeroed drops the page of hot code: it is zeroes then, which are `add %al, (%rax)` up to the end of the page.
static void zeroed(void) {
	handle(SIGSEGV, on_fault, SA_NODEFER);
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
	f = (fn)p;
	for (volatile int i = 0; i < ROUNDS; i++) {
		CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
		put(p, i);
		CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
		call(i);
		CHECK(madvise(p, 4096, MADV_DONTNEED) == 0);
		if (sigsetjmp(jump, 1) == 0) {
			int r = f(1);
			say("round %d: code ran that is gone: %d", i, r);
			_exit(99);
		}
	}
	say("%d faults", faults);
}

// fork_writes: the child changes its copy, the parent keeps its own.
static void fork_writes(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
	f = (fn)p;
	put(p, 1);
	CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
	call(1);
	for (int i = 0; i < ROUNDS / 2; i++) {
		pid_t child = fork();
		if (child == 0) {
			call(1);
			CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
			put(p, 50 + i);
			CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
			call(50 + i);
			_exit(f(1));
		}
		call(1);
		EQ(reap(child), 50 + i);
		call(1);
	}
}

// calls_write has the kernel write into the code: read(2) into a page that is writable and executable for the moment.
static void calls_write(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
	int fd[2];
	CHECK(pipe(fd) == 0);
	put(p, 0);
	f = (fn)p;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC | (i % 2 ? PROT_WRITE : 0)) == 0);
		if (i) call(i - 1);
		CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
		CHECK(write(fd[1], &i, 4) == 4);
		CHECK(read(fd[0], p + IMM, 4) == 4);
		call(i);
	}
}

// proc_mem writes to code that is not writable through /proc/self/mem, as debuggers do.
static void proc_mem(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE);
	put(p, 0);
	CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
	f = (fn)p;
	int mem = open("/proc/self/mem", O_RDWR);
	uint32_t now = 0;
	int written = 0;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		call(now);
		if (mem >= 0 && pwrite(mem, &i, 4, (long)p + IMM) == 4) now = i, written++;
		call(now);
	}
	say("~written %d times", written);
}

// file_write changes a mapped file by write(2). Nobody tells the platform: the change must show, but a little later is fine.
static void file_write(void) {
	unsigned char c[4096] = {0};
	put(c, 0);
	int fd = open("code", O_RDWR | O_CREAT | O_TRUNC, 0700);
	CHECK(fd >= 0 && write(fd, c, sizeof c) == sizeof c);
	f = (fn)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK((void *)f != MAP_FAILED);
	for (int i = 1; i < 6; i++) {
		CHECK(pwrite(fd, &i, 4, IMM) == 4);
		long long until = now_ns() + 5000000000LL;
		int got;
		while ((got = f(100)) != i) {
			EQ(got, i - 1);
			sys0(SYS_getppid);
			CHECK(now_ns() < until);
		}
		for (int k = 0; k < 20; k++) call(i);
	}
}

// self writes the instruction that comes next, in a page that is writable and executable, between two system calls.
static void self(void) {
	unsigned char *p = (unsigned char *)region(0x1000000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	//	mov eax, 39; syscall
	//	mov [rip + 3], edi    (the number of the next instruction)
	//	... mov eax, imm; ret
	static const unsigned char s[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
	memcpy(p, s, sizeof s);
	f = (fn)p;
	for (int i = 0; i < ROUNDS * HOT / 8; i++) {
		sys0(SYS_getppid);
		EQ(f(i), i);
		sys0(SYS_getuid);
	}
}

static void dl(void) {
	// Two libraries with a function of the same name, loaded and unloaded in turn, often at the same address.
	for (int i = 0; i < ROUNDS / 2; i++) {
		void *h = dlopen(i & 1 ? "libm.so.6" : "libz.so.1", RTLD_NOW | RTLD_LOCAL);
		CHECK(h != NULL);
		if (i & 1) {
			double (*p)(double) = (double (*)(double))dlsym(h, "floor");
			CHECK(p);
			for (int k = 0; k < HOT; k++) {
				sys0(SYS_getpid);
				CHECK(p(k + 0.5) == k);
			}
		} else {
			unsigned long (*p)(unsigned long, const char *, unsigned) = (unsigned long (*)(unsigned long, const char *, unsigned))dlsym(h, "adler32");
			CHECK(p);
			for (int k = 0; k < HOT; k++) {
				sys0(SYS_getpid);
				EQ(p(1, "abc", 3), 0x24d0127);
			}
		}
		dlclose(h);
	}
}

int main(int argc, char **argv) {
	die_after(50);
	CHECK(argc == 2);
	static const struct {
		const char *name;
		void (*f)(void);
	} all[] = {{"flip", flip}, {"patch", patch}, {"rwx", rwx}, {"child", child_writes}, {"over", over}, {"moved", moved}, {"gone", gone},
		   {"zeroed", zeroed}, {"fork", fork_writes}, {"calls", calls_write}, {"procmem", proc_mem}, {"filewrite", file_write},
		   {"self", self}, {"dl", dl}};
	if (!strcmp(argv[1], "twice")) twice(1);
	else if (!strcmp(argv[1], "sometimes")) twice(0);
	else {
		unsigned i = 0;
		while (i < sizeof all / sizeof *all && strcmp(argv[1], all[i].name)) i++;
		CHECK(i < sizeof all / sizeof *all);
		all[i].f();
	}
	say("%s ok", argv[1]);
	return 0;
}
