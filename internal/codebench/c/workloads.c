// Pieces of code to be run natively and translated, in the memory of another process: that process starts this program,
// lets main prepare everything, and takes a picture of its memory at the breakpoint. None of run's functions makes a
// system call, and each leaves behind what the next run of it expects.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <malloc.h>

#define NOINLINE __attribute__((noinline, noclone))
// The compiler must not turn a loop into something else, nor move its accesses out.
#define BARRIER() __asm__ volatile("" ::: "memory")

enum { SIZE = 4096, SHORT = 24 };

static unsigned char src[SIZE + 64] __attribute__((aligned(64)));
static unsigned char dst[SIZE + 64] __attribute__((aligned(64)));
static char shortText[64], longText[SIZE + 64];

// Hashes of 1 KiB.

static long hash_fnv(long n) {
	uint64_t h = 0;
	for (long k = 0; k < n; k++) {
		h ^= 0xcbf29ce484222325u;
		for (int i = 0; i < 1024; i++) {
			h = (h ^ src[i]) * 0x100000001b3u;
			BARRIER();
		}
	}
	return h;
}

static long hash_djb2(long n) {
	uint32_t h = 5381;
	for (long k = 0; k < n; k++)
		for (int i = 0; i < 1024; i++) {
			h = h * 33 + src[i];
			BARRIER();
		}
	return h;
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND                                                                                                               \
	do {                                                                                                                       \
		v0 += v1, v1 = ROTL(v1, 13), v1 ^= v0, v0 = ROTL(v0, 32);                                                              \
		v2 += v3, v3 = ROTL(v3, 16), v3 ^= v2;                                                                                 \
		v0 += v3, v3 = ROTL(v3, 21), v3 ^= v0;                                                                                 \
		v2 += v1, v1 = ROTL(v1, 17), v1 ^= v2, v2 = ROTL(v2, 32);                                                              \
	} while (0)

static NOINLINE uint64_t sip(const unsigned char *p, size_t n, uint64_t k0, uint64_t k1) {
	uint64_t v0 = k0 ^ 0x736f6d6570736575u, v1 = k1 ^ 0x646f72616e646f6du, v2 = k0 ^ 0x6c7967656e657261u, v3 = k1 ^ 0x7465646279746573u;
	for (size_t i = 0; i + 8 <= n; i += 8) {
		uint64_t m;
		memcpy(&m, p + i, 8);
		v3 ^= m;
		SIPROUND;
		SIPROUND;
		v0 ^= m;
	}
	uint64_t b = (uint64_t)n << 56;
	v3 ^= b;
	SIPROUND;
	SIPROUND;
	v0 ^= b;
	v2 ^= 0xff;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

static long siphash(long n) {
	uint64_t h = 1;
	for (long k = 0; k < n; k++)
		h = sip(src, 64, h, k);
	return h;
}

static uint32_t crcTable[256];

static long crc_table(long n) {
	uint32_t c = ~0u;
	for (long k = 0; k < n; k++)
		for (int i = 0; i < 1024; i++) {
			c = crcTable[(c ^ src[i]) & 255] ^ (c >> 8);
			BARRIER();
		}
	return c;
}

__attribute__((target("sse4.2"))) static long crc_instruction(long n) {
	uint64_t c = ~0u;
	for (long k = 0; k < n; k++)
		for (int i = 0; i < 1024; i += 8) {
			c = _mm_crc32_u64(c, *(const uint64_t *)(src + i));
			BARRIER();
		}
	return c;
}

// Variants of the C library's functions: it chooses one when it starts; here all are called by name. The hidden symbols
// of the static library are visible to the linker.

#define STRLEN(v)                                                                                                              \
	size_t __strlen_##v(const char *);                                                                                         \
	static long strlen_##v##_short(long n) {                                                                                   \
		long s = 0;                                                                                                            \
		for (long k = 0; k < n; k++)                                                                                           \
			s += __strlen_##v(shortText + (k & 7));                                                                            \
		return s;                                                                                                              \
	}                                                                                                                          \
	static long strlen_##v##_long(long n) {                                                                                    \
		long s = 0;                                                                                                            \
		for (long k = 0; k < n; k++)                                                                                           \
			s += __strlen_##v(longText + (k & 7));                                                                             \
		return s;                                                                                                              \
	}
