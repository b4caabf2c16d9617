// Instructions that fault on purpose inside hot loops, and a handler that shows everything the kernel says about it. One loop
// per instruction: a system call, then the instruction with an operand address from a table, good ones mostly, every so often
// a bad one. Way of going on after a fault, by the argument:
//   skip  the handler moves RIP behind the instruction
//   fix   the handler puts a good address into the register (or maps the page) and has the instruction run again
//   jump  the handler leaves by siglongjmp
#include "t.h"

enum { ROUNDS = 1200, EVERY = 20 };

enum { SKIP, FIX, JUMP };
static int how;

// What the loops use, at fixed addresses. RBX is the operand address, RDX and RSI are values, R8 walks the table of addresses,
// R9 counts down, R12-R15 and RBP are bystanders.
#define GOOD 0x1000000000
#define GUARD 0x1100000000 // one good page, then one that is not mapped
#define NONE 0x1200000000  // PROT_NONE
#define RDONLY 0x1300000000
#define BUS 0x1400000000 // the second page is beyond the end of the file
#define STACK 0x1500000000

static uint64_t table[ROUNDS];
static uint64_t saved_rsp;
static int fault_count;

typedef void (*op)(uint64_t *at, long n);

// Of each instruction: the loop, the label at the instruction and the one behind it.
#define OP(name, ins)                                                                                     \
	void op_##name(uint64_t *at, long n);                                                             \
	extern char at_##name[], behind_##name[];                                                         \
	asm(".text\n.p2align 4\n.globl op_" #name ", at_" #name ", behind_" #name "\n.type op_" #name ",@function\n" \
	    "op_" #name ":\n"                                                                             \
	    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"                          \
	    "mov %rdi, %r8; mov %rsi, %r9\n"                                                              \
	    "movabs $0x1212121212121212, %r12; movabs $0x1313131313131313, %r13\n"                        \
	    "movabs $0x1414141414141414, %r14; movabs $0x1515151515151515, %r15\n"                        \
	    "mov $0x5555, %ebp\n"                                                                         \
	    "1: mov $39, %eax\n"                                                                          \
	    "syscall\n"                                                                                   \
	    "mov (%r8), %rbx\n"                                                                           \
	    "add $8, %r8\n"                                                                               \
	    "mov %r9, %rdx\n"                                                                             \
	    "imul $0x1234567, %rdx, %rsi\n"                                                               \
	    "mov $3, %ecx\n"                                                                              \
	    "mov %rbx, %rdi\n"                                                                            \
	    "mov $0x77, %eax\n"                                                                           \
	    "mov $0x1111, %r11d\n" /* systrap does not keep it */                                                                           \
	    "lea (%rsi,%rsi,4), %r10\n"                                                                   \
	    "add %rsi, %r10\n" /* flags that differ from round to round */                                \
	    "at_" #name ": " ins "\n"                                                                     \
	    "behind_" #name ":\n"                                                                         \
	    "lea (%r12,%rdx), %r12\n"                                                                     \
	    "dec %r9\n"                                                                                   \
	    "jnz 1b\n"                                                                                    \
	    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"                                \
	    "ret\n");

