package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ub/sentry/machine"
)

// What TestMain has found out and built.
var (
	// skipReason is why nothing can run here; "" if all is well.
	skipReason string
	// runsc is the runsc-ub to test; launcher is testdata/launch.c, compiled.
	runsc, launcher string
	// scratch is a directory for everything that the tests make, gone afterwards.
	scratch string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := setUp(); err != nil {
			fmt.Fprintln(os.Stderr, "programs:", err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

// setUp decides whether tests can run, and builds what all of them need. A reason to skip is no error; a build that fails is.
func setUp() error {
	if os.Getuid() != 0 {
		skipReason = "sandboxes need root"
		return nil
	}
	if err := machine.Supported(); err != nil {
		skipReason = err.Error()
		return nil
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		skipReason = "gcc is missing: run scripts/deps.sh"
		return nil
	}
	var err error
	if scratch, err = os.MkdirTemp("", "ub-programs-"); err != nil {
		return err
	}
	// Programs in the sandbox may run as somebody else.
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	if runsc = os.Getenv("UB_RUNSC"); runsc == "" {
		runsc = filepath.Join(scratch, "runsc-ub")
		build := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-w", "-o", runsc, "ub/cmd/runsc-ub")
		// A sandbox executes it again where there are no libraries.
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %v\n%s", strings.Join(build.Args, " "), err, out)
		}
	}
	launcher, err = compile("launch.c", "-static")
	return err
}

func needSandbox(t *testing.T) {
	t.Helper()
	if skipReason != "" {
		t.Skip(skipReason)
	}
}

// needFiles skips a test whose programs are not installed.
func needFiles(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("%s is missing: run scripts/deps.sh", f)
		}
	}
}

// cFlags are given to all C programs. Frame pointers and protections are as the compiler's default has them, so that code
// looks like what a distribution ships.
var cFlags = []string{"-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-Itestdata"}

var (
	compileMu sync.Mutex
	compiled  = map[string]string{}
)

// compile compiles a program of testdata once and returns the path of the executable.
func compile(source string, flags ...string) (string, error) {
	compileMu.Lock()
	defer compileMu.Unlock()
	key := source + " " + strings.Join(flags, " ")
	if bin, ok := compiled[key]; ok {
		return bin, nil
	}
	bin := filepath.Join(scratch, fmt.Sprintf("%s.%d", strings.TrimSuffix(source, ".c"), len(compiled)))
	args := append(append([]string{}, cFlags...), flags...)
	cmd := exec.Command("gcc", append(args, "-o", bin, filepath.Join("testdata", source), "-ldl", "-lm")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	compiled[key] = bin
	return bin, nil
}
