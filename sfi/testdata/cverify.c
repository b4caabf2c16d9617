// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the C verifier on the blobs that stdin asks about. A request is base,
 * symbols (u64), vector level (all ones: that is all, answer now), length, numbers of entries and of faults (u32;
 * all ones: not checked), the entries, the faults and the code; the answer is verdict, rule, offset, flags (u32). Each blob is
 * verified in memory of exactly its size, so that the sanitizers see a step
 * too far.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ub_verify.h"

static void need(void *p, size_t n)
{
	if (n && fread(p, n, 1, stdin) != 1)
		exit(1);
}

int main(void)
{
	static char out[1 << 16];

	setvbuf(stdout, out, _IOFBF, sizeof(out));
	for (;;) {
		struct ub_verify_env env = { 0 };
		struct ub_verify_result res;
		u32 sizes[4], answer[4];
		size_t n;

		if (fread(&env.base, sizeof(env.base), 1, stdin) != 1)
			break;
		need(env.syms, sizeof(env.syms));
		need(sizes, sizeof(sizes));
		if (sizes[0] == ~0u) {	/* the end of a batch */
			fflush(stdout);
			continue;
		}
		env.vec = sizes[0];
		u8 *code = malloc(sizes[1]);
		u32 *entries = malloc(sizes[2] * sizeof(u32)), *faults = NULL;

		need(entries, sizes[2] * sizeof(u32));
		if (sizes[3] != ~0u) {
			faults = malloc(sizes[3] * sizeof(u32) + 1);
			need(faults, sizes[3] * sizeof(u32));
			env.faults = faults;
			env.nfaults = sizes[3];
		}
		need(code, sizes[1]);
		n = ub_verify_workspace(sizes[1]);
		void *work = malloc(n);

		memset(work, 0xa5, n);
		memset(&res, 0xa5, sizeof(res));
		answer[0] = ub_verify(code, sizes[1], entries, sizes[2], &env, work, n, &res);
		answer[1] = res.rule;
		answer[2] = res.off;
		answer[3] = res.flags;
		if (ub_verify_rule_name(res.rule)[0] == '?')
			exit(2);
		if (fwrite(answer, sizeof(answer), 1, stdout) != 1)
			exit(3);
		free(code);
		free(entries);
		free(faults);
		free(work);
	}
	return 0;
}
