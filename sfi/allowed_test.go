package sfi

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
