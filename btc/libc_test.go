package btc_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ub/path"
	"ub/sentry/machine"
	"ub/x86"
)

// Functions of the system's C library, executed until they return. One child executes them natively from start to end.
// A second one shares its memory with the window: there, translated code runs as far as it goes, and what it leaves to
// the processor (vector instructions, for one) is done by the child one instruction at a time, as in production. The
// library is loaded by hand, without a dynamic linker: relocated, with a block for its thread-local variables, and its
// indirect functions resolved for a processor without any feature.

const (
	libcPath  = "/lib/x86_64-linux-gnu/libc.so.6"
	libcBase  = 0x300_0000_0000
	scratch   = 0x310_0000_0000 // stack, thread-local storage, arguments, the linker's variables
	scratchSz = 64 * pageSize
	stackTop  = scratch + 32*pageSize
	tlsAt     = scratch + 40*pageSize // the thread pointer
	argsAt    = scratch + 44*pageSize
	linkerAt  = scratch + 60*pageSize
	returnAt  = scratch + scratchSz // where functions return to: a page with an INT3
)

// endCode is what the page at returnAt has: the end, and at compareAt a comparison function for sorting:
// int cmp(const int *a, const int *b) { return *a < *b ? -1 : *a > *b; }
const (
	compareAt = returnAt + 1
	endCode   = "\xcc" + "\x8b\x06\x39\x07\xb8\xff\xff\xff\xff\x7c\x08\x0f\x9f\xc0\x0f\xb6\xc0\x90\x90\xc3"
)

// libcWorld is the library in two children and a window.
type libcWorld struct {
	w         *world
	native    *oracle // runs natively
	beside    *oracle // steps what BTC leaves
	syms      map[string]uint64
	image     []byte // writable memory as it is before each call: data of the library, scratch
	mem       [2][]byte
	hints     path.Hints
	installed map[uint64]machine.Code
	blobs     []*machine.Installed

	inBTC, steps int            // exits from BTC, instructions stepped
	stepped      map[string]int // the latter by why
}

type segment struct {
	vaddr, off uint64
	data       []byte
}

