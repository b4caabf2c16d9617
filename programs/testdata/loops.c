// Loops over the cheap system calls, with results that are checked and summed.
#include "t.h"

enum { N = 4000 };

static uint64_t sum(const unsigned char *p, size_t n) {
	uint64_t h = 14695981039346656037ULL;
	for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211ULL;
	return h;
}

int main(void) {
	die_after(50);
	static unsigned char buf[1 << 16], back[1 << 16];
	for (size_t i = 0; i < sizeof buf; i++) buf[i] = i * 131 >> 3;

	spin(N);
	say("getpid ok");

	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	static const int sizes[] = {1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 512, 4096};
	uint64_t h = 0;
	for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		int n = sizes[s];
		for (int i = 0; i < N / 8; i++) EQ(pwrite(fd, buf + i % 64, n, (long)i * n), n);
		for (int i = 0; i < N / 8; i++) {
			EQ(pread(fd, back, n, (long)i * n), n);
			CHECK(memcmp(back, buf + i % 64, n) == 0);
			h = h * 31 + sum(back, n);
		}
	}
	say("pread/pwrite %#llx", (unsigned long long)h);

	CHECK(ftruncate(fd, 0) == 0);
	for (int i = 0; i < N; i++) EQ(write(fd, &i, sizeof i), sizeof i);
	EQ(lseek(fd, 0, SEEK_CUR), N * 4);
	long total = 0;
	for (int i = N - 1; i >= 0; i -= 3) {
		int v;
		EQ(lseek(fd, i * 4L, SEEK_SET), i * 4L);
		EQ(read(fd, &v, sizeof v), sizeof v);
		EQ(v, i);
		total += v;
	}
	say("lseek/read %ld", total);

	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	CHECK(zero >= 0 && null >= 0);
	for (int i = 0; i < N; i++) {
		memset(back, 0xaa, 200);
		EQ(read(zero, back + i % 100, 64), 64);
		CHECK(back[i % 100] == 0 && back[i % 100 + 63] == 0 && back[i % 100 + 64] == 0xaa);
		if (i % 100) CHECK(back[i % 100 - 1] == 0xaa);
		EQ(write(null, back, 64), 64);
	}
	say("zero/null ok");

	int p[2];
	CHECK(pipe(p) == 0);
	h = 0;
	for (int i = 0; i < N; i++) {
		EQ(write(p[1], buf + i % 1000, 64), 64);
		EQ(read(p[0], back, 64), 64);
		h = h * 31 + sum(back, 64);
	}
	say("pipe %#llx", (unsigned long long)h);

	// Errors are results too.
	for (int i = 0; i < N; i++) {
		EQ(sys3(SYS_read, -1, (long)buf, 1), -EBADF);
		EQ(sys3(SYS_read, zero, 16, 1), -EFAULT);
		EQ(sys3(SYS_read, zero, (long)-4096, 1), -EFAULT);
		EQ(sys0(0x3ff), -ENOSYS);
	}
	say("errors ok");

	// libc's own loops: buffered files.
	FILE *f = fopen("lines", "w+");
	CHECK(f);
	setvbuf(f, NULL, _IOFBF, 64);
	for (int i = 0; i < N; i++) fprintf(f, "line %d of %d: %x\n", i, N, i * 2654435761u);
	rewind(f);
	char line[200];
	h = 0;
	while (fgets(line, sizeof line, f)) h = h * 31 + sum((unsigned char *)line, strlen(line));
	say("stdio %#llx", (unsigned long long)h);
	return 0;
}
