package btc_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/sfi"
	"ub/target"
)

// What is translated for the kernel Linux uses the program's own addresses. Here it runs in user mode, in a second traced
// child that has the program's memory where the program has it, and the blob, a context block and the anchor at places that
// no program of these tests names: not round numbers either, which the bytes of a random instruction make. Kernel mode itself is tested in guests: package linux.
const (
	linuxCode   = 0x7059_a6d3_c000 // trampolines in the first page: one INT3 each, then the blob
	linuxBlock  = 0x7159_a6d3_c000
	linuxAnchor = 0x7259_a6d3_c000 + pageSize - 8 // nothing behind it
	linuxBlobs  = 64 * pageSize

	// The verifier wants kernel addresses. Nothing in a blob depends on where it is, but for the jumps to symbols, and
	// those are relative.
	linuxVerified = linuxCode | 0xffff_8000_0000_0000
)

type linuxRunner struct {
	o     *oracle
	code  []byte
	block []byte
}

// newLinuxRunner starts the child. Its files 0 and 1 are the program's code and data.
func newLinuxRunner(t testing.TB, program, data *os.File) *linuxRunner {
	t.Helper()
	r := &linuxRunner{}
	cf, code := sharedFile(t, "blobs", linuxBlobs)
	bf, block := sharedFile(t, "block", 2*pageSize)
	r.code, r.block = code, block
	r.o = newOracle(t, program, data, cf, bf)
	r.o.mmap(t, linuxCode, linuxBlobs, 2, 0, unix.PROT_READ|unix.PROT_EXEC)
	r.o.mmap(t, linuxBlock, pageSize, 3, 0, unix.PROT_READ|unix.PROT_WRITE)
	r.o.mmap(t, linuxAnchor&^(pageSize-1), pageSize, 3, pageSize, unix.PROT_READ)
	return r
}

// symbol is where the trampoline for s is, from the start of the code.
func symbol(s target.Sym) int { return 16 * int(s) }

// install relocates the blob to the page behind the trampolines, has it verified and puts it there.
func (r *linuxRunner) install(b *btc.Blob) error {
	le := binary.LittleEndian
	const base = linuxVerified + pageSize
	code := bytes.Clone(b.Code)
	env := sfi.Env{Kernel: target.Linux, Vec: b.Vec, Faults: b.FaultOffsets()}
	for s := range target.NumSyms {
		env.Syms[s] = linuxVerified + uint64(symbol(s))
	}
	for _, l := range b.Relocs {
		le.PutUint32(code[l.Off:], uint32(int32(env.Syms[l.Sym]-(base+uint64(l.Off)+4))))
	}
	entries := make([]uint32, len(b.Entries))
	for i, e := range b.Entries {
		entries[i] = e.Off
	}
	if err := sfi.Verify(code, base, entries, env); err != nil {
		return err
	}
	for i := range r.code {
		r.code[i] = 0xcc
	}
	copy(r.code[pageSize:], code)
	return nil
}

// run enters the blob at its offset off with the program's state s.
func (r *linuxRunner) run(t testing.TB, b *btc.Blob, off uint32, s state) (machine.Exit, state) {
	t.Helper()
	le := binary.LittleEndian
	slots := []int{target.SlotRSP, target.SlotR12, target.SlotR13, target.SlotR14, target.SlotR15, target.LinuxSlotRBP}
	virtual := []int{4, 12, 13, 14, 15, 5}
	for i := range pageSize / 8 {
		le.PutUint64(r.block[8*i:], 0x5ec7e75ec7e75ec7) // what a blob must not see
	}
	for i, at := range slots {
		le.PutUint64(r.block[at:], s.gpr[virtual[i]])
	}
	le.PutUint64(r.block[target.SlotFSBase:], s.fsBase)
	le.PutUint64(r.block[target.SlotAddrMask:], target.LinuxAddrMask)

	native := s
	native.rip = linuxCode + pageSize + uint64(off)
	native.fsBase = 0x1234 // the program's is in its slot
	native.gpr[4], native.gpr[5] = linuxBlock, linuxAnchor
	for i := 12; i < 16; i++ {
		native.gpr[i] = 0xdead_0000_dead_0000 + uint64(i)
	}
	got := r.o.run(t, native)
	out := got.state
	out.fsBase = s.fsBase
	if out.gpr[4] != linuxBlock || out.gpr[5] != linuxAnchor {
		t.Fatalf("RSP or RBP changed: %v", out)
	}
	var home [btc.LinuxVirtualSlots]uint64
	for i, at := range slots {
		home[i] = le.Uint64(r.block[at:])
	}
	if got.sig == syscall.SIGTRAP {
		reasons := map[int]machine.Reason{
			symbol(target.SymSyscall): machine.ExitSyscall, symbol(target.SymDispatch): machine.ExitMiss, symbol(target.SymStop): machine.ExitStop,
		}
		reason, ok := reasons[int(out.rip-1-linuxCode)] // behind the INT3
		if !ok {
			t.Fatalf("INT3 at %#x", out.rip)
		}
		out.rip = out.gpr[13]
		for i, v := range virtual {
			out.gpr[v] = home[i]
		}
		return machine.Exit{Reason: reason}, out
	}
	f, ok := b.FaultAt(uint32(out.rip - linuxCode - pageSize))
	if !ok {
		t.Fatalf("%v at offset %#x, which the blob does not list", got.sig, out.rip-linuxCode-pageSize)
	}
	out.gpr = f.RecoverLinux(&got.gpr, &home)
	out.rip = f.RIP
	return machine.Exit{Reason: machine.ExitFault, Fault: f}, out
}

func (w *world) executeLinux(t testing.TB, s state) (p *path.Path, b *btc.Blob, x machine.Exit, out state, ok bool) {
	t.Helper()
	p, err := path.Discover([]uint64{s.rip}, w, nil, path.Limits{})
	if err != nil {
		return
	}
	if b, err = btc.Translate(p, w.opts); err != nil {
		return
	}
	if err := btc.CheckAtomicity(b, p); err != nil {
		t.Fatalf("%v\n%s", err, listing(b, p))
	}
	if err := w.linux.install(b); err != nil {
		t.Fatalf("refused: %v\n%s\n%s", err, listing(b, p), explain(b))
	}
	off, ok := b.EntryAt(s.rip)
	if ok {
		x, out = w.linux.run(t, b, off, s)
	}
	return p, b, x, out, ok
}