OP(load8, "mov (%rbx), %rdx")
OP(load4, "mov (%rbx), %edx")
OP(load2, "mov (%rbx), %dx")
OP(load1, "mov (%rbx), %dl")
OP(movzx, "movzbl (%rbx), %edx")
OP(movsx, "movswq (%rbx), %rdx")
OP(disp, "mov 0x7f0(%rbx), %rdx")
OP(back, "mov -0x80000000(%rbx,%rcx,1), %rdx") // the operand is rebased in main
OP(indexed, "mov (%rbx,%rcx,8), %rdx")
OP(store8, "mov %rdx, (%rbx)")
OP(store1, "mov %dh, (%rbx)")
OP(storei, "movq $-5, (%rbx)")
OP(rmw, "add %rdx, (%rbx)")
OP(cmp, "cmp %rdx, (%rbx)")
OP(test, "testl $0x10, (%rbx)")
OP(incb, "incb (%rbx)")
OP(negq, "negq (%rbx)")
OP(shl, "shlq %cl, (%rbx)")
OP(adc, "adc (%rbx), %rdx")
OP(xadd, "lock xadd %rdx, (%rbx)")
OP(xchg, "xchg %rdx, (%rbx)")
OP(cmpxchg, "lock cmpxchg %rdx, (%rbx)")
OP(cmpxchg16b, "lock cmpxchg16b (%rbx)")
OP(bts, "btsq $5, (%rbx)")
OP(btsreg, "btsq %rcx, (%rbx)")
OP(setcc, "setc (%rbx)")
OP(cmov, "cmovc (%rbx), %rdx")
OP(imul, "imul (%rbx), %rdx")
OP(mul, "mulq (%rbx)")
OP(movbe, "movbe (%rbx), %rdx")
OP(popcnt, "popcnt (%rbx), %rdx")
OP(movdqu, "movdqu (%rbx), %xmm1")
OP(movaps, "movaps 1(%rbx), %xmm1") // misaligned: a general protection fault everywhere
OP(movsb, "movabs $0x1000008000, %rsi\nrep movsb")
OP(movsq, "mov %rdi, %rsi\nmovabs $0x1000009000, %rdi\nrep movsq")
OP(stosb, "rep stosb")
OP(stosq, "rep stosq")
OP(lodsb, "xchg %rsi, %rbx\nlodsb\nxchg %rsi, %rbx")
OP(pushm, "pushq (%rbx)\nlea 8(%rsp), %rsp")
OP(popm, "push %rdx\npopq (%rbx)")
OP(push, "xchg %rsp, %rbx\npush %rdx\nxchg %rsp, %rbx")
OP(pop, "xchg %rsp, %rbx\npop %rdx\nxchg %rsp, %rbx")
OP(call, "xchg %rsp, %rbx\ncall 2f\n2: xchg %rsp, %rbx")
OP(leave, "xchg %rbp, %rbx\nmov %rsp, %r11\nleave\nmov %r11, %rsp\nxchg %rbp, %rbx")
OP(jmpind, "jmp *(%rbx)")
OP(callind, "call *(%rbx)\nadd $8, %rsp")
// Of these the operand is not an address.
OP(jmpreg, "jmp *%rbx")
OP(retto, "push %rbx\nret")
OP(idiv, "mov %rbx, %rcx\nmov %rdx, %rax\ncqo\nidiv %rcx")
OP(idiv32, "mov %ebx, %ecx\nmov $0x80000000, %eax\ncdq\nidiv %ecx")
OP(div8, "mov %ebx, %ecx\nmov $0x1ff, %eax\ndiv %cl")
OP(ud2, "test %ebx, %ebx\njnz 2f\nud2\n2:")
OP(int3, "test %ebx, %ebx\njnz 2f\nint3\n2:")
OP(hlt, "test %ebx, %ebx\njnz 2f\nhlt\n2:")
OP(in, "test %ebx, %ebx\njnz 2f\ninb $0x80, %al\n2:")
OP(cli, "test %ebx, %ebx\njnz 2f\ncli\n2:")
OP(rdmsr, "test %ebx, %ebx\njnz 2f\nrdmsr\n2:")
OP(int80, "test %ebx, %ebx\njnz 2f\nint $0x42\n2:")

enum { ADDRESS, CODE, DIVISOR, ZERO };
static const struct {
	const char *name;
	op f;
	char *at, *behind;
	int kind;
} ops[] = {
#define E(n, k) {#n, op_##n, at_##n, behind_##n, k}
	E(load8, ADDRESS), E(load4, ADDRESS), E(load2, ADDRESS), E(load1, ADDRESS), E(movzx, ADDRESS), E(movsx, ADDRESS),
	E(disp, ADDRESS), E(back, ADDRESS), E(indexed, ADDRESS), E(store8, ADDRESS), E(store1, ADDRESS), E(storei, ADDRESS),
	E(rmw, ADDRESS), E(cmp, ADDRESS), E(test, ADDRESS), E(incb, ADDRESS), E(negq, ADDRESS), E(shl, ADDRESS), E(adc, ADDRESS),
	E(xadd, ADDRESS), E(xchg, ADDRESS), E(cmpxchg, ADDRESS), E(cmpxchg16b, ADDRESS), E(bts, ADDRESS), E(btsreg, ADDRESS),
	E(setcc, ADDRESS), E(cmov, ADDRESS), E(imul, ADDRESS), E(mul, ADDRESS), E(movbe, ADDRESS), E(popcnt, ADDRESS),
	E(movdqu, ADDRESS), E(movaps, ADDRESS), E(movsb, ADDRESS), E(movsq, ADDRESS), E(stosb, ADDRESS), E(stosq, ADDRESS), E(lodsb, ADDRESS),
	E(pushm, ADDRESS), E(popm, ADDRESS), E(push, ADDRESS), E(pop, ADDRESS), E(call, ADDRESS), E(leave, ADDRESS),
	E(jmpind, CODE), E(callind, CODE), E(jmpreg, CODE), E(retto, CODE), E(idiv, DIVISOR), E(idiv32, DIVISOR), E(div8, DIVISOR),
	E(ud2, ZERO), E(int3, ZERO), E(hlt, ZERO), E(in, ZERO), E(cli, ZERO), E(rdmsr, ZERO), E(int80, ZERO),
};
static unsigned cur;

