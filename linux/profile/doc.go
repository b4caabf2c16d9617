// Package profile watches the gaps of the programs of an ordinary Linux host: how often a thread comes back from a system
// call, from where it makes the next one, and how long it computes in between. It answers which programs and which sites
// are worth bypassing before anything is bypassed.
//
// Two eBPF programs at the tracepoints of system calls do the counting inside the kernel (prog.go). While they are
// attached every system call of the machine takes a slower path, so they are attached only in short windows, and a pacer
// makes sure that what they cost stays below a share of time that the user sets. What the windows have seen is read by
// a collector, given names by a symbolizer, and becomes a Profile.
//
// Loading needs the kernel's own types (BTF), so no kernel headers and no compiler are needed. Everything depends on
// x86-64: the registers in pt_regs, the encodings of call instructions and the numbers of system calls.
package profile
