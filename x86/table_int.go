package x86

// Tables of the general-purpose instructions, by opcode map. Columns: operation; encoding; operands; what Width follows
// from; flags; implicit general registers; attributes.
//
// Where they deviate from the manual (Intel SDM vol. 2), on purpose:
//   - Width of 8-bit forms is 1 whatever 66h and REX.W say (the manual: the prefixes are ignored).
//   - F2h and F3h where they mean nothing are refused (known length only) except on branches and RET: processors ignore
//     them today, but the manual reserves them, and XACQUIRE/XRELEASE are such prefixes. LOCK is refused as the manual says.
//   - MOVS, STOS, LODS with F2h, and any string instruction with 67h, are refused.
//   - Near branches with 66h without REX.W are refused: AMD truncates the target to 16 bits, Intel ignores the prefix. Their
//     length is Intel's.
//   - BSWAP and MOVSXD with a 16-bit operand are refused: the result is undefined, or depends on the vendor.
//   - 90h with F3h and REX.B is refused (the manual leaves open whether it is PAUSE).
//   - The NOPs of 0F 18..1F that carry a ModRM operand have it in Ops with no Access, and Reads no registers; so does
//     nothing else but LEA, whose address registers are read.
//   - PREFETCHh read their operand here, although they never fault.
//   - CMOVcc reads and writes its destination, and always reads its source: so it does in effect, since a 32-bit one
//     zeroes the upper half whatever the condition.
//   - CMPXCHG8B/16B and CMPXCHG write RAX (and RDX) or the destination depending on the comparison: CondWrite for the
//     explicit operand; the implicit ones are in Reads anyway.
//   - BSF and BSR with a zero source leave their destination as it was on all processors; the manual leaves it undefined.
//     CondWrite, and the register is in Reads.
//   - Shifts and rotates by an immediate: the flags are those of that count (Decode refines what the row says): nothing
//     is written when the masked count is 0, OF is undefined for all counts but 1, CF for those beyond a narrow width.
//   - SHLD and SHRD by CL write their destination always: with a count of 0, what was there.
//   - MOV with a 64-bit absolute address (A0..A3) and MOV from and to segment registers are named only.
//   - XLAT is described but stops: its address, RBX+AL, is no Mem.
//   - STD and POPF are described; STD stops.
//   - SYSCALL: RCX and R11 in Writes, although the kernel may do as it likes with every register.
//   - ENDBR64, ENDBR32 are NOPs; RDSSP, which is one where there is no shadow stack, is not.

