package codebench

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ub/btc"
	"ub/sentry/machine"
	"ub/x86"
)

// TestMeasure runs all workloads: the translation's result must be the program's own, with whichever rules left out.
func TestMeasure(t *testing.T) {
	if err := machine.Supported(); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is missing: run scripts/deps.sh")
	}
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	rules := []Rule{0, Tags, Masks, Jumps, Fuel, AllRules}
	translated := 0
	for i, w := range b.Workloads() {
		if testing.Short() && i%8 != 0 {
			continue
		}
		r, err := b.Measure(w, 1, rules)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range r.Variants {
			switch {
			case strings.HasPrefix(v.Why, "WRONG"):
				t.Errorf("%s without %v: %s", w.Name, v.Without, v.Why)
			case len(v.NS) == 0:
				t.Logf("%s without %v: %s", w.Name, v.Without, v.Why)
			case v.Without&^Tags != 0 && v.Patched == 0 && r.Variants[0].Natively < 0.01 && k == len(rules)-1:
				t.Errorf("%s without %v is unchanged", w.Name, v.Without)
			}
		}
		if v := r.Variants[0]; len(v.NS) == 1 && v.Natively < 0.01 {
			translated++
		}
	}
	if translated == 0 {
		t.Error("nothing runs translated")
	}
}

