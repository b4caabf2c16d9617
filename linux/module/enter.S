/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hook's trampoline, and the ways into translated code and out of it.
 *
 * While translated code runs, RSP points at a struct ub_block, RBP at the
 * anchor, and EFLAGS.AC is set. The program's flags are in EFLAGS from the end of
 * ub_enter to the PUSHF that saves them: in between only instructions that
 * leave them alone are used (CLAC and STAC change only AC).
 */
#include <linux/linkage.h>
#include <linux/version.h>
#include <asm/asm.h>
#include <asm/asm-offsets.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/ptrace-abi.h>
#include <asm/smap.h>
#include <asm/unwind_hints.h>
#include <linux/objtool.h>

#include "ub_asm.h"
#include "ub_offsets.h"

/* From 6.2 to 6.14 the current task is a member of pcpu_hot, the first one. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define CURRENT_TASK	PER_CPU_VAR(pcpu_hot)
#else
#define CURRENT_TASK	PER_CPU_VAR(current_task)
#endif

/* From 6.2 on calls are counted on processors whose return predictor underflows. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
.macro CALL_DEPTH_ACCOUNT
.endm
#endif

/* RSP is at the block. Not tracked: what is stored there are not our registers. */
.macro HINT_BLOCK
	UNWIND_HINT type=UNWIND_HINT_TYPE_CALL sp_reg=ORC_REG_SP sp_offset=(UB_BLOCK_SIZE + 56)
.endm

	.text

/*
 * Called by a hooked __x64_sys_* before its first instruction, by ftrace:
 * RDI = struct pt_regs. On the stack are the address in the hooked function, to
 * which most tasks return at once, and below that the hooked function's own
 * return address. For a thread that is going to chain, the former is dropped:
 * ub_run takes the function's place.
 */
SYM_CODE_START(ub_tramp)
	UNWIND_HINT_FUNC
	ANNOTATE_NOENDBR
	CALL_DEPTH_ACCOUNT
	mov	CURRENT_TASK, %rax
	testb	$(1 << (UB_WORK_BIT & 7)), (UB_TASK_CALL_WORK + UB_WORK_BIT / 8)(%rax)
	jnz	1f
	RET
1:	/* In a chain? Then this is one of its syscalls. */
	cmpq	$0, PER_CPU_VAR(ub_chain)
	jne	2f
	push	%rdi
	call	ub_want
	pop	%rdi
	test	%rax, %rax
	jnz	3f
2:	RET
3:	add	$8, %rsp
	UNWIND_HINT_FUNC
	mov	%rax, %rsi
	jmp	ub_run
SYM_CODE_END(ub_tramp)

/*
 * long ub_run(struct pt_regs *regs, struct ub_enrolment *e): does the syscall
 * in regs and a chain after it. Returns what is to be in the program's RAX.
 */
SYM_FUNC_START(ub_run)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$UB_BLOCK_SIZE, %rsp
	mov	%rdi, UB_B_REGS(%rsp)
	mov	%rsp, %rdi
	call	ub_begin
	/* These are free to translated code: nothing of ours shall be in them. */
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	test	%rax, %rax
	jz	3f
	/*
	 * Translated code loads its masks from the block. A load that ran ahead of
	 * the store there, in a block that is new, would take what the stack held
	 * before for the mask (docs/sfi.md). Behind this, all stores have addresses.
	 */
	lfence
1:	UNWIND_HINT_SAVE
	call	ub_enter
.Lreturned:
	ANNOTATE_NOENDBR
	mov	%rsp, %rdi
	mov	%rax, %rsi
	call	ub_resume
2:	test	%rax, %rax
	jnz	1b
3:	mov	UB_B_REGS(%rsp), %rax
	mov	RAX(%rax), %rax
	add	$UB_BLOCK_SIZE, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET
.Lleft:
	UNWIND_HINT_RESTORE
	ANNOTATE_NOENDBR
	mov	%rsp, %rdi
	mov	%r15d, %esi
	call	ub_left
	jmp	2b
SYM_FUNC_END(ub_run)

/* Registers that C may change and a syscall does not, R12 = pt_regs. */
.macro LOAD_ARGS
	mov	RDX(%r12), %rdx
	mov	RSI(%r12), %rsi
	mov	RDI(%r12), %rdi
	mov	R8(%r12), %r8
	mov	R9(%r12), %r9
	mov	R10(%r12), %r10
.endm

