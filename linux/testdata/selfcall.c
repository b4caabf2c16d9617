// What /proc/self/syscall says of the call that reads it: number, arguments, stack pointer and address are those of the program, in a chain
// as well.
#include "t.h"
#include <fcntl.h>

enum { ROUNDS = 5000 };

int main(void) {
	die_after(80);
	int fd = open("/proc/self/syscall", O_RDONLY);
	if (fd < 0) {
		puts("there is none");
		return 0;
	}
	char first[256], now[256];
	memset(first, 0, sizeof first);
	memset(now, 0, sizeof now);
	unsigned long rsp = 0, rip = 0;
	int differ = 0;
	for (int i = 0; i < ROUNDS; i++) {
		register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0x1234, r9 __asm__("r9") = 0x5678;
		long got;
		__asm__ volatile("mov %%rsp, %1\n\tlea 1f(%%rip), %2\n\tsyscall\n1:"
				 : "=a"(got), "=&r"(rsp), "=&r"(rip)
				 : "0"((long)SYS_pread64), "D"((long)fd), "S"(now), "d"(sizeof now - 1), "r"(r10), "r"(r8), "r"(r9)
				 : "rcx", "r11", "memory");
		CHECK(got > 20);
		if (i == 0) memcpy(first, now, sizeof now);
		if (memcmp(first, now, sizeof now)) differ++;
	}
	char want[256];
	snprintf(want, sizeof want, "%d 0x%x 0x%lx 0x%lx 0x0 0x1234 0x5678 0x%lx 0x%lx\n", (int)SYS_pread64, fd, (unsigned long)now, (unsigned long)sizeof now - 1, rsp, rip);
	printf("%d differ; the last one %s\n", differ, strcmp(now, want) ? "is wrong" : "is right");
	if (strcmp(now, want)) printf("got  %swant %s", now, want);
	return 0;
}