var formsInt = [...]form{
	// One-byte opcodes. 00..3F are in formsALU.
	{OpPUSH, m0 | 0x50 | plus8, ops{_Zv | r}, osD64, f0, rwSP, isPush},
	{OpPOP, m0 | 0x58 | plus8, ops{_Zv | w}, osD64, f0, rwSP, isPop},
	{OpMOVSXD, m0 | 0x63 | no16, ops{_Gv | w, _Ed | r}, osV, f0, 0, 0},
	{OpPUSH, m0 | 0x68, ops{_Iz}, osD64, f0, rwSP, isPush},
	{OpIMUL, m0 | 0x69, ops{_Gv | w, _Ev | r, _Iz}, osV, fMul, 0, 0},
	{OpPUSH, m0 | 0x6a, ops{_Ib}, osD64, f0, rwSP, isPush},
	{OpIMUL, m0 | 0x6b, ops{_Gv | w, _Ev | r, _Ib}, osV, fMul, 0, 0},
	{OpJcc, m0 | 0x70 | cc, ops{_Jb}, os64, f0, 0, cond | repNop | near},
	{OpTEST, m0 | 0x84, ops{_Eb | r, _Gb | r}, os8, fLogic, 0, 0},
	{OpTEST, m0 | 0x85, ops{_Ev | r, _Gv | r}, osV, fLogic, 0, 0},
	{OpXCHG, m0 | 0x86, ops{_Eb | rw, _Gb | rw}, os8, f0, 0, lock | xchgMem},
	{OpXCHG, m0 | 0x87, ops{_Ev | rw, _Gv | rw}, osV, f0, 0, lock | xchgMem},
	{OpMOV, m0 | 0x88, ops{_Eb | w, _Gb | r}, os8, f0, 0, 0},
	{OpMOV, m0 | 0x89, ops{_Ev | w, _Gv | r}, osV, f0, 0, 0},
	{OpMOV, m0 | 0x8a, ops{_Gb | w, _Eb | r}, os8, f0, 0, 0},
	{OpMOV, m0 | 0x8b, ops{_Gv | w, _Ev | r}, osV, f0, 0, 0},
	{OpLEA, m0 | 0x8d | modMem, ops{_Gv | w, _M}, osV, f0, 0, 0},
	{OpPOP, m0 | 0x8f | d0, ops{_Ev | w}, osD64, f0, rwSP, isPop},
	{OpNOP, m0 | 0x90 | noRep | b0, ops{}, osNone, f0, 0, isNop},
	{OpPAUSE, m0 | 0x90 | pF3 | b0, ops{}, osNone, f0, 0, 0},
	{OpXCHG, m0 | 0x90 | plus8, ops{_Zv | rw, _Av | rw}, osV, f0, 0, 0}, // after NOP, which is XCHG rAX,rAX but for the zeroed upper half
	{OpCBW, m0 | 0x98 | o16, ops{}, osV, f0, rA | wA, 0},
	{OpCDQE, m0 | 0x98 | w1, ops{}, osV, f0, rA | wA, 0},
	{OpCWDE, m0 | 0x98 | no16 | w0, ops{}, osV, f0, rA | wA, 0},
	{OpCWD, m0 | 0x99 | o16, ops{}, osV, f0, rA | wD, 0},
	{OpCQO, m0 | 0x99 | w1, ops{}, osV, f0, rA | wD, 0},
	{OpCDQ, m0 | 0x99 | no16 | w0, ops{}, osV, f0, rA | wD, 0},
	{OpPUSHF, m0 | 0x9c, ops{}, osD64, rAll, rwSP, isPush},
	{OpPOPF, m0 | 0x9d, ops{}, osD64, wAll, rwSP, isPop},
	{OpSAHF, m0 | 0x9e, ops{}, osNone, fSAHF, rA, 0},
	{OpLAHF, m0 | 0x9f, ops{}, osNone, fLAHF, rA | wA, 0},
	{OpMOVS, m0 | 0xa4 | no67, ops{}, os8, rDF, rSI | rDI | wSI | wDI, isString | rep},
	{OpMOVS, m0 | 0xa5 | no67, ops{}, osV, rDF, rSI | rDI | wSI | wDI, isString | rep},
	{OpCMPS, m0 | 0xa6 | no67, ops{}, os8, fArith | rDF, rSI | rDI | wSI | wDI, isString | repZ},
	{OpCMPS, m0 | 0xa7 | no67, ops{}, osV, fArith | rDF, rSI | rDI | wSI | wDI, isString | repZ},
	{OpTEST, m0 | 0xa8, ops{_AL | r, _Ib}, os8, fLogic, 0, 0},
	{OpTEST, m0 | 0xa9, ops{_Av | r, _Iz}, osV, fLogic, 0, 0},
	{OpSTOS, m0 | 0xaa | no67, ops{}, os8, rDF, rA | rDI | wDI, isString | rep},
	{OpSTOS, m0 | 0xab | no67, ops{}, osV, rDF, rA | rDI | wDI, isString | rep},
	{OpLODS, m0 | 0xac | no67, ops{}, os8, rDF, rSI | wSI | wA, isString | rep},
	{OpLODS, m0 | 0xad | no67, ops{}, osV, rDF, rSI | wSI | wA, isString | rep},
	{OpSCAS, m0 | 0xae | no67, ops{}, os8, fArith | rDF, rA | rDI | wDI, isString | repZ},
	{OpSCAS, m0 | 0xaf | no67, ops{}, osV, fArith | rDF, rA | rDI | wDI, isString | repZ},
	{OpMOV, m0 | 0xb0 | plus8, ops{_Zb | w, _Ib}, os8, f0, 0, 0},
	{OpMOV, m0 | 0xb8 | plus8, ops{_Zv | w, _Iv}, osV, f0, 0, 0},
	// C0, C1, D0..D3 are in formsShift.
	{OpRET, m0 | 0xc2, ops{_Uw}, os64, f0, rwSP, ret | repNop | near},
	{OpRET, m0 | 0xc3, ops{}, os64, f0, rwSP, ret | repNop | near},
	{OpMOV, m0 | 0xc6 | d0, ops{_Eb | w, _Ib}, os8, f0, 0, 0},
	{OpMOV, m0 | 0xc7 | d0, ops{_Ev | w, _Iz}, osV, f0, 0, 0},
	{OpENTER, m0 | 0xc8, ops{_Uw, _Ub}, osD64, f0, rwSP | rBP | wBP, isEnter},
	{OpLEAVE, m0 | 0xc9, ops{}, osD64, f0, wSP | rBP | wBP, isLeave},
	{OpXLAT, m0 | 0xd7, ops{}, os8, f0, rA | rB | wA, stop},
	{OpLOOPNE, m0 | 0xe0, ops{_Jb}, osCX, rZF, rC | wC, cond | repNop | near},
	{OpLOOPE, m0 | 0xe1, ops{_Jb}, osCX, rZF, rC | wC, cond | repNop | near},
	{OpLOOP, m0 | 0xe2, ops{_Jb}, osCX, f0, rC | wC, cond | repNop | near},
	{OpJRCXZ, m0 | 0xe3, ops{_Jb}, osCX, f0, rC, cond | repNop | near},
	{OpCALL, m0 | 0xe8, ops{_Jz}, os64, f0, rwSP, call | repNop | near},
	{OpJMP, m0 | 0xe9, ops{_Jz}, os64, f0, 0, jump | repNop | near},
	{OpJMP, m0 | 0xeb, ops{_Jb}, os64, f0, 0, jump | repNop | near},
	{OpCMC, m0 | 0xf5, ops{}, osNone, rCF | wCF, 0, 0},
	{OpTEST, m0 | 0xf6 | d0, ops{_Eb | r, _Ib}, os8, fLogic, 0, 0},
	{OpTEST, m0 | 0xf6 | d1, ops{_Eb | r, _Ib}, os8, fLogic, 0, 0},
	{OpNOT, m0 | 0xf6 | d2, ops{_Eb | rw}, os8, f0, 0, lock},
	{OpNEG, m0 | 0xf6 | d3, ops{_Eb | rw}, os8, fArith, 0, lock},
	{OpMUL, m0 | 0xf6 | d4, ops{_Eb | r}, os8, fMul, rA | wA, 0},
	{OpIMUL, m0 | 0xf6 | d5, ops{_Eb | r}, os8, fMul, rA | wA, 0},
	{OpDIV, m0 | 0xf6 | d6, ops{_Eb | r}, os8, fUndefA, rA | wA, 0},
	{OpIDIV, m0 | 0xf6 | d7, ops{_Eb | r}, os8, fUndefA, rA | wA, 0},
	{OpTEST, m0 | 0xf7 | d0, ops{_Ev | r, _Iz}, osV, fLogic, 0, 0},
	{OpTEST, m0 | 0xf7 | d1, ops{_Ev | r, _Iz}, osV, fLogic, 0, 0},
	{OpNOT, m0 | 0xf7 | d2, ops{_Ev | rw}, osV, f0, 0, lock},
	{OpNEG, m0 | 0xf7 | d3, ops{_Ev | rw}, osV, fArith, 0, lock},
	{OpMUL, m0 | 0xf7 | d4, ops{_Ev | r}, osV, fMul, rA | wA | wD, 0},
	{OpIMUL, m0 | 0xf7 | d5, ops{_Ev | r}, osV, fMul, rA | wA | wD, 0},
	{OpDIV, m0 | 0xf7 | d6, ops{_Ev | r}, osV, fUndefA, rA | rD | wA | wD, 0},
	{OpIDIV, m0 | 0xf7 | d7, ops{_Ev | r}, osV, fUndefA, rA | rD | wA | wD, 0},
	{OpCLC, m0 | 0xf8, ops{}, osNone, wCF, 0, 0},
	{OpSTC, m0 | 0xf9, ops{}, osNone, wCF, 0, 0},
	{OpCLD, m0 | 0xfc, ops{}, osNone, wDF, 0, 0},
	{OpSTD, m0 | 0xfd, ops{}, osNone, wDF, 0, stop},
	{OpINC, m0 | 0xfe | d0, ops{_Eb | rw}, os8, fIncDec, 0, lock},
	{OpDEC, m0 | 0xfe | d1, ops{_Eb | rw}, os8, fIncDec, 0, lock},
	{OpINC, m0 | 0xff | d0, ops{_Ev | rw}, osV, fIncDec, 0, lock},
	{OpDEC, m0 | 0xff | d1, ops{_Ev | rw}, osV, fIncDec, 0, lock},
	{OpCALL, m0 | 0xff | d2, ops{_Ev | r}, os64, f0, rwSP, indCall | repNop | near},
	{OpJMP, m0 | 0xff | d4, ops{_Ev | r}, os64, f0, 0, indJump | repNop | near},
	{OpPUSH, m0 | 0xff | d6, ops{_Ev | r}, osD64, f0, rwSP, isPush},

	// 0F.
	{OpSYSCALL, m0f | 0x05 | noRep, ops{}, osNone, f0, wC | wR11, sysc},
	{OpPREFETCH, m0f | 0x0d | d0 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpPREFETCHW, m0f | 0x0d | d1 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpPREFETCHWT1, m0f | 0x0d | d2 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpPREFETCHNTA, m0f | 0x18 | d0 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpPREFETCHT0, m0f | 0x18 | d1 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpPREFETCHT1, m0f | 0x18 | d2 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpPREFETCHT2, m0f | 0x18 | d3 | modMem, ops{_Mb | r}, osNone, f0, 0, 0},
	{OpENDBR64, m0f | 0x1e | pF3 | modReg | d7 | rm2, ops{}, osNone, f0, 0, isNop},
	{OpENDBR32, m0f | 0x1e | pF3 | modReg | d7 | rm3, ops{}, osNone, f0, 0, isNop},
	{OpNOP, m0f | 0x1f | noRep, ops{_Ev}, osV, f0, 0, isNop},
	{OpRDTSC, m0f | 0x31, ops{}, osNone, f0, wA | wD, 0},
	{OpCMOVcc, m0f | 0x40 | cc, ops{_Gv | rw, _Ev | r}, osV, f0, 0, 0},
	{OpJcc, m0f | 0x80 | cc, ops{_Jz}, os64, f0, 0, cond | repNop | near},
	{OpSETcc, m0f | 0x90 | cc, ops{_Eb | w}, os8, f0, 0, 0},
	{OpBT, m0f | 0xa3, ops{_Ev | r, _Gv | r}, osV, fBitRef, 0, bitOff},
	{OpSHLD, m0f | 0xa4, ops{_Ev | rw, _Gv | r, _Ub}, osV, fDouble, 0, 0},
	{OpSHLD, m0f | 0xa5, ops{_Ev | rw, _Gv | r, _CL | r}, osV, fDouble, 0, 0},
	{OpBTS, m0f | 0xab, ops{_Ev | rw, _Gv | r}, osV, fBitRef, 0, bitOff | lock},
	{OpSHRD, m0f | 0xac, ops{_Ev | rw, _Gv | r, _Ub}, osV, fDouble, 0, 0},
	{OpSHRD, m0f | 0xad, ops{_Ev | rw, _Gv | r, _CL | r}, osV, fDouble, 0, 0},
	{OpLFENCE, m0f | 0xae | np | modReg | d5, ops{}, osNone, f0, 0, 0},
	{OpMFENCE, m0f | 0xae | np | modReg | d6, ops{}, osNone, f0, 0, 0},
	{OpSFENCE, m0f | 0xae | np | modReg | d7, ops{}, osNone, f0, 0, 0},
	{OpIMUL, m0f | 0xaf, ops{_Gv | rw, _Ev | r}, osV, fMul, 0, 0},
	{OpCMPXCHG, m0f | 0xb0, ops{_Eb | r | cw, _Gb | r}, os8, fArith, rA | wA, lock},
	{OpCMPXCHG, m0f | 0xb1, ops{_Ev | r | cw, _Gv | r}, osV, fArith, rA | wA, lock},
	{OpBTR, m0f | 0xb3, ops{_Ev | rw, _Gv | r}, osV, fBitRef, 0, bitOff | lock},
	{OpMOVZX, m0f | 0xb6, ops{_Gv | w, _Eb | r}, osV, f0, 0, 0},
	{OpMOVZX, m0f | 0xb7, ops{_Gv | w, _Ew | r}, osV, f0, 0, 0},
	{OpPOPCNT, m0f | 0xb8 | pF3, ops{_Gv | w, _Ev | r}, osV, fArith, 0, 0},
	{OpBT, m0f | 0xba | d4, ops{_Ev | r, _Ub}, osV, fBitRef, 0, 0},
	{OpBTS, m0f | 0xba | d5, ops{_Ev | rw, _Ub}, osV, fBitRef, 0, lock},
	{OpBTR, m0f | 0xba | d6, ops{_Ev | rw, _Ub}, osV, fBitRef, 0, lock},
	{OpBTC, m0f | 0xba | d7, ops{_Ev | rw, _Ub}, osV, fBitRef, 0, lock},
	{OpBTC, m0f | 0xbb, ops{_Ev | rw, _Gv | r}, osV, fBitRef, 0, bitOff | lock},
	{OpBSF, m0f | 0xbc | noRep, ops{_Gv | cw, _Ev | r}, osV, fScan, 0, 0},
	{OpTZCNT, m0f | 0xbc | pF3, ops{_Gv | w, _Ev | r}, osV, fCount, 0, 0},
	{OpBSR, m0f | 0xbd | noRep, ops{_Gv | cw, _Ev | r}, osV, fScan, 0, 0},
	{OpLZCNT, m0f | 0xbd | pF3, ops{_Gv | w, _Ev | r}, osV, fCount, 0, 0},
	{OpMOVSX, m0f | 0xbe, ops{_Gv | w, _Eb | r}, osV, f0, 0, 0},
	{OpMOVSX, m0f | 0xbf, ops{_Gv | w, _Ew | r}, osV, f0, 0, 0},
	{OpXADD, m0f | 0xc0, ops{_Eb | rw, _Gb | rw}, os8, fArith, 0, lock},
	{OpXADD, m0f | 0xc1, ops{_Ev | rw, _Gv | rw}, osV, fArith, 0, lock},
	{OpMOVNTI, m0f | 0xc3 | np | modMem, ops{_My | w, _Gy | r}, osY, f0, 0, 0},
	{OpCMPXCHG8B, m0f | 0xc7 | d1 | modMem | noRep | w0, ops{_Mq | r | cw}, osNone, fZF, rA | rB | rC | rD | wA | wD, lock},
	{OpCMPXCHG16B, m0f | 0xc7 | d1 | modMem | noRep | w1, ops{_Mdq | r | cw}, osNone, fZF, rA | rB | rC | rD | wA | wD, lock},
	{OpRDRAND, m0f | 0xc7 | d6 | modReg | noRep, ops{_Rv | w}, osV, fArith, 0, 0},
	{OpRDSEED, m0f | 0xc7 | d7 | modReg | noRep, ops{_Rv | w}, osV, fArith, 0, 0},
	{OpRDPID, m0f | 0xc7 | d7 | modReg | pF3, ops{_Rq | w}, os64, f0, 0, 0},
	{OpRDTSCP, m0f | 0x01 | d7 | modReg | rm1 | np, ops{}, osNone, f0, wA | wD | wC, 0},
	{OpBSWAP, m0f | 0xc8 | plus8 | no16, ops{_Zv | rw}, osV, f0, 0, 0},

	// 0F 38.
	{OpMOVBE, m0f38 | 0xf0 | noRep | modMem, ops{_Gv | w, _Ev | r}, osV, f0, 0, 0},
	{OpMOVBE, m0f38 | 0xf1 | noRep | modMem, ops{_Ev | w, _Gv | r}, osV, f0, 0, 0},
	{OpCRC32, m0f38 | 0xf0 | pF2, ops{_Gy | rw, _Eb | r}, os8, f0, 0, 0},
	{OpCRC32, m0f38 | 0xf1 | pF2, ops{_Gy | rw, _Ev | r}, osV, f0, 0, 0},
	{OpADCX, m0f38 | 0xf6 | p66, ops{_Gy | rw, _Ey | r}, osY, rCF | wCF, 0, 0},
	{OpADOX, m0f38 | 0xf6 | pF3, ops{_Gy | rw, _Ey | r}, osY, effect(OF)<<fRead | effect(OF)<<fWrite, 0, 0},

	// VEX: BMI1 and BMI2.
	{OpANDN, v0f38 | 0xf2 | np | l0, ops{_Gy | w, _By | r, _Ey | r}, osY, fBMI, 0, 0},
	{OpBLSR, v0f38 | 0xf3 | np | l0 | d1, ops{_By | w, _Ey | r}, osY, fBMI, 0, 0},
	{OpBLSMSK, v0f38 | 0xf3 | np | l0 | d2, ops{_By | w, _Ey | r}, osY, fBMI, 0, 0},
	{OpBLSI, v0f38 | 0xf3 | np | l0 | d3, ops{_By | w, _Ey | r}, osY, fBMI, 0, 0},
	{OpBZHI, v0f38 | 0xf5 | np | l0, ops{_Gy | w, _Ey | r, _By | r}, osY, fBMI, 0, 0},
	{OpPEXT, v0f38 | 0xf5 | pF3 | l0, ops{_Gy | w, _By | r, _Ey | r}, osY, f0, 0, 0},
	{OpPDEP, v0f38 | 0xf5 | pF2 | l0, ops{_Gy | w, _By | r, _Ey | r}, osY, f0, 0, 0},
	{OpMULX, v0f38 | 0xf6 | pF2 | l0, ops{_Gy | w, _By | w, _Ey | r}, osY, f0, rD, 0},
	{OpBEXTR, v0f38 | 0xf7 | np | l0, ops{_Gy | w, _Ey | r, _By | r}, osY, fBEXTR, 0, 0},
	{OpSHLX, v0f38 | 0xf7 | p66 | l0, ops{_Gy | w, _Ey | r, _By | r}, osY, f0, 0, 0},
	{OpSARX, v0f38 | 0xf7 | pF3 | l0, ops{_Gy | w, _Ey | r, _By | r}, osY, f0, 0, 0},
	{OpSHRX, v0f38 | 0xf7 | pF2 | l0, ops{_Gy | w, _Ey | r, _By | r}, osY, f0, 0, 0},
	{OpRORX, v0f3a | 0xf0 | pF2 | l0, ops{_Gy | w, _Ey | r, _Ub}, osY, f0, 0, 0},
}