/* The program's registers, R12 = pt_regs, and RBP; R15 is left alone. */
.macro LOAD_PROGRAM
	mov	ub_anchor(%rip), %rbp
	/*
	 * What the kernel does on its way to user mode, on processors whose
	 * buffers leak. From here on only the program's registers are loaded.
	 */
	CLEAR_CPU_BUFFERS
	/*
	 * OF by an addition that overflows just when it was set, the others by
	 * SAHF. POPF would take five times as long, and set more.
	 */
	mov	EFLAGS(%r12), %eax
	mov	%eax, %ecx
	shr	$11, %ecx
	and	$1, %cl
	mov	%al, %ah
	STAC
	add	$0x7f, %cl
	sahf
	mov	RAX(%r12), %rax
	mov	RCX(%r12), %rcx
	mov	RBX(%r12), %rbx
	mov	R11(%r12), %r11
	LOAD_ARGS
	mov	$0, %r12d
.endm

/*
 * Enters translated code at RAX. A call from ub_run so that returns stay
 * predicted: the return address is dropped here, since RSP must be at the block,
 * and pushed again by LEAVE.
 */
SYM_FUNC_START_LOCAL(ub_enter)
	lea	8(%rsp), %rsp
	mov	%rax, %r15
	mov	UB_B_REGS(%rsp), %r12
	LOAD_PROGRAM
	JMP_NOSPEC r15
SYM_FUNC_END(ub_enter)
/* It leaves with another stack than it came with, and SMAP open, on purpose. */
STACK_FRAME_NON_STANDARD ub_enter

/*
 * Translated code has run in kernel mode, with branches of the program's choice.
 * What the kernel's entry code does, on processors that need it, so that such
 * history does not direct its own speculation, is done here too, before the first
 * indirect branch or return. May change RAX, RCX, RDX and the flags. Kernels that
 * have x64_sys_call have both macros.
 */
.macro UNTRAIN
	CLEAR_BRANCH_HISTORY
	UNTRAIN_RET
.endm

/* Goes on in ub_run: a return for its call of ub_enter. */
.macro RETURN_TO to
	push	$\to
	UNWIND_HINT_FUNC
	RET
.endm

/* Registers that every way out stores, R12 = pt_regs. */
.macro SAVE_REST
	mov	%rdx, RDX(%r12)
	mov	%rbx, RBX(%r12)
	mov	%rdi, RDI(%r12)
	mov	%r8, R8(%r12)
	mov	%r9, R9(%r12)
	mov	%r10, R10(%r12)
	mov	%r13, RIP(%r12)
.endm

/* All that LOAD_PROGRAM loads, but the flags; and RIP. */
.macro SAVE_PROGRAM
	mov	%rax, RAX(%r12)
	mov	%rcx, RCX(%r12)
	mov	%rsi, RSI(%r12)
	mov	%r11, R11(%r12)
	SAVE_REST
.endm

/*
 * At a syscall: stores what enter.S has not yet stored of what the syscall and
 * ub_sync() look at. Then the thread, R15, is not inside any more.
 */
.macro GO_OUTSIDE
	SAVE_REST
	subl	$UB_INSIDE, UB_TASK_FAULTS(%r15)
	UNTRAIN
.endm

/*
 * Translated code jumps to these: the program's registers are in place or in
 * their slots, R13 is the program's RIP, R12, R14 and R15 are free.
 *
 * A syscall. What is between here and JMP_NOSPEC is all that a chained syscall
 * costs besides itself, if nothing is to be looked at closer; else C decides. The
 * flags that are tested are those that the kernel tests on its way in and out. Of
 * pt_regs only what the syscall looks at is stored: ub_sync() makes the rest of
 * it. What C leaves alone stays where it is: RBX, R12 = pt_regs, R13 = RIP, R15 =
 * the task. RBP is loaded anew, so that the timer, if it has moved it, has to do
 * so again in its next period.
 */
	.p2align 6
SYM_CODE_START(ub_sym_syscall)
	HINT_BLOCK
	ANNOTATE_NOENDBR
	CLAC
	mov	UB_B_REGS(%rsp), %r12
	pushf
	pop	EFLAGS(%r12)
	mov	CURRENT_TASK, %r15
	mov	%rax, ORIG_RAX(%r12)
	mov	%rsi, RSI(%r12)
	mov	UB_B_RSP(%rsp), %rsi
	mov	%rsi, RSP(%r12)
	/* What is not done here is not in its place of the table. */
	mov	%eax, %esi
	and	$(UB_NR_MAX - 1), %esi
	cmp	%eax, ub_calls(, %rsi, 4)
	jne	3f
	testl	$UB_TASK_WORK, UB_TASK_FLAGS(%r15)
	jnz	3f
	testl	$UB_CALL_WORK, UB_TASK_CALL_WORK(%r15)
	jnz	3f
	subl	$1, UB_B_LEFT(%rsp)
	jc	4f
	GO_OUTSIDE
