package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ub/internal/guest"
)

// scratch is a directory for everything that the tests make, gone afterwards.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "ub-linux-vm-"); err != nil {
			fmt.Fprintln(os.Stderr, "vm:", err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

var moduleSource = "../module"

const (
	ownPrograms    = "../testdata"
	sandboxes      = "../../programs/testdata" // those of the tests in sandboxes serve here too
	fpuModule      = "../testdata/fpuirq"
	guestPrograms  = "/t"
	guestModule    = "/ub.ko"
	guestFPUModule = "/fpuirq.ko"
)

// goProgram builds a program of this repository for the guest.
func goProgram(bin, pkg string, args ...string) error {
	cmd := exec.Command("go", append(append([]string{}, args...), "-o", bin, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// programs builds what runs in guests, once.
var programs = sync.OnceValue(func() error {
	if err := goProgram(filepath.Join(scratch, "ub"), "ub/cmd/ub", "build", "-buildvcs=false", "-ldflags=-w"); err != nil {
		return err
	}
	if err := goProgram(filepath.Join(scratch, "linux.test"), "ub/linux", "test", "-c", "-ldflags=-w"); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	slots := make(chan struct{}, 2)
	for _, dir := range []string{ownPrograms, sandboxes} {
		files, err := filepath.Glob(filepath.Join(dir, "*.c"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("no programs in %s", dir)
		}
		for _, f := range files {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				bin := filepath.Join(scratch, strings.TrimSuffix(filepath.Base(f), ".c"))
				errs <- guest.CompileC(bin, "-Wno-clobbered", "-Wno-return-type", "-I"+sandboxes, f, "-ldl", "-lm")
			})
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
})

// images are what guests boot, by series; nothing in them changes.
var images = map[string]func() (*guest.Image, error){
	"6.1":  sync.OnceValues(func() (*guest.Image, error) { return newImage("6.1") }),
	"6.12": sync.OnceValues(func() (*guest.Image, error) { return newImage("6.12") }),
}

// hostPrograms are in the guest as they are on this machine.
var hostPrograms = []string{
	"/usr/bin/redis-server", "/usr/bin/redis-benchmark", "/usr/bin/redis-cli", "/usr/sbin/nginx", "/usr/bin/wrk",
	"/usr/bin/sha256sum", "/usr/bin/sort", "/usr/bin/wc", "/usr/bin/dd", "/usr/bin/cat", "/usr/bin/od", "/usr/bin/tr", "/usr/bin/cut",
	"/usr/bin/base64", "/usr/bin/head", "/usr/bin/tail", "/usr/bin/tac", "/usr/bin/uniq", "/usr/bin/cksum", "/usr/bin/env", "/usr/bin/seq",
	"/usr/bin/tar", "/usr/bin/gzip", "/usr/bin/nice",
}

func init() {
	if d := os.Getenv("UB_VM_MODULE"); d != "" {
		moduleSource = d
	}
}

func newImage(series string) (*guest.Image, error) {
	if err := programs(); err != nil {
		return nil, err
	}
	dir := filepath.Join(scratch, series)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m, err := guest.NewImage(dir)
	if err != nil {
		return nil, err
	}
	k, err := guest.FindKernel(series)
	if err != nil {
		return nil, err
	}
	for src, to := range map[string]string{moduleSource: guestModule, fpuModule: guestFPUModule} {
		ko, err := k.BuildModule(src, dir)
		if err != nil {
			return nil, err
		}
		if err := m.Add(to, ko); err != nil {
			return nil, err
		}
	}
	for _, p := range hostPrograms {
		if err := m.AddProgram(p); err != nil {
			return nil, err
		}
	}
	bins, err := filepath.Glob(filepath.Join(scratch, "*"))
	if err != nil {
		return nil, err
	}
	for _, b := range bins {
		if st, err := os.Stat(b); err == nil && st.Mode().IsRegular() {
			if err := m.Add(filepath.Join(guestPrograms, filepath.Base(b)), b); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}
