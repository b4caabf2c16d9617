package path

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"ub/x86"
)

// maxInstLen is the architecture's limit on the length of an instruction (Intel SDM vol. 2, 2.3.11).
const maxInstLen = 15

// Discover finds the path of the given entries. Blocks are found breadth first. A conditional jump is followed both
// ways, a direct call into the callee and to the instruction after it, indirect branches and returns to the targets in
// hints; returns besides to the return sites of the calls in the path that can reach them. A syscall ends a block; the
// instruction after it becomes a further entry while the limits allow, and so do the instructions after calls.
//
// The error is an *EntryError when the first instruction of one of entries is not translatable or not readable. Zero
// limits mean DefaultLimits'.
func Discover(entries []uint64, r CodeReader, hints Hints, l Limits) (*Path, error) {
	return Order{Entries: entries, Hints: hints, Limits: l}.Discover(r)
}

// Discover is the function of that name, with stacks as further hints, and leaves out what other paths have: a block begins at no
// address that o.Known names, but for those of o.Entries.
func (o Order) Discover(r CodeReader) (*Path, error) {
	entries, known, l := o.Entries, o.Known, o.Limits
	if len(entries) == 0 {
		return nil, errors.New("no path without an entry: give at least one")
	}
	if l.MaxBlocks <= 0 {
		l.MaxBlocks = DefaultLimits.MaxBlocks
	}
	if l.MaxInsts <= 0 {
		l.MaxInsts = DefaultLimits.MaxInsts
	}
	d := &discovery{
		p:      &Path{byAddr: make(map[uint64]*Block)},
		code:   codeBuffer{r: r},
		hints:  o.Hints,
		limits: l,
		inst:   make(map[uint64]place),
		queued: make(map[uint64]role),
		frames: make(map[uint64]frame),
		known:  known,
	}
	for _, e := range entries {
		d.enqueue(e, roleEntry, frame{words: o.Stacks[e]})
	}
	for i := 0; len(d.queue) > 0; i++ {
		addr := d.queue[0]
		d.queue = d.queue[1:]
		if i >= len(entries) && known != nil && known(addr) {
			continue
		}
		d.visit(addr)
	}
	d.finish()
	for _, e := range entries {
		b := d.p.byAddr[e]
		if b == nil { // more entries than MaxBlocks
			return nil, &EntryError{e, fmt.Sprintf("the limit of %d blocks is used up", l.MaxBlocks)}
		}
		if len(b.Insts) == 0 {
			return nil, &EntryError{e, b.Stop}
		}
	}
	return d.p, nil
}

// role says what a queued address is beside a jump target.
type role uint8

const (
	roleEntry role = 1 << iota
	roleCallee
	roleRetSite
)

// place is where in the path an instruction is: every instruction belongs to exactly one block.
type place struct {
	b *Block
	i int
}

type discovery struct {
	p      *Path
	code   codeBuffer
	hints  Hints
	limits Limits
	queue  []uint64
	queued map[uint64]role
	inst   map[uint64]place // by instruction address
	frames map[uint64]frame // by block address, where known
	seen   []seenReturn
	known  func(addr uint64) bool
	blocks int // started
	insts  int
}

// seenReturn is a return at from that led to to when the stack was seen.
type seenReturn struct{ from, to uint64 }

func (d *discovery) enqueue(addr uint64, r role, f frame) {
	if _, ok := d.frames[addr]; !ok && f.known() {
		d.frames[addr] = f
	}
	old, ok := d.queued[addr]
	d.queued[addr] = old | r
	if !ok {
		d.queue = append(d.queue, addr)
	}
}

// visit makes a block start at addr: by splitting the block that has an instruction there, or by decoding a new one. A
// target in the middle of an instruction gets its own, overlapping, decoding.
func (d *discovery) visit(addr uint64) {
	if d.p.byAddr[addr] != nil {
		return
	}
	if at, ok := d.inst[addr]; ok {
		d.split(at)
		return
	}
	if d.blocks >= d.limits.MaxBlocks || d.insts >= d.limits.MaxInsts {
		d.p.Full = true
		return
	}
	d.blocks++
	d.decode(d.newBlock(addr))
}

