// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/module.h>

#include "ub.h"

static int __init ub_init(void)
{
	int ret;

	ret = ub_facts_init();
	if (ret)
		return ret;
	ret = ub_code_init();
	if (ret)
		return ret;
	ret = ub_fuel_init();
	if (ret)
		goto code;
	ret = ub_chain_init();
	if (ret)
		goto fuel;
	ret = ub_enrol_init();
	if (ret)
		goto chain;
	ret = ub_hook_init();
	if (ret)
		goto enrol;
	ret = ub_dev_init();
	if (ret)
		goto hook;
	pr_info("%u syscalls hooked, %u KiB for translated code\n", ub_hooks,
		UB_ARENA_KB);
	return 0;
hook:
	ub_hook_exit();
enrol:
	ub_enrol_exit();
chain:
	ub_chain_exit();
fuel:
	ub_fuel_exit();
code:
	ub_code_exit();
	return ret;
}

/* Runs only when no file is open, no enrolment lives and no task is in a chain. */
static void __exit ub_exit(void)
{
	ub_dev_exit();
	ub_hook_exit();
	ub_enrol_exit();
	ub_chain_exit();
	ub_fuel_exit();
	ub_code_exit();
}

module_init(ub_init);
module_exit(ub_exit);

MODULE_DESCRIPTION("Runs translated user code between syscalls without going back to user mode");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