1:	mov	%r12, %rdi
	/* For who unwinds the stack of a thread that sleeps there: ub_run's caller's. */
	mov	(UB_BLOCK_SIZE + 40)(%rsp), %rbp
	call	__SCT__ub_syscall
	/* Whether the next syscall is to be seen by somebody is asked before it. */
	testl	$UB_TASK_WORK, UB_TASK_FLAGS(%r15)
	jnz	6f
	mov	ub_anchor(%rip), %rbp
	/* First inside, then the look-up: see expel.c. */
	addl	$UB_INSIDE, UB_TASK_FAULTS(%r15)
	mov	%r13d, %r15d
	and	$UB_KNOWN_MASK, %r15d
	cmp	%r13, UB_B_KNOWN(%rsp, %r15)
	jne	5f
2:	CLEAR_CPU_BUFFERS
	mov	%rax, %rcx
	/* As in ub_enter. Here AH is IF, which is set, and OF, which overflows. */
	mov	EFLAGS(%r12), %r11
	mov	%r11d, %eax
	add	$(0x7f - 0x08 - 0x02 + 0x01), %ah
	mov	%al, %ah
	sahf
	mov	%rcx, %rax
	mov	%r13, %rcx
	LOAD_ARGS
	mov	(UB_B_KNOWN + 8)(%rsp, %r15), %r12
	STAC
	JMP_NOSPEC r12

	/* Before the syscall. Code with vector registers leaves nothing here. */
4:	addl	$1, UB_B_LEFT(%rsp)
	cmpl	$0, UB_B_KEPT(%rsp)
	je	3f
	GO_OUTSIDE
	mov	%rsp, %rdi
	call	ub_unlock
	mov	ORIG_RAX(%r12), %esi
	and	$(UB_NR_MAX - 1), %esi
	jmp	1b
	/* It is for C to do, or for the program. */
3:	mov	RSI(%r12), %rsi
	mov	$UB_EXIT_SYSCALL, %r15d
	jmp	ub_save_flags

	/* After it. Code with vector registers is known in another part. */
5:	add	$UB_KNOWN_VECTOR, %r15d
	cmp	%r13, UB_B_KNOWN(%rsp, %r15)
	jne	7f
	mov	%rax, %r14
	mov	%rsp, %rdi
	call	ub_lock
	mov	%r14, %rax
	jmp	2b
	/* The chain may not go on, or not to a place known here. */
7:	mov	CURRENT_TASK, %r15
	subl	$UB_INSIDE, UB_TASK_FAULTS(%r15)
6:	RETURN_TO .Lreturned
SYM_CODE_END(ub_sym_syscall)

/* Tells objtool whose call that is, so that it becomes a direct one. */
	.pushsection .discard.addressable, "aw"
	.quad	__SCK__ub_syscall
	.popsection

/*
 * Any other way out, and a syscall for C: R15 = why. R14, for a miss, goes into
 * the block before.
 */
SYM_CODE_START_LOCAL(ub_save)
	HINT_BLOCK
	mov	UB_B_REGS(%rsp), %r12
	pushf
	pop	EFLAGS(%r12)
SYM_INNER_LABEL(ub_save_flags, SYM_L_LOCAL)
	HINT_BLOCK
	SAVE_PROGRAM
	mov	EFLAGS(%r12), %eax
	and	$UB_FLAGS, %eax
	or	UB_B_FLAGS(%rsp), %rax
	mov	%rax, EFLAGS(%r12)
	mov	UB_B_RSP(%rsp), %rax
	mov	%rax, RSP(%r12)
SYM_INNER_LABEL(ub_leave, SYM_L_LOCAL)
	HINT_BLOCK
	UNTRAIN
	RETURN_TO .Lleft
SYM_CODE_END(ub_save)

/* Where ways lead that ub_forget() has taken from under a thread's feet. */
SYM_CODE_START(ub_gone)
	HINT_BLOCK
	ENDBR
	CLAC
	mov	$UB_EXIT_FUEL, %r15d
	jmp	ub_save
SYM_CODE_END(ub_gone)

/*
 * Is this way of the set R15 for R13? Keys are negated addresses: two that belong
 * together add up to 0.
 */
.macro WAY at:req found:req
	mov	\at(%r15), %rcx
	lea	(%rcx, %r13), %rcx
	jrcxz	\found
.endm

/*
 * Where to go on for R13, as ub_lookup() has it: R15. Flags are left alone; RCX is
 * lost.
 */
.macro FIND table:req none:req
	rorx	$UB_TABLE_ROT, %r13, %r15
	lea	(%r15, %r13), %r15
	pdep	UB_B_HASHMASK(%rsp), %r15, %r15
	mov	\table(%rsp), %rcx
	lea	(%r15, %rcx), %r15
	WAY	0, .Lfirst\@
	WAY	16, .Lsecond\@
	lea	32(%r15), %r15
	WAY	0, .Lfirst\@
	WAY	16, .Lsecond\@
	jmp	\none
.Lsecond\@:
	mov	24(%r15), %r15
	jmp	.Lfound\@