func (d *discovery) newBlock(addr uint64) *Block {
	b := &Block{Index: len(d.p.Blocks), Addr: addr}
	d.p.Blocks = append(d.p.Blocks, b)
	d.p.byAddr[addr] = b
	return b
}

func (d *discovery) split(at place) {
	head := at.b
	tail := d.newBlock(head.Insts[at.i].Addr)
	tail.Insts = head.Insts[at.i:]
	tail.End, tail.Next, tail.Stop = head.End, head.Next, head.Stop
	head.Insts = head.Insts[:at.i:at.i]
	head.End, head.Next, head.Stop = EndFall, tail.Addr, ""
	for i := range tail.Insts {
		d.inst[tail.Insts[i].Addr] = place{tail, i}
	}
}

// decode fills b and queues what it leads to.
func (d *discovery) decode(b *Block) {
	f := d.frames[b.Addr]
	for addr := b.Addr; ; {
		if _, ok := d.inst[addr]; ok || d.insts >= d.limits.MaxInsts {
			// Known code: it is split here if need be, and decoded once only.
			b.End, b.Next = EndFall, addr
			if ok {
				d.enqueue(addr, 0, f)
			} else {
				d.p.Full = true
			}
			return
		}
		in, reason := d.code.decode(addr)
		if reason != "" {
			b.End, b.Next, b.Stop = EndStop, addr, reason
			return
		}
		d.inst[addr] = place{b, len(b.Insts)}
		b.Insts = append(b.Insts, in)
		d.insts++
		next := after(&in)
		if in.Flow == x86.FlowNext {
			f.step(&in)
			addr = next
			continue
		}
		b.End = EndBranch
		switch in.Flow {
		case x86.FlowJump:
			d.enqueue(in.Target, 0, f)
		case x86.FlowCond:
			d.enqueue(next, 0, f)
			d.enqueue(in.Target, 0, f)
		case x86.FlowCall:
			d.enqueue(in.Target, roleCallee, f.moved(-8))
			d.enqueue(next, roleRetSite, f)
		case x86.FlowIndCall:
			d.enqueueHints(addr, roleCallee|roleEntry, f.moved(-8))
			d.enqueue(next, roleRetSite, f)
		case x86.FlowIndJump:
			d.enqueueHints(addr, roleEntry, f)
		case x86.FlowRet:
			above := f.moved(8 + int64(uint16(in.Imm)))
			if to, ok := d.returnTo(f); ok {
				d.seen = append(d.seen, seenReturn{addr, to})
				d.enqueue(to, roleEntry, above)
			}
			d.enqueueHints(addr, roleEntry, frame{})
		case x86.FlowSyscall:
			d.enqueue(next, roleEntry, f)
		}
		return
	}
}

// enqueueHints queues the targets seen at run time. They are entries too: if the inline comparison does not have them,
// or another path goes there, the dispatcher still finds them.
func (d *discovery) enqueueHints(branch uint64, r role, f frame) {
	for _, t := range d.hints[branch] {
		d.enqueue(t, r, f)
	}
}

// finish sets what needs all blocks: roles, entries and the targets of indirect branches.
func (d *discovery) finish() {
	p := d.p
	for _, b := range p.Blocks {
		r := d.queued[b.Addr]
		b.Callee = r&roleCallee != 0
		b.RetSite = r&roleRetSite != 0
		// A return site is an entry because a function with many callers returns through the dispatcher. Where nothing
		// would be executed, entering is pointless.
		b.Entry = r&(roleEntry|roleRetSite) != 0 && len(b.Insts) > 0
		if b.Entry {
			p.Entries = append(p.Entries, b.Addr)
		}
		if in := b.Last(); in != nil {
			switch in.Flow {
			case x86.FlowIndJump, x86.FlowIndCall, x86.FlowRet:
				for _, t := range d.hints[in.Addr] {
					b.addTarget(p, t)
				}
			}
		}
	}
	for _, s := range d.seen {
		if at, ok := d.inst[s.from]; ok {
			at.b.addTarget(p, s.to)
		}
	}
	sort.Slice(p.Entries, func(i, j int) bool { return p.Entries[i] < p.Entries[j] })
	p.predictReturns()
}

