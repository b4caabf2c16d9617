// The first process of a guest: it mounts what programs expect, then carries out what the host asks for over the second
// serial line, one job after another.
//
// The host sends        run MILLISECONDS SIZE\n  and SIZE bytes, a shell script
// and receives          out SIZE\n               and SIZE bytes of the job's output, as often as there is some,
//                       exit STATUS TAINTED\n    with the status as a shell has it, 124 when time was up
// A job that has ended leaves no process behind but those that have moved to a session of their own.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int line; // to the host

static void die(const char *what)
{
	dprintf(2, "guest agent: %s: %s\n", what, strerror(errno));
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void put(const void *p, size_t n)
{
	const char *s = p;

	while (n) {
		ssize_t k = write(line, s, n);

		if (k < 0) {
			if (errno == EINTR)
				continue;
			die("write to the host");
		}
		s += k;
		n -= k;
	}
}

static void get(void *p, size_t n)
{
	char *s = p;

	while (n) {
		ssize_t k = read(line, s, n);

		if (k <= 0) {
			if (k < 0 && errno == EINTR)
				continue;
			die("read from the host");
		}
		s += k;
		n -= k;
	}
}

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void mounts(void)
{
	static const struct {
		const char *what, *where, *type, *data;
	} m[] = {
		{"proc", "/proc", "proc", ""},        {"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", ""}, {"tmpfs", "/tmp", "tmpfs", "mode=1777"},
		{"tmpfs", "/run", "tmpfs", ""},       {"devpts", "/dev/pts", "devpts", ""},
		{"tmpfs", "/dev/shm", "tmpfs", "mode=1777"}, {"debugfs", "/sys/kernel/debug", "debugfs", ""},
		{"tracefs", "/sys/kernel/tracing", "tracefs", ""},
		{"securityfs", "/sys/kernel/security", "securityfs", ""},
	};

	for (size_t i = 0; i < sizeof m / sizeof *m; i++) {
		mkdir(m[i].where, 0755);
		if (mount(m[i].what, m[i].where, m[i].type, 0, m[i].data) && i < 5)
			die(m[i].where);
	}
}

static void loopback(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ioctl(s, SIOCGIFFLAGS, &r);
	r.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(s, SIOCSIFFLAGS, &r))
		die("loopback interface");
	close(s);
}

static void open_line(void)
{
	struct termios t;

	line = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line < 0)
		die("/dev/ttyS1");
	tcgetattr(line, &t);
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL;
	cfsetspeed(&t, B115200);
	tcsetattr(line, TCSANOW, &t);
	tcflush(line, TCIOFLUSH);
}

static pid_t start(int out)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	int in = open("/dev/null", O_RDONLY);

	setsid();
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	if (in > 2)
		close(in);
	signal(SIGPIPE, SIG_DFL);
	if (chdir("/tmp"))
		_exit(125);
	execl("/bin/sh", "sh", "/run/job", (char *)0);
	dprintf(2, "guest agent: /bin/sh: %s\n", strerror(errno));
	_exit(125);
}

static long tainted(void)
{
	char b[32] = "";
	int f = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(f, b, sizeof b - 1);

	close(f);
	return n > 0 ? atol(b) : -1;
}

// kill_session ends what is left of a job.
static void kill_session(pid_t leader)
{
	kill(-leader, SIGKILL);
	// Jobs in background of a shell without job control are in its group; what has made a group of its own
	// is found by its session.
	for (pid_t p = leader + 1; p < leader + 4096; p++)
		if (getsid(p) == leader)
			kill(p, SIGKILL);
}

static void job(long ms, size_t size)
{
	static const char done[] = "<6>ub-guest: job done\n";
	char *script = malloc(size + 1);
	int p[2], f = open("/run/job", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
	static char buf[16384], head[64];

	get(script, size);
	if (f < 0 || write(f, script, size) != (ssize_t)size)
		die("/run/job");
	close(f);
	free(script);
	if (pipe2(p, O_CLOEXEC))
		die("pipe");
	pid_t pid = start(p[1]);

	close(p[1]);
	long long end = now_ms() + ms, grace = 0;
	int status = -1, late = 0;

	for (;;) {
		struct pollfd pf = {.fd = p[0], .events = POLLIN};
		int r = poll(&pf, 1, 50);

		if (r > 0) {
			ssize_t n = read(p[0], buf, sizeof buf);

			if (n > 0) {
				put(head, sprintf(head, "out %zd\n", n));
				put(buf, n);
			} else if (n == 0 && status >= 0) {
				break;
			} else if (n == 0) {
				usleep(2000);
			}
		}
		pid_t w;
		int st;

		while ((w = waitpid(-1, &st, WNOHANG)) > 0) {
			if (w != pid)
				continue;
			status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
			kill_session(pid);
			grace = now_ms() + 500;
		}
		// Who has left the session may hold the pipe: what is in it has been read by now.
		if (status >= 0 && r == 0 && now_ms() > grace)
			break;
		if (!late && now_ms() > end) {
			late = 1;
			kill_session(pid);
		}
	}
	close(p[0]);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	long t = tainted();

	f = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (f < 0 || write(f, done, sizeof done - 1) < 0)
		die("/dev/kmsg");
	close(f);
	put(head, sprintf(head, "exit %d %ld\n", late ? 124 : status, t));
}

int main(void)
{
	static char cmd[64];

	mounts();
	loopback();
	open_line();
	signal(SIGPIPE, SIG_IGN);
	setenv("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", 1);
	setenv("HOME", "/root", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TZ", "UTC", 1);
	put("ready\n", 6);
	for (;;) {
		size_t n = 0;
		long ms;
		size_t size;

		do {
			if (n == sizeof cmd - 1)
				die("request too long");
			get(cmd + n, 1);
		} while (cmd[n++] != '\n');
		cmd[n] = 0;
		if (sscanf(cmd, "run %ld %zu", &ms, &size) == 2) {
			job(ms, size);
		} else if (!strcmp(cmd, "off\n")) {
			sync();
			reboot(RB_POWER_OFF);
		} else {
			dprintf(2, "guest agent: what is %s", cmd);
		}
	}
}
