package vm

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ub/internal/guest"
)

// DKMS builds the module as docs/install-module.md says, in directories of its own, for each kernel, and not for one that is too old.
func TestDKMS(t *testing.T) {
	const dkms = "/usr/sbin/dkms"
	_, err := os.Stat(dkms)
	needed(t, err)
	dir := t.TempDir()
	source, tree := filepath.Join(dir, "src"), filepath.Join(dir, "tree")
	for _, d := range []string{source, tree} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copied := filepath.Join(source, "ub-0.1")
	if out, err := exec.Command("cp", "-r", moduleSource, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	build := func(release, headers string) (string, error) {
		cmd := exec.Command(dkms, "build", "ub/0.1", "-k", release, "--kernelsourcedir", headers, "--dkmstree", tree, "--sourcetree", source)
		cmd.Env = guest.BuildEnv()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	var headers string
	for _, series := range guest.Series {
		k, err := guest.FindKernel(series)
		needed(t, err)
		headers = k.Build
		if out, err := build(k.Release, k.Build); err != nil {
			log, _ := os.ReadFile(filepath.Join(tree, "ub/0.1/build/make.log"))
			t.Fatalf("%s: %v\n%s\n%s", k.Release, err, out, log)
		}
		made, err := filepath.Glob(filepath.Join(tree, "ub/0.1", k.Release, "x86_64/module/ub.ko*"))
		if err != nil || len(made) != 1 {
			t.Fatalf("%s: %d modules, not one (%v)", k.Release, len(made), err)
		}
		b, err := os.ReadFile(made[0])
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "vermagic="+k.Release+" ") {
			t.Errorf("the module is not for %s", k.Release)
		}
	}
	const excluded = 77 // DKMS' status for a module that is not meant for a kernel
	for _, release := range []string{"5.10.0-30-amd64", "6.0.12-cloud-amd64", "4.19.0-1-amd64"} {
		out, err := build(release, headers)
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != excluded {
			t.Errorf("%s is not refused: %v\n%s", release, err, out)
		}
	}
}

// The unit is one that systemd understands, as it would be for a service.
func TestUnit(t *testing.T) {
	const analyze = "/usr/bin/systemd-analyze"
	_, err := os.Stat(analyze)
	needed(t, err)
	dir := t.TempDir()
	unit, err := os.ReadFile("../systemd/ub@.service")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ub@redis-server.service": string(unit),
		"redis-server.service":    "[Service]\nExecStart=/bin/true\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verify := func() (string, error) {
		cmd := exec.Command(analyze, "verify", filepath.Join(dir, "ub@redis-server.service"))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	// It would say so if it did not.
	wrong := strings.Replace(string(unit), "Restart=", "Restrat=", 1)
	if err := os.WriteFile(filepath.Join(dir, "ub@redis-server.service"), []byte(wrong), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := verify(); !strings.Contains(out, "Restrat") {
		t.Errorf("a mistake in the unit is not seen: %q", out)
	}
}
