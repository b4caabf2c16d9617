// Has a child that shares its memory for as many milliseconds as it is told, and then executes the rest of the arguments.
#include "t.h"

int main(int argc, char **argv) {
	CHECK(argc >= 3);
	pid_t child = vfork();
	if (!child) {
		usleep(atoi(argv[1]) * 1000);
		execv(argv[2], argv + 2);
		_exit(1);
	}
	CHECK(child > 0);
	int status;
	EQ(waitpid(child, &status, 0), child);
	return status != 0;
}
