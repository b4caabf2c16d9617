package sfi

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"ub/target"
)

// oracle is a second opinion on a whole blob. It decodes with Zydis, has no table and no abstract values, and shares only
// the constants of package target with the verifier. First it looks at each instruction by itself: mnemonic, operands,
// where it jumps. Then it walks through the blob with concrete registers, as hostile as it can make them:
//
//   - entries start with arbitrary registers; whatever is loaded from the program's memory or a writable slot is arbitrary;
//
//   - an instruction other than the few that sanitize leaves arbitrary values in whatever it may write;
//
//   - conditional jumps go either way, whatever the flags: so does a processor that guesses.
//
//   - what depends on a mask or a count accesses nothing, on half of the walks;
//
//   - outside of the window an access faults. On half of the walks the processor runs ahead behind that, for as many accesses as
//     it could have in flight, and each of them may go walkLimit further.
//
// Every access on the way must lie in the window with its surroundings, in the slots, be a poll's, or fault for certain; in the
// kernel's half, too, the bits below must lie there.
type oracle struct {
	z       *zydis
	code    []byte
	base    uint64
	entries []uint32
	env     Env
	insts   map[int64]*zFacts // by offset; target relative to the start of the instruction
	order   []int64
	rng     *rand.Rand
	steps   int // of a walk, which then mostly starts at the edges of the window; 0: the constant

	// Of the walk.
	idle  bool // accesses that depend on a mask or a count do not happen
	ahead int  // accesses since one that faults, that one included
	cut   bool // of Linux: see accessLinux
}

// Addresses of the machine that the walks run on.
const (
	oracleWindow  = 0x0800_0000_0000
	oracleBlock   = 0x00c0_0010_2000 + target.TagShift
	oraclePoll    = oracleBlock + target.PollDisp
	oracleFSBase  = 0x0123_4567_8940
	lowerHalf     = 1 << 47
	steps         = 300
	walksPerEntry = 6
	walkLimit     = 1 << 20
	inFlight      = 600 // more than any processor's reorder buffer
)