func newLibcWorld(t testing.TB) *libcWorld {
	t.Helper()
	f, err := elf.Open(libcPath)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := machine.Supported(); err != nil {
		t.Skip(err)
	}
	file, err := os.Open(libcPath)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })

	l := &libcWorld{w: newBareWorld(t), syms: map[string]uint64{}, hints: path.Hints{}, installed: map[uint64]machine.Code{}, stepped: map[string]int{}}
	dyn, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range dyn {
		if s.Section != elf.SHN_UNDEF {
			l.syms[s.Name] = libcBase + s.Value
		}
	}

	// The writable segment and the scratch area, one file: page aligned, as they are mapped.
	var rw *elf.Prog
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W != 0 {
			rw = p
		}
	}
	first := rw.Vaddr &^ (pageSize - 1)
	rwSize := (rw.Vaddr + rw.Memsz - first + pageSize - 1) &^ (pageSize - 1)
	l.image = make([]byte, rwSize+scratchSz+pageSize)
	if _, err := rw.ReadAt(l.image[rw.Vaddr-first:][:rw.Filesz], 0); err != nil {
		t.Fatal(err)
	}
	data := l.image[:rwSize]
	put := func(vaddr, v uint64) { binary.LittleEndian.PutUint64(data[vaddr-first:], v) }
	get := func(vaddr uint64) uint64 { return binary.LittleEndian.Uint64(data[vaddr-first:]) }
	inScratch := func(addr uint64) []byte { return l.image[rwSize+addr-scratch:] }
	copy(inScratch(returnAt), endCode)

	// Relocations that need no code to run.
	tlsSize := uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_TLS {
			tlsSize = (p.Memsz + p.Align - 1) &^ (p.Align - 1)
		}
	}
	var indirect [][2]uint64 // where, resolver
	resolve := func(at uint64, s elf.Symbol, addend uint64) {
		switch {
		case s.Section == elf.SHN_UNDEF:
			put(at, linkerAt)
		case elf.ST_TYPE(s.Info) == elf.STT_GNU_IFUNC:
			indirect = append(indirect, [2]uint64{at, libcBase + s.Value})
		default:
			put(at, libcBase+s.Value+addend)
		}
	}
	for _, name := range []string{".rela.dyn", ".rela.plt"} {
		b, err := f.Section(name).Data()
		if err != nil {
			t.Fatal(err)
		}
		for ; len(b) >= 24; b = b[24:] {
			at, info, addend := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
			var sym elf.Symbol
			if n := info >> 32; n > 0 {
				sym = dyn[n-1]
			}
			switch typ := elf.R_X86_64(uint32(info)); typ {
			case elf.R_X86_64_RELATIVE:
				put(at, libcBase+addend)
			case elf.R_X86_64_IRELATIVE:
				indirect = append(indirect, [2]uint64{at, libcBase + addend})
			case elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT, elf.R_X86_64_64:
				resolve(at, sym, addend)
			case elf.R_X86_64_TPOFF64:
				put(at, sym.Value+addend-tlsSize)
			default:
				t.Fatalf("relocation %v of %s is not known here", typ, libcPath)
			}
		}
	}
	if s := f.Section(".relr.dyn"); s != nil { // bitmaps of RELATIVE relocations
		b, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		var at uint64
		for ; len(b) >= 8; b = b[8:] {
			v := binary.LittleEndian.Uint64(b)
			if v&1 == 0 {
				put(v, libcBase+get(v))
				at = v + 8
				continue
			}
			for i := range uint64(63) {
				if v>>(i+1)&1 != 0 {
					put(at+8*i, libcBase+get(at+8*i))
				}
			}
			at += 8 * 63
		}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_TLS {
			copy(inScratch(tlsAt-tlsSize), data[p.Vaddr-first:][:p.Filesz])
		}
	}
	for _, off := range []int{0, 16} { // the thread's pointers to its own block
		binary.LittleEndian.PutUint64(inScratch(tlsAt)[off:], tlsAt)
	}

	// Map it all, three times.
	var files [2]*os.File
	for i := range files {
		files[i], l.mem[i] = sharedFile(t, "libc data", len(l.image))
	}
	l.native = newOracle(t, file, files[0])
	l.beside = newOracle(t, file, files[1])
	for i, o := range []*oracle{l.native, l.beside} {
		for _, p := range f.Progs {
			if p.Type != elf.PT_LOAD {
				continue
			}
			start := p.Vaddr &^ (pageSize - 1)
			size := (p.Vaddr + p.Filesz - start + pageSize - 1) &^ (pageSize - 1)
			fd, off, prot := 0, int64(p.Off&^(pageSize-1)), uint64(unix.PROT_READ)
			if p.Flags&elf.PF_X != 0 {
				prot |= unix.PROT_EXEC
			}
			if p == rw {
				fd, off, size, prot = 1, 0, rwSize, prot|unix.PROT_WRITE
			}
			o.mmap(t, libcBase+start, size, fd, off, prot)
			if i == 1 {
				hostFD := file.Fd()
				if p == rw {
					hostFD = files[1].Fd()
				}
				if err := l.w.w.Map(libcBase+start, size, int(hostFD), off, true, p == rw); err != nil {
					t.Fatal(err)
				}
			}
		}
		o.mmap(t, scratch, scratchSz+pageSize, 1, int64(rwSize), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC)
	}
	if err := l.w.w.Map(scratch, scratchSz+pageSize, int(files[1].Fd()), int64(rwSize), true, true); err != nil {
		t.Fatal(err)
	}
	l.w.regions = append(l.w.regions, region{returnAt, []byte(endCode)})
	code, err := os.ReadFile(libcPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			l.w.regions = append(l.w.regions, region{libcBase + p.Vaddr, code[p.Off:][:p.Filesz]})
		}
	}

	// Indirect functions.
	for _, r := range indirect {
		copy(l.mem[0], l.image)
		out := l.native.run(t, l.start(r[1]))
		if out.sig != syscall.SIGTRAP || out.rip != returnAt+1 {
			t.Fatalf("resolver at %#x: %v at %#x", r[1], out.sig, out.rip)
		}
		put(r[0], out.gpr[0])
	}
	for _, s := range dyn {
		if elf.ST_TYPE(s.Info) == elf.STT_GNU_IFUNC {
			copy(l.mem[0], l.image)
			l.syms[s.Name] = l.native.run(t, l.start(libcBase+s.Value)).gpr[0]
		}
	}
	return l
}

// start is the state at a call of the function at addr.
func (l *libcWorld) start(addr uint64, args ...uint64) state {
	s := state{rip: addr, fsBase: tlsAt, flags: 0x44, vec: vectors{mxcsr: 0x1f80}}
	for i := range s.gpr {
		s.gpr[i] = 0x1111111111111111 * uint64(i)
	}
	s.gpr[4] = stackTop - 8
	for i, a := range args {
		s.gpr[[]int{7, 6, 2, 1, 8, 9}[i]] = a
	}
	s.gpr[0] = 0 // AL: vector arguments of a variadic function
	for i := range l.mem {
		if l.mem[i] != nil {
			binary.LittleEndian.PutUint64(l.scratchOf(i, stackTop-8), returnAt)
		}
	}
	return s
}

