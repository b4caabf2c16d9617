// Threads that take turns through futexes, mutexes, condition variables and barriers, with other system calls in between.
#include "t.h"

enum { ROUNDS = 3000, THREADS = 4 };

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;
static long counter;
static pthread_barrier_t barrier;

static void *ping_pong(void *arg) {
	int me = (long)arg;
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mu);
		while (turn != me) pthread_cond_wait(&cond, &mu);
		turn = !me;
		counter += me + 1;
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&mu);
	}
	return NULL;
}

static int word;
static void *futex_pong(void *arg) {
	int me = (long)arg, now;
	for (int i = 0; i < ROUNDS; i++) {
		while ((now = LOAD(&word)) != 2 * i + me) futex_wait(&word, now);
		ADD(&word, 1);
		futex_wake(&word, 1);
	}
	return NULL;
}

static uint64_t shared_sum;
static __thread long mine; // through FS
static uint64_t pair[2] __attribute__((aligned(16)));

static void *hammer(void *arg) {
	long me = (long)arg;
	for (int i = 0; i < ROUNDS; i++) {
		mine += sys0(SYS_getuid) + me;
		ADD(&shared_sum, me + i);
		pthread_mutex_lock(&mu);
		counter++;
		pthread_mutex_unlock(&mu);
		// A counter of 128 bits, by CMPXCHG16B.
		for (;;) {
			uint64_t lo = LOAD(&pair[0]), hi = LOAD(&pair[1]);
			unsigned char ok;
			asm volatile("lock cmpxchg16b %1; setz %0"
				     : "=q"(ok), "+m"(pair), "+a"(lo), "+d"(hi)
				     : "b"(lo + 1), "c"(hi + 3)
				     : "cc");
			if (ok) break;
		}
		if (i % 64 == 0) pthread_barrier_wait(&barrier);
	}
	return (void *)mine;
}

int main(void) {
	die_after(50);
	pthread_t t[THREADS];
	for (long i = 0; i < 2; i++) CHECK(pthread_create(&t[i], NULL, ping_pong, (void *)i) == 0);
	for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
	say("condition variables %ld", counter);

	for (long i = 0; i < 2; i++) CHECK(pthread_create(&t[i], NULL, futex_pong, (void *)i) == 0);
	for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
	say("futexes %d", word);

	counter = 0;
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (long i = 0; i < THREADS; i++) CHECK(pthread_create(&t[i], NULL, hammer, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++) {
		void *ret;
		pthread_join(t[i], &ret);
		say("thread %d: %ld", i, (long)ret);
	}
	say("counter %ld, sum %llu, pair %llu %llu", counter, (unsigned long long)shared_sum, (unsigned long long)pair[0],
	    (unsigned long long)pair[1]);
	return 0;
}
