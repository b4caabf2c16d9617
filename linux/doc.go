// Package linux is the Go side of the kernel module ub.ko. The module is mechanism: it runs translated code between the
// system calls of an enrolled process, and tells of what happens often. This package is the policy: it opens /dev/ub, enrols a
// process, and turns events into code, in a loop:
//
//	hot site, missed target ──► path ──► btc ──► sfi ──► UB_INSTALL ──► events
//
// A Session is one process's. What it does is in session.go (the loop), growth.go (which entries belong to one path),
// make.go (translate and install) and judge.go (giving up what does not pay). abi.go is the interface of the module, as
// linux/module/ub_abi.h has it; a test compares the two. docs/kernel-module.md is the contract.
package linux
