// SPDX-License-Identifier: GPL-2.0-only
/* What the module needs of the machine, and what its callers want to know of it. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/cpu.h>
#include <linux/moduleparam.h>
#include <linux/smp.h>
#include <asm/cpufeature.h>
#include <asm/fpu/xcr.h>
#include <asm/fpu/xstate.h>
#include <asm/msr.h>

#include "ub.h"

u32 ub_facts, ub_vec;
u64 ub_addr_mask;

/*
 * Whether a LOCK that crosses a cache line traps. In user mode the kernel may
 * slow the task down or kill it; in kernel mode the trap is fatal. The feature
 * bit says only that the trap exists: on a processor with it, the register does.
 */
static bool ub_split_lock(void)
{
	unsigned int cpu;
	bool on = false;
	u64 ctrl;

	if (!boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT))
		return false;
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		if (rdmsrl_safe_on_cpu(cpu, MSR_TEST_CTRL, &ctrl) ||
		    (ctrl & MSR_TEST_CTRL_SPLIT_LOCK_DETECT))
			on = true;
	}
	cpus_read_unlock();
	return on;
}

static bool untrained;
module_param(untrained, bool, 0444);
MODULE_PARM_DESC(untrained, "load on processors whose kernel untrains returns on its way in from user mode (Retbleed, SRSO)");

static bool ub_untrains(void)
{
	return boot_cpu_has(X86_FEATURE_UNRET) ||
	       boot_cpu_has(X86_FEATURE_ENTRY_IBPB) ||
	       boot_cpu_has(X86_FEATURE_SRSO);
}

#define UB_EFER_UAIE	BIT_ULL(20)	/* AMD: upper address ignore */

/*
 * PDEP with this mask leaves user addresses as they are and moves the bits above
 * them up by one place, over a bit that stays clear: the one that tells the
 * halves apart. So a kernel address is not canonical then; and a processor that
 * runs ahead with its lower bits only (CVE-2020-12965) finds user space there,
 * which it would not if bit 63 were cleared instead.
 */
static u64 ub_user_mask(void)
{
	return native_read_cr4() & X86_CR4_LA57 ? ~(1ull << 56) : ~(1ull << 47);
}

int ub_facts_init(void)
{
	u64 efer;

	/* Not rdmsrl(): it has an exception table entry, see ub_code_init(). */
	if (rdmsrl_safe_on_cpu(raw_smp_processor_id(), MSR_EFER, &efer))
		return -ENODEV;
	if (efer & UB_EFER_UAIE) {
		pr_err("upper address ignore is on: addresses that are not canonical would not fault\n");
		return -ENODEV;
	}
	/*
	 * On its way in from user mode, the kernel undoes what the program may
	 * have taught these processors about returns (Retbleed, SRSO). It does
	 * not for an interrupt of kernel mode, which translated code is.
	 */
	if (ub_untrains() && !untrained) {
		pr_err("this processor's returns can be trained by translated code when interrupts come in it; load with untrained=1 if that does not matter here\n");
		return -ENODEV;
	}
	ub_addr_mask = ub_user_mask();
	/*
	 * SMAP: translated code runs with EFLAGS.AC set, and all else must be
	 * safe from what it was given. BMI2: its sanitizing is PDEP. FSGSBASE:
	 * reads the FS base without a function that is not exported.
	 */
	if (!boot_cpu_has(X86_FEATURE_SMAP) ||
	    !boot_cpu_has(X86_FEATURE_BMI2) ||
	    !boot_cpu_has(X86_FEATURE_FSGSBASE)) {
		pr_err("the processor, or the kernel's command line, lacks SMAP, BMI2 or FSGSBASE\n");
		return -ENODEV;
	}
	/* Registers of a PV guest are not where this module looks for them. */
	if (boot_cpu_has(X86_FEATURE_XENPV)) {
		pr_err("Xen PV guests are not supported\n");
		return -ENODEV;
	}
	ub_facts = UB_FACT_SMAP;
	if (ub_split_lock())
		ub_facts |= UB_FACT_SPLIT_LOCK;
	if (boot_cpu_has(X86_FEATURE_PTI))
		ub_facts |= UB_FACT_PTI;
#ifdef X86_FEATURE_IBT
	if (IS_ENABLED(CONFIG_X86_KERNEL_IBT) && boot_cpu_has(X86_FEATURE_IBT))
		ub_facts |= UB_FACT_IBT;
#endif
#ifdef X86_FEATURE_FRED		/* since 6.9 */
	if (cpu_feature_enabled(X86_FEATURE_FRED))
		ub_facts |= UB_FACT_FRED;
#endif
	if (boot_cpu_has(X86_FEATURE_AVX) && boot_cpu_has(X86_FEATURE_AVX2))
		ub_vec = 1;
	if (ub_vec && boot_cpu_has(X86_FEATURE_AVX512F) &&
	    boot_cpu_has(X86_FEATURE_AVX512VL) &&
	    boot_cpu_has(X86_FEATURE_AVX512BW) &&
	    boot_cpu_has(X86_FEATURE_AVX512DQ))
		ub_vec = 2;
	return 0;
}
