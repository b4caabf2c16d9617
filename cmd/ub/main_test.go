package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ub/internal/launch"
	"ub/sentry/machine"
)

// What TestMain has found out and built.
var (
	skipReason string // why no sandbox can run here, "" if one can
	binDir     string // has ub and, unless $UB_RUNSC names one, runsc-ub
	ubPath     string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := setUp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(binDir)
		return m.Run()
	}())
}

func setUp() error {
	if os.Geteuid() != 0 {
		skipReason = "sandboxes need root"
		return nil
	}
	if err := machine.Supported(); err != nil {
		skipReason = err.Error()
		return nil
	}
	var err error
	if binDir, err = os.MkdirTemp("", "ub-cmd-"); err != nil {
		return err
	}
	if err := os.Chmod(binDir, 0o755); err != nil { // also for those who are not root
		return err
	}
	ubPath = filepath.Join(binDir, "ub")
	packages := []string{"ub/cmd/ub"}
	if os.Getenv(launch.RunscVar) == "" {
		packages = append(packages, "ub/cmd/runsc-ub")
	}
	build := exec.Command("go", append([]string{"build", "-buildvcs=false", "-ldflags=-w", "-o", binDir + "/"}, packages...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build.Args, err, out)
	}
	return nil
}

func needSandbox(t *testing.T) {
	t.Helper()
	if skipReason != "" {
		t.Skip(skipReason)
	}
}

// result is what a command leaves.
type result struct {
	stdout, stderr string
	status         int
}

const timeout = 60 * time.Second

// command returns an ub that is not started yet.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	needSandbox(t)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, ubPath, args...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// ub runs one to its end.
func ub(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, command(t, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	if time.Since(began) > timeout {
		t.Fatalf("%v: did not end\nstdout:\n%s\nstderr:\n%s", cmd.Args, out.String(), errs.String())
	}
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		r.status = -int(ws.Signal()) // ub itself was killed
	}
	return r
}

// want checks all that a command leaves.
func (r result) want(t *testing.T, stdout, stderr string, status int) {
	t.Helper()
	if r.stdout != stdout || r.stderr != stderr || r.status != status {
		t.Errorf("stdout %q, stderr %q, status %d; want %q, %q, %d", r.stdout, r.stderr, r.status, stdout, stderr, status)
	}
}

// wantLine checks that ub has failed with one line that contains all of parts.
func (r result) wantLine(t *testing.T, status int, parts ...string) {
	t.Helper()
	line, ok := strings.CutSuffix(r.stderr, "\n")
	if !ok || strings.Contains(line, "\n") || !strings.HasPrefix(line, "ub: ") {
		t.Errorf("stderr is not one line of ub's: %q", r.stderr)
	}
	for _, p := range parts {
		if !strings.Contains(line, p) {
			t.Errorf("stderr %q does not say %q", line, p)
		}
	}
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	if r.stdout != "" {
		t.Errorf("stdout %q, want nothing", r.stdout)
	}
}
