package listing

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ub/btc"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
)

// code is at 0x1000: mov rax, [rdi]; add r12, rax; syscall; ret.
var code = sources{{Addr: 0x1000, Code: []byte{0x48, 0x8b, 0x07, 0x49, 0x01, 0xc4, 0x0f, 0x05, 0xc3}}}

func discover(t *testing.T) *path.Path {
	t.Helper()
	p, err := path.Discover([]uint64{0x1000}, code, nil, path.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOf(t *testing.T) {
	l, err := Of("test", discover(t), btc.Options{}, machine.SymOffsets())
	if err != nil {
		t.Fatal(err)
	}
	if !l.Accepted || l.Refusal != "" {
		t.Errorf("refused: %s", l.Refusal)
	}
	if l.Insts != 4 || l.Source != 9 || len(l.Entries) != 2 {
		t.Errorf("%d instructions, %d bytes, entries %#x; want 4, 9 and two entries", l.Insts, l.Source, l.Entries)
	}
	for _, r := range l.Rows {
		for _, n := range r.Native {
			if n.Verdict == "" {
				t.Errorf("no verdict on %s at %#x", n.Text, n.Off)
			}
		}
	}
	var s strings.Builder
	if err := l.Write(&s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"entry 0x1000:", "0x1000: mov rax, qword ptr [rdi]", "gs:[", "window[0,0]", "; syscall", "verifier: accepted"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("%q is not in\n%s", want, s.String())
		}
	}
}

// TestJudgeRefusal: bytes that break the policy show as a refusal, with the rule.
func TestJudgeRefusal(t *testing.T) {
	b := sandboxBlob(t, 0x20010000)
	at := -1
	for i := range b.Code[1:] {
		if b.Code[i] == 0x65 && b.Code[i+1]>>4 == 4 { // a GS prefix, and REX: the access to [rdi]
			at = i
		}
	}
	if at < 0 {
		t.Fatal("no access through GS in the translation")
	}
	b.Code[at] = 0x64
	l := OfBlob(b, machine.SymOffsets())
	if l.Accepted || !strings.Contains(l.Refusal, "segment") {
		t.Errorf("accepted %v, %q: an access through FS must be refused by the rule segment", l.Accepted, l.Refusal)
	}
}

// sandboxBlob is what a sandbox's journal holds for code when its arena is 64 KiB below base.
func sandboxBlob(t *testing.T, base uint64) *statfile.Blob {
	t.Helper()
	b, err := btc.Translate(discover(t), btc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := &statfile.Blob{Space: 3, Base: base, Code: append([]byte(nil), b.Code...), Sources: code}
	for _, r := range b.Relocs {
		to := base - 1<<16 + uint64(machine.SymOffsets()[r.Sym])
		binary.LittleEndian.PutUint32(out.Code[r.Off:], uint32(to-(base+uint64(r.Off)+4)))
	}
	for _, e := range b.Entries {
		out.Entries = append(out.Entries, statfile.Entry{RIP: e.RIP, Off: e.Off})
	}
	for _, l := range b.Lines {
		out.Lines = append(out.Lines, statfile.Entry{RIP: l.RIP, Off: l.Off})
	}
	return out
}

func TestOfBlob(t *testing.T) {
	b := sandboxBlob(t, 0x7f0000010000)
	l := OfBlob(b, machine.SymOffsets())
	if !l.Accepted {
		t.Fatalf("refused: %s", l.Refusal)
	}
	if l.Insts != 4 {
		t.Errorf("%d instructions, want 4", l.Insts)
	}
	found := false
	for _, r := range l.Rows {
		for _, n := range r.Native {
			found = found || n.Note == "syscall" && strings.HasPrefix(r.Text, "syscall")
		}
	}
	if !found {
		t.Error("the jump to the trampoline for syscall is not named beside the syscall instruction")
	}
	// The same site from a file and from a sandbox reads the same.
	f, err := Of("", discover(t), btc.Options{}, machine.SymOffsets())
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Rows) != len(l.Rows) || f.Natives != l.Natives {
		t.Errorf("%d rows with %d instructions from the journal, %d with %d from the file", len(l.Rows), l.Natives, len(f.Rows), f.Natives)
	}
}

func TestFindBlob(t *testing.T) {
	blobs := []statfile.Blob{
		{Base: 1, Entries: []statfile.Entry{{RIP: 10}}, Lines: []statfile.Entry{{RIP: 10}, {RIP: 20}}},
		{Base: 2, Entries: []statfile.Entry{{RIP: 10}}, Lines: []statfile.Entry{{RIP: 10}}},
		{Base: 3, Lines: []statfile.Entry{{RIP: 10}, {RIP: 20}}},
	}
	for _, c := range []struct{ addr, base uint64 }{{10, 2}, {20, 3}, {30, 0}} {
		b := FindBlob(blobs, c.addr)
		if got := uint64(0); b != nil && b.Base != c.base || b == nil && c.base != got {
			t.Errorf("FindBlob(%d) = %v, want the blob at %d", c.addr, b, c.base)
		}
	}
}

func TestProgram(t *testing.T) {
	const libc = "/usr/lib/x86_64-linux-gnu/libc.so.6"
	if _, err := os.Stat(libc); err != nil {
		t.Skipf("needs a library with symbols: %v", err)
	}
	p, err := OpenProgram(libc)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	read, err := p.Resolve("read")
	if err != nil {
		t.Fatal(err)
	}
	if plus, err := p.Resolve("read+0x7"); err != nil || plus != read+7 {
		t.Errorf("read+0x7 is %#x, %v; want %#x", plus, err, read+7)
	}
	if _, err := path.Discover([]uint64{read}, p, nil, path.Limits{MaxBlocks: 4, MaxInsts: 20}); err != nil {
		t.Error(err)
	}
	for what, want := range map[string]string{"no_such_symbol": "no symbol", "0x1": "no executable code"} {
		if _, err := p.Resolve(what); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Resolve(%s): %v, want %q", what, err, want)
		}
	}
	text := filepath.Join(t.TempDir(), "text")
	os.WriteFile(text, []byte("just some text, longer than an ELF header would be, so that its magic is what is missing"), 0o600)
	if _, err := OpenProgram(text); err == nil || !strings.Contains(err.Error(), "not an ELF file") {
		t.Errorf("OpenProgram of a text: %v", err)
	}
}
