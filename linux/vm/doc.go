// Package vm holds the tests of the kernel module: programs run in virtual machines with the distribution's kernels,
// without bypass and with it, and must not be able to tell the difference; what is hostile must not get through; and after
// each of them the kernel's log must be clean. There is no code here but tests.
package vm
