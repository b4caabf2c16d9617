package profile

import "github.com/cilium/ebpf/asm"

// sysFork adds the child of a profiled process to procs, at the tracepoint sched_process_fork: before the child runs. It has
// the image of its parent. tgidOffset is that of task_struct.tgid.
func sysFork(all bool, tgidOffset int16) asm.Instructions {
	const (
		parent = -4
		child  = -8
		image  = -16
	)
	var p program
	p.add(
		asm.LoadMem(asm.R6, asm.R1, 8, asm.DWord), // the second argument
		asm.LoadMem(asm.R6, asm.R6, tgidOffset, asm.Word),
		asm.StoreMem(asm.RFP, child, asm.R6, asm.Word),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JEq.Reg(asm.R0, asm.R6, "exit"), // a thread
		asm.StoreMem(asm.RFP, parent, asm.R0, asm.Word),
		asm.StoreMem(asm.RFP, image, asm.R0, asm.DWord),
	)
	if all {
		p.lookup(mapProcs, parent, "first")
	} else {
		p.lookup(mapProcs, parent, "exit")
	}
	p.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.StoreMem(asm.RFP, image, asm.R1, asm.DWord),
	)
	p.symbol("first")
	p.update(mapProcs, child, image, 0)
	return p.end()
}

// sysExec gives a process a new image, at the tracepoint sched_process_exec.
func sysExec(all bool) asm.Instructions {
	const (
		tgid  = -4
		image = -16
	)
	var p program
	p.add(
		asm.FnGetCurrentPidTgid.Call(),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.RSh.Imm(asm.R6, 32),
		asm.StoreMem(asm.RFP, tgid, asm.R6, asm.Word),
		asm.Mov.Imm(asm.R7, 0),
	)
	if all {
		p.lookup(mapProcs, tgid, "first")
	} else {
		p.lookup(mapProcs, tgid, "exit")
	}
	p.add(
		asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord),
		asm.RSh.Imm(asm.R7, 32),
	)
	p.symbol("first")
	p.add(
		asm.Add.Imm(asm.R7, 1),
		asm.LSh.Imm(asm.R7, 32),
		asm.Or.Reg(asm.R7, asm.R6),
		asm.StoreMem(asm.RFP, image, asm.R7, asm.DWord),
	)
	p.update(mapProcs, tgid, image, 0)
	return p.end()
}
