// Sleeps in the midst of other system calls, for ever: others look at its stack.
#include "t.h"

int main(void) {
	die_after(60);
	struct timespec nap = {0, 30000000};
	for (;;) {
		for (int i = 0; i < 50; i++) sys0(SYS_getppid);
		nanosleep(&nap, NULL);
	}
}
