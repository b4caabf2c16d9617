// Package guest runs Linux kernels in virtual machines, for tests and demonstrations of the kernel module: it builds the
// module, puts programs and the libraries that they need into an initial RAM disk, boots, runs shell scripts in the guest
// one after another, and watches the kernel's log. Software emulation (QEMU's TCG) is enough; KVM is used where it works.
//
// scripts/kernels.sh fetches the kernels, scripts/deps.sh installs QEMU. Neither root nor a network is needed then.
package guest
