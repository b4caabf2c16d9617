package profile

import "github.com/cilium/ebpf/asm"

// sysFork adds the child of a profiled process to procs, at the tracepoint sched_process_fork: before the child runs.
// tgidOffset is that of task_struct.tgid.
func sysFork(tgidOffset int16) asm.Instructions {
	const (
		parent = -4
		child  = -8
		image  = -12
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
	)
	p.lookup(mapProcs, parent, "exit")
	p.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), // it runs the same program
		asm.StoreMem(asm.RFP, image, asm.R1, asm.Word),
	)
	p.update(mapProcs, child, image, 0)
	return p.end()
}

// sysExec counts the programs of a process, at the tracepoint sched_process_exec.
func sysExec(all bool) asm.Instructions {
	const (
		tgid  = -4
		image = -8
	)
	var p program
	p.add(
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, tgid, asm.R0, asm.Word),
	)
	if all {
		p.lookup(mapProcs, tgid, "new")
	} else {
		p.lookup(mapProcs, tgid, "exit")
	}
	p.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.Word), // a process has one exec at a time
	)
	if all {
		p.add(asm.Ja.Label("exit"))
		p.symbol("new")
		p.add(asm.StoreImm(asm.RFP, image, 1, asm.Word))
		p.update(mapProcs, tgid, image, 0)
	}
	return p.end()
}
