package profile

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// Names of the maps in the programs.
const (
	mapControl = "control"
	mapSeen    = "seen"
	mapThreads = "threads"
	mapSites   = "sites"
	mapDepths  = "depths"
	mapProcs   = "procs"
)

// Offsets in x86-64's struct pt_regs, which never change: ptrace shows it to user space.
const (
	regsOrigAX = 120
	regsIP     = 128
	regsCS     = 136
	regsSP     = 152
)

// userCS is the code segment of 64-bit user code. System calls of 32-bit code have other numbers and are left out.
const userCS = 0x33

// stackWords is how much of the stack is searched for a return address, in words of 8 bytes.
const stackWords = 16

// sysEnter ends the gap of a thread at the tracepoint sys_enter.
//
//	R6 epoch  R7 now  R8 thread  R9 floor
func sysEnter() asm.Instructions {
	const (
		tid = -8  // pid and tgid, key of threads
		cpu = -12 // key of seen, 0
		gap = -24
	)
	var p program
	p.mapValue(asm.R1, mapControl)
	p.add(
		asm.LoadMem(asm.R6, asm.R1, ctlEpoch, asm.DWord),
		asm.JEq.Imm(asm.R6, 0, "exit"),
		asm.LoadMem(asm.R9, asm.R1, ctlFloor, asm.DWord),
		asm.LoadMem(asm.R8, asm.R1, ctlSelf, asm.Word),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.RFP, tid, asm.R0, asm.DWord),
		asm.RSh.Imm(asm.R0, 32),
		asm.JEq.Reg(asm.R0, asm.R8, "exit"),
		// The system calls of each CPU, profiled or not, are what the pacer judges the cost by.
		asm.StoreImm(asm.RFP, cpu, 0, asm.Word),
	)
	p.lookup(mapSeen, cpu, "exit")
	p.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
	)
	p.lookup(mapThreads, tid, "exit")
	p.add(
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadMem(asm.R1, asm.R8, thEpoch, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R6, "entered"),
		asm.LoadMem(asm.R1, asm.R8, thStart, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "entered"),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Sub.Reg(asm.R2, asm.R1),
		asm.Sub.Reg(asm.R2, asm.R9),
		asm.JSGE.Imm(asm.R2, 0, "positive"),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.RFP, gap, asm.R2, asm.DWord).WithSymbol("positive"),
		asm.LoadMem(asm.R1, asm.R8, thGaps, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R8, thGaps, asm.R1, asm.DWord),
	)
	p.findSite()
	p.add(
		asm.Mov.Imm(asm.R1, 1),
		addTo(asm.R0, valGaps, asm.R1),
		asm.LoadMem(asm.R1, asm.RFP, gap, asm.DWord),
		addTo(asm.R0, valGapNS, asm.R1),
		asm.LoadMem(asm.R1, asm.R8, thSysNS, asm.DWord),
		addTo(asm.R0, valSysNS, asm.R1),
		asm.LoadMem(asm.R1, asm.R8, thSysN, asm.DWord),
		addTo(asm.R0, valSysN, asm.R1),
		asm.LoadMem(asm.R1, asm.RFP, gap, asm.DWord),
	)
	p.bucket()
	p.add(
		asm.LSh.Imm(asm.R1, 2),
		asm.Add.Reg(asm.R0, asm.R1),
		asm.Mov.Imm(asm.R2, 1),
		asm.Instruction{OpCode: asm.StoreXAddOp(asm.Word), Dst: asm.R0, Src: asm.R2, Offset: valHist},
		asm.StoreMem(asm.R8, thEnter, asm.R7, asm.DWord).WithSymbol("entered"),
		asm.StoreMem(asm.R8, thEpoch, asm.R6, asm.DWord),
		asm.StoreImm(asm.R8, thStart, 0, asm.DWord),
	)
	return p.end()
}

// findSite leaves the site of the thread in R8 in R0, making it if it is new. A return address that is none would make a
// new site of every gap and drive out the real ones. So a new site's caller must follow a call instruction; if it does
// not, the stack is not asked again at this RIP.
func (p *program) findSite() {
	const (
		depth = -28
		code  = -40
	)
	p.lookupReg(mapSites, asm.R8)
	p.add(
		asm.JNE.Imm(asm.R0, 0, "site"),
		asm.LoadMem(asm.R3, asm.R8, keyCaller, asm.DWord),
		asm.JEq.Imm(asm.R3, 0, "new"),
	)
	p.afterCall("check", code, "new")
	p.add(
		asm.StoreImm(asm.R8, keyCaller, 0, asm.DWord),
		asm.StoreImm(asm.RFP, depth, depthNone, asm.Word),
	)
	p.mapPtr(asm.R1, mapDepths)
	p.add(
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, depth),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	)
	p.lookupReg(mapSites, asm.R8)
	p.add(asm.JNE.Imm(asm.R0, 0, "site"))
	// A zeroed value is larger than the stack. One of a map that is never written serves as the source.
	p.symbol("new")
	p.mapValue(asm.R3, mapBlank)
	p.mapPtr(asm.R1, mapSites)
	p.add(
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.Mov.Imm(asm.R4, 1), // BPF_NOEXIST: another thread may have been faster
		asm.FnMapUpdateElem.Call(),
	)
	p.lookupReg(mapSites, asm.R8)
	p.add(
		asm.JEq.Imm(asm.R0, 0, "entered"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Mov.Reg(asm.R9, asm.R0),
		asm.Add.Imm(asm.R1, valComm),
		asm.Mov.Imm(asm.R2, 16),
		asm.FnGetCurrentComm.Call(),
		asm.Mov.Reg(asm.R0, asm.R9),
	)
	p.symbol("site")
}