#define MEMCHR(v)                                                                                                              \
	void *__memchr_##v(const void *, int, size_t);                                                                             \
	static long memchr_##v##_short(long n) {                                                                                   \
		long s = 0;                                                                                                            \
		for (long k = 0; k < n; k++)                                                                                           \
			s += (char *)__memchr_##v(shortText + (k & 7), 0, 64 - 8) - shortText;                                             \
		return s;                                                                                                              \
	}                                                                                                                          \
	static long memchr_##v##_long(long n) {                                                                                    \
		long s = 0;                                                                                                            \
		for (long k = 0; k < n; k++)                                                                                           \
			s += (char *)__memchr_##v(longText + (k & 7), 0, SIZE + 8) - longText;                                             \
		return s;                                                                                                              \
	}
#define MEMCMP(v)                                                                                                              \
	int __memcmp_##v(const void *, const void *, size_t);                                                                      \
	static long memcmp_##v##_short(long n) {                                                                                   \
		long s = 0;                                                                                                            \
		for (long k = 0; k < n; k++)                                                                                           \
			s += __memcmp_##v(src + (k & 7), dst + (k & 7), SHORT);                                                            \
		return s;                                                                                                              \
	}                                                                                                                          \
	static long memcmp_##v##_long(long n) {                                                                                    \
		long s = 0;                                                                                                            \
		for (long k = 0; k < n; k++)                                                                                           \
			s += __memcmp_##v(src + (k & 7), dst + (k & 7), SIZE);                                                             \
		return s;                                                                                                              \
	}
#define MEMCPY(v)                                                                                                              \
	void *__memmove_##v(void *, const void *, size_t);                                                                         \
	static long memcpy_##v##_short(long n) {                                                                                   \
		for (long k = 0; k < n; k++)                                                                                           \
			__memmove_##v(dst + (k & 7), src + (k & 7), SHORT + (k & 7));                                                      \
		return dst[9];                                                                                                         \
	}                                                                                                                          \
	static long memcpy_##v##_long(long n) {                                                                                    \
		for (long k = 0; k < n; k++)                                                                                           \
			__memmove_##v(dst + (k & 7), src + (k & 7), SIZE);                                                                 \
		return dst[9];                                                                                                         \
	}

STRLEN(sse2) STRLEN(avx2) STRLEN(evex)
MEMCHR(sse2) MEMCHR(avx2) MEMCHR(evex)
MEMCMP(sse2) MEMCMP(avx2_movbe) MEMCMP(evex_movbe)
MEMCPY(sse2_unaligned) MEMCPY(sse2_unaligned_erms) MEMCPY(ssse3) MEMCPY(erms) MEMCPY(avx_unaligned) MEMCPY(avx_unaligned_erms)
MEMCPY(evex_unaligned) MEMCPY(evex_unaligned_erms) MEMCPY(avx512_unaligned) MEMCPY(avx512_unaligned_erms)

// Memory.

static struct node {
	struct node *next;
	long pad[7];
} nodes[512];

static long chase(long n) {
	struct node *p = nodes;
	for (long k = 0; k < n; k++)
		p = p->next;
	return p - nodes;
}

static long copy_bytes(long n) {
	for (long k = 0; k < n; k++)
		for (int i = 0; i < 1024; i++) {
			dst[i] = src[i];
			BARRIER();
		}
	return dst[5];
}

static long copy_sse2(long n) {
	for (long k = 0; k < n; k++)
		for (int i = 0; i < SIZE; i += 16) {
			_mm_storeu_si128((__m128i *)(dst + i), _mm_loadu_si128((const __m128i *)(src + i)));
			BARRIER();
		}
	return dst[5];
}

