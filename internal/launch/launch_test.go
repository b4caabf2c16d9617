package launch

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ub/sentry/statfile"
)

func TestRequestRoundTrip(t *testing.T) {
	want := Request{
		Args: []string{"prog", "", "a\x01b", "ü"}, Env: []string{"A=1", "B="}, Cwd: "/x", Root: "/r", Network: NetworkNone,
		RW: []string{"/y"}, Terminal: true, Config: statfile.DefaultConfig(), Stats: true, StatsJSON: "/s", StatFile: "/t", DebugLog: "/d",
	}
	want.Env = append(want.Env, "BIG="+strings.Repeat("x", 1<<20)) // more than an argument can hold
	fd, err := want.Write()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(strconv.Itoa(fd))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v", got)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Error("the descriptor is still open: the sandbox would inherit it")
	}
}

func TestReadRefuses(t *testing.T) {
	for _, arg := range []string{"", "x", "-1", "0", "2", "999999"} {
		if r, err := Read(arg); err == nil {
			t.Errorf("Read(%q) = %+v", arg, r)
		}
	}
	for text, want := range map[string]string{
		`{"Version":0,"Args":["x"]}`: "version",
		`{"Version":1}`:              "names no program",
		`garbage`:                    "reading the request",
	} {
		fd, err := unix.MemfdCreate("test", 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(fd, []byte(text))
		unix.Seek(fd, 0, 0)
		if _, err := Read(strconv.Itoa(fd)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestCheckProgram(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"run": 0o755, "plain": 0o644, "bin/run2": 0o755, "bin/plain": 0o755} {
		p := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(p), 0o755)
		if err := os.WriteFile(p, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, path string
		status     int
	}{
		{dir + "/run", "", 0},
		{"./run", "", 0},
		{"bin/run2", "", 0},
		{"run", dir, 0},
		{"run", "/no/such:" + dir, 0},
		{"run", ":/no/such", 0}, // an empty element is the working directory
		{"plain", dir + ":" + dir + "/bin", 0},
		{"plain", dir, StatusCannotExec},
		{"run", "/no/such", StatusNotFound},
		{"run", "", StatusNotFound},
		{"", dir, StatusNotFound},
		{"./run/x", "", StatusNotFound},
		{"bin", dir, StatusCannotExec},
		{"./plain", "", StatusCannotExec},
	} {
		err := CheckProgram(c.name, c.path, dir)
		got := 0
		var pe *ProgramError
		if errors.As(err, &pe) {
			got = pe.Status
		}
		if got != c.status || (err == nil) != (c.status == 0) {
			t.Errorf("CheckProgram(%q, %q): %v, want status %d", c.name, c.path, err, c.status)
		}
	}
}

func TestTune(t *testing.T) {
	c := statfile.DefaultConfig()
	for _, s := range []string{"sample-every=3", "short-gap-ns=0x10", "window-ms=7", "max-path-insts=99", "journal=0"} {
		if err := Tune(&c, s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	if c.SampleEvery != 3 || c.ShortGapNS != 16 || c.WindowMS != 7 || c.MaxPathInsts != 99 || c.Journal != 0 {
		t.Errorf("%+v", c)
	}
	for _, s := range []string{"sample-every", "sample-every=", "sample-every=-1", "sample-every=0", "SampleEvery=1", "=1", ""} {
		if err := Tune(&c, s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
	for _, s := range Tunables(statfile.DefaultConfig()) {
		if err := Tune(&c, s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	if c != statfile.DefaultConfig() {
		t.Errorf("Tunables leaves something out: %+v", c)
	}
}

func TestFindRunscRefusesOthers(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{script, dir, filepath.Join(dir, "nothing"), self} {
		t.Setenv(RunscVar, p)
		if got, err := FindRunsc(); err == nil {
			t.Errorf("%s: FindRunsc() = %q", p, got)
		} else if !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), RunscVar) {
			t.Errorf("%s: the error does not say where it comes from: %v", p, err)
		}
	}
}

func TestLogHandlerWritesOneLine(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(LogHandler(&b))
	l.With("a", 1).Error("first\nsecond\n", "b", "x y")
	l.Debug("not shown")
	if got := b.String(); got != "ub: first; second a=1 b=x y\n" {
		t.Errorf("%q", got)
	}
}

// TestRemoveStateLeavesDirectories: whatever has been mounted below a state directory must survive.
func TestRemoveStateLeavesDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	kept := filepath.Join(dir, "mounted", "precious")
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{kept, filepath.Join(dir, "file")} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	RemoveState(dir)
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err == nil {
		t.Error("a file is left")
	}
	os.RemoveAll(filepath.Join(dir, "mounted"))
	RemoveState(dir)
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
}

func TestStateLock(t *testing.T) {
	dir := t.TempDir()
	fd, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil {
		t.Error("locked twice")
	}
	if !isAt(fd, dir) || isAt(fd, filepath.Dir(dir)) || isAt(fd, dir+"/nothing") {
		t.Error("isAt is wrong")
	}
	unix.Close(fd)
	if fd, err = lock(dir); err != nil {
		t.Errorf("after closing: %v", err)
	}
	unix.Close(fd)
}