// Addresses at which something is wrong.
static const uint64_t bad[] = {
	0, 1, 0x10, 0xffc, 0x1000,                 // the first page, and above it
	GUARD + 0x1000, GUARD + 0xffd, GUARD + 0xff9, // not mapped, and across the edge
	NONE, NONE + 0x123, NONE - 4,
	RDONLY, RDONLY + 0xff8, RDONLY - 3, RDONLY + 0xffc,
	BUS + 0x1000, BUS + 0x1ff8, BUS + 0xffc,
	0x3fffffff000, 0x3fffffffff8, 0x3fffffffffc, // the end of the 42 bits that programs get in the sandbox
	0x40000000000, 0x40000001008, 0x7ffffffff000 - 8, 0x7fffffffeffc,
	0x7ffffffff000, 0x7ffffffffffc, 0x800000000000, 0x8000000000000000, // not canonical from here
	0x0800000000000000 + GOOD, 0x1000000000000000 + GOOD, 0x2000000000000000 + GOOD, 0x4000000000000000 + GOOD,
	0x8000000000000000 + GOOD, 0xf800000000000000 + GOOD, 0x0000040000000000 + GOOD, 0x0000080000000000 + GOOD,
	0x0004000000000000 + GOOD, 0x0400000000000000 + GOOD, 0x0200000000000000 + GOOD, 0x4141414141414141,
	0xffff800000000000, 0xffff888000000000, 0xffffffff81000000, 0xffffffffff600000, 0xfffffffffffff000,
	0xfffffffffffffff8, 0xffffffffffffffff, (uint64_t)GOOD | 0xffff000000000000,
};
enum { BADS = sizeof bad / sizeof *bad };

static sigjmp_buf jump;
static long jumped_at;

