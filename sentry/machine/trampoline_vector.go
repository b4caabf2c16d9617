package machine

import "ub/target"

// loadVector is the part of the entry trampoline that loads the vector registers of the run's level. Registers and flags
// are free.
//
// A mispredicted jump must not enter a blob with less loaded than its level says: it could make the host's vector
// registers visible in the cache. So after each of the ways RSP, from which the rest of the entry is loaded, is made 0 by
// data flow unless the level is this way's.
//
// The code for levels above none is out of line, behind the entry trampoline: see loadVectorCold.
func loadVector(e *emitter) {
	e.load(rCX, rSP, offVecLevel)
	e.cmpJump(rCX, byte(target.VecNone), jne, "vector")
	e.onlyLevel(target.VecNone)
	e.label("loaded")
}

// loadVectorCold loads registers whose upper parts are all 0 as XMM registers, which clears the rest: the processor then
// knows that it is 0. Else every legacy SSE instruction would wait for the old value of its destination, whose upper part
// it keeps: 5 times the time of a loop of them.
func loadVectorCold(e *emitter) {
	e.label("vector")
	e.ldmxcsr(rSP, offMXCSR)
	e.load(rDX, rSP, offVecUpper)
	e.cmpJump(rCX, byte(target.VecAVX), jne, "load512")
	e.cmpJump(rDX, 0, jne, "loadYMM")
	e.loadXMMs()
	e.onlyLevel(target.VecAVX)
	e.jmp("loaded")
	e.label("loadYMM")
	for i := range 16 {
		e.vmovdqaLoad(i, rSP, offVec+64*int32(i))
	}
	e.onlyLevel(target.VecAVX)
	e.jmp("loaded")
	e.label("load512")
	e.cmpJump(rDX, 0, jne, "loadZMM")
	e.loadXMMs()
	e.jmp("loadHigh")
	e.label("loadZMM")
	for i := range 16 {
		e.vmovdqa64Load(i, rSP, offVec+64*int32(i))
	}
	e.label("loadHigh")
	for i := 16; i < 32; i++ {
		e.vmovdqa64Load(i, rSP, offVec+64*int32(i))
	}
	for i := range 8 {
		e.kmovqLoad(i, rSP, offK+8*int32(i))
	}
	e.onlyLevel(target.VecAVX512)
	e.jmp("loaded")
}

// loadXMMs is VMOVDQA (VEX.128.66.0F.WIG 6F) of 16 registers.
func (e *emitter) loadXMMs() {
	for i := range 16 {
		e.raw(0xc5, byte(^i>>3&1)<<7|0x79, 0x6f)
		e.mem32(i, rSP, offVec+64*int32(i))
	}
}

// onlyLevel makes RSP 0 if the level is not v, which is the case only where the processor runs ahead.
func (e *emitter) onlyLevel(v target.Vec) {
	e.load(rCX, rSP, offVecLevel)
	e.raw(0x31, 0xc0)                // xor eax, eax
	e.raw(0x48, 0x83, 0xf9, byte(v)) // cmp rcx, v
	e.raw(0x48, 0x0f, 0x45, 0xe0)    // cmovne rsp, rax
}

// storeVector is the part of the exit trampoline that stores the vector registers. RAX, RCX, RDX and the flags are free:
// they have been stored. Afterwards MXCSR is Go's, and the upper halves are clean: else Go's SSE code would be slow.
func storeVector(e *emitter) {
	e.load(rCX, rSP, offVecLevel)
	e.cmpJump(rCX, byte(target.VecNone), jne, "storeVector")
	e.label("stored")
}

