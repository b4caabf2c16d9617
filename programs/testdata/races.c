// One thread takes memory or code away, or changes it, while others use it in loops of system calls. By the argument.
#include "t.h"

enum { READERS = 2, ROUNDS = 300, PAGES = 4 };

static char *mem;
static volatile int stop;
static __thread sigjmp_buf jump;
static __thread volatile int armed;
static long faults;
static long reads[READERS];

static void on_fault(int sig, siginfo_t *si, void *uc) {
	(void)uc;
	char *a = si->si_addr;
	if (!armed || (sig != SIGSEGV && sig != SIGBUS) || a < mem || a >= mem + PAGES * 4096) {
		say("signal %d at %p, memory at %p, armed %d", sig, si->si_addr, (void *)mem, armed);
		_exit(99);
	}
	ADD(&faults, 1);
	siglongjmp(jump, 1);
}

// A page holds its round in all words, or zero while it is new.
static void *reader(void *arg) {
	long me = (long)arg, pid = getpid();
	for (volatile long i = 0; !stop; i++) {
		if (sigsetjmp(jump, 0) == 0) {
			armed = 1;
			for (int k = 0; k < 50; k++) {
				CHECK(sys0(SYS_getpid) == pid);
				volatile long *p = (long *)(mem + (i + k) % PAGES * 4096 + (k * 8 & 4088));
				long v = *p;
				CHECK(v >= 0 && v <= ROUNDS);
				ADD(&reads[me], 1);
			}
		}
		armed = 0;
	}
	return NULL;
}

static void *writer(void *arg) {
	long me = (long)arg, pid = getpid();
	for (volatile long i = 0; !stop; i++) {
		if (sigsetjmp(jump, 0) == 0) {
			armed = 1;
			for (int k = 0; k < 50; k++) {
				CHECK(sys0(SYS_getpid) == pid);
				__atomic_or_fetch((long *)(mem + (i + k) % PAGES * 4096 + 4088), 0, __ATOMIC_SEQ_CST);
				ADD(&reads[me], 1);
			}
		}
		armed = 0;
	}
	return NULL;
}

static void progress(long *n) {
	long now[READERS];
	for (int i = 0; i < READERS; i++) now[i] = n[i];
	for (int i = 0; i < READERS; i++)
		for (int k = 0; n[i] == now[i] && k < 20; k++) sched_yield();
}

static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xb8, 0, 0, 0, 0, 0xc3}; // getpid; return the number at 8
static int current[2];
static void *runner(void *arg) {
	long me = (long)arg;
	int (*f)(void) = (int (*)(void))mem;
	for (volatile long i = 0; !stop; i++) {
		if (sigsetjmp(jump, 0) == 0) {
			armed = 1;
			for (int k = 0; k < 50; k++) {
				// What comes back is never older than what was current before the call.
				int least = LOAD(&current[0]);
				int got = f();
				int most = LOAD(&current[1]);
				if (got < least || got > most) {
					say("%d came back, %d to %d expected", got, least, most);
					_exit(99);
				}
				ADD(&reads[me], 1);
			}
		}
		armed = 0;
	}
	return NULL;
}

int main(int argc, char **argv) {
	die_after(50);
	CHECK(argc == 2);
	const char *how = argv[1];
	handle(SIGSEGV, on_fault, SA_NODEFER);
	handle(SIGBUS, on_fault, SA_NODEFER);
	mem = region(0x1000000000, PAGES * 4096, PROT_READ | PROT_WRITE);
	int is_code = !strncmp(how, "code", 4);
	int fd = -1;
	if (!strcmp(how, "truncate")) {
		fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
		CHECK(fd >= 0 && ftruncate(fd, PAGES * 4096) == 0);
		CHECK(mmap(mem, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == mem);
	}
	if (is_code) {
		memcpy(mem, code, sizeof code);
		CHECK(mprotect(mem, 4096, PROT_READ | PROT_EXEC) == 0);
	}
	pthread_t t[READERS];
	for (long i = 0; i < READERS; i++)
		CHECK(pthread_create(&t[i], NULL, is_code ? runner : i % 2 ? writer : reader, (void *)i) == 0);
	for (int i = 0; i < READERS; i++) // on a busy machine it would be over before they begin
		while (LOAD(&reads[i]) == 0) sched_yield();
	for (int r = 1; r <= ROUNDS; r++) {
		char *p = mem + r % PAGES * 4096;
		if (!strcmp(how, "munmap")) {
			CHECK(munmap(p, 4096) == 0);
			progress(reads);
			CHECK(mmap(p, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
			for (int i = 0; i < 512; i++) ((volatile long *)p)[i] = r;
		} else if (!strcmp(how, "mprotect")) {
			CHECK(mprotect(p, 4096, r % 3 ? PROT_NONE : PROT_READ) == 0);
			progress(reads);
			CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
			for (int i = 0; i < 512; i++) ((volatile long *)p)[i] = r;
		} else if (!strcmp(how, "dontneed")) {
			CHECK(madvise(p, 4096, MADV_DONTNEED) == 0);
			for (int i = 0; i < 512; i++) ((volatile long *)p)[i] = r;
		} else if (!strcmp(how, "mremap")) {
			CHECK(mremap(p, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, mem + (1 << 20)) == mem + (1 << 20));
			progress(reads);
			CHECK(mremap(mem + (1 << 20), 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p);
		} else if (!strcmp(how, "truncate")) {
			CHECK(ftruncate(fd, r % PAGES * 4096) == 0);
			progress(reads);
			CHECK(ftruncate(fd, PAGES * 4096) == 0);
		} else if (!strcmp(how, "fork")) {
			// Copy on write, while others read and write.
			pid_t child = fork();
			if (child == 0) _exit(0);
			for (int i = 0; i < 512; i++) ((volatile long *)p)[i] = r;
			EQ(reap(child), 0);
			if (r == ROUNDS / 4) break;
		} else if (!strcmp(how, "codeunmap") || !strcmp(how, "codeprotect") || !strcmp(how, "codewrite")) {
			// The number in the code grows. current[0] is the number that all who begin now must see, or a later one.
			STORE(&current[1], r);
			if (!strcmp(how, "codeunmap")) {
				static char copy[4096];
				memcpy(copy, code, sizeof code);
				memcpy(copy + 8, &r, 4);
				CHECK(munmap(mem, 4096) == 0);
				int f = memfd_create("code", 0);
				CHECK(f >= 0 && write(f, copy, 4096) == 4096);
				CHECK(mmap(mem, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, f, 0) == mem);
				close(f);
			} else if (!strcmp(how, "codeprotect")) {
				CHECK(mprotect(mem, 4096, PROT_READ | PROT_WRITE) == 0); // nobody can run it now
				*(volatile int *)(mem + 8) = r;
				CHECK(mprotect(mem, 4096, PROT_READ | PROT_EXEC) == 0);
			} else {
				CHECK(mprotect(mem, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
				*(volatile int *)(mem + 8) = r;
				CHECK(mprotect(mem, 4096, PROT_READ | PROT_EXEC) == 0);
			}
			STORE(&current[0], r);
			progress(reads);
			if (r % 8 == 0) usleep(3000); // time to become hot
		} else {
			CHECK(!"how?");
		}
	}
	stop = 1;
	for (int i = 0; i < READERS; i++) CHECK(pthread_join(t[i], NULL) == 0);
	for (int i = 0; i < READERS; i++) CHECK(reads[i] > 0);
	say("%s ok", how);
	return 0;
}
