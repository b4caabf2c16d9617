package x86

// formsNamed are forms that exist but are never translated: privileged, I/O, traps, far transfers, system state, or
// simply never looked at. Only the name and the encoding are here. They come after the described forms, so a row may be
// wider than the truth where a described row matches first.
var formsNamed = [...]form{
	// One byte.
	{op: OpINS, sel: m0 | 0x6c}, {op: OpINS, sel: m0 | 0x6d},
	{op: OpOUTS, sel: m0 | 0x6e}, {op: OpOUTS, sel: m0 | 0x6f},
	{op: OpMOVSXD, sel: m0 | 0x63},
	{op: OpMOV, sel: m0 | 0x8c | d0}, {op: OpMOV, sel: m0 | 0x8c | d1}, {op: OpMOV, sel: m0 | 0x8c | d2},
	{op: OpMOV, sel: m0 | 0x8c | d3}, {op: OpMOV, sel: m0 | 0x8c | d4}, {op: OpMOV, sel: m0 | 0x8c | d5},
	{op: OpMOV, sel: m0 | 0x8e | d0}, {op: OpMOV, sel: m0 | 0x8e | d2}, {op: OpMOV, sel: m0 | 0x8e | d3},
	{op: OpMOV, sel: m0 | 0x8e | d4}, {op: OpMOV, sel: m0 | 0x8e | d5},
	{op: OpNOP, sel: m0 | 0x90},
	{op: OpMOV, sel: m0 | 0xa0}, {op: OpMOV, sel: m0 | 0xa1}, {op: OpMOV, sel: m0 | 0xa2}, {op: OpMOV, sel: m0 | 0xa3},
	{op: OpMOVS, sel: m0 | 0xa4}, {op: OpMOVS, sel: m0 | 0xa5}, {op: OpCMPS, sel: m0 | 0xa6}, {op: OpCMPS, sel: m0 | 0xa7},
	{op: OpSTOS, sel: m0 | 0xaa}, {op: OpSTOS, sel: m0 | 0xab}, {op: OpLODS, sel: m0 | 0xac}, {op: OpLODS, sel: m0 | 0xad},
	{op: OpSCAS, sel: m0 | 0xae}, {op: OpSCAS, sel: m0 | 0xaf},
	{op: OpXABORT, sel: m0 | 0xc6 | modReg | d7 | rm0}, {op: OpXBEGIN, sel: m0 | 0xc7 | modReg | d7 | rm0},
	{op: OpRETF, sel: m0 | 0xca}, {op: OpRETF, sel: m0 | 0xcb},
	{op: OpINT3, sel: m0 | 0xcc}, {op: OpINT, sel: m0 | 0xcd}, {op: OpIRET, sel: m0 | 0xcf},
	{op: OpIN, sel: m0 | 0xe4}, {op: OpIN, sel: m0 | 0xe5}, {op: OpOUT, sel: m0 | 0xe6}, {op: OpOUT, sel: m0 | 0xe7},
	{op: OpIN, sel: m0 | 0xec}, {op: OpIN, sel: m0 | 0xed}, {op: OpOUT, sel: m0 | 0xee}, {op: OpOUT, sel: m0 | 0xef},
	{op: OpINT1, sel: m0 | 0xf1}, {op: OpHLT, sel: m0 | 0xf4},
	{op: OpCLI, sel: m0 | 0xfa}, {op: OpSTI, sel: m0 | 0xfb},
	{op: OpCALL, sel: m0 | 0xff | d3 | modMem}, {op: OpJMP, sel: m0 | 0xff | d5 | modMem}, // far

	// 0F 00: SLDT STR LLDT LTR VERR VERW.
	{op: OpSystem, sel: m0f | 0x00 | d0}, {op: OpSystem, sel: m0f | 0x00 | d1}, {op: OpSystem, sel: m0f | 0x00 | d2},
	{op: OpSystem, sel: m0f | 0x00 | d3}, {op: OpSystem, sel: m0f | 0x00 | d4}, {op: OpSystem, sel: m0f | 0x00 | d5},
	// 0F 01 with memory: SGDT SIDT LGDT LIDT SMSW RSTORSSP LMSW INVLPG.
	{op: OpSystem, sel: m0f | 0x01 | modMem | d0}, {op: OpSystem, sel: m0f | 0x01 | modMem | d1},
	{op: OpSystem, sel: m0f | 0x01 | modMem | d2}, {op: OpSystem, sel: m0f | 0x01 | modMem | d3},
	{op: OpSystem, sel: m0f | 0x01 | modMem | d4}, {op: OpSystem, sel: m0f | 0x01 | modMem | d5 | pF3},
	{op: OpSystem, sel: m0f | 0x01 | modMem | d6}, {op: OpSystem, sel: m0f | 0x01 | modMem | d7},
	// 0F 01 with a register.
	{op: OpXGETBV, sel: m0f | 0x01 | modReg | d2 | rm0 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d2 | rm1 | np},
	{op: OpSystem, sel: m0f | 0x01 | modReg | d0 | rm0 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d0 | rm1 | np}, // ENCLV VMCALL
	{op: OpSystem, sel: m0f | 0x01 | modReg | d0 | rm2 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d0 | rm3 | np}, // VMLAUNCH VMRESUME
	{op: OpSystem, sel: m0f | 0x01 | modReg | d0 | rm4 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d0 | rm5 | np}, // VMXOFF PCONFIG
	{op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm0 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm1 | np}, // MONITOR MWAIT
	{op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm2 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm3 | np}, // CLAC STAC
	{op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm7 | np},                                                             // ENCLS
	{op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm4 | p66}, {op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm5 | p66}, // TDCALL SEAMRET
	{op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm6 | p66}, {op: OpSystem, sel: m0f | 0x01 | modReg | d1 | rm7 | p66}, // SEAMOPS SEAMCALL
	{op: OpSystem, sel: m0f | 0x01 | modReg | d2 | rm4 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d2 | rm5 | np}, // VMFUNC XEND
	{op: OpSystem, sel: m0f | 0x01 | modReg | d2 | rm6 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d2 | rm7 | np}, // XTEST ENCLU
	{op: OpSystem, sel: m0f | 0x01 | modReg | d3}, {op: OpSystem, sel: m0f | 0x01 | modReg | d4}, // SVM; SMSW
	{op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm0 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm6 | np}, // SERIALIZE RDPKRU
	{op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm7 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm0 | pF3}, // WRPKRU SETSSBSY
	{op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm2 | pF3}, {op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm4 | pF3}, // SAVEPREVSSP UIRET
	{op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm5 | pF3}, {op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm6 | pF3}, // TESTUI CLUI
	{op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm7 | pF3}, {op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm0 | pF2}, // STUI XSUSLDTRK
	{op: OpSystem, sel: m0f | 0x01 | modReg | d5 | rm1 | pF2}, {op: OpSystem, sel: m0f | 0x01 | modReg | d6}, // XRESLDTRK LMSW
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm0}, {op: OpRDTSCP, sel: m0f | 0x01 | modReg | d7 | rm1}, // SWAPGS
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm2 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm2 | pF3}, // MONITORX MCOMMIT
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm3 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm4}, // MWAITX CLZERO
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm5}, {op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm6 | np}, // RDPRU INVLPGB
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm6 | pF3}, {op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm6 | pF2}, // RMPADJUST RMPUPDATE
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm7 | np}, {op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm7 | pF3}, // TLBSYNC PSMASH
	{op: OpSystem, sel: m0f | 0x01 | modReg | d7 | rm7 | pF2}, // PVALIDATE

	{op: OpSystem, sel: m0f | 0x02}, {op: OpSystem, sel: m0f | 0x03}, // LAR LSL
	{op: OpSYSCALL, sel: m0f | 0x05},
	{op: OpSystem, sel: m0f | 0x06}, {op: OpSystem, sel: m0f | 0x07}, // CLTS SYSRET
	{op: OpSystem, sel: m0f | 0x08}, {op: OpSystem, sel: m0f | 0x09}, // INVD WBINVD
	{op: OpUD2, sel: m0f | 0x0b},
	{op: OpPREFETCH, sel: m0f | 0x0d}, {op: OpNOP, sel: m0f | 0x18},
	{op: OpNOP, sel: m0f | 0x19}, {op: OpNOP, sel: m0f | 0x1a}, {op: OpNOP, sel: m0f | 0x1b},
	{op: OpCLDEMOTE, sel: m0f | 0x1c | modMem | np | d0}, {op: OpNOP, sel: m0f | 0x1c},
	{op: OpNOP, sel: m0f | 0x1d}, {op: OpNOP, sel: m0f | 0x1e}, {op: OpNOP, sel: m0f | 0x1f},
	// MOV CR, of which 0, 2, 3, 4 and (with REX.R) 8 exist, and MOV DR.
	{op: OpSystem, sel: m0f | 0x20 | d0}, {op: OpSystem, sel: m0f | 0x20 | d2}, {op: OpSystem, sel: m0f | 0x20 | d3}, {op: OpSystem, sel: m0f | 0x20 | d4},
	{op: OpSystem, sel: m0f | 0x22 | d0}, {op: OpSystem, sel: m0f | 0x22 | d2}, {op: OpSystem, sel: m0f | 0x22 | d3}, {op: OpSystem, sel: m0f | 0x22 | d4},
	{op: OpSystem, sel: m0f | 0x21}, {op: OpSystem, sel: m0f | 0x23},
	{op: OpSystem, sel: m0f | 0x30}, {op: OpSystem, sel: m0f | 0x32}, {op: OpRDPMC, sel: m0f | 0x33}, // WRMSR RDMSR
	{op: OpSystem, sel: m0f | 0x34}, {op: OpSystem, sel: m0f | 0x35}, {op: OpSystem, sel: m0f | 0x37 | np}, // SYSENTER SYSEXIT GETSEC
	{op: OpSystem, sel: m0f | 0x78 | np}, {op: OpSystem, sel: m0f | 0x79 | np}, // VMREAD VMWRITE
	{op: OpPUSH, sel: m0f | 0xa0}, {op: OpPOP, sel: m0f | 0xa1}, {op: OpPUSH, sel: m0f | 0xa8}, {op: OpPOP, sel: m0f | 0xa9},
	{op: OpCPUID, sel: m0f | 0xa2}, {op: OpSystem, sel: m0f | 0xaa},
	// PadLock: MONTMUL XSHA1 XSHA256; XSTORE, REP XSTORE, XCRYPT.
	{op: OpSystem, sel: m0f | 0xa6 | modReg | pF3 | d0 | rm0}, {op: OpSystem, sel: m0f | 0xa6 | modReg | pF3 | d1 | rm0},
	{op: OpSystem, sel: m0f | 0xa6 | modReg | pF3 | d2 | rm0},
	{op: OpSystem, sel: m0f | 0xa7 | modReg | noRep | d0 | rm0}, {op: OpSystem, sel: m0f | 0xa7 | modReg | pF3 | d0 | rm0},
	{op: OpSystem, sel: m0f | 0xa7 | modReg | pF3 | d1 | rm0}, {op: OpSystem, sel: m0f | 0xa7 | modReg | pF3 | d2 | rm0},
	{op: OpSystem, sel: m0f | 0xa7 | modReg | pF3 | d3 | rm0}, {op: OpSystem, sel: m0f | 0xa7 | modReg | pF3 | d4 | rm0},
	{op: OpSystem, sel: m0f | 0xa7 | modReg | pF3 | d5 | rm0},

	// 0F AE.
	{op: OpSystem, sel: m0f | 0xae | np | modMem | d0}, {op: OpSystem, sel: m0f | 0xae | np | modMem | d1}, // FXSAVE FXRSTOR
	{op: OpXSAVE, sel: m0f | 0xae | np | modMem | d4}, {op: OpXRSTOR, sel: m0f | 0xae | np | modMem | d5},
	{op: OpXSAVE, sel: m0f | 0xae | np | modMem | d6},
	{op: OpCLFLUSH, sel: m0f | 0xae | np | modMem | d7}, {op: OpCLFLUSHOPT, sel: m0f | 0xae | p66 | modMem | d7},
	{op: OpCLWB, sel: m0f | 0xae | p66 | modMem | d6},
	{op: OpSystem, sel: m0f | 0xae | pF3 | modMem | d6}, {op: OpSystem, sel: m0f | 0xae | pF3 | d4}, // CLRSSBSY PTWRITE
	{op: OpRDFSBASE, sel: m0f | 0xae | pF3 | modReg | d0}, {op: OpRDGSBASE, sel: m0f | 0xae | pF3 | modReg | d1},
	{op: OpWRFSBASE, sel: m0f | 0xae | pF3 | modReg | d2}, {op: OpWRGSBASE, sel: m0f | 0xae | pF3 | modReg | d3},
	{op: OpSystem, sel: m0f | 0xae | pF3 | modReg | d5},                                                      // INCSSP
	{op: OpSystem, sel: m0f | 0xae | p66 | modReg | d6}, {op: OpSystem, sel: m0f | 0xae | pF2 | modReg | d6}, // TPAUSE UMWAIT
	{op: OpSystem, sel: m0f | 0xae | pF3 | modReg | d6}, // UMONITOR

	{op: OpSystem, sel: m0f | 0xb2 | modMem}, {op: OpSystem, sel: m0f | 0xb4 | modMem}, {op: OpSystem, sel: m0f | 0xb5 | modMem}, // LSS LFS LGS
	{op: OpUD1, sel: m0f | 0xb9}, {op: OpUD0, sel: m0f | 0xff},
	{op: OpCMPXCHG8B, sel: m0f | 0xc7 | modMem | d1, attr: lock},
	// 0F C7: XRSTORS XSAVEC XSAVES VMPTRLD VMPTRST VMCLEAR VMXON SENDUIPI.
	{op: OpXRSTOR, sel: m0f | 0xc7 | modMem | d3 | np}, {op: OpXSAVE, sel: m0f | 0xc7 | modMem | d4 | np},
	{op: OpXSAVE, sel: m0f | 0xc7 | modMem | d5 | np}, {op: OpSystem, sel: m0f | 0xc7 | modMem | d6 | noRep},
	{op: OpSystem, sel: m0f | 0xc7 | modMem | d6 | pF3}, {op: OpSystem, sel: m0f | 0xc7 | modMem | d7 | np}, {op: OpSystem, sel: m0f | 0xc7 | modReg | d6 | pF3},
	{op: OpBSWAP, sel: m0f | 0xc8 | plus8},

	// 0F 38: INVEPT INVVPID INVPCID; WRUSS WRSS; MOVDIR64B ENQCMD ENQCMDS MOVDIRI.
	{op: OpSystem, sel: m0f38 | 0x80 | p66 | modMem}, {op: OpSystem, sel: m0f38 | 0x81 | p66 | modMem},
	{op: OpSystem, sel: m0f38 | 0x82 | p66 | modMem},
	{op: OpSystem, sel: m0f38 | 0xf5 | p66 | modMem}, {op: OpSystem, sel: m0f38 | 0xf6 | np | modMem},
	{op: OpSystem, sel: m0f38 | 0xf8 | p66 | modMem}, {op: OpSystem, sel: m0f38 | 0xf8 | pF2 | modMem},
	{op: OpSystem, sel: m0f38 | 0xf8 | pF3 | modMem}, {op: OpSystem, sel: m0f38 | 0xf9 | np | modMem},
	{op: OpSystem, sel: m0f3a | 0xf0 | modReg | pF3 | d0 | rm0}, // HRESET

	// XOP: TBM, LWP.
	{op: OpSystem, sel: xop9 | 0x01 | d1}, {op: OpSystem, sel: xop9 | 0x01 | d2}, {op: OpSystem, sel: xop9 | 0x01 | d3},
	{op: OpSystem, sel: xop9 | 0x01 | d4}, {op: OpSystem, sel: xop9 | 0x01 | d5}, {op: OpSystem, sel: xop9 | 0x01 | d6},
	{op: OpSystem, sel: xop9 | 0x01 | d7}, {op: OpSystem, sel: xop9 | 0x02 | d1}, {op: OpSystem, sel: xop9 | 0x02 | d6},
	{op: OpSystem, sel: xop9 | 0x12 | modReg | d0}, {op: OpSystem, sel: xop9 | 0x12 | modReg | d1},
	{op: OpSystem, sel: xopA | 0x10}, {op: OpSystem, sel: xopA | 0x12 | d0}, {op: OpSystem, sel: xopA | 0x12 | d1},
}