func storeVectorCold(e *emitter) {
	e.label("storeVector")
	e.raw(0x0f, 0xae)
	e.mem32(3, rSP, offMXCSR) // stmxcsr
	e.cmpJump(rCX, byte(target.VecAVX), jne, "store512")
	for i := range 16 {
		e.vmovdqaStore(i, rSP, offVec+64*int32(i))
	}
	for i := 1; i < 16; i++ {
		e.raw(0xc4, byte(^i>>3&1)<<5|0xc1, 0x7c, 0x56, 0xc0|byte(i&7)) // vorps ymm0, ymm0, ymm<i>
	}
	e.raw(0xc4, 0xe3, 0x7d, 0x19, 0xc0, 0x01) // vextractf128 xmm0, ymm0, 1
	e.jmp("storedAny")
	e.label("store512")
	for i := range 32 {
		e.vmovdqa64Store(i, rSP, offVec+64*int32(i))
	}
	for i := range 8 {
		e.kmovqStore(i, rSP, offK+8*int32(i))
	}
	for i := 1; i < 16; i++ {
		e.raw(0x62, byte(^i>>3&1)<<5|0xd1, 0xfd, 0x48, 0xeb, 0xc0|byte(i&7)) // vporq zmm0, zmm0, zmm<i>
	}
	e.raw(0x62, 0xf3, 0xfd, 0x48, 0x3b, 0xc1, 0x01) // vextracti64x4 ymm1, zmm0, 1
	e.raw(0xc4, 0xe3, 0x7d, 0x19, 0xc0, 0x01)       // vextractf128 xmm0, ymm0, 1
	e.raw(0xc4, 0xe3, 0x7d, 0x19, 0xca, 0x01)       // vextractf128 xmm2, ymm1, 1
	e.raw(0xc5, 0xf8, 0x56, 0xc1)                   // vorps xmm0, xmm0, xmm1
	e.raw(0xc5, 0xf8, 0x56, 0xc2)                   // vorps xmm0, xmm0, xmm2
	// XMM0 is what there is above bit 127 of all of them.
	e.label("storedAny")
	e.raw(0x31, 0xc9)                   // xor ecx, ecx
	e.raw(0xc4, 0xe2, 0x79, 0x17, 0xc0) // vptest xmm0, xmm0
	e.raw(0x0f, 0x95, 0xc1)             // setnz cl
	e.store(rSP, offVecUpper, rCX)
	e.raw(0xc5, 0xf8, 0x77) // vzeroupper
	e.ldmxcsr(rSP, offHostMXCSR)
	e.jmp("stored")
}

const jne = 0x85

// cmpJump is cmp reg, imm8 and a conditional jump (0F 8x).
func (e *emitter) cmpJump(reg int, imm byte, jcc byte, label string) {
	e.raw(rexW(0, 0, reg), 0x83, 0xf8|byte(reg&7), imm)
	e.raw(0x0f, jcc, 0, 0, 0, 0)
	e.fixes = append(e.fixes, fix{len(e.b) - 4, 4, label})
}

// mem32 is mem with a displacement of 4 bytes, which EVEX does not scale.
func (e *emitter) mem32(reg, base int, disp int32) {
	e.raw(0x80 | byte(reg&7)<<3 | byte(base&7))
	if base&7 == rSP {
		e.raw(0x24)
	}
	e.imm32(disp)
}

func (e *emitter) ldmxcsr(base int, disp int32) {
	e.raw(0x0f, 0xae)
	e.mem32(2, base, disp)
}

// vmovdqaLoad and vmovdqaStore move a YMM register (VEX.256.66.0F.WIG 6F, 7F); base is one of the first eight.
func (e *emitter) vmovdqaLoad(y, base int, disp int32)  { e.vmovdqa(0x6f, y, base, disp) }
func (e *emitter) vmovdqaStore(y, base int, disp int32) { e.vmovdqa(0x7f, y, base, disp) }

func (e *emitter) vmovdqa(op byte, y, base int, disp int32) {
	e.raw(0xc5, byte(^y>>3&1)<<7|0x7d, op)
	e.mem32(y, base, disp)
}

// vmovdqa64Load and vmovdqa64Store move a ZMM register (EVEX.512.66.0F.W1 6F, 7F).
func (e *emitter) vmovdqa64Load(z, base int, disp int32)  { e.vmovdqa64(0x6f, z, base, disp) }
func (e *emitter) vmovdqa64Store(z, base int, disp int32) { e.vmovdqa64(0x7f, z, base, disp) }

func (e *emitter) vmovdqa64(op byte, z, base int, disp int32) {
	e.raw(0x62, byte(^z>>3&1)<<7|byte(^z>>4&1)<<4|0x61, 0xfd, 0x48, op)
	e.mem32(z, base, disp)
}

// kmovqLoad and kmovqStore move an opmask register (VEX.L0.0F.W1 90, 91).
func (e *emitter) kmovqLoad(k, base int, disp int32) {
	e.raw(0xc4, 0xe1, 0xf8, 0x90)
	e.mem32(k, base, disp)
}

func (e *emitter) kmovqStore(k, base int, disp int32) {
	e.raw(0xc4, 0xe1, 0xf8, 0x91)
	e.mem32(k, base, disp)
}
