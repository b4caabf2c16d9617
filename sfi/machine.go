package sfi

import "ub/target"

// machine is what the two kernels' contracts differ in, as far as the dataflow and the checks of memory are concerned. What
// is about the bytes of one instruction is in decode.go, which asks the table's kernel.
type machine struct {
	kernel  target.Kernel
	numbers int64          // a number below this is a sanitized address as it is
	reach   [numKinds]span // how far from its w a value may be, and a byte lie
	// walkBelow is how far below the w of a touched value a byte may lie.
	walkBelow int64
	// both: what an access proves is remembered beside what is known of a sanitized address, and not instead.
	both  bool
	slots int64 // first offset of the context block behind what may be read

	// The poll, and the touch with an index: base and displacement. The touch's base is the anchor, by which SHRX makes tags.
	poll, touch struct {
		base uint8
		disp int32
	}
}

// span is [w-below, w+above).
type span struct{ below, above int64 }

// WalkLimit bounds how far an access may lie from the address that the last access through the same register has proved: every
// byte touched lies in [w-WalkLimit, w+WalkLimit). Such a proof holds when the access has completed, but a processor may run
// ahead behind one that is going to fault. Each access in flight then leads WalkLimit further at most; see docs/sfi.md, Speculation.
const WalkLimit = 1 << 20

// The guards are wide enough for this many accesses in flight, the first of them DispLimit outside: more than any processor has.
const _ = uint((target.GuardSize-target.DispLimit)/WalkLimit - 4096)

// LinuxWalkBelow is WalkLimit's counterpart for the direction down in Linux: every byte touched lies in
// [w-LinuxWalkBelow, w+WalkLimit). Program memory begins at address 0, and below that, at the top of the address space, are
// only linuxHole bytes in which nothing is mapped; further down are fixmap, modules, and the kernel.
const LinuxWalkBelow = 512

// linuxHole is "unused hole" in Documentation/arch/x86/x86_64/mm.rst: the last 2 MiB.
const linuxHole = 2 << 20

// Of the accesses in flight behind the first one that is going to fault, this one is LinuxBelow below address 0 at most,
// and each further one LinuxWalkBelow below an earlier one. So it takes more than 2048 of them in flight to get through the hole.
// The largest reorder buffers have some 600 entries, loads and stores have fewer.
const _ = uint((linuxHole-target.LinuxBelow)/LinuxWalkBelow - 2048)

// Upward from the last user page is what is not canonical, up to 2^63. Should a processor look at the low 48 bits only, it is
// the hole of 8 TiB with which the kernel's half begins ("guard hole, also reserved for hypervisor"). 4096 accesses stay in it.
const _ = uint(8<<40 - target.LinuxAbove - 4096*WalkLimit)

var machines = [target.NumKernels]machine{
	target.Sentry: sentryMachine(),
	target.Linux:  linuxMachine(),
}

func sentryMachine() machine {
	m := machine{kernel: target.Sentry, numbers: target.WindowSize, slots: target.SlotsEnd}
	m.reach[isWindow] = span{target.DispLimit, target.DispLimit}
	m.reach[isAbsolute] = m.reach[isWindow]
	m.reach[isTouched] = span{WalkLimit, WalkLimit}
	m.walkBelow = WalkLimit
	m.poll.base, m.poll.disp = regRSP, target.PollDisp
	m.touch.base, m.touch.disp = regRSP, target.SlotTouch
	return m
}

func linuxMachine() machine {
	m := machine{kernel: target.Linux, numbers: 1 << target.LinuxAddrBits, slots: target.LinuxSlotsEnd}
	m.reach[isWindow] = span{target.LinuxBelow, target.LinuxAbove}
	m.reach[isTouched] = span{WalkLimit, WalkLimit}
	// With such a narrow limit neither fact can stand for the other where ways meet.
	m.walkBelow, m.both = LinuxWalkBelow, true
	m.poll.base, m.poll.disp = regRBP, target.LinuxPollDisp
	m.touch.base, m.touch.disp = regRBP, target.LinuxTouch
	return m
}

// isPoll tells whether in is a poll: mov r32, [rsp+PollDisp], or in Linux mov r32, [rbp+LinuxPollDisp]. Which register it
// loads does not matter: what it reads is no secret.
func (m *machine) isPoll(in *inst) bool {
	return in.form.fx == fxCopy && in.osz == 4 && !in.mwrite && in.hasMem && !in.gs && in.base == m.poll.base && in.index == regNone && in.disp == m.poll.disp
}