// formsALU are the eight operations that share their six encodings at 8*n, and 80, 81, 83 /n.
func formsALU() []form {
	var out []form
	for n, op := range []Op{OpADD, OpOR, OpADC, OpSBB, OpAND, OpSUB, OpXOR, OpCMP} {
		at, d := sel(8*n), d0<<n
		fl, acc, lk := fArith, rw, lock
		switch op {
		case OpADC, OpSBB:
			fl = fCarry
		case OpAND, OpOR, OpXOR:
			fl = fLogic
		case OpCMP:
			acc, lk = r, 0
		}
		out = append(out,
			form{op, m0 | at, ops{_Eb | acc, _Gb | r}, os8, fl, 0, lk},
			form{op, m0 | at + 1, ops{_Ev | acc, _Gv | r}, osV, fl, 0, lk},
			form{op, m0 | at + 2, ops{_Gb | acc, _Eb | r}, os8, fl, 0, 0},
			form{op, m0 | at + 3, ops{_Gv | acc, _Ev | r}, osV, fl, 0, 0},
			form{op, m0 | at + 4, ops{_AL | acc, _Ib}, os8, fl, 0, 0},
			form{op, m0 | at + 5, ops{_Av | acc, _Iz}, osV, fl, 0, 0},
			form{op, m0 | 0x80 | d, ops{_Eb | acc, _Ib}, os8, fl, 0, lk},
			form{op, m0 | 0x81 | d, ops{_Ev | acc, _Iz}, osV, fl, 0, lk},
			form{op, m0 | 0x83 | d, ops{_Ev | acc, _Ib}, osV, fl, 0, lk},
		)
	}
	return out
}