func (l *libcWorld) scratchOf(i int, addr uint64) []byte {
	return l.mem[i][uint64(len(l.image))-scratchSz-pageSize+addr-scratch:]
}

// call executes a function both ways, with scratch memory at argsAt prepared by setup.
func (l *libcWorld) call(t testing.TB, name string, setup func(mem []byte), args ...uint64) outcome {
	t.Helper()
	addr, ok := l.syms[name]
	if !ok {
		t.Fatalf("%s has no function %s", libcPath, name)
	}
	for i := range l.mem {
		copy(l.mem[i], l.image)
		setup(l.scratchOf(i, argsAt)[:16*pageSize])
	}
	start := l.start(addr, args...)
	want := l.native.run(t, start)
	got := l.translated(t, start)
	switch {
	case want.sig == syscall.SIGSTOP:
		t.Fatalf("%s does not end natively", name)
	case got.sig != want.sig:
		t.Fatalf("%s(%#x) ends with %v, natively with %v at %#x", name, args, got.sig, want.sig, want.rip)
	case got.state != want.state:
		t.Fatalf("%s(%#x): state differs:\n%s", name, args, diffState(got.state, want.state))
	case !bytes.Equal(l.mem[0], l.mem[1]):
		t.Fatalf("%s(%#x): memory differs at %s", name, args, diffBytes(l.mem[1], l.mem[0]))
	}
	return want
}

// translated executes from s until the INT3 at returnAt or a fault.
func (l *libcWorld) translated(t testing.TB, s state) outcome {
	t.Helper()
	for n := 0; ; n++ {
		if n > 1_000_000 {
			t.Fatalf("no end: at %#x", s.rip)
		}
		fault := false
		if code, ok := l.codeFor(t, s.rip); ok && s.rip != returnAt {
			from := s.rip
			x, next := l.w.enter(code, s)
			s = next
			l.inBTC++
			switch {
			case x.Reason == machine.ExitMiss:
				l.learn(x.From, s.rip)
				continue
			case x.Reason == machine.ExitFault:
				fault = true
			case x.Reason == machine.ExitFuel || x.Reason == machine.ExitSyscall || s.rip != from && x.Reason == machine.ExitStop:
				continue
			}
		}
		out := l.beside.step(t, s)
		l.steps++
		l.stepped[l.why(s.rip)]++
		if fault && out.sig == syscall.SIGTRAP {
			l.w.spuriousBy[fmt.Sprintf("%#x %s", s.rip, l.why(s.rip))]++
		}
		if s.rip == returnAt || out.sig != syscall.SIGTRAP {
			return out
		}
		s = out.state
	}
}

// why returns the reason for which the instruction at rip is not translated.
func (l *libcWorld) why(rip uint64) string {
	var b [16]byte
	n, _ := l.w.ReadCode(rip, b[:])
	in, err := x86.Decode(b[:n], rip)
	if err != nil {
		return err.Error()
	}
	return path.StopReason(&in) + " " + in.Op.String()
}

// codeFor returns the translation of the path at rip, made when it is first asked for.
func (l *libcWorld) codeFor(t testing.TB, rip uint64) (machine.Code, bool) {
	if code, ok := l.installed[rip]; ok {
		return code, code.Valid()
	}
	_, in, err := l.w.translate(t, []uint64{rip}, l.hints)
	if err != nil {
		l.installed[rip] = machine.Code{}
		return machine.Code{}, false
	}
	l.blobs = append(l.blobs, in)
	for _, e := range in.Blob.Entries {
		c, _ := in.Entry(e.RIP)
		l.w.th.Bind(e.RIP, c)
		l.installed[e.RIP] = c
	}
	code, ok := l.installed[rip]
	return code, ok
}

// learn notes the target of an indirect branch. Paths translated from now on have it.
func (l *libcWorld) learn(from, to uint64) {
	for _, x := range l.hints[from] {
		if x == to {
			return
		}
	}
	l.hints[from] = append(l.hints[from], to)
}

// renew drops all translations, so that the next ones profit from the hints.
func (l *libcWorld) renew() {
	l.w.th.Flush()
	for _, b := range l.blobs {
		l.w.m.Retire(b)
	}
	l.blobs = nil
	l.installed = map[uint64]machine.Code{}
}

const (
	arg0 = argsAt
	arg1 = argsAt + 0x1000
	arg2 = argsAt + 0x2000
)

func cString(mem []byte, addr uint64, s string) { copy(mem[addr-argsAt:], s+"\x00") }

