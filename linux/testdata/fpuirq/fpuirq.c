// SPDX-License-Identifier: GPL-2.0
/*
 * A user of the FPU in softirq context, as network encryption is one: a timer
 * that overwrites all vector registers, every jiffy on every processor. Whoever
 * keeps live vector state in registers where softirqs can come sees it spoilt.
 */
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/timer.h>
#include <asm/fpu/api.h>

static DEFINE_PER_CPU(struct timer_list, timers);
static atomic_t used, busy;

/* So that nothing begins anew after the end. */
static bool ending;

static int used_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d %d\n", atomic_read(&used), atomic_read(&busy));
}

static const struct kernel_param_ops used_ops = { .get = used_get };
module_param_cb(used, &used_ops, NULL, 0444);

static void spoil(struct timer_list *t)
{
	if (irq_fpu_usable()) {
		kernel_fpu_begin();
		asm volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n\t"
			     "vmovdqa %%ymm0, %%ymm1\n\tvmovdqa %%ymm0, %%ymm2\n\t"
			     "vmovdqa %%ymm0, %%ymm3\n\tvmovdqa %%ymm0, %%ymm4\n\t"
			     "vmovdqa %%ymm0, %%ymm5\n\tvmovdqa %%ymm0, %%ymm6\n\t"
			     "vmovdqa %%ymm0, %%ymm7\n\tvmovdqa %%ymm0, %%ymm8\n\t"
			     "vmovdqa %%ymm0, %%ymm9\n\tvmovdqa %%ymm0, %%ymm10\n\t"
			     "vmovdqa %%ymm0, %%ymm11\n\tvmovdqa %%ymm0, %%ymm12\n\t"
			     "vmovdqa %%ymm0, %%ymm13\n\tvmovdqa %%ymm0, %%ymm14\n\t"
			     "vmovdqa %%ymm0, %%ymm15\n\t" ::: "memory");
		kernel_fpu_end();
		atomic_inc(&used);
	} else {
		atomic_inc(&busy);
	}
	if (!READ_ONCE(ending))
		mod_timer(t, jiffies + 1);
}

static int __init fpuirq_init(void)
{
	int cpu;

	for_each_online_cpu(cpu) {
		struct timer_list *t = per_cpu_ptr(&timers, cpu);

		timer_setup(t, spoil, TIMER_PINNED);
		t->expires = jiffies + 1;
		add_timer_on(t, cpu);
	}
	return 0;
}

static void __exit fpuirq_exit(void)
{
	int cpu;

	WRITE_ONCE(ending, true);
	for_each_online_cpu(cpu)
		del_timer_sync(per_cpu_ptr(&timers, cpu));
}

module_init(fpuirq_init);
module_exit(fpuirq_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("spoils vector registers, for tests");
