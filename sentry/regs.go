package sentry

import (
	"gvisor.dev/gvisor/pkg/sentry/arch"

	"ub/sentry/machine"
)

// Hardware numbers of general registers, the indices of machine.Regs.GPR.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

const (
	syscallLen = arch.SyscallWidth

	// maxSyscall is far above the largest number in use and far below the x32 numbers.
	maxSyscall = 0xffff

	flagRF = 1 << 16
)

// load copies the program's state into the machine's registers.
func load(m *machine.Regs, r *arch.Registers) {
	// One by one: an array literal would be built on the stack and copied.
	g := &m.GPR
	g[rax], g[rcx], g[rdx], g[rbx] = r.Rax, r.Rcx, r.Rdx, r.Rbx
	g[rsp], g[rbp], g[rsi], g[rdi] = r.Rsp, r.Rbp, r.Rsi, r.Rdi
	g[r8], g[r9], g[r10], g[r11] = r.R8, r.R9, r.R10, r.R11
	g[r12], g[r13], g[r14], g[r15] = r.R12, r.R13, r.R14, r.R15
	m.RIP = r.Rip
	m.Flags = r.Eflags
	m.FSBase = r.Fs_base
}

// store copies the machine's registers back. The segment registers, GS base and Orig_rax are not changed by translated
// code: instructions that would are not translated.
func store(r *arch.Registers, m *machine.Regs) {
	g := &m.GPR
	r.Rax, r.Rcx, r.Rdx, r.Rbx = g[rax], g[rcx], g[rdx], g[rbx]
	r.Rsp, r.Rbp, r.Rsi, r.Rdi = g[rsp], g[rbp], g[rsi], g[rdi]
	r.R8, r.R9, r.R10, r.R11 = g[r8], g[r9], g[r10], g[r11]
	r.R12, r.R13, r.R14, r.R15 = g[r12], g[r13], g[r14], g[r15]
	r.Rip = m.RIP
	r.Eflags = m.Flags
}

// storeSyscall does the same at a syscall instruction, with its effects: RCX is the address behind it and R11 the flags,
// RF clear (Intel SDM vol. 2, SYSCALL). Orig_rax and Rax both hold the number, as systrap's updateSyscallRegs leaves them.
func storeSyscall(r *arch.Registers, m *machine.Regs) {
	store(r, m)
	r.Rcx = m.RIP
	r.R11 = m.Flags &^ flagRF
	r.Orig_rax = r.Rax
}
