// SPDX-License-Identifier: GPL-2.0
/* A module that does nothing, or, when told so, something that a kernel complains about. */
#include <linux/module.h>

static bool warn;
module_param(warn, bool, 0);

static int __init hello_init(void)
{
	WARN_ON(warn);
	pr_info("hello\n");
	return 0;
}

static void __exit hello_exit(void)
{
	pr_info("bye\n");
}

module_init(hello_init);
module_exit(hello_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test of the test's guest");
