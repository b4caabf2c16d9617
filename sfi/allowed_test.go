package sfi

import (
	"slices"
	"strings"
)

// zydisAllowed is the test's own allow-list, of Zydis's mnemonics. It was written from the policy, not from forms.txt.
var zydisAllowed = func() map[string]bool {
	m := map[string]bool{}
	for _, s := range []string{
		"adc", "adcx", "add", "adox", "and", "andn",
		"bextr", "blsi", "blsmsk", "blsr", "bsf", "bsr", "bswap", "bt", "btc", "btr", "bts", "bzhi",
		"cbw", "cwde", "cdqe", "cwd", "cdq", "cqo",
		"clc", "cmc", "stc", "lahf", "sahf",
		"cmovb", "cmovbe", "cmovl", "cmovle", "cmovnb", "cmovnbe", "cmovnl", "cmovnle", "cmovno", "cmovnp", "cmovns", "cmovnz",
		"cmovo", "cmovp", "cmovs", "cmovz",
		"cmp", "cmpxchg", "cmpxchg8b", "cmpxchg16b", "crc32",
		"dec", "div", "idiv", "imul", "inc", "mul", "mulx", "neg", "not", "or", "xor", "sub", "sbb",
		"endbr64", "lfence", "mfence", "sfence", "nop", "pause",
		"jb", "jbe", "jl", "jle", "jnb", "jnbe", "jnl", "jnle", "jno", "jnp", "jns", "jnz", "jo", "jp", "js", "jz", "jrcxz", "jmp",
		"lea", "lzcnt", "mov", "movbe", "movsx", "movsxd", "movzx",
		"movsb", "movsw", "movsd", "movsq", "stosb", "stosw", "stosd", "stosq",
		"pdep", "pext", "popcnt", "rdpid", "rdrand", "rdseed", "rdtsc", "rdtscp",
		"rcl", "rcr", "rol", "ror", "rorx", "sar", "sarx", "shl", "shlx", "shr", "shrx", "shld", "shrd",
		"setb", "setbe", "setl", "setle", "setnb", "setnbe", "setnl", "setnle", "setno", "setnp", "setns", "setnz", "seto", "setp", "sets", "setz",
		"test", "tzcnt", "xadd", "xchg",
	} {
		m[s] = true
	}
	return m
}()

// zydisVectorSets are the instruction set extensions whose vector instructions the policy allows, as Zydis names them (and
// their parts by length: AVX512F_128, _SCALAR, _KOP and so on).
var zydisVectorSets = []string{
	"SSE", "SSE2", "SSE3", "SSSE3", "SSE4", "SSE42", "SSEMXCSR", "AES", "PCLMULQDQ", "SHA", "GFNI",
	"AVX", "AVX2", "FMA", "F16C", "AVXAES", "VAES", "VPCLMULQDQ", "AVX_GFNI", "AVX_VNNI",
	"AVX512F", "AVX512BW", "AVX512CD", "AVX512DQ", "AVX512_VBMI", "AVX512_VBMI2", "AVX512_VNNI", "AVX512_IFMA", "AVX512_BITALG",
	"AVX512_VPOPCNTDQ", "AVX512_GFNI", "AVX512_VAES", "AVX512_VPCLMULQDQ",
}

// zydisRefused are instructions of these extensions that the policy refuses: addresses that ModRM does not show, MMX registers.
var zydisRefused = []string{
	"vgather", "vpgather", "vscatter", "vpscatter", "maskmovdqu", "vmaskmovdqu", "maskmovq",
	"cvtpi2ps", "cvtpi2pd", "cvtps2pi", "cvtpd2pi", "cvttps2pi", "cvttpd2pi", "movq2dq", "movdq2q",
}

// allowed tells whether the policy has the instruction decoded last, whatever its operands are.
func (z *zydis) allowed() bool {
	name := z.mnemonic()
	set := z.isaSet()
	for _, s := range []string{"_128N", "_128", "_256", "_512", "_SCALAR", "_KOP"} {
		set = strings.TrimSuffix(set, s)
	}
	if !slices.Contains(zydisVectorSets, set) {
		return zydisAllowed[name]
	}
	if slices.ContainsFunc(zydisRefused, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return false
	}
	// Compress and expand: the mask decides how much of the memory is accessed.
	memory := slices.ContainsFunc(z.ops[:z.inst.nOps], func(o zOp) bool { return o.kind == zOpMem })
	return !memory || !strings.HasPrefix(name, "vcompress") && !strings.HasPrefix(name, "vpcompress") &&
		!strings.HasPrefix(name, "vexpand") && !strings.HasPrefix(name, "vpexpand")
}
