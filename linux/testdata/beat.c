// Makes cheap system calls for a number of milliseconds and checks each result. Says "ok" at the end. A second argument is a
// pause in microseconds after every three hundred of them.
#include "t.h"

int main(int argc, char **argv) {
	CHECK(argc == 2 || argc == 3);
	long long until = now_ns() + atoi(argv[1]) * 1000000LL;
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	long pid = getpid(), n = 0;
	char b[64];
	CHECK(zero >= 0 && null >= 0);
	do {
		for (int i = 0; i < 100; i++) {
			memset(b, 1, sizeof b);
			EQ(sys3(SYS_read, zero, (long)b, 64), 64);
			for (int k = 0; k < 64; k++) CHECK(b[k] == 0);
			EQ(sys3(SYS_write, null, (long)b, 64), 64);
			EQ(sys0(SYS_getpid), pid);
			n++;
		}
		if (argc == 3) usleep(atoi(argv[2]));
	} while (now_ns() < until);
	CHECK(n > 0);
	say("ok");
	return 0;
}
