package x86

// Subst says which operands Reencode replaces. The zero value replaces none. Its methods return a changed copy, so that
// they can be chained: x86.Subst{}.Reg(x86.R14).Mem(m).
type Subst struct {
	set     uint8 // bit per Field
	regs    [FieldIS4 + 1]Reg
	hasMem  bool
	mem     Mem
	renamed RegSet
	to      [16]Reg
}

// Reg replaces the register in ModRM.reg.
func (s Subst) Reg(r Reg) Subst { return s.Field(FieldReg, r) }

// RM replaces the register in ModRM.rm, or the memory operand there by a register.
func (s Subst) RM(r Reg) Subst { return s.Field(FieldRM, r) }

// Opcode replaces the register in the low bits of the opcode.
func (s Subst) Opcode(r Reg) Subst { return s.Field(FieldOpcode, r) }

// VVVV replaces the register in VEX.vvvv.
func (s Subst) VVVV(r Reg) Subst { return s.Field(FieldVVVV, r) }

// Field replaces the register operand encoded in f: FieldReg, FieldRM, FieldOpcode or FieldVVVV. A register is replaced by
// one of its kind: a general, a vector or an opmask register.
func (s Subst) Field(f Field, r Reg) Subst {
	s.set |= 1 << f
	s.regs[f] = r
	return s
}

// Mem replaces the memory operand, or the register in ModRM.rm by a memory operand of the same width. Of string instructions
// it replaces the segment of the source.
func (s Subst) Mem(m Mem) Subst {
	s.hasMem, s.mem = true, m
	return s
}

// Rename replaces general register from by to in every register operand that has it, wherever it is encoded. Operands in
// memory are not looked into: replace them whole, by Mem.
func (s Subst) Rename(from, to Reg) Subst {
	s.renamed |= 1 << from
	s.to[from] = to
	return s
}