// mapBlank holds a siteValue of zeroes.
const mapBlank = "blank"

// bucket turns the time in R1 into the number of its bucket. It is bucketOf.
func (p *program) bucket() {
	p.add(
		asm.JLT.Imm(asm.R1, 4, "bucketed"),
		asm.Mov.Reg(asm.R2, asm.R1), // what is left
		asm.Mov.Imm(asm.R3, 0),      // its logarithm
	)
	for _, n := range []int32{32, 16, 8, 4, 2, 1} {
		skip := fmt.Sprintf("log%d", n)
		p.add(
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.RSh.Imm(asm.R4, n),
			asm.JEq.Imm(asm.R4, 0, skip),
			asm.Mov.Reg(asm.R2, asm.R4),
			asm.Add.Imm(asm.R3, n),
		)
		p.symbol(skip)
	}
	p.add(
		asm.Mov.Reg(asm.R4, asm.R3),
		asm.Sub.Imm(asm.R4, 2),
		asm.And.Imm(asm.R4, 63),
		asm.RSh.Reg(asm.R1, asm.R4),
		asm.And.Imm(asm.R1, 3),
		asm.Sub.Imm(asm.R3, 1),
		asm.LSh.Imm(asm.R3, 2),
		asm.Add.Reg(asm.R1, asm.R3),
	)
	p.symbol("bucketed")
	p.add(
		asm.JLT.Imm(asm.R1, numBuckets, "fits"),
		asm.Mov.Imm(asm.R1, numBuckets-1),
	)
	p.symbol("fits")
}

// sysExit begins a gap at the tracepoint sys_exit. Unless all, only threads of processes in the map procs count.
//
//	R6 registers  R7 tgid, later epoch  R8 thread
func sysExit(all bool) asm.Instructions {
	const (
		tid   = -8
		tgid  = -12
		key   = -16 - keySize
		epoch = key - 8
		word  = epoch - 8 // what was read from the stack
		fresh = word - thSize
	)
	var p program
	p.add(asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord))
	p.mapValue(asm.R1, mapControl)
	p.add(
		asm.LoadMem(asm.R2, asm.R1, ctlEpoch, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, "exit"),
		asm.StoreMem(asm.RFP, epoch, asm.R2, asm.DWord),
		asm.LoadMem(asm.R8, asm.R1, ctlSelf, asm.Word),
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.RFP, tid, asm.R0, asm.DWord),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.RSh.Imm(asm.R7, 32),
		asm.JEq.Reg(asm.R7, asm.R8, "exit"),
		asm.StoreMem(asm.RFP, tgid, asm.R7, asm.Word),
		asm.StoreMem(asm.RFP, key+keyImage, asm.R7, asm.DWord), // its first image
	)
	if all {
		p.lookup(mapProcs, tgid, "image")
	} else {
		p.lookup(mapProcs, tgid, "exit")
	}
	p.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.StoreMem(asm.RFP, key+keyImage, asm.R1, asm.DWord),
	)
	p.symbol("image")
	p.add(
		asm.LoadMem(asm.R1, asm.R6, regsCS, asm.Half),
		asm.JNE.Imm(asm.R1, userCS, "exit"),
		asm.LoadMem(asm.R1, asm.R6, regsIP, asm.DWord),
		asm.StoreMem(asm.RFP, key+keyRIP, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, regsOrigAX, asm.DWord),
		asm.StoreMem(asm.RFP, key+keyNR, asm.R1, asm.Word),
		asm.StoreImm(asm.RFP, key+keyZero, 0, asm.Word),
		asm.StoreImm(asm.RFP, key+keyCaller, 0, asm.DWord),
	)
	p.lookup(mapThreads, tid, "newthread")
	p.add(asm.Ja.Label("thread"))
	p.symbol("newthread")
	for i := int16(0); i < thSize; i += 8 {
		p.add(asm.StoreImm(asm.RFP, fresh+i, 0, asm.DWord))
	}
	p.update(mapThreads, tid, fresh, 0)
	p.lookup(mapThreads, tid, "exit")
	p.symbol("thread")
	p.add(asm.Mov.Reg(asm.R8, asm.R0))

	p.lookup(mapDepths, key, "search")
	p.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.Ja.Label("depth"),
	)
	p.symbol("search")
	p.searchStack(key, word, fresh) // fresh has served its purpose
	p.symbol("depth")
	p.add(
		asm.JGT.Imm(asm.R1, 8*stackWords, "nocaller"), // depthNone
		asm.LoadMem(asm.R3, asm.R6, regsSP, asm.DWord),
		asm.Add.Reg(asm.R3, asm.R1),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, key+keyCaller),
		asm.Mov.Imm(asm.R2, 8),
		asm.FnProbeReadUser.Call(), // leaves zeroes when it fails
	)
	p.symbol("nocaller")
	for i := int16(0); i < keySize; i += 8 {
		p.add(
			asm.LoadMem(asm.R1, asm.RFP, key+i, asm.DWord),
			asm.StoreMem(asm.R8, i, asm.R1, asm.DWord),
		)
	}
	p.add(
		asm.LoadMem(asm.R7, asm.RFP, epoch, asm.DWord),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.LoadMem(asm.R1, asm.R8, thEpoch, asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R7, "unknown"),
		asm.LoadMem(asm.R1, asm.R8, thEnter, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "unknown"),
		asm.Mov.Reg(asm.R3, asm.R0),
		asm.Sub.Reg(asm.R3, asm.R1),
		asm.Mov.Imm(asm.R4, 1),
		asm.StoreMem(asm.R8, thSysNS, asm.R3, asm.DWord).WithSymbol("unknown"),
		asm.StoreMem(asm.R8, thSysN, asm.R4, asm.DWord),
		asm.StoreImm(asm.R8, thEnter, 0, asm.DWord),
		asm.StoreMem(asm.R8, thEpoch, asm.R7, asm.DWord),
		asm.StoreMem(asm.R8, thStart, asm.R0, asm.DWord),
	)
	return p.end()
}

