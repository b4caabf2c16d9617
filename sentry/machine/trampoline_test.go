package machine

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ub/target"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestTrampolineGolden pins the bytes of the trampolines together with what an independent disassembler reads in them:
// nothing verifies this code, so a change of it must be looked at.
func TestTrampolineGolden(t *testing.T) {
	tr := makeTrampolines()
	golden := filepath.Join("testdata", "trampolines.txt")
	hexLine := regexp.MustCompile(`^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*\t?(.*)$`)
	if *update {
		var b bytes.Buffer
		fmt.Fprintf(&b, "# entry %#x landing %#x syscall %#x dispatch %#x stop %#x\n", tr.entry, tr.landing,
			tr.syms[target.SymSyscall], tr.syms[target.SymDispatch], tr.syms[target.SymStop])
		b.WriteString(disassemble(t, tr.code))
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	head, text, _ := strings.Cut(string(want), "\n")
	if got := fmt.Sprintf("# entry %#x landing %#x syscall %#x dispatch %#x stop %#x", tr.entry, tr.landing,
		tr.syms[target.SymSyscall], tr.syms[target.SymDispatch], tr.syms[target.SymStop]); got != head {
		t.Errorf("offsets:\n got %s\nwant %s", got, head)
	}
	var pinned []byte
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		m := hexLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("golden line %q is not a line of disassembly", line)
		}
		var b []byte
		fmt.Sscanf(strings.ReplaceAll(m[2], " ", ""), "%x", &b)
		pinned = append(pinned, b...)
	}
	if !bytes.Equal(pinned, tr.code) {
		t.Errorf("bytes differ from %s; look at the change, then run with -update\n got %x\nwant %x", golden, tr.code, pinned)
	}
	if got := disassemble(t, tr.code); got != text {
		t.Errorf("disassembly differs:\n got %s\nwant %s", got, text)
	}
}

// disassemble returns objdump's reading of code, or skips the test when there is no objdump.
func disassemble(t *testing.T, code []byte) string {
	t.Helper()
	objdump, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("no objdump (package binutils): text not compared")
	}
	f := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(f, code, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-D", "-z", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--insn-width=12", f).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(out), "<.data>:\n")
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}