__attribute__((target("avx2"))) static long copy_avx2(long n) {
	for (long k = 0; k < n; k++)
		for (int i = 0; i < SIZE; i += 32) {
			_mm256_storeu_si256((__m256i *)(dst + i), _mm256_loadu_si256((const __m256i *)(src + i)));
			BARRIER();
		}
	return dst[5];
}

__attribute__((target("avx512f"))) static long copy_avx512(long n) {
	for (long k = 0; k < n; k++)
		for (int i = 0; i < SIZE; i += 64) {
			_mm512_storeu_si512(dst + i, _mm512_loadu_si512(src + i));
			BARRIER();
		}
	return dst[5];
}

// Calls.

static NOINLINE long leaf(long a) { return a * 3 + 1; }
static NOINLINE void nothing(void) { BARRIER(); }
static NOINLINE long nested3(long a) { return leaf(a) ^ 5; }
static NOINLINE long nested2(long a) { return nested3(a + 1) + leaf(a); }
static NOINLINE long nested1(long a) { return nested2(a ^ 7) + 1; }
static NOINLINE long other1(long a) { return a ^ 0x55; }
static NOINLINE long other2(long a) { return a + 77; }
static NOINLINE long other3(long a) { return a - (a >> 3); }
static long (*volatile const pointers[4])(long) = {leaf, other1, other2, other3};

static long call_return(long n) {
	for (long k = 0; k < n; k++)
		nothing();
	return n;
}

static long call_leaf(long n) {
	long s = 0;
	for (long k = 0; k < n; k++)
		s = leaf(s);
	return s;
}

static long call_nested(long n) {
	long s = 0;
	for (long k = 0; k < n; k++)
		s = nested1(s);
	return s;
}

static long call_pointer(long n) {
	long s = 0;
	for (long k = 0; k < n; k++)
		s = pointers[0](s);
	return s;
}

static long call_pointers(long n) {
	long s = 0;
	for (long k = 0; k < n; k++)
		s = pointers[k & 3](s);
	return s;
}

