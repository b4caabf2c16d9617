// A program that never ends: endless chains of system calls, or, with an argument, endless loops without one behind a hot
// site. Others look whether the machine still answers, and kill it.
#include "t.h"

int main(int argc, char **argv) {
	(void)argv;
	volatile long n = 0;
	long long until = now_ns() + 2500000000LL; // time for whoever translates
	for (long i = 0;; i++) {
		sys0(SYS_getppid);
		if (argc > 1 && i % 1024 == 0 && now_ns() > until)
			for (;;) n++;
	}
}
