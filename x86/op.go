package x86

// Op is an operation. One Op stands for all widths of it; conditions (Jcc, SETcc, CMOVcc) are in Inst.Cond, and the
// element size of string instructions in Inst.Width. The
// operations of the vector tables have numbers after those named here, in the order of their first row.
type Op uint16

// The general-purpose operations that the tables describe.
const (
	OpInvalid Op = iota

	OpADC
	OpADCX
	OpADD
	OpADOX
	OpAND
	OpANDN
	OpBEXTR
	OpBLSI
	OpBLSMSK
	OpBLSR
	OpBSF
	OpBSR
	OpBSWAP
	OpBT
	OpBTC
	OpBTR
	OpBTS
	OpBZHI
	OpCALL
	OpCBW
	OpCDQ
	OpCDQE
	OpCLC
	OpCLD
	OpCMC
	OpCMOVcc
	OpCMP
	OpCMPS
	OpCMPXCHG
	OpCMPXCHG16B
	OpCMPXCHG8B
	OpCQO
	OpCRC32
	OpCWD
	OpCWDE
	OpDEC
	OpDIV
	OpENDBR32
	OpENDBR64
	OpENTER
	OpIDIV
	OpIMUL
	OpINC
	OpJMP
	OpJRCXZ // JECXZ with a 67h prefix; Width says how much of RCX counts
	OpJcc
	OpLAHF
	OpLEA
	OpLEAVE
	OpLFENCE
	OpLODS
	OpLOOP
	OpLOOPE
	OpLOOPNE
	OpLZCNT
	OpMFENCE
	OpMOV
	OpMOVBE
	OpMOVNTI
	OpMOVS
	OpMOVSX
	OpMOVSXD
	OpMOVZX
	OpMUL
	OpMULX
	OpNEG
	OpNOP
	OpNOT
	OpOR
	OpPAUSE
	OpPDEP
	OpPEXT
	OpPOP
	OpPOPCNT
	OpPOPF
	OpPREFETCH
	OpPREFETCHNTA
	OpPREFETCHT0
	OpPREFETCHT1
	OpPREFETCHT2
	OpPREFETCHW
	OpPREFETCHWT1
	OpPUSH
	OpPUSHF
	OpRCL
	OpRCR
	OpRDPID
	OpRDRAND
	OpRDSEED
	OpRDTSC
	OpRDTSCP
	OpRET
	OpROL
	OpROR
	OpRORX
	OpSAHF
	OpSAR
	OpSARX
	OpSBB
	OpSCAS
	OpSETcc
	OpSFENCE
	OpSHL
	OpSHLD
	OpSHLX
	OpSHR
	OpSHRD
	OpSHRX
	OpSTC
	OpSTD
	OpSTOS
	OpSUB
	OpSYSCALL
	OpTEST
	OpTZCNT
	OpXADD
	OpXCHG
	OpXLAT
	OpXOR

	// Operations that are only named, never described: FlowStop.
	OpCLDEMOTE
	OpCLFLUSH
	OpCLFLUSHOPT
	OpCLI
	OpCLWB
	OpCPUID
	OpHLT
	OpIN
	OpINS
	OpINT
	OpINT1
	OpINT3
	OpIRET
	OpOUT
	OpOUTS
	OpRDFSBASE
	OpRDGSBASE
	OpRDPMC
	OpRETF
	OpSTI
	OpUD0
	OpUD1
	OpUD2
	OpWRFSBASE
	OpWRGSBASE
	OpXABORT
	OpXBEGIN
	OpXGETBV
	OpXRSTOR
	OpXSAVE
	OpSystem // any other privileged, virtualization or enclave instruction

	numOps
)

