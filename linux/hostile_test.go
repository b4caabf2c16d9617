package linux

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/path"
	"ub/target"
)

// These tests are for guests: package vm runs them there, with the module loaded and a program to attack. They try to make
// the module accept what it must not, or fall over.

// needModule opens the module, or skips.
func needModule(t *testing.T) *Device {
	t.Helper()
	if os.Getenv("UB_TEST_VICTIM") == "" {
		t.Skip("runs in guests only: package vm")
	}
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// number is how many attacks to make.
func number(t *testing.T, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv("UB_TEST_ATTACKS")); err == nil {
		return n
	}
	return otherwise
}

// victim is a program that somebody without rights runs.
type victim struct {
	cmd *exec.Cmd
	dev *Device
	mem memory
}

// newVictim starts and enrols the program. It stands still if it is not to be run.
func newVictim(t *testing.T, running bool) *victim {
	t.Helper()
	dev, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{dev: dev, cmd: exec.Command(os.Getenv("UB_TEST_VICTIM"), "1000000")}
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// What becomes of it when its code is wrong is unknown: processes without end, above all.
	lim := unix.Rlimit{Cur: 20, Max: 20}
	_ = unix.Prlimit(v.cmd.Process.Pid, unix.RLIMIT_NPROC, &lim, nil)
	lim = unix.Rlimit{Cur: 256 << 20, Max: 256 << 20}
	_ = unix.Prlimit(v.cmd.Process.Pid, unix.RLIMIT_AS, &lim, nil)
	time.Sleep(20 * time.Millisecond) // past its exec, and the loader's work
	if !running {
		_ = v.cmd.Process.Signal(syscall.SIGSTOP)
	}
	if v.mem, err = openMemory(v.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := dev.Enrol(v.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.Control(setHot|setMiss, Control{Hot: 4, Miss: 1}); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *victim) end() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
	v.mem.Close()
	v.dev.Close()
}

func (v *victim) dead() bool {
	var ws unix.WaitStatus
	pid, err := unix.Wait4(v.cmd.Process.Pid, &ws, unix.WNOHANG, nil)
	return pid != 0 || err != nil
}

// sample is a blob as the translator makes it.
type sample struct {
	b  *btc.Blob
	in *install
}

func (v *victim) sample(t *testing.T, rip uint64, insts int) *sample {
	t.Helper()
	r, err := newCodeReader(v.mem)
	if err != nil {
		t.Fatal(err)
	}
	p, err := path.Discover([]uint64{rip}, r, nil, path.Limits{MaxBlocks: 8, MaxInsts: insts})
	if err != nil {
		return nil
	}
	version, err := v.dev.Version()
	if err != nil {
		t.Fatal(err)
	}
	b, err := btc.Translate(p, btc.Options{Kernel: target.Linux, NoVectors: version.Vec < 1, NoAVX512: version.Vec < 2})
	if err != nil {
		return nil
	}
	return &sample{b, newInstall(b, r.source(b.Source), func(uint64) bool { return true })}
}

// samples returns blobs made from random places of the program's code.
func (v *victim) samples(t *testing.T, rng *rand.Rand, n int) []*sample {
	t.Helper()
	code, err := v.mem.Code()
	if err != nil || len(code) == 0 {
		t.Fatalf("no code to translate: %v", err)
	}
	var out []*sample
	for tries := 0; len(out) < n; tries++ {
		if tries > 100*n {
			t.Fatalf("only %d blobs from %v", len(out), code)
		}
		c := code[rng.IntN(len(code))]
		s := v.sample(t, c.Start+rng.Uint64N(c.End-c.Start), 4+rng.IntN(24))
		if s == nil || len(s.b.Code) > 1024 {
			continue
		}
		if _, err := v.dev.Install(s.in); err != nil {
			var ie *InstallError
			// What is not aligned, or was never meant as code, has LOCK at times.
			if errors.As(err, &ie) && (ie.Errno == unix.EOPNOTSUPP || ie.Errno == unix.E2BIG) {
				continue
			}
			t.Fatalf("a blob of the translator's is refused: %v", err)
		}
		out = append(out, s)
		if err := v.dev.Revoke(0); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Bytes that matter: prefixes, privileged instructions, system calls, indirect jumps, segment loads.
var nasty = [][]byte{
	{0x0f, 0x05}, {0x0f, 0x30}, {0x0f, 0x32}, {0x0f, 0x22, 0xd8}, {0x0f, 0x01, 0xca}, {0x0f, 0x01, 0xcb}, {0xf4}, {0xfa}, {0xfb}, {0xfd}, {0xcc}, {0xc3},
	{0xff, 0xe0}, {0xff, 0xd0}, {0xff, 0x24, 0x24}, {0xcd, 0x80}, {0x65}, {0x64}, {0xf0}, {0x67}, {0x66}, {0x2e}, {0xf2}, {0xf3}, {0x48}, {0x41}, {0x4c},
	{0x9d}, {0x9c}, {0x50}, {0x5c}, {0xc9}, {0x8e, 0xe8}, {0x0f, 0xae, 0xd8}, {0xf3, 0x0f, 0xae, 0xd8}, {0x0f, 0x07}, {0x0f, 0xb0}, {0xc4}, {0xc5}, {0x62},
	{0xa4}, {0xab}, {0xe8}, {0xe9}, {0xeb}, {0x74}, {0x8b, 0x45, 0x00}, {0x89, 0x04, 0x24}, {0x48, 0x89, 0xe5}, {0x48, 0x89, 0xec}, {0x0f, 0x0b}, {0x0f, 0xff},
}

// mutate returns a copy of s with something changed: its code, and with records what is said about the code too.
func mutate(rng *rand.Rand, s, other *sample, records bool) *install {
	in := *s.in
	in.code = slices.Clone(in.code)
	in.entries = slices.Clone(in.entries)
	in.relocs = slices.Clone(in.relocs)
	in.faults = slices.Clone(in.faults)
	in.dirty = slices.Clone(in.dirty)
	for n := 1 + rng.IntN(3); n > 0; n-- {
		at := rng.IntN(len(in.code))
		kinds := 7
		if records {
			kinds = 14
		}
		switch rng.IntN(kinds) {
		case 0, 1:
			in.code[at] ^= 1 << rng.IntN(8)
		case 2:
			in.code[at] = byte(rng.Uint32())
		case 3:
			copy(in.code[at:], nasty[rng.IntN(len(nasty))])
		case 4: // a piece of another one
			o := rng.IntN(len(other.in.code))
			copy(in.code[at:], other.in.code[o:min(len(other.in.code), o+1+rng.IntN(24))])
		case 5: // what follows moves up
			copy(in.code[at:], in.code[min(len(in.code), at+1+rng.IntN(8)):])
		case 6: // a displacement, or an immediate
			if at+4 <= len(in.code) {
				v := []uint32{0, 0x7fffffff, 0x80000000, 0xffffffff, 0xffffff80, 0x58, 0x60, 0x100000, 0xfff00000, rng.Uint32()}
				binary.LittleEndian.PutUint32(in.code[at:], v[rng.IntN(len(v))])
			}
		case 7:
			if len(in.entries) > 0 {
				in.entries[rng.IntN(len(in.entries))].off = uint32(rng.IntN(len(in.code) + 8))
			}
		case 8:
			if len(in.relocs) > 0 {
				in.relocs[rng.IntN(len(in.relocs))].off = uint32(rng.IntN(len(in.code) + 4))
			}
		case 9:
			if len(in.relocs) > 0 {
				in.relocs[rng.IntN(len(in.relocs))].sym = uint32(rng.IntN(5))
			}
		case 10:
			in.vec = uint32(rng.IntN(4))
		case 11:
			if len(in.faults) > 0 {
				i := rng.IntN(len(in.faults))
				in.faults = slices.Delete(in.faults, i, i+1)
			}
		case 12:
			if len(in.faults) > 0 {
				f := &in.faults[rng.IntN(len(in.faults))]
				switch rng.IntN(6) {
				case 0:
					f.off = uint32(rng.IntN(len(in.code) + 4))
				case 1:
					f.rip = rng.Uint64() >> rng.IntN(64)
				case 2:
					f.kind = byte(rng.IntN(8))
				case 3:
					f.first, f.ndirty = rng.Uint32()>>rng.IntN(32), byte(rng.IntN(9))
				case 4:
					f.flags, f.origDI, f.startDI = byte(rng.IntN(8)), byte(rng.IntN(20)), byte(rng.IntN(20))
				case 5:
					f.origSI, f.startSI = byte(rng.IntN(20)), byte(rng.IntN(20))
				}
			}
		case 13:
			if len(in.dirty) > 0 {
				d := &in.dirty[rng.IntN(len(in.dirty))]
				d.virt, d.nat, d.delta = byte(rng.IntN(18)), byte(rng.IntN(18)), int32(rng.Uint32())
			}
		}
	}
	return &in
}

// symbols finds the places in the module that code may jump to, so that package sfi sees the very bytes that the module has
// verified: a relocation that is out of place changes instructions, and which ones depends on the address.
func symbols(t *testing.T) (syms [target.NumSyms]uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"ub_sym_syscall", "ub_sym_dispatch", "ub_sym_stop"} {
		m := regexp.MustCompile(`(?m)^([0-9a-f]+) . ` + name + `\s`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("/proc/kallsyms does not have %s", name)
		}
		if syms[i], err = strconv.ParseUint(string(m[1]), 16, 64); err != nil || syms[i] == 0 {
			t.Fatalf("/proc/kallsyms: %s: %v", m[0], err)
		}
	}
	return syms
}

// safe asks package sfi about code that the module has taken.
func safe(in *install, syms [target.NumSyms]uint64) error {
	b := &btc.Blob{Code: in.code, Vec: target.Vec(in.vec)}
	for _, r := range in.relocs {
		b.Relocs = append(b.Relocs, btc.Reloc{Off: r.off, Sym: target.Sym(r.sym)})
	}
	for _, f := range in.faults {
		b.Faults = append(b.Faults, btc.Fault{Off: f.off})
	}
	return checkAt(b, in, in.base, syms)
}

// TestHostileLoader feeds the module mutated code. What it takes, package sfi must take too.
func TestHostileLoader(t *testing.T) {
	needModule(t)
	v := newVictim(t, false)
	defer v.end()
	rng := rand.New(rand.NewPCG(1, 2))
	samples := v.samples(t, rng, 300)
	syms := symbols(t)
	answers := map[string]int{}
	taken := 0
	for i := range number(t, 100_000) {
		s := samples[rng.IntN(len(samples))]
		in := mutate(rng, s, samples[rng.IntN(len(samples))], i%4 == 0)
		_, err := v.dev.Install(in)
		if err != nil {
			answers[err.(*InstallError).Errno.Error()]++
			if errors.Is(err, unix.ESRCH) {
				t.Fatalf("the victim has gone: %v", err)
			}
			continue
		}
		taken++
		if err := safe(in, syms); err != nil {
			t.Fatalf("the module takes what package sfi refuses: %v\n%x\nentries %v relocs %v vec %d", err, in.code, in.entries, in.relocs, in.vec)
		}
		if err := v.dev.Revoke(0); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("taken %d, refused %v", taken, answers)
	if answers[unix.ENOEXEC.Error()] == 0 {
		t.Error("the verifier has refused nothing")
	}
}

// TestHostileCode has a program run wrong code that the module takes. That program is lost, nothing else.
func TestHostileCode(t *testing.T) {
	d := needModule(t)
	rng := rand.New(rand.NewPCG(3, 4))
	var v *victim
	var hotSamples []*sample
	ran, lost, taken := 0, 0, 0
	start := func() {
		v = newVictim(t, true)
		// The sites that it really comes by.
		hotSamples = nil
		buf := make([]Event, 64)
		for end := time.Now().Add(5 * time.Second); len(hotSamples) < 3 && time.Now().Before(end); {
			n, err := v.dev.Read(buf, 100*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range buf[:n] {
				if s := v.sample(t, e.RIP, 200); e.Type == EventHot && s != nil {
					hotSamples = append(hotSamples, s)
				}
			}
		}
		if len(hotSamples) == 0 {
			t.Fatal("the victim makes no system calls")
		}
	}
	start()
	defer func() { v.end() }()
	for i := range number(t, 3000) {
		s := hotSamples[rng.IntN(len(hotSamples))]
		in := mutate(rng, s, hotSamples[rng.IntN(len(hotSamples))], i%2 == 0)
		before := Stats{}
		if st, err := v.dev.Stats(); err == nil {
			before = *st
		}
		if _, err := v.dev.Install(in); err != nil {
			if errors.Is(err, unix.ESRCH) || v.dead() {
				lost++
				v.end()
				start()
			}
			continue
		}
		taken++
		for range 20 {
			time.Sleep(time.Millisecond)
			if st, err := v.dev.Stats(); err != nil || st.Entries > before.Entries+100 {
				break
			}
		}
		if st, err := v.dev.Stats(); err == nil && st.Entries > before.Entries {
			ran++
		}
		err := v.dev.Revoke(0)
		if v.dead() || err != nil && errors.Is(err, unix.ESRCH) {
			lost++
			v.end()
			start()
		} else if err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
	}
	version, err := d.Version()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d taken, %d ran, %d victims lost; %d of %d bytes free", taken, ran, lost, version.ArenaFree, version.Arena)
	if ran == 0 {
		t.Error("nothing wrong has run")
	}
}

// TestDeviceLimits checks answers to requests that are not right, one by one.
func TestDeviceLimits(t *testing.T) {
	d := needModule(t)
	for _, c := range []struct {
		name string
		err  error
	}{
		{"install before enrolment", second(d.Install(&install{code: []byte{0xcc}}))},
		{"no such process", d.Enrol(1 << 22)},
		{"a kernel thread", d.Enrol(2)},
		{"revoke before enrolment", d.Revoke(0)},
	} {
		if c.err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
	v := newVictim(t, false)
	defer v.end()
	var busy *BusyError
	if err := d.Enrol(v.cmd.Process.Pid); !errors.As(err, &busy) {
		t.Errorf("enrolled twice: %v", err)
	}
	if err := v.dev.Enrol(os.Getpid()); err == nil {
		t.Error("a file enrols two processes")
	}
	if err := v.dev.Revoke(12345); !errors.Is(err, unix.ENOENT) {
		t.Errorf("revoking nothing: %v", err)
	}
	s := v.samples(t, rand.New(rand.NewPCG(5, 6)), 1)[0]
	bad := func(name string, want unix.Errno, change func(in *install)) {
		t.Helper()
		in := *s.in
		in.ranges, in.source = slices.Clone(in.ranges), slices.Clone(in.source)
		in.entries = slices.Clone(in.entries)
		change(&in)
		_, err := v.dev.Install(&in)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	bad("other source bytes", unix.ESTALE, func(in *install) { in.source[0] ^= 1 })
	bad("no such memory", unix.EACCES, func(in *install) { in.ranges = []abiRange{{0x10000, 0x10010}}; in.source = make([]byte, 16) })
	bad("kernel memory", unix.EINVAL, func(in *install) {
		in.ranges = []abiRange{{0xffffffff81000000, 0xffffffff81000010}}
		in.source = make([]byte, 16)
	})
	bad("a range backwards", unix.EINVAL, func(in *install) { in.ranges[0].start, in.ranges[0].end = in.ranges[0].end, in.ranges[0].start })
	bad("an entry outside", unix.EINVAL, func(in *install) { in.entries[0].off = uint32(len(in.code)) })
	version, err := v.dev.Version()
	if err != nil {
		t.Fatal(err)
	}
	bad("too much code", unix.E2BIG, func(in *install) { in.code = make([]byte, version.MaxCode+1) })

	begin := func(name string, want error, w window, room int) {
		t.Helper()
		if _, err := v.dev.Window(&w, make([]Passes, room)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := d.Window(&window{}, nil); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("a window before enrolment: %v", err)
	}
	gates := func(g ...abiGate) window { return window{gates: g} }
	begin("a window", nil, gates(abiGate{rip: 1}, abiGate{rip: 2, gate: 2}), 10)
	begin("no such floor", unix.EINVAL, window{floor: 4}, 0)
	begin("times backwards", unix.EINVAL, window{clip: 2, longest: 1}, 0)
	begin("gates not sorted", unix.EINVAL, gates(abiGate{rip: 2}, abiGate{rip: 1}), 0)
	begin("a gap with two gates", unix.EINVAL, gates(abiGate{rip: 2}, abiGate{rip: 2, gate: 1}), 0)
	begin("a gate that is none", unix.EINVAL, gates(abiGate{rip: 2, gate: gateKept}), 0)
	begin("a gate in the kernel", unix.EINVAL, gates(abiGate{rip: 1 << 47}), 0)
	begin("a reserved word", unix.EINVAL, gates(abiGate{rip: 2, reserved: 1}), 0)
	begin("too many gates", unix.E2BIG, gates(make([]abiGate, version.MaxGates+1)...), 0)
	begin("too much room", unix.E2BIG, gates(), int(version.MaxPasses)+1)
}

func second[T any](_ T, err error) error { return err }
