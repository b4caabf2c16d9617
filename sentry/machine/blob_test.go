package machine

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/target"
)

// blobAsm assembles the blobs of the tests by hand.
type blobAsm struct {
	emitter
	blob btc.Blob
}

// entry makes the current place an entry for program address rip, and the code from here on its translation.
func (a *blobAsm) entry(rip uint64) {
	a.blob.Entries = append(a.blob.Entries, btc.Entry{RIP: rip, Off: uint32(len(a.b))})
	a.line(rip)
}

func (a *blobAsm) line(rip uint64) {
	a.blob.Lines = append(a.blob.Lines, btc.Line{Off: uint32(len(a.b)), RIP: rip})
}

// fault records that the next instruction may fault.
func (a *blobAsm) fault(f btc.Fault) {
	f.Off = uint32(len(a.b))
	a.blob.Faults = append(a.blob.Faults, f)
}

// sym jumps to a trampoline.
func (a *blobAsm) sym(s target.Sym) {
	a.raw(0xe9, 0, 0, 0, 0)
	a.blob.Relocs = append(a.blob.Relocs, btc.Reloc{Off: uint32(len(a.b) - 4), Sym: s})
}

// movImm is movabs reg, v.
func (a *blobAsm) movImm(reg int, v uint64) {
	a.raw(rexW(0, 0, reg), 0xb8|byte(reg&7))
	a.b = binary.LittleEndian.AppendUint64(a.b, v)
}

// poll is a poll whose fault resumes the program at rip.
func (a *blobAsm) poll(rip uint64) {
	a.fault(btc.Fault{Kind: btc.FaultPoll, RIP: rip})
	a.raw(0x44, 0x8b, 0xbc, 0x24, 0x00, 0xfe, 0xff, 0xff) // mov r15d, [rsp+PollDisp]
}

// exit leaves by way of sym with R13 = rip.
func (a *blobAsm) exit(s target.Sym, rip uint64) {
	a.movImm(r13, rip)
	if s == target.SymDispatch {
		a.raw(0x4c, 0x8d, 0x35, 0, 0, 0, 0) // lea r14, [rip+0]
	}
	a.sym(s)
}

// touch and sanitize put the sanitized value of reg into dst; f is the record of a tag fault.
func (a *blobAsm) sanitize(dst, reg int, f btc.Fault) {
	a.tag(r15, reg)
	f.Kind = btc.FaultTouch
	a.fault(f)
	a.raw(0x4e, 0x8b, 0xbc, 0xfc) // mov r15, [rsp+r15*8+SlotTouch]
	a.imm32(target.SlotTouch)
	a.pdepMem(dst, reg, rSP, target.SlotAddrMask)
}

// tag is shrx dst, src, rsp (VEX.LZ.F2.0F38.W1 F7 /r).
func (a *blobAsm) tag(dst, src int) {
	a.raw(0xc4, vexRXB(dst, 0, src)|0x02, 0x83|byte(^rSP&0xf)<<3, 0xf7, 0xc0|byte(dst&7)<<3|byte(src&7))
}

// gsLoad is mov dst, gs:[base+disp], gsStore the opposite.
func (a *blobAsm) gsLoad(dst, base int, disp int32, f btc.Fault) {
	a.fault(f)
	a.raw(0x65)
	a.load(dst, base, disp)
}

func (a *blobAsm) gsStore(base int, disp int32, src int, f btc.Fault) {
	a.fault(f)
	a.raw(0x65)
	a.store(base, disp, src)
}

func (a *blobAsm) done() *btc.Blob {
	a.blob.Code = a.finish()
	return &a.blob
}

// newMachine returns a Machine that the test closes; it skips the test where there can be none.
func newMachine(t testing.TB, opts Options) *Machine {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	m, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func newThread(t testing.TB, m *Machine) *Thread {
	t.Helper()
	th, err := m.NewThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(th.Free)
	return th
}

func newWindow(t testing.TB, m *Machine) *Window {
	t.Helper()
	w, err := m.NewWindow()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Release)
	return w
}

func install(t testing.TB, m *Machine, b *btc.Blob) *Installed {
	t.Helper()
	i, err := m.Install(b)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// code installs b and returns the place for its first entry.
func code(t testing.TB, m *Machine, b *btc.Blob) Code {
	t.Helper()
	c, ok := install(t, m, b).Entry(b.Entries[0].RIP)
	if !ok {
		t.Fatal("no entry")
	}
	return c
}

// memFile returns a file of n bytes in memory, closed by the test.
func memFile(t testing.TB, n int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	return f
}
