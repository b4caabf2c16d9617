package profile

import "github.com/cilium/ebpf/asm"

// program is an eBPF program being written. Jumps to "exit" end it.
type program struct {
	ins    asm.Instructions
	labels []string // for the next instruction
}

// add appends instructions.
func (p *program) add(ins ...asm.Instruction) {
	for _, i := range ins {
		// One instruction has one symbol. More of them are spread over instructions that do nothing.
		for _, l := range p.labels {
			if i.Symbol() == "" && l == p.labels[len(p.labels)-1] {
				i = i.WithSymbol(l)
			} else {
				p.ins = append(p.ins, nop.WithSymbol(l))
			}
		}
		p.labels = p.labels[:0]
		p.ins = append(p.ins, i)
	}
}

// nop is a jump to the next instruction.
var nop = asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja)}

// symbol names the place of the next instruction.
func (p *program) symbol(name string) { p.labels = append(p.labels, name) }

func (p *program) end() asm.Instructions {
	p.symbol("exit")
	p.add(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return p.ins
}

// mapPtr loads the map name, for helpers.
func (p *program) mapPtr(dst asm.Register, name string) {
	p.add(asm.LoadMapPtr(dst, 0).WithReference(name))
}

// mapValue loads the address of the only element of the array name.
func (p *program) mapValue(dst asm.Register, name string) {
	p.add(asm.LoadMapValue(dst, 0, 0).WithReference(name))
}

// lookup looks up the key at an offset of the frame. R0 points to the value; without one the program goes to missing.
func (p *program) lookup(name string, key int16, missing string) {
	p.mapPtr(asm.R1, name)
	p.add(
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, missing),
	)
}

// lookupReg looks up the key that reg points to. R0 points to the value or is 0.
func (p *program) lookupReg(name string, reg asm.Register) {
	p.mapPtr(asm.R1, name)
	p.add(asm.Mov.Reg(asm.R2, reg), asm.FnMapLookupElem.Call())
}

// update sets the key at an offset of the frame to the value at another.
func (p *program) update(name string, key, value int16, flags int32) {
	p.mapPtr(asm.R1, name)
	p.add(
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(value)),
		asm.Mov.Imm(asm.R4, flags),
		asm.FnMapUpdateElem.Call(),
	)
}

// addTo adds src to the 64-bit word at dst+offset; other CPUs may do so at the same time.
func addTo(dst asm.Register, offset int16, src asm.Register) asm.Instruction {
	return asm.Instruction{OpCode: asm.StoreXAddOp(asm.DWord), Dst: dst, Src: src, Offset: offset}
}