static void on_fault(int sig, siginfo_t *si, void *ucp) {
	ucontext_t *uc = ucp;
	greg_t *g = uc->uc_mcontext.gregs;
	fault_count++;
	long rip = g[REG_RIP];
	char where[40];
	if (rip >= (long)ops[cur].at && rip <= (long)ops[cur].behind) snprintf(where, sizeof where, "+%ld", rip - (long)ops[cur].at);
	else snprintf(where, sizeof where, "%#lx", rip);
	// What points into the stack is shown from where RSP is in the loop: the stack itself is elsewhere in each run.
	static const int regs[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
	char line[1000];
	int n = 0;
	for (unsigned i = 0; i < sizeof regs / sizeof *regs; i++) {
		unsigned long v = g[regs[i]];
		if (v - saved_rsp + 0x10000 <= 0x20000) n += snprintf(line + n, sizeof line - n, " rsp%+ld", (long)(v - saved_rsp));
		else n += snprintf(line + n, sizeof line - n, " %lx", v);
	}
	if (sig == SIGBUS) say("~code %d", si->si_code); // gVisor has the code of another cause
	say("%s: signal %d code %d addr %#lx at %s flags %#llx:%s", ops[cur].name, sig, sig == SIGBUS ? 0 : si->si_code, (long)si->si_addr, where, g[REG_EFL] & 0xed5, line);
	if (fault_count > 100000) _exit(97);

	int resume = how;
	// Where the instruction has swapped registers, or is not the first one, only leaving is simple; a division has no address.
	if (resume == FIX && ops[cur].kind != ADDRESS) resume = SKIP;
	if (resume == JUMP) {
		jumped_at = (g[REG_R8] - (long)table) / 8;
		siglongjmp(jump, 1);
	}
	int swapped = (uint64_t)g[REG_RSP] - saved_rsp > 0x10000 && saved_rsp - (uint64_t)g[REG_RSP] > 0x10000;
	if (resume == FIX) {
		// The same place within a good page; what else held the address moves too.
		uint64_t good = GOOD + 0x8000 + (bad[(ROUNDS - g[REG_R9]) / EVERY % BADS] & 0xff0);
		if (ops[cur].f == op_movsq) g[REG_RSI] = good;
		else if (ops[cur].f == op_movsb || ops[cur].f == op_stosb || ops[cur].f == op_stosq) g[REG_RDI] = good;
		else if (ops[cur].f == op_back) g[REG_RBX] = good + 0x80000000;
		else if (ops[cur].f == op_movaps) g[REG_RBX] = good + 15;
		else if (ops[cur].f == op_lodsb) g[REG_RSI] = good;
		else if (ops[cur].f == op_leave) g[REG_RBP] = good;
		else if (swapped) g[REG_RSP] = good;
		else g[REG_RBX] = good;
		return;
	}
	g[REG_RIP] = (long)ops[cur].behind;
	if (swapped) { // RBX has the stack pointer
		long long old = g[REG_RBX];
		g[REG_RBX] = g[REG_RSP];
		g[REG_RSP] = old;
	} else g[REG_RSP] = saved_rsp; // what has been pushed
	if (ops[cur].f == op_leave) {
		if ((uint64_t)g[REG_RBP] != 0x5555) g[REG_RBP] = 0x5555;
		g[REG_RSP] = g[REG_R11];
	}
}

static uint64_t hash(const char *p, long n) {
	uint64_t h = 1;
	for (long i = 0; i < n; i++) h = h * 31 + (unsigned char)p[i];
	return h;
}

int main(int argc, char **argv) {
	how = argc > 1 && !strcmp(argv[1], "fix") ? FIX : argc > 1 && !strcmp(argv[1], "jump") ? JUMP : SKIP;
	die_after(55);
	char *good = region(GOOD, 0x10000, PROT_READ | PROT_WRITE);
	region(GUARD, 0x1000, PROT_READ | PROT_WRITE);
	region(NONE - 0x1000, 0x1000, PROT_READ | PROT_WRITE);
	region(NONE, 0x1000, PROT_NONE);
	region(RDONLY - 0x1000, 0x3000, PROT_READ | PROT_WRITE);
	CHECK(mprotect((void *)RDONLY, 0x1000, PROT_READ) == 0);
	int fd = open("short", O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, 0x1000) == 0);
	CHECK(mmap((void *)BUS, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == (void *)BUS);
	static char alt[1 << 16];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
	CHECK(sigaltstack(&ss, NULL) == 0);
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++) handle(sigs[i], on_fault, SA_ONSTACK);

	for (cur = 0; cur < sizeof ops / sizeof *ops; cur++) {
		for (int i = 0; i < 0x10000; i++) good[i] = i * 7;
		for (int i = 0; i < ROUNDS; i++) {
			uint64_t b = bad[i / EVERY % BADS], g = GOOD + 0x4000 + i * 16 % 0x3000;
			int is_bad = i % EVERY == EVERY - 1;
			// Code beyond the end of a file without execute permission has two things wrong with it.
			if (ops[cur].kind == CODE && (b & ~0xffffULL) == BUS) is_bad = 0;
			switch (ops[cur].kind) {
			case ADDRESS:
				table[i] = is_bad ? b : g;
				if (ops[cur].f == op_back) table[i] += 0x80000000 - 3;
				if (ops[cur].f == op_movaps && !is_bad) table[i] += 15;
				break;
			case CODE:
				// A jump through memory needs a target there.
				table[i] = is_bad ? b : ops[cur].f == op_jmpind || ops[cur].f == op_callind ? g : (uint64_t)ops[cur].behind;
				if (!is_bad && ops[cur].f == op_jmpind) *(uint64_t *)g = (uint64_t)ops[cur].behind;
				if (!is_bad && ops[cur].f == op_callind) *(uint64_t *)g = (uint64_t)ops[cur].behind - 4; // the add
				break;
			case DIVISOR:
				table[i] = is_bad ? (i / EVERY % 3 == 0 ? 0 : i / EVERY % 3 == 1 ? ~0ULL : 1) : 3 + (uint64_t)i;
				if (ops[cur].f == op_div8 && !is_bad) table[i] = 0xff;
				break;
			default:
				table[i] = !is_bad;
			}
		}
		int before = fault_count;
		volatile long at = 0;
		sigsetjmp(jump, 1);
		if (how == JUMP && fault_count > before) at = jumped_at;
		if (at < ROUNDS) {
			op f = ops[cur].f;
			uint64_t *t = table + at;
			long n = ROUNDS - at;
			// In the loop RSP is below six pushed registers and the return address.
			asm volatile("lea -56(%%rsp), %0" : "=r"(saved_rsp));
			asm volatile("call *%2" : "+D"(t), "+S"(n), "+r"(f) : : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc", "xmm1");
		}
		say("%s: %d faults, memory %#llx", ops[cur].name, fault_count - before, (unsigned long long)hash(good, 0x10000));
	}
	return 0;
}