static NOINLINE long fib(long n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static long call_recursive(long n) {
	long s = 0;
	for (long k = 0; k < n; k++) {
		s += fib(10);
		BARRIER();
	}
	return s;
}

// An interpreter: one jump table, many ways out of it.
static const unsigned char program[] = {0, 1, 2, 3, 1, 4, 5, 0, 6, 2, 1, 7, 3, 5, 4, 6};

static long jump_table(long n) {
	long a = 1, b = 2;
	for (long k = 0; k < n; k++) {
		switch (program[k & 15]) {
		case 0: a += b; break;
		case 1: b ^= a; break;
		case 2: a = (a << 1) | ((unsigned long)a >> 63); break;
		case 3: b -= 7; break;
		case 4: a ^= 0x1234; break;
		case 5: b += a >> 5; break;
		case 6: a = ~a; break;
		case 7: b *= 5; break;
		}
		BARRIER();
	}
	return a ^ b;
}

// Parsers.

static const char json[] =
	"{\"id\": 81723, \"name\": \"userspace bypass\", \"tags\": [\"a\", \"bb\", \"ccc\", true, false, null], \"nested\": {\"x\": -12.5e3, "
	"\"y\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], \"text\": \"with \\\"escapes\\\" and \\u00e4\"}, \"last\": 0}";

static NOINLINE const char *json_value(const char *p, long *sum);

static const char *json_space(const char *p) {
	while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
		p++;
	return p;
}

static NOINLINE const char *json_string(const char *p, long *sum) {
	for (p++; *p != '"'; p++) {
		if (*p == '\\')
			p++;
		*sum = *sum * 31 + *p;
	}
	return p + 1;
}

static NOINLINE const char *json_value(const char *p, long *sum) {
	p = json_space(p);
	switch (*p) {
	case '{':
	case '[': {
		char end = *p == '{' ? '}' : ']';
		for (p = json_space(p + 1); *p != end;) {
			if (end == '}') {
				p = json_space(json_string(p, sum));
				p++; // the colon
			}
			p = json_space(json_value(p, sum));
			if (*p == ',')
				p = json_space(p + 1);
		}
		*sum += 1;
		return p + 1;
	}
	case '"':
		return json_string(p, sum);
	case 't':
	case 'n':
		*sum += 2;
		return p + 4;
	case 'f':
		*sum += 3;
		return p + 5;
	}
	long v = 0;
	for (; (*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == '.' || *p == 'e'; p++)
		v = v * 10 + *p;
	*sum ^= v;
	return p;
}

static long parse_json(long n) {
	long s = 0;
	for (long k = 0; k < n; k++)
		json_value(json, &s);
	return s;
}

static const char resp[] = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000001234\r\n$11\r\nhello world\r\n*2\r\n$3\r\nGET\r\n$16\r\nkey:000000001234\r\n"
						   "*5\r\n$4\r\nHSET\r\n$6\r\nuser:7\r\n$4\r\nname\r\n$5\r\nalice\r\n$3\r\nage\r\n*1\r\n$4\r\nPING\r\n";

static NOINLINE const char *resp_number(const char *p, long *v) {
	long x = 0;
	for (; *p != '\r'; p++)
		x = x * 10 + (*p - '0');
	*v = x;
	return p + 2;
}

static long parse_resp(long n) {
	long s = 0;
	for (long k = 0; k < n; k++) {
		const char *p = resp, *end = resp + sizeof resp - 1;
		while (p < end) {
			long v;
			char kind = *p;
			p = resp_number(p + 1, &v);
			if (kind == '$') {
				uint32_t h = 0;
				for (long i = 0; i < v; i++) {
					h = h * 33 + (p[i] | 32);
					BARRIER();
				}
				s ^= h;
				p += v + 2;
			} else {
				s += v;
			}
		}
	}
	return s;
}

// The C library.

static int numbers[128], work[128];

static int compare(const void *a, const void *b) {
	int x = *(const int *)a, y = *(const int *)b;
	return x < y ? -1 : x > y;
}

static long sort_callback(long n) {
	long s = 0;
	for (long k = 0; k < n; k++) {
		for (int i = 0; i < 128; i++) {
			work[i] = numbers[i];
			BARRIER();
		}
		qsort(work, 128, sizeof work[0], compare);
		s += work[64];
	}
	return s;
}

static long format_text(long n) {
	char buf[128];
	long s = 0;
	for (long k = 0; k < n; k++)
		s += snprintf(buf, sizeof buf, "%s: %ld of %d, 0x%08x %-8s|%c", "request", 100000 + (k & 1023), 77, (unsigned)k & 0xffff, "abc", 'x') + buf[11];
	return s;
}

static long malloc_free(long n) {
	static const unsigned short sizes[8] = {16, 24, 100, 40, 260, 64, 900, 32};
	long s = 0;
	for (long k = 0; k < n; k++) {
		char *p = malloc(sizes[k & 7]), *q = malloc(sizes[(k >> 3) & 7]);
		*p = 1;
		*q = 2;
		s += *p + *q;
		free(p);
		free(q);
	}
	return s;
}

static long malloc_large(long n) {
	long s = 0;
	for (long k = 0; k < n; k++) {
		char *p = malloc(5000), *q = malloc(3000);
		*p = *q = 1;
		s += *p + *q;
		free(p);
		free(q);
	}
	return s;
}

// The table that the other process reads: needs is a flag of /proc/cpuinfo, or several.
struct workload {
	const char *group, *name, *needs;
	long (*run)(long n);
};

#define LIBC(group, f, v, needs) {group, #f " " #v ", short", needs, f##_##v##_short}, {group, #f " " #v ", 4 KiB", needs, f##_##v##_long}
#define EVEX "avx512vl avx512bw bmi2"

const struct workload workloads[] = {
	{"hash", "FNV-1a", "", hash_fnv},
	{"hash", "djb2", "", hash_djb2},
	{"siphash", "SipHash-2-4, 64 B", "", siphash},
	{"crc", "CRC-32, table", "", crc_table},
	{"crc", "CRC-32C, instruction", "sse4_2", crc_instruction},
	LIBC("strlen", strlen, sse2, ""),
	LIBC("strlen", strlen, avx2, "avx2 bmi2"),
	LIBC("strlen", strlen, evex, EVEX),
	LIBC("memchr", memchr, sse2, ""),
	LIBC("memchr", memchr, avx2, "avx2 bmi2"),
	LIBC("memchr", memchr, evex, EVEX),
	LIBC("memcmp", memcmp, sse2, ""),
	LIBC("memcmp", memcmp, avx2_movbe, "avx2 bmi2 movbe"),
	LIBC("memcmp", memcmp, evex_movbe, EVEX " movbe"),
	LIBC("memcpy", memcpy, sse2_unaligned, ""),
	LIBC("memcpy", memcpy, sse2_unaligned_erms, "erms"),
	LIBC("memcpy", memcpy, ssse3, "ssse3"),
	LIBC("memcpy", memcpy, erms, "erms"),
	LIBC("memcpy", memcpy, avx_unaligned, "avx"),
	LIBC("memcpy", memcpy, avx_unaligned_erms, "avx erms"),
	LIBC("memcpy", memcpy, evex_unaligned, EVEX),
	LIBC("memcpy", memcpy, evex_unaligned_erms, EVEX " erms"),
	LIBC("memcpy", memcpy, avx512_unaligned, EVEX),
	LIBC("memcpy", memcpy, avx512_unaligned_erms, EVEX " erms"),
	{"chase", "pointer chase, L1", "", chase},
	{"byte copy", "byte copy, 1 KiB", "", copy_bytes},
	{"SIMD copy", "SSE2 copy, 4 KiB", "", copy_sse2},
	{"SIMD copy", "AVX2 copy, 4 KiB", "avx2", copy_avx2},
	{"SIMD copy", "AVX-512 copy, 4 KiB", "avx512f", copy_avx512},
	{"call/return", "call and return", "", call_return},
	{"calls", "leaf calls", "", call_leaf},
	{"calls", "nested calls", "", call_nested},
	{"calls", "recursion", "", call_recursive},
	{"indirect calls", "one function pointer", "", call_pointer},
	{"indirect calls", "four function pointers", "", call_pointers},
	{"indirect calls", "jump table", "", jump_table},
	{"JSON", "JSON-like parsing", "", parse_json},
	{"RESP", "RESP parsing", "", parse_resp},
	{"qsort", "qsort with callback, 128", "", sort_callback},
	{"snprintf", "snprintf", "", format_text},
	{"malloc", "malloc/free, small", "", malloc_free},
	{"malloc", "malloc/free, large", "", malloc_large},
	{0, 0, 0, 0},
};

int main(void) {
	// No memory is asked of the kernel for afterwards.
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	free(malloc(8 << 20));

	uint32_t x = 1;
	for (int i = 0; i < SIZE + 64; i++) {
		x = x * 1664525 + 1013904223;
		src[i] = dst[i] = x >> 24;
	}
	memset(shortText, 'a', SHORT);
	memset(longText, 'a', SIZE);
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
		crcTable[i] = c;
	}
	for (int i = 0; i < 512; i++)
		nodes[i * 197 % 512].next = &nodes[(i + 1) * 197 % 512];
	for (int i = 0; i < 128; i++) {
		x = x * 1664525 + 1013904223;
		numbers[i] = x >> 8;
	}
	__asm__ volatile("int3");
	return 0;
}
