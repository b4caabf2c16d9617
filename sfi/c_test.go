package sfi

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"ub/target"
)

// The verifier in C, linux/module, must give the same answers as this package. It is compiled with the compiler's
// sanitizers and asked through a pipe.

var cDir = cmp.Or(os.Getenv("SFI_C"), "../linux/module")

// cVerifier is a running process of testdata/cverify.c.
type cVerifier struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// cBlob is one question, and Go's answer to it.
type cBlob struct {
	code    []byte
	entries []uint32
	base    uint64
	env     Env
	where   string
}

var buildC = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cverify")
	if err != nil {
		return "", err
	}
	sources, _ := filepath.Glob(cDir + "/ub_verify.c")
	for _, s := range []string{"ub_flow.c", "ub_decode.c", "ub_opcode.c"} {
		sources = append(sources, filepath.Join(cDir, s))
	}
	bin := filepath.Join(dir, "cverify")
	args := append([]string{"-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-I", cDir, "-o", bin, "testdata/cverify.c"}, sources...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

// TestMain removes what buildC leaves.
func TestMain(m *testing.M) {
	code := m.Run()
	if cBuilt {
		if bin, err := buildC(); err == nil {
			os.RemoveAll(filepath.Dir(bin))
		}
	}
	os.Exit(code)
}

var cBuilt bool

func startC(t testing.TB) *cVerifier {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc")
	}
	cBuilt = true
	bin, err := buildC()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		t.Fatal("cannot start the C verifier", err1, err2)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the C verifier: %v", err)
		}
	})
	return &cVerifier{in, bufio.NewReader(out)}
}

// compare asks the C verifier about all blobs, and reports those on which it does not agree with Verify. It returns how many
// were accepted.
func (c *cVerifier) compare(t testing.TB, blobs []cBlob) (accepted int) {
	t.Helper()
	go func() {
		w := bufio.NewWriterSize(c.in, 1<<16)
		var q []byte
		le := binary.LittleEndian
		for i := range len(blobs) + 1 {
			b, level := &cBlob{}, uint32(1<<32-1) // the end of the batch
			if i < len(blobs) {
				b, level = &blobs[i], uint32(blobs[i].env.Vec)
			}
			q = le.AppendUint64(q[:0], b.base)
			for _, s := range b.env.Syms {
				q = le.AppendUint64(q, s)
			}
			faults := uint32(len(b.env.Faults))
			if b.env.Faults == nil {
				faults = 1<<32 - 1
			}
			numbers := []uint32{level, uint32(len(b.code)), uint32(len(b.entries)), faults}
			for _, n := range slices.Concat(numbers, b.entries, b.env.Faults) {
				q = le.AppendUint32(q, n)
			}
			w.Write(append(q, b.code...))
		}
		w.Flush()
	}()
	bad := 0
	for _, b := range blobs {
		var answer [16]byte
		var a [4]uint32
		_, err := io.ReadFull(c.out, answer[:])
		for i := range a {
			a[i] = binary.LittleEndian.Uint32(answer[4*i:])
		}
		if err != nil {
			t.Fatalf("the C verifier is gone: %v (last %s, code %x, entries %d)", err, b.where, b.code[:min(len(b.code), 4096)], b.entries)
		}
		got := "ok"
		if a[0] != 0 {
			got = fmt.Sprintf("%v %+#x", Rule(a[1]), a[2])
		} else {
			accepted++
		}
		want := verdict(Verify(b.code, b.base, b.entries, b.env))
		if got == "ok" && want == "ok" && (a[3] != 0) != locks(b.code) {
			got += fmt.Sprintf(" with flags %d", a[3])
		}
		if bad < 10 && got != want {
			bad++
			t.Errorf("%s: C says %s, Go says %s\ncode %s\nentries %d", b.where, got, want, hex.EncodeToString(b.code[:min(len(b.code), 4096)]), b.entries)
		}
	}
	return accepted
}

// locks tells whether there is a LOCK prefix, or an xchg with memory.
func locks(code []byte) bool {
	var in inst
	for off := uint32(0); off < uint32(len(code)); off += uint32(in.len) {
		if linuxTable().decode(code, off, &in) != nil {
			return false
		}
		if in.lock || in.form.mnemonic == "xchg" && in.hasMem {
			return true
		}
	}
	return false
}

// TestCVerifier asks about the corpora: those of Linux as they are, those of the Sentry as they are, which mostly breaks
// some rule, and without their GS prefixes.
func TestCVerifier(t *testing.T) {
	c := startC(t)
	var blobs []cBlob
	for _, k := range corpus(t) {
		b := cBlob{k.code, k.entries, k.base, k.env(), k.where + ": " + k.name}
		if k.kernel != target.Linux {
			b.base, b.env.Kernel, b.env.Syms = linuxBase, target.Linux, linuxEnv.Syms
			plain := b
			plain.code = bytes.ReplaceAll(b.code, []byte{0x65}, nil)
			blobs = append(blobs, plain)
			landing := b // the entry is one
			landing.code = append([]byte{0xf3, 0x0f, 0x1e, 0xfa}, plain.code...)
			blobs = append(blobs, landing)
		}
		blobs = append(blobs, b)
	}
	for _, k := range linuxFormCases(t) {
		blobs = append(blobs, cBlob{k.code, k.entries, k.base, k.env(), k.where})
	}
	accepted := c.compare(t, blobs)
	t.Logf("%d blobs, %d accepted", len(blobs), accepted)
}
