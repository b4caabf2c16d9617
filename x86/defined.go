package x86

import "sync"

// definedRow says which instructions without a row in the tables exist: those with opcodes first..last of a space and
// VEX.pp-like prefix (0: none, 1: 66h, 2: F3h, 3: F2h), by ModRM.reg, with a memory operand (bits of mem) or a register
// (bits of reg). Where ModRM is absent, all bits are set.
//
// Within the vector spaces the granularity ends there: combinations of W, vector length, vvvv, masks and broadcasts that a
// processor would refuse decode as instructions of which only the length is known.
type definedRow struct {
	space, pp, first, last, mem, reg uint8
}

// definedSet is what definedRows expand to.
type definedSet [numSpaces][4][256]struct{ mem, reg uint8 }

var definedTable = sync.OnceValue(func() *definedSet {
	t := new(definedSet)
	for _, r := range definedRows {
		for op := int(r.first); op <= int(r.last); op++ {
			t[r.space][r.pp][op].mem, t[r.space][r.pp][op].reg = r.mem, r.reg
		}
	}
	return t
})

// pp is the selecting prefix, numbered as in VEX.
func (e *Encoding) pp() int {
	switch {
	case e.PrefF3:
		return 2
	case e.PrefF2:
		return 3
	case e.OpSize66:
		return 1
	}
	return 0
}

// defined reports whether an instruction without a row exists.
func (d *decoder) defined() bool {
	e := &d.in.Enc
	if d.space == spaceLegacy {
		return e.Opcode == 0x9b || e.Opcode&0xf8 == 0xd8 && definedX87(e.Opcode&7, e.ModRM)
	}
	if d.space == space3DNow {
		op := e.ImmRaw[0] // the opcode comes last
		return defined3DNow[op>>6]>>(op&63)&1 != 0
	}
	if !e.HasModRM {
		return definedTable()[d.space][e.pp()][e.Opcode].mem != 0
	}
	set := &definedTable()[d.space][e.pp()][e.Opcode]
	if e.ModRM>>6 == 3 {
		return set.reg>>(e.ModRM>>3&7)&1 != 0
	}
	return set.mem>>(e.ModRM>>3&7)&1 != 0
}

// definedX87 reports whether the x87 instruction with opcode D8+n exists.
func definedX87(n, modRM byte) bool {
	if modRM>>6 != 3 {
		return definedX87Mem[n]>>(modRM>>3&7)&1 != 0
	}
	return definedX87Reg[n]>>(modRM&63)&1 != 0
}