// formsShift are the shifts and rotates at C0, C1, D0..D3 /n. /6 is a second encoding of SHL.
func formsShift() []form {
	var out []form
	for n, op := range []Op{OpROL, OpROR, OpRCL, OpRCR, OpSHL, OpSHR, OpSHL, OpSAR} {
		d := d0 << n
		by1, byN := fShift1, fShiftN
		switch op {
		case OpROL, OpROR:
			by1, byN = fRot1, fRotN
		case OpRCL, OpRCR:
			by1, byN = fRotC1, fRotCN
		case OpSAR:
			byN = fSARN
		}
		out = append(out,
			form{op, m0 | 0xc0 | d, ops{_Eb | rw, _Ub}, os8, byN, 0, 0},
			form{op, m0 | 0xc1 | d, ops{_Ev | rw, _Ub}, osV, byN, 0, 0},
			form{op, m0 | 0xd0 | d, ops{_Eb | rw, _One}, os8, by1, 0, 0},
			form{op, m0 | 0xd1 | d, ops{_Ev | rw, _One}, osV, by1, 0, 0},
			form{op, m0 | 0xd2 | d, ops{_Eb | rw, _CL | r}, os8, byN, 0, 0},
			form{op, m0 | 0xd3 | d, ops{_Ev | rw, _CL | r}, osV, byN, 0, 0},
		)
	}
	return out
}