var opNames = [numOps]string{
	OpInvalid: "(unknown)",
	OpADC:     "adc", OpADCX: "adcx", OpADD: "add", OpADOX: "adox", OpAND: "and", OpANDN: "andn",
	OpBEXTR: "bextr", OpBLSI: "blsi", OpBLSMSK: "blsmsk", OpBLSR: "blsr", OpBSF: "bsf", OpBSR: "bsr", OpBSWAP: "bswap",
	OpBT: "bt", OpBTC: "btc", OpBTR: "btr", OpBTS: "bts", OpBZHI: "bzhi",
	OpCALL: "call", OpCBW: "cbw", OpCDQ: "cdq", OpCDQE: "cdqe", OpCLC: "clc", OpCLD: "cld", OpCMC: "cmc",
	OpCMOVcc: "cmov", OpCMP: "cmp", OpCMPS: "cmps", OpCMPXCHG: "cmpxchg", OpCMPXCHG16B: "cmpxchg16b",
	OpCMPXCHG8B: "cmpxchg8b", OpCQO: "cqo", OpCRC32: "crc32", OpCWD: "cwd", OpCWDE: "cwde",
	OpDEC: "dec", OpDIV: "div", OpENDBR32: "endbr32", OpENDBR64: "endbr64", OpENTER: "enter",
	OpIDIV: "idiv", OpIMUL: "imul", OpINC: "inc", OpJMP: "jmp", OpJRCXZ: "jrcxz", OpJcc: "j",
	OpLAHF: "lahf", OpLEA: "lea", OpLEAVE: "leave", OpLFENCE: "lfence", OpLODS: "lods",
	OpLOOP: "loop", OpLOOPE: "loope", OpLOOPNE: "loopne", OpLZCNT: "lzcnt",
	OpMFENCE: "mfence", OpMOV: "mov", OpMOVBE: "movbe", OpMOVNTI: "movnti", OpMOVS: "movs", OpMOVSX: "movsx",
	OpMOVSXD: "movsxd", OpMOVZX: "movzx", OpMUL: "mul", OpMULX: "mulx",
	OpNEG: "neg", OpNOP: "nop", OpNOT: "not", OpOR: "or",
	OpPAUSE: "pause", OpPDEP: "pdep", OpPEXT: "pext", OpPOP: "pop", OpPOPCNT: "popcnt", OpPOPF: "popf",
	OpPREFETCH: "prefetch", OpPREFETCHNTA: "prefetchnta", OpPREFETCHT0: "prefetcht0", OpPREFETCHT1: "prefetcht1",
	OpPREFETCHT2: "prefetcht2", OpPREFETCHW: "prefetchw", OpPREFETCHWT1: "prefetchwt1",
	OpPUSH: "push", OpPUSHF: "pushf",
	OpRCL: "rcl", OpRCR: "rcr", OpRDPID: "rdpid", OpRDRAND: "rdrand", OpRDSEED: "rdseed", OpRDTSC: "rdtsc",
	OpRDTSCP: "rdtscp", OpRET: "ret", OpROL: "rol", OpROR: "ror", OpRORX: "rorx",
	OpSAHF: "sahf", OpSAR: "sar", OpSARX: "sarx", OpSBB: "sbb", OpSCAS: "scas", OpSETcc: "set", OpSFENCE: "sfence",
	OpSHL: "shl", OpSHLD: "shld", OpSHLX: "shlx", OpSHR: "shr", OpSHRD: "shrd", OpSHRX: "shrx",
	OpSTC: "stc", OpSTD: "std", OpSTOS: "stos", OpSUB: "sub", OpSYSCALL: "syscall",
	OpTEST: "test", OpTZCNT: "tzcnt", OpXADD: "xadd", OpXCHG: "xchg", OpXLAT: "xlat", OpXOR: "xor",

	OpCLDEMOTE: "cldemote", OpCLFLUSH: "clflush", OpCLFLUSHOPT: "clflushopt", OpCLI: "cli", OpCLWB: "clwb",
	OpCPUID: "cpuid", OpHLT: "hlt", OpIN: "in", OpINS: "ins", OpINT: "int", OpINT1: "int1", OpINT3: "int3",
	OpIRET: "iret", OpOUT: "out", OpOUTS: "outs", OpRDFSBASE: "rdfsbase", OpRDGSBASE: "rdgsbase", OpRDPMC: "rdpmc",
	OpRETF: "retf", OpSTI: "sti", OpUD0: "ud0", OpUD1: "ud1", OpUD2: "ud2", OpWRFSBASE: "wrfsbase",
	OpWRGSBASE: "wrgsbase", OpXABORT: "xabort", OpXBEGIN: "xbegin", OpXGETBV: "xgetbv", OpXRSTOR: "xrstor",
	OpXSAVE: "xsave", OpSystem: "(system)",
}

// String is the mnemonic without condition or size suffix; see Inst.Mnemonic.
func (o Op) String() string {
	if o < numOps {
		return opNames[o]
	}
	indexOnce.Do(buildIndex)
	if int(o-numOps) < len(vecNames) {
		return vecNames[o-numOps]
	}
	return "(invalid op)"
}