// searchStack finds out where, at the RIP in key, the caller's return address is: at the first word on the stack that
// points behind a call instruction. Usually this is the topmost; wrappers of libc that can be cancelled have a few words
// above it. The offset, or depthNone, goes to the map of depths, for it is the same whenever this RIP is reached, and to R1.
func (p *program) searchStack(key, code, scratch int16) {
	const size = 8 * stackWords
	stack := scratch - size
	depth := scratch
	p.add(
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(stack)),
		asm.Mov.Imm(asm.R2, size),
		asm.LoadMem(asm.R3, asm.R6, regsSP, asm.DWord),
		asm.FnProbeReadUser.Call(),
		asm.Mov.Imm(asm.R7, depthNone),
		asm.JNE.Imm(asm.R0, 0, "searched"),
	)
	for i := range int16(stackWords) {
		next, found := fmt.Sprintf("next%d", i), fmt.Sprintf("found%d", i)
		p.add(
			asm.LoadMem(asm.R3, asm.RFP, stack+8*i, asm.DWord),
			asm.JEq.Imm(asm.R3, 0, next),
		)
		p.afterCall(fmt.Sprintf("word%d", i), code, found)
		p.add(asm.Ja.Label(next))
		p.symbol(found)
		p.add(
			asm.Mov.Imm(asm.R7, int32(8*i)),
			asm.Ja.Label("searched"),
		)
		p.symbol(next)
	}
	p.symbol("searched")
	p.add(asm.StoreMem(asm.RFP, depth, asm.R7, asm.Word))
	p.update(mapDepths, key, depth, 0)
	p.add(asm.Mov.Reg(asm.R1, asm.R7))
}

// afterCall jumps to yes if the user address in R3 follows a call instruction, as return addresses do, and falls through if
// not. code is room for 8 bytes of instructions. R0 to R5 are lost.
func (p *program) afterCall(label string, code int16, yes string) {
	no := label + "no"
	p.add(
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(code)),
		asm.Mov.Imm(asm.R2, 8),
		asm.FnProbeReadUser.Call(),
		asm.JNE.Imm(asm.R0, 0, no),
		// call rel32
		asm.LoadMem(asm.R1, asm.RFP, code+8-5, asm.Byte),
		asm.JEq.Imm(asm.R1, 0xe8, yes),
	)
	// call r/m64 is FF /2, with a ModRM byte and whatever that asks for.
	for _, n := range []int16{2, 3, 4, 6, 7} {
		other := fmt.Sprintf("%s%d", label, n)
		p.add(
			asm.LoadMem(asm.R1, asm.RFP, code+8-n, asm.Byte),
			asm.JNE.Imm(asm.R1, 0xff, other),
			asm.LoadMem(asm.R1, asm.RFP, code+8-n+1, asm.Byte),
			asm.And.Imm(asm.R1, 0x38),
			asm.JEq.Imm(asm.R1, 0x10, yes),
		)
		p.symbol(other)
	}
	p.symbol(no)
}