.Lfirst\@:
	mov	8(%r15), %r15
.Lfound\@:
.endm

/*
 * Code without vector registers has come to an instruction that needs them, or to
 * one that is not translated at all. It is looked up as if it were jumped to, from
 * 0. An entry at R13 does at least one instruction; but blobs are not trusted to, so
 * this is no loop without a poll.
 */
	.p2align 6
SYM_CODE_START(ub_sym_stop)
	HINT_BLOCK
	ANNOTATE_NOENDBR
	mov	$0, %r14d
	jmp	ub_dispatch_begin
SYM_CODE_END(ub_sym_stop)

/*
 * R13 = where the program goes on, R14 = native address of the transfer. The
 * timer may move the anchor in RBP between ub_dispatch_begin and its end as well
 * as in translated code.
 */
	.p2align 6
SYM_CODE_START(ub_sym_dispatch)
	HINT_BLOCK
	ANNOTATE_NOENDBR
SYM_INNER_LABEL(ub_dispatch_begin, SYM_L_GLOBAL)
	mov	%rcx, %r12
	mov	UB_B_POLL(%rsp), %rcx
	jrcxz	3f
	FIND	UB_B_TABLE, 4f
	mov	%r12, %rcx
	JMP_NOSPEC r15
3:	mov	%r12, %rcx
	CLAC
	mov	$UB_EXIT_FUEL, %r15d
	jmp	ub_save
SYM_INNER_LABEL(ub_dispatch_end, SYM_L_GLOBAL)
/* Where ways of the table lead that are not in use. */
SYM_INNER_LABEL(ub_miss, SYM_L_GLOBAL)
	HINT_BLOCK
	ENDBR
	mov	%rcx, %r12
	/* Not among the code that may be run now. Is it with vector registers? */
4:	movzbl	UB_B_FPU(%rsp), %ecx
	jrcxz	6f
5:	mov	%r14, UB_B_FROM(%rsp)
	mov	%r14, %rcx
	mov	$UB_EXIT_STOP, %r15d
	jrcxz	7f
	mov	$UB_EXIT_MISS, %r15d
7:	mov	%r12, %rcx
	CLAC
	jmp	ub_save
6:	FIND	UB_B_VECTORS, 5b
	/*
	 * They are locked first, by C. From here to the next syscall all code is
	 * run with them. Everything stays as it is inside: see ub_next().
	 */
	mov	%r12, %rcx
	CLAC
	mov	UB_B_REGS(%rsp), %r12
	pushf
	pop	EFLAGS(%r12)
	SAVE_PROGRAM
	UNTRAIN
	mov	%rsp, %rdi
	call	ub_lock
	LOAD_PROGRAM
	JMP_NOSPEC r15
SYM_CODE_END(ub_sym_dispatch)

/*
 * Where the exception table sends faults of translated code, with all
 * registers as they were but RBP, which has the low 16 bits of the fault's index.
 */
	.p2align UB_LANDING_SHIFT
SYM_CODE_START(ub_landings)
.set landing, 0
.rept UB_LANDINGS
	.p2align UB_LANDING_SHIFT
	HINT_BLOCK
	ANNOTATE_NOENDBR
	movl	$landing, UB_B_FAULT(%rsp)
	jmp	ub_landed
.set landing, landing + 1
.endr
SYM_INNER_LABEL(ub_landed, SYM_L_LOCAL)
	HINT_BLOCK
	CLAC
	mov	%rax, (UB_B_NAT + 0x00)(%rsp)
	mov	%rcx, (UB_B_NAT + 0x08)(%rsp)
	mov	%rdx, (UB_B_NAT + 0x10)(%rsp)
	mov	%rbx, (UB_B_NAT + 0x18)(%rsp)
	mov	%rbp, (UB_B_NAT + 0x28)(%rsp)
	mov	%rsi, (UB_B_NAT + 0x30)(%rsp)
	mov	%rdi, (UB_B_NAT + 0x38)(%rsp)
	mov	%r8, (UB_B_NAT + 0x40)(%rsp)
	mov	%r9, (UB_B_NAT + 0x48)(%rsp)
	mov	%r10, (UB_B_NAT + 0x50)(%rsp)
	mov	%r11, (UB_B_NAT + 0x58)(%rsp)
	mov	%r12, (UB_B_NAT + 0x60)(%rsp)
	mov	%r13, (UB_B_NAT + 0x68)(%rsp)
	mov	%r14, (UB_B_NAT + 0x70)(%rsp)
	mov	%r15, (UB_B_NAT + 0x78)(%rsp)
	pushf
	pop	UB_B_NATFLAGS(%rsp)
	mov	$UB_EXIT_FAULT, %r15d
	jmp	ub_leave
SYM_CODE_END(ub_landings)
