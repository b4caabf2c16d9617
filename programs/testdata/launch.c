// Runs a program as a child, so that it is not process 1 of the sandbox, for which signals mean something else, and exits as
// a shell would: with its status, or 128 and the number of the signal.
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
	if (argc < 2) return 2;
	pid_t child = fork();
	if (child == 0) {
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	int status;
	for (;;) {
		pid_t p = wait(&status);
		if (p < 0) {
			perror("wait");
			return 126;
		}
		if (p == child) break;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
