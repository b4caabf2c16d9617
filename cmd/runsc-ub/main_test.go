package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"ub/sentry/machine"
	"ub/sentry/statfile"
)

// runscBinary returns a runsc-ub to test.
func runscBinary(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
	if err := machine.Supported(); err != nil {
		t.Skip(err)
	}
	if p := os.Getenv("UB_RUNSC"); p != "" {
		return p
	}
	bin := filepath.Join(t.TempDir(), "runsc-ub")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return bin
}

const loop = `
#include <stdio.h>
#include <unistd.h>
int main(void) {
	long n = 0;
	for (int i = 0; i < 100000; i++) n += getpid() > 0;
	printf("%ld\n", n);
	return n == 100000 ? 3 : 1;
}
`

// compileLoop makes a program that needs no other file.
func compileLoop(t *testing.T, dir string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is missing: run scripts/deps.sh")
	}
	bin := filepath.Join(dir, "loop")
	cmd := exec.Command("gcc", "-O2", "-static", "-x", "c", "-o", bin, "-")
	cmd.Stdin = strings.NewReader(loop)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return bin
}

// sandbox runs runsc-ub with the platform ub and a statistics file, and checks the program's output and status, and that
// bypass happened.
func sandbox(t *testing.T, runsc string, args ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stat")
	stats, err := statfile.Create(path, statfile.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Unmap()
	root := t.TempDir()
	// The null namespace is kept by a mount below --root, which a removed directory must not have.
	args = append([]string{"--root=" + root, "--platform=ub", "--platform_device_path=" + path, "--network=none", "--ignore-cgroups",
		"--gofer-network-namespace=new"}, args...)
	cmd := exec.Command(runsc, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, _ := cmd.Output()
	if string(out) != "100000\n" || cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("%v: %v, stdout %q, stderr %q", cmd.Args, cmd.ProcessState, out, errs.String())
	}
	n := stats.Snapshot()
	if n.Syscalls() < 100_000 || n[statfile.Bypassed] < 50_000 {
		t.Errorf("%d system calls, %d bypassed", n.Syscalls(), n[statfile.Bypassed])
	}
}

func TestDo(t *testing.T) {
	runsc := runscBinary(t)
	dir := t.TempDir()
	sandbox(t, runsc, "do", compileLoop(t, dir))
}

// TestBundle runs an OCI bundle whose root file system holds one static program.
func TestBundle(t *testing.T) {
	runsc := runscBinary(t)
	bundle := t.TempDir()
	rootfs := filepath.Join(bundle, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	compileLoop(t, rootfs)
	spec, err := json.Marshal(specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Hostname: "bundle",
		Process:  &specs.Process{Args: []string{"/loop"}, Cwd: "/", Env: []string{"PATH=/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o644); err != nil {
		t.Fatal(err)
	}
	sandbox(t, runsc, "run", "--bundle", bundle, "ub-bundle-test")
}

// TestOtherPlatforms: everything else of runsc is still there.
func TestOtherPlatforms(t *testing.T) {
	runsc := runscBinary(t)
	dir := t.TempDir()
	out, err := exec.Command(runsc, "--root="+dir, "--platform=systrap", "--network=none", "--ignore-cgroups", "do", "echo", "hi").CombinedOutput()
	if err != nil || string(out) != "hi\n" {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.Command(runsc, "--root="+dir, "--platform=ub", "--platform_device_path=/etc/passwd", "--network=none", "--ignore-cgroups", "do", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not a statistics file") {
		t.Errorf("a wrong device file: %v: %s", err, out)
	}
}
