package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestStandardFiles compares what happens to files that are shared between ub and others with what happens without ub.
func TestStandardFiles(t *testing.T) {
	needSandbox(t)
	for _, c := range []struct{ name, script string }{
		{"output after and before others", `{ echo a; RUN sh -c 'echo b; echo c'; echo d; } >out`},
		{"output and error in one file", `RUN sh -c 'echo 1; echo 2 >&2; echo 3; echo 4 >&2' >out 2>&1`},
		{"output and error in one file, after others", `{ echo 0; RUN sh -c 'echo 1; echo 2 >&2; echo 3'; echo 4; } >out 2>&1`},
		{"two files", `RUN sh -c 'echo 1; echo 2 >&2' >out 2>err; cat err >>out`},
		{"appending", `echo a >out; RUN sh -c 'echo b; echo c' >>out; echo d >>out`},
		{"overwriting", `printf aaaaaaaa >out; RUN printf bb 1<>out; RUN printf cc 1<>out`},
		{"overwriting from the middle", `printf aaaaaaaa >out; { printf b; RUN printf cc; printf d; } 1<>out`},
		{"overwriting with both", `printf aaaaaaaa >out; RUN sh -c 'printf b; printf c >&2; printf d' 1<>out 2>&1`},
		{"pipe", `RUN sh -c 'echo 1; echo 2 >&2' 2>&1 | cat >out`},
		{"pipe in", `seq 100000 | RUN wc >out`},
		{"broken pipe", `RUN seq 1000000 2>/dev/null | head -n 1 >out`},
		{"file in", `RUN wc <lines >out`},
		{"seeking in input", `RUN tail -c 5 <lines >out`},
		{"rest of a file", `{ read x; RUN wc -c; } <lines >out`},
		{"rest of a file, in turn", `{ read x; RUN sh -c 'read y; echo $y'; read z; echo $z; } <lines >out`},
		{"loop that reads", `n=0; while read x; do n=$((n+1)); [ $n -le 5 ] || break; RUN echo $x; done <lines >out`},
		{"big rest", `{ read x; RUN sh -c 'read y'; wc; } <big >out`},
		{"null", `RUN wc -c </dev/null >out; RUN echo x >/dev/null`},
		{"no output", `RUN true >out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			native := stdioRun(t, c.script, "")
			inside := stdioRun(t, c.script, ubPath+" run --")
			if native != inside {
				t.Errorf("%s\nwithout ub:\n%s\nwith ub:\n%s", c.script, native, inside)
			}
			if native == "" && !strings.Contains(c.script, "true") {
				t.Error("no output at all: this tests nothing")
			}
		})
	}
}

// stdioRun runs script with run in place of RUN and returns what it has left in the file "out".
func stdioRun(t *testing.T, script, run string) string {
	t.Helper()
	dir := t.TempDir()
	var lines, big strings.Builder
	for i := range 20 {
		lines.WriteString(strings.Repeat("x", i) + "\n")
	}
	for range 50_000 {
		big.WriteString("0123456789\n")
	}
	for name, text := range map[string]string{"lines": lines.String(), "big": big.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(script, "RUN", run))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestStandardFilesKeepTheirOwner: gVisor makes itself the owner of standard files; ub undoes it.
func TestStandardFilesKeepTheirOwner(t *testing.T) {
	needSandbox(t)
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Chown(1234, 5678); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "run", "--", "echo", "x")
	cmd.Stdout = f
	finish(t, cmd).want(t, "", "", 0)
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if s := st.Sys().(*syscall.Stat_t); s.Uid != 1234 || s.Gid != 5678 || st.Size() != 2 {
		t.Errorf("owner %d:%d, size %d; want 1234:5678, 2", s.Uid, s.Gid, st.Size())
	}
}