// text is a random string.
func text(rng *rand.Rand, n int, alphabet string) string {
	var b strings.Builder
	for range rng.IntN(n + 1) {
		b.WriteByte(alphabet[rng.IntN(len(alphabet))])
	}
	return b.String()
}

func number(rng *rand.Rand) string {
	return text(rng, 2, " \t") + text(rng, 1, "+-") + text(rng, 2, "0x") + text(rng, 18, "0123456789abcXYZ")
}

// TestLibc calls functions of the C library with random arguments.
func TestLibc(t *testing.T) {
	l := newLibcWorld(t)
	none := func([]byte) {}
	one := func(a string) func([]byte) { return func(m []byte) { cString(m, arg0, a) } }
	two := func(a, b string) func([]byte) {
		return func(m []byte) { cString(m, arg0, a); cString(m, arg1, b) }
	}
	ints := func(rng *rand.Rand, n int) func([]byte) {
		v := make([]uint32, n)
		for i := range v {
			v[i] = rng.Uint32N(64)
		}
		return func(m []byte) {
			for i, x := range v {
				binary.LittleEndian.PutUint32(m[4*i:], x)
			}
		}
	}
	const abc = "abc"
	calls := map[string]func(rng *rand.Rand){
		"strlen": func(rng *rand.Rand) { l.call(t, "strlen", one(text(rng, 80, abc)), arg0) },
		"strcmp": func(rng *rand.Rand) { l.call(t, "strcmp", two(text(rng, 5, abc), text(rng, 5, abc)), arg0, arg1) },
		"memcpy": func(rng *rand.Rand) { l.call(t, "memcpy", one(text(rng, 200, abc)), arg1, arg0, rng.Uint64N(300)) },
		"memmove": func(rng *rand.Rand) {
			l.call(t, "memmove", one(text(rng, 200, abc)), arg0+rng.Uint64N(64), arg0+rng.Uint64N(64), rng.Uint64N(300))
		},
		"memset": func(rng *rand.Rand) { l.call(t, "memset", none, arg0, 'x', rng.Uint64N(3000)) },
		"strstr": func(rng *rand.Rand) { l.call(t, "strstr", two(text(rng, 60, abc), text(rng, 4, abc)), arg0, arg1) },
		"strspn": func(rng *rand.Rand) { l.call(t, "strspn", two(text(rng, 20, abc), text(rng, 3, abc)), arg0, arg1) },
		"strcasecmp": func(rng *rand.Rand) {
			l.call(t, "strcasecmp", two(text(rng, 9, "aAbB"), text(rng, 9, "aAbB")), arg0, arg1)
		},
		"strverscmp": func(rng *rand.Rand) {
			l.call(t, "strverscmp", two("v"+text(rng, 8, "0123."), "v"+text(rng, 8, "0123.")), arg0, arg1)
		},
		"memmem": func(rng *rand.Rand) {
			l.call(t, "memmem", two(text(rng, 90, "ab"), text(rng, 30, "ab")), arg0, 90, arg1, rng.Uint64N(12))
		},
		"strtok_r": func(rng *rand.Rand) { l.call(t, "strtok_r", two(text(rng, 30, "ab,; "), ",; "), arg0, arg1, arg2) },
		"strsep": func(rng *rand.Rand) {
			s := text(rng, 30, "ab,; ")
			l.call(t, "strsep", func(m []byte) {
				two(s, ",; ")(m)
				binary.LittleEndian.PutUint64(m[arg2-argsAt:], arg0)
			}, arg2, arg1)
		},
		"strtol": func(rng *rand.Rand) {
			l.call(t, "strtol", one(number(rng)), arg0, arg1, []uint64{0, 10, 16, 36}[rng.IntN(4)])
		},
		"strtoull": func(rng *rand.Rand) { l.call(t, "strtoull", one(number(rng)), arg0, arg1, 0) },
		"atoi":     func(rng *rand.Rand) { l.call(t, "atoi", one(number(rng)), arg0) },
		"strtod": func(rng *rand.Rand) {
			l.call(t, "strtod", one(text(rng, 5, "123")+"."+text(rng, 9, "0123456789")+"e"+text(rng, 2, "-12")), arg0, arg1)
		},
		"snprintf": func(rng *rand.Rand) {
			format := []string{"%d %s|%x", "%-8ld%.3s%#o", "%08u %10s %c", "%i %5.2s 0x%016lx"}[rng.IntN(4)]
			l.call(t, "snprintf", two(format, text(rng, 10, abc)), arg2, rng.Uint64N(40), arg0, rng.Uint64(), arg1, rng.Uint64())
		},
		"sscanf": func(rng *rand.Rand) {
			l.call(t, "sscanf", two(number(rng)+" "+text(rng, 5, abc), "%ld %[ab]"), arg0, arg1, arg2, arg2+64)
		},
		"qsort": func(rng *rand.Rand) {
			n := rng.IntN(100)
			l.call(t, "qsort", ints(rng, n), arg0, uint64(n), 4, compareAt)
		},
		"bsearch": func(rng *rand.Rand) {
			l.call(t, "bsearch", ints(rng, 50), arg0+4*rng.Uint64N(50), arg0, 50, 4, compareAt)
		},
		"lfind": func(rng *rand.Rand) {
			set := ints(rng, 50)
			l.call(t, "lfind", func(m []byte) { set(m); m[arg1-argsAt] = 40 }, arg0+4*rng.Uint64N(50), arg0, arg1, 4, compareAt)
		},
		"inet_pton": func(rng *rand.Rand) {
			l.call(t, "inet_pton", one(text(rng, 15, "0123.:a")), 10-8*rng.Uint64N(2), arg0, arg1)
		},
		"inet_ntop": func(rng *rand.Rand) { l.call(t, "inet_ntop", one(text(rng, 16, "\x00a\xff")), 10, arg0, arg1, 46) },
		"inet_aton": func(rng *rand.Rand) { l.call(t, "inet_aton", one(text(rng, 9, "0123.x")), arg0, arg1) },
		"fnmatch": func(rng *rand.Rand) {
			l.call(t, "fnmatch", two(text(rng, 6, "ab*?["), text(rng, 9, "ab")), arg0, arg1, 0)
		},
		"a64l":     func(rng *rand.Rand) { l.call(t, "a64l", one(text(rng, 7, "abZ./09")), arg0) },
		"l64a":     func(rng *rand.Rand) { l.call(t, "l64a", none, rng.Uint64()>>rng.IntN(64)) },
		"swab":     func(rng *rand.Rand) { l.call(t, "swab", one(text(rng, 40, abc)), arg0, arg1, rng.Uint64N(40)) },
		"ffsll":    func(rng *rand.Rand) { l.call(t, "ffsll", none, rng.Uint64()<<rng.IntN(64)) },
		"ldiv":     func(rng *rand.Rand) { l.call(t, "ldiv", none, rng.Uint64(), 1+rng.Uint64N(1000)) },
		"rand_r":   func(rng *rand.Rand) { l.call(t, "rand_r", one(text(rng, 4, abc)), arg0) },
		"random":   func(rng *rand.Rand) { l.call(t, "random", none) },
		"nrand48":  func(rng *rand.Rand) { l.call(t, "nrand48", one(text(rng, 6, abc)), arg0) },
		"wcslen":   func(rng *rand.Rand) { l.call(t, "wcslen", ints(rng, rng.IntN(64)), arg0) },
		"mbstowcs": func(rng *rand.Rand) { l.call(t, "mbstowcs", one(text(rng, 30, abc)), arg1, arg0, rng.Uint64N(40)) },
		"getsubopt": func(rng *rand.Rand) {
			s := text(rng, 20, "ro,w=")
			l.call(t, "getsubopt", func(m []byte) {
				cString(m, arg1, s)
				binary.LittleEndian.PutUint64(m, arg1) // char *option
				cString(m, arg2, "ro")
				binary.LittleEndian.PutUint64(m[64:], arg2) // tokens
			}, arg0, arg0+64, arg0+128)
		},
		"hsearch_r": func(rng *rand.Rand) { l.call(t, "hsearch_r", two(text(rng, 9, abc), ""), arg0, 0, 0, arg2, arg1) },
		"null":      func(rng *rand.Rand) { l.call(t, "strtol", none, rng.Uint64()>>rng.IntN(64), 0, 10) },
	}
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for _, name := range sortedKeys(calls) {
		// Not a subtest: only this thread can talk to the children.
		rng := rand.New(rand.NewPCG(uint64(len(name)), 7))
		for i := range rounds {
			if i == 2 {
				l.renew() // by now the targets of indirect branches are known
			}
			calls[name](rng)
		}
	}
	t.Logf("%d exits from translated code, %d instructions stepped natively, %d known targets", l.inBTC, l.steps, len(l.hints))
	if l.inBTC == 0 {
		t.Error("nothing ran translated")
	}
	t.Log(l.stepped)
	// Each is right, but slow: there the address as a whole was valid and the translation sanitized something else.
	if len(l.w.spuriousBy) > 0 {
		t.Errorf("faults that are not the program's: %v", l.w.spuriousBy)
	}
}