// check returns nil if the blob obeys the policy as far as the oracle can see.
func (o *oracle) check() error {
	o.insts, o.order = map[int64]*zFacts{}, o.order[:0]
	for off := 0; off < len(o.code); {
		f, ok := o.z.facts(o.code[off:])
		if !ok {
			return fmt.Errorf("+%#x: not an instruction", off)
		}
		o.insts[int64(off)] = &f
		o.order = append(o.order, int64(off))
		if err := o.checkShape(int64(off), &f); err != nil {
			return fmt.Errorf("+%#x: %s: %w", off, f.mnemonic, err)
		}
		off += f.length
	}
	if len(o.order) == 0 || o.insts[o.order[len(o.order)-1]].mnemonic != "jmp" {
		return fmt.Errorf("execution runs off the end")
	}
	for _, off := range o.order {
		if f := o.insts[off]; f.branch {
			if err := o.checkBranch(off, f); err != nil {
				return fmt.Errorf("+%#x: %w", off, err)
			}
		}
	}
	for _, e := range append([]uint32{0}, o.entries...) {
		f := o.insts[int64(e)]
		if f == nil {
			return fmt.Errorf("entry %#x is not an instruction", e)
		}
		if o.linux() && f.mnemonic != "endbr64" && slices.Contains(o.entries, e) {
			return fmt.Errorf("entry %#x is not an endbr64", e)
		}
		for range walksPerEntry {
			if err := o.walk(int64(e)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *oracle) checkShape(off int64, f *zFacts) error {
	in := &o.z.inst
	str := slices.Contains([]string{"movsb", "movsw", "movsd", "movsq", "stosb", "stosw", "stosd", "stosq"}, f.mnemonic) && f.vec == target.VecNone
	switch {
	case !o.z.allowed():
		return fmt.Errorf("not allowed")
	case in.attr&(zAttrPrivileged|zAttrHints) != 0:
		return fmt.Errorf("privileged, or with a hint")
	case f.vec > o.env.Vec:
		return fmt.Errorf("needs the vector level %v", f.vec)
	case f.rsp, f.count == 4 && o.linux():
		return fmt.Errorf("rsp is an operand")
	case in.attr&zAttrSegment&^zAttrSegmentGS != 0:
		return fmt.Errorf("segment prefix")
	case in.addrW != 64:
		return fmt.Errorf("address size")
	case in.branch != 0 && !f.branch:
		return fmt.Errorf("indirect branch")
	case len(f.other) != 0 && !str && f.mnemonic != "rdtsc" && f.mnemonic != "rdtscp" && f.mnemonic != "rdpid":
		return fmt.Errorf("registers %v", f.other)
	}
	for _, b := range o.code[off : off+int64(f.length)] {
		if b&0xf0 == 0x40 || !slices.Contains([]byte(strings.Join(legacyPrefixes, "")), b) {
			break
		}
		if slices.Contains([]byte{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x67}, b) {
			return fmt.Errorf("prefix %#x", b)
		}
	}
	if o.linux() {
		return o.checkShapeLinux(f, str)
	}
	for _, m := range f.mems {
		switch {
		case f.mnemonic == "nop" && m.base == 0 && m.disp == 0:
		case m.kind == zMemAgen && f.mnemonic == "lea":
			if m.base == 4 {
				return fmt.Errorf("address of rsp")
			}
		case m.kind != zMemNormal:
			return fmt.Errorf("kind of memory operand %d", m.kind)
		case str:
			if m.gs || !m.hidden {
				return fmt.Errorf("string operand %+v", m)
			}
		case m.hidden:
			return fmt.Errorf("hidden memory operand")
		case m.gs:
			if m.index >= 0 || m.base == regRIP || m.base == 4 || m.base < 0 && m.disp < 0 {
				return fmt.Errorf("shape of %+v", m)
			}
		case m.base == 4 && f.vec != target.VecNone:
			return fmt.Errorf("vector instruction with the context block")
		case m.base == 4:
			if m.index >= 0 && (f.mnemonic != "mov" || m.write || m.scale != 8 || m.disp != target.SlotTouch || m.size < 4) {
				return fmt.Errorf("shape of %+v", m)
			}
			if m.disp < 0 && !f.isPoll() {
				return fmt.Errorf("below the context block: %+v", m)
			}
			if m.disp+int64(m.size) > target.SlotPoll && m.disp < target.SlotPoll+8 {
				return fmt.Errorf("SlotPoll: %+v", m)
			}
		default:
			return fmt.Errorf("shape of %+v", m)
		}
	}
	return nil
}

// isPoll tells whether f is a poll.
func (o *oracle) isPoll(f *zFacts) bool {
	if o.linux() {
		return f.isPollLinux()
	}
	return f.isPoll()
}

func (f *zFacts) isPoll() bool {
	return f.mnemonic == "mov" && f.destReg >= 0 && f.destBits == 32 && len(f.mems) == 1 && f.mems[0].isPoll()
}

// isPoll tells whether m is what polls read.
func (m *zMem) isPoll() bool {
	return m.base == 4 && m.index < 0 && !m.gs && !m.write && m.disp == target.PollDisp && m.size == 4
}

func (o *oracle) checkBranch(off int64, f *zFacts) error {
	to := off + f.target
	if to < 0 || to >= int64(len(o.code)) {
		if f.mnemonic == "jmp" && f.length == 5 && slices.Contains(o.env.Syms[:], o.base+uint64(to)) {
			return nil
		}
		return fmt.Errorf("jumps out to %#x", o.base+uint64(to))
	}
	dest := o.insts[to]
	if dest == nil {
		return fmt.Errorf("jumps into an instruction at +%#x", to)
	}
	if to <= off && !o.isPoll(dest) {
		return fmt.Errorf("jumps back to +%#x without a poll", to)
	}
	return nil
}

// nasty returns a value that a program might put where it hurts.
func (o *oracle) nasty() uint64 {
	r := o.rng
	small := uint64(r.IntN(64)) - 32
	if o.linux() {
		return o.nastyLinux(small)
	}
	switch r.IntN(18) {
	case 0:
		return small
	case 1:
		return target.WindowSize + small
	case 2:
		return ^uint64(target.DispLimit) + 1 + small
	case 3:
		return oracleBlock + small
	case 4:
		return oracleBlock + (^uint64(oracleWindow) + 1) + small
	case 5:
		return oraclePoll + small
	case 6:
		return oraclePoll + (^uint64(oracleWindow) + 1)
	case 7:
		return 1<<63 | r.Uint64N(1<<42)
	case 8:
		return r.Uint64N(1 << 43)
	case 9:
		return r.Uint64N(1 << 47)
	case 10:
		return uint64(r.Uint32())
	case 11:
		return target.MaxRepCount + small
	case 12:
		return 0
	case 13:
		return target.WindowSize - 1
	case 14:
		return r.Uint64() >> r.IntN(64)
	case 15:
		return r.Uint64N(1 << 52)
	}
	return r.Uint64()
}

// walk follows one path from off.
func (o *oracle) walk(off int64) error {
	var regs [16]uint64
	edges := o.steps != 0 && o.rng.IntN(2) == 0
	for i := range regs {
		regs[i] = o.nasty()
		if edges && o.rng.IntN(4) != 0 {
			regs[i] = uint64(o.rng.IntN(2)) * (target.WindowSize - 1)
			if o.linux() {
				regs[i] = []uint64{0, userEnd - 1, 1<<63 - 1}[o.rng.IntN(3)]
			}
		}
	}
	regs[4] = oracleBlock
	if o.linux() {
		regs[4], regs[5] = linuxBlock, linuxAnchor
		o.cut = o.rng.IntN(2) == 0
	}
	o.idle, o.ahead = o.rng.IntN(2) == 0, 0
	habits, stubborn := o.rng.Uint64(), o.rng.IntN(2) == 0 // to the end of a long loop by the same way in each round
	n := o.steps
	if n == 0 {
		n = steps
	}
	for range n {
		f := o.insts[off]
		if f == nil {
			return fmt.Errorf("walk: at +%#x, which is not an instruction", off)
		}
		values, fault, err := o.access(f, &regs)
		if o.linux() {
			values, fault, err = o.accessLinux(f, &regs)
		}
		if err != nil {
			return fmt.Errorf("walk: +%#x: %s: %w (rax..r15 %#x)", off, f.mnemonic, err, regs)
		}
		if fault && o.ahead == 0 {
			if o.rng.IntN(2) == 0 {
				return nil
			}
			o.ahead = 1
		}
		if o.ahead > inFlight {
			return nil
		}
		o.execute(off, f, &regs, values)
		next := off + int64(f.length)
		taken := o.rng.IntN(2) == 0
		if stubborn && o.rng.IntN(1<<14) != 0 {
			taken = habits>>(off%61)&1 != 0
		}
		if f.branch && (f.mnemonic == "jmp" || taken) {
			next = off + f.target
			if next < 0 || next >= int64(len(o.code)) {
				return nil // a symbol: checkBranch has seen to that
			}
		}
		off = next
	}
	return nil
}

// access checks the accesses of f and returns what is read, and whether it must fault.
func (o *oracle) access(f *zFacts, regs *[16]uint64) (value uint64, fault bool, err error) {
	value = o.nasty()
	for i := range f.mems {
		m := &f.mems[i]
		if m.kind == zMemAgen || f.mnemonic == "nop" {
			continue
		}
		addr := address(m, regs)
		if m.gs {
			addr += oracleWindow
		}
		size, err := f.extent(m, regs)
		if err != nil {
			return 0, false, err
		}
		if m.hidden && size == 0 {
			continue
		}
		cut, limit := addr&(lowerHalf-1), target.DispLimit+uint64(o.ahead)*walkLimit
		inWindow := cut-(oracleWindow-limit) <= target.WindowSize+2*limit-size
		inBlock := addr - oracleBlock
		switch {
		case (m.gs || m.hidden) && inWindow:
			if o.ahead > 0 {
				o.ahead++
			}
			if f.sure || m.hidden || !o.idle {
				// In the guard, not canonical, or the kernel's.
				fault = fault || addr-oracleWindow > target.WindowSize-size
			}
		case m.gs || m.hidden:
			return 0, false, fmt.Errorf("accesses %#x, %d bytes", addr, size)
		case addr == oraclePoll && size == 4 && !m.write: // readable, unless the thread is asked to leave
		case m.base == 4 && m.index < 0:
			if err := checkSlot(inBlock, size, m.write, target.SlotsEnd); err != nil {
				return 0, false, err
			}
			if size == 8 {
				switch inBlock {
				case target.SlotFSBase:
					value = oracleFSBase
				case target.SlotAddrMask:
					value = target.AddrMask
				case target.SlotBase:
					value = oracleWindow
				}
			}
		case m.base == 4:
			if behind := inBlock + target.TagShift; behind >= 4096 && behind+size <= 8192 {
				fault = true
			} else if inBlock != target.SlotTouch {
				return 0, false, fmt.Errorf("touches the context block at %#x", inBlock)
			}
		default:
			return 0, false, fmt.Errorf("accesses %#x without GS", addr)
		}
	}
	return value, fault, nil
}

// checkSlot checks an access at offset off of the context block, whose slots end at end.
func checkSlot(off, size uint64, write bool, end uint64) error {
	if write {
		end = target.WritableEnd
	}
	if off+size > end || off%8+size > 8 || off > end {
		return fmt.Errorf("accesses the context block at %#x, %d bytes", off, size)
	}
	return nil
}

// extent is how many bytes the operand accesses; 0: a REP of none.
func (f *zFacts) extent(m *zMem, regs *[16]uint64) (uint64, error) {
	size, n := uint64(m.size), regs[1]
	switch {
	case !m.hidden || !f.rep:
		return size, nil
	case n > target.MaxRepCount:
		return 0, fmt.Errorf("rep with a count of %#x", n)
	}
	return n * size, nil
}

func address(m *zMem, regs *[16]uint64) uint64 {
	a := uint64(m.disp)
	if m.base >= 0 && m.base < 16 {
		a += regs[m.base]
	}
	if m.index >= 0 {
		a += regs[m.index] * uint64(m.scale)
	}
	return a
}

// execute changes the registers. value is what memory gave.
func (o *oracle) execute(off int64, f *zFacts, regs *[16]uint64, value uint64) {
	before := *regs
	for r := range regs {
		if f.writes&(1<<r) == 0 {
			continue
		}
		v := o.nasty()
		switch o.rng.IntN(6) {
		case 0:
			v = before[r] // written perhaps, or with the same
		case 1:
			v = before[r]&^0xffff | v&0xffff
		}
		regs[r] = v
	}
	if f.destReg < 0 || f.writes != 1<<f.destReg {
		return
	}
	source := value
	if f.srcReg >= 0 {
		source = before[f.srcReg]
	} else if f.hasImm {
		source = uint64(f.imm)
	}
	if f.highByte && f.mnemonic != "movzx" {
		return
	}
	var v uint64
	switch f.mnemonic {
	case "mov":
		v = source
	case "movzx":
		if f.srcReg >= 0 {
			if f.highByte {
				source >>= 8
			}
			v = source & (1<<f.srcBits - 1)
		} else {
			v = value & (1<<(8*f.mems[0].size) - 1)
		}
	case "lea":
		v = address(&f.mems[0], &before)
		if f.mems[0].base == regRIP {
			v = o.base + uint64(off) + uint64(f.length) + uint64(f.mems[0].disp)
		}
	case "add", "sub", "inc", "dec":
		if f.destBits != 64 {
			return
		}
		v = before[f.destReg] + map[string]uint64{"add": source, "sub": -source, "inc": 1, "dec": 1<<64 - 1}[f.mnemonic]
	case "shrx":
		if f.count < 0 {
			return
		}
		v = source >> (before[f.count] & 63)
	case "pdep":
		mask := value
		if len(f.mems) == 0 {
			return
		}
		if f.destBits == 32 {
			mask, source = uint64(uint32(mask)), uint64(uint32(source))
		}
		v = deposit(source, mask)
	default:
		return
	}
	switch f.destBits {
	case 64:
		regs[f.destReg] = v
	case 32:
		regs[f.destReg] = uint64(uint32(v))
	case 16:
		regs[f.destReg] = before[f.destReg]&^0xffff | v&0xffff
	case 8:
		regs[f.destReg] = before[f.destReg]&^0xff | v&0xff
	}
}

// deposit is PDEP: the low bits of x go where mask has ones.
func deposit(x, mask uint64) (v uint64) {
	for bit := uint64(1); mask != 0; bit <<= 1 {
		low := mask & -mask
		if x&bit != 0 {
			v |= low
		}
		mask &^= low
	}
	return v
}