// TestNative runs code with given registers, vector registers among them, and comes back to Go as it was.
func TestNative(t *testing.T) {
	if err := machine.Supported(); err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := quiet()
	if err != nil {
		t.Fatal(err)
	}
	defer setMask(old)
	n, err := newNative(&program{maps: []mapping{{start: stackBase, end: stackBase + stackSize, read: true, write: true}}, file: memfd(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	const codeOff, fsOff = 0xc00, 0x90
	copy(n.gate[codeOff:], "\x66\x48\x0f\x7e\xc0"+ // movq rax, xmm0
		"\x48\x01\xf8"+ // add rax, rdi
		"\x4c\x01\xf8"+ // add rax, r15
		"\x64\x48\x03\x04\x25\x00\x00\x00\x00"+ // add rax, fs:[0]
		"\xc3")
	copy(n.gate[fsOff:], "\x07")
	area := bytesAt(stackBase+4096, 4096) // aligned by 64
	area[160] = 42                        // XMM0
	area[512] = 2                         // SSE is in it
	copy(area[24:], "\x80\x1f\x00\x00")   // MXCSR
	for i := range 3 {
		var gpr [16]uint64
		gpr[7], gpr[15], gpr[4] = 1000, 200, n.call()
		if got := n.run(&gpr, gateAt+codeOff, 0x202, gateAt+fsOff, stackBase+4096); got != 1249 {
			t.Errorf("run %d: %d, want 1249", i, got)
		}
	}
	// Go lives: memory, the scheduler, signals.
	setMask(old)
	done := make(chan []byte)
	go func() { runtime.GC(); done <- make([]byte, 1<<20) }()
	if len(<-done) != 1<<20 {
		t.Error("nonsense")
	}
}

// memfd returns a file as large as a program's memory.
func memfd(t *testing.T) *os.File {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(imageSize); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseMaps(t *testing.T) {
	const head = "10000000-10001000 r--p 00000000 fe:00 1 /tmp/x\n10001000-1007b000 r-xp 00001000 fe:00 1 /tmp/x\n100a4000-100b0000 rw-p 0 00:00 0\n"
	m, err := parseMaps(head + "100b0000-100d2000 rw-p 00000000 00:00 0 [heap]\n7ffff7ff9000-7ffff7ffd000 r--p 00000000 00:00 0 [vvar]\n")
	if err != nil || len(m) != 4 {
		t.Fatalf("%v, %v", m, err)
	}
	if want := (mapping{start: 0x10001000, end: 0x1007b000, read: true, exec: true}); m[1] != want {
		t.Errorf("%+v, want %+v", m[1], want)
	}
	for _, bad := range []string{"", "400000-401000 r-xp 0 00:00 0\n", "nonsense\n", head + "20000000-20001000 rw-p 00000000 00:00 0 [heap]\n"} {
		if m, err := parseMaps(bad); err == nil {
			t.Errorf("%q is %v", bad, m)
		}
	}
}

func TestParseArena(t *testing.T) {
	const text = "7f0000000000-7f0000100000 rw-s 00000000 00:01 77 /memfd:arena (deleted)\n" +
		"7f1000000000-7f1000100000 r-xs 00000000 00:01 77 /memfd:arena (deleted)\n" +
		"7f2000000000-7f2000100000 rw-s 00000000 00:01 78 /memfd:other (deleted)\n" +
		"7f3000000000-7f3000100000 r-xs 00000000 00:01 79 /memfd:alone (deleted)\n" +
		"7f4000000000-7f4000100000 rw-p 00000000 00:00 0\n"
	a, err := parseArena(text, 0x7f1000000200)
	if want := (arena{rx: 0x7f1000000000, rw: 0x7f0000000000, size: 0x100000}); err != nil || a != want {
		t.Errorf("%+v, %v, want %+v", a, err, want)
	}
	for _, rx := range []uintptr{0x7f3000000000, 0x7f4000000000, 0x1000} {
		if a, err := parseArena(text, rx); err == nil {
			t.Errorf("%#x: %+v", rx, a)
		}
	}
}

// TestPatched takes rules out of code that looks like the translator's.
func TestPatched(t *testing.T) {
	code := []byte("\x44\x8b\xb4\x24\x00\xfe\xff\xff" + // mov r14d, [rsp-0x200]
		"\xc4\x62\x8b\xf5\x74\x24\x48" + // pdep r14, r14, [rsp+0x48]
		"\xc4\xe2\xfb\xf5\x7c\x24\x48" + // pdep rdi, rax, [rsp+0x48]
		"\x4b\x8d\x0c\x3e" + // lea rcx, [r14+r15]
		"\xe3\x05" + // jrcxz
		"\x90\x90" +
		"\xc4\x42\x8b\xf5\x64\x24\x50") // pdep with another slot
	blob := &btc.Blob{
		Code:   code,
		Faults: []btc.Fault{{Off: 0, Kind: btc.FaultPoll}},
		Lines:  []btc.Line{{Off: 0, RIP: 0x1000}, {Off: 22, RIP: 0x1001}},
	}
	want := func(rules Rule, n int, text ...string) {
		t.Helper()
		got, k, err := patched(code, blob, rules)
		if err != nil || k != n || len(got) != len(code) {
			t.Fatalf("%v: %d places, %v, want %d", rules, k, err, n)
		}
		var all []string
		for off := 0; off < len(got); {
			in, err := x86.Decode(got[off:], uint64(off))
			if err != nil {
				t.Fatalf("%v: at %#x: %v", rules, off, err)
			}
			if s := in.String(); !strings.HasPrefix(s, "nop") {
				all = append(all, s)
			}
			off += in.Len
		}
		list := strings.Join(all, "; ")
		for _, x := range text {
			if !strings.Contains(list, x) {
				t.Errorf("%v: no %q in %q", rules, x, list)
			}
		}
		if rules&Fuel != 0 && strings.Contains(list, "-0x200") {
			t.Errorf("%v: the poll is there: %q", rules, list)
		}
	}
	want(0, 0, "pdep r14", "jrcxz")
	want(Fuel, 1, "pdep r14", "jrcxz")
	want(Masks, 2, "mov r14, r14", "mov rdi, rax", "-0x200", "+0x50")
	want(Jumps, 1, "jmp", "pdep r14")
	want(AllRules, 4, "mov rdi, rax", "jmp")

	if r := AllRules.String(); r != "tags+masks+jumps+fuel" {
		t.Error(r)
	}
	if _, _, err := patched(bytes.Repeat([]byte{0x90}, 12), blob, Fuel); err == nil {
		t.Error("a poll that is none is taken out")
	}

	code = []byte("\xc4\x62\x81\xf7\xf7" + // shlx r14, rdi, r15
		"\xc4\x42\x83\xf7\xf6" + // shrx r14, r14, r15
		"\xc4\xe2\xf1\xf7\xd8" + // shlx rbx, rax, rcx: the program's
		"\xc4\xe2\xf3\xf7\xdb") // shrx rbx, rbx, rcx
	blob = &btc.Blob{Code: code}
	want(0, 0, "shlx r14", "shrx r14")
	want(Masks, 1, "mov r14, rdi; shlx rbx, rax, rcx; shrx rbx, rbx, rcx")
}

func TestPutNops(t *testing.T) {
	for n := range 30 {
		b := make([]byte, n)
		putNops(b)
		for off := 0; off < n; {
			in, err := x86.Decode(b[off:], 0)
			if err != nil || !strings.HasPrefix(in.String(), "nop") && in.String() != "nop" {
				t.Fatalf("%d bytes: % x: %v, %v", n, b, in, err)
			}
			off += in.Len
		}
	}
}

func TestCountsWhy(t *testing.T) {
	var c counts
	if c.why() != "" {
		t.Error(c.why())
	}
	c.note("stop", "b", "x")
	c.note("stop", "a", "x")
	c.note("stop", "a", "x")
	if c.why() != "stop at a: x" {
		t.Error(c.why())
	}
}