func (b *Block) addTarget(p *Path, addr uint64) {
	if p.byAddr[addr] != nil && !slices.Contains(b.Targets, addr) {
		b.Targets = append(b.Targets, addr)
	}
}

// predictReturns gives every return the return sites of the calls that can reach it: those of each call whose callee
// leads to the return without leaving the function, that is over jumps, past calls and past syscalls. Return sites come
// in the order of the calls' discovery, after what was seen at run time.
func (p *Path) predictReturns() {
	sites := make(map[*Block][]uint64) // callee: return sites
	var callees []*Block
	for _, b := range p.Blocks {
		in := b.Last()
		if in == nil || in.Flow != x86.FlowCall && in.Flow != x86.FlowIndCall || p.byAddr[after(in)] == nil {
			continue
		}
		for _, t := range b.Succs(nil) {
			if c := p.byAddr[t]; c != nil {
				if sites[c] == nil {
					callees = append(callees, c)
				}
				sites[c] = append(sites[c], after(in))
			}
		}
	}
	seen := make([]*Block, len(p.Blocks)) // the callee for which a block was last visited
	var work []*Block
	var succs []uint64
	for _, c := range callees {
		work = append(work[:0], c)
		seen[c.Index] = c
		for len(work) > 0 {
			b := work[0]
			work = work[1:]
			succs = succs[:0]
			switch in := b.Last(); {
			case in == nil:
				succs = b.Succs(succs)
			case in.Flow == x86.FlowRet:
				for _, s := range sites[c] {
					b.addTarget(p, s)
				}
			case in.Flow == x86.FlowCall, in.Flow == x86.FlowIndCall, in.Flow == x86.FlowSyscall:
				succs = append(succs, after(in))
			default:
				succs = b.Succs(succs)
			}
			for _, s := range succs {
				if t := p.byAddr[s]; t != nil && seen[t.Index] != c {
					seen[t.Index] = c
					work = append(work, t)
				}
			}
		}
	}
}

// codeBuffer reads ahead, since a reader may cost a copy from another process.
type codeBuffer struct {
	r    CodeReader
	addr uint64
	n    int
	buf  [128]byte
	err  error
}

// at returns up to maxInstLen readable bytes at addr.
func (c *codeBuffer) at(addr uint64) []byte {
	off := addr - c.addr
	if addr < c.addr || off >= uint64(c.n) || uint64(c.n)-off < maxInstLen && c.n == len(c.buf) {
		c.addr, off = addr, 0
		c.n, c.err = c.r.ReadCode(addr, c.buf[:])
		c.n = max(0, min(c.n, len(c.buf)))
	}
	return c.buf[off:min(off+maxInstLen, uint64(c.n))]
}

// decode returns the instruction at addr, or why it is not part of any path.
func (c *codeBuffer) decode(addr uint64) (in x86.Inst, stop string) {
	code := c.at(addr)
	if len(code) == 0 {
		if c.err != nil {
			return in, fmt.Sprintf("unreadable code: %v", c.err)
		}
		return in, "unreadable code"
	}
	in, err := x86.Decode(code, addr)
	if err != nil {
		if len(code) < maxInstLen {
			return in, fmt.Sprintf("unreadable code after %#x: %v", addr+uint64(len(code))-1, err)
		}
		return in, err.Error()
	}
	return in, StopReason(&in)
}
