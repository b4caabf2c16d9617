package launch

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// RunscVar names the environment variable that says where runsc-ub is.
const RunscVar = "UB_RUNSC"

const (
	runscName    = "runsc-ub"
	runscPackage = "ub/cmd/runsc-ub"
)

// FindRunsc returns the path of runsc-ub: what $UB_RUNSC says, or beside this executable, or in the PATH.
func FindRunsc() (string, error) {
	if p := os.Getenv(RunscVar); p != "" {
		if err := checkRunsc(p); err != nil {
			return "", fmt.Errorf("$%s: %w", RunscVar, err)
		}
		return filepath.Abs(p)
	}
	var beside string
	if self, err := os.Executable(); err == nil {
		beside = filepath.Join(filepath.Dir(self), runscName)
		if err := checkRunsc(beside); err == nil {
			return beside, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	p, err := exec.LookPath(runscName)
	if err != nil {
		return "", fmt.Errorf("%s is missing: it is neither at %s nor in the PATH; run `make build`, or say with $%s where it is", runscName, beside, RunscVar)
	}
	if err := checkRunsc(p); err != nil {
		return "", err
	}
	return filepath.Abs(p)
}

// checkRunsc tells whether there is a runsc-ub at path. A plain runsc would take the request for a mistaken command line.
func checkRunsc(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("no %s at %s: %w", runscName, path, errors.Unwrap(err))
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is no executable file; run `make build`", path)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s is not %s: %w; run `make build`", path, runscName, err)
	}
	if info.Path != runscPackage {
		return fmt.Errorf("%s is not %s but %s: it has no platform \"ub\"; run `make build`", path, runscName, info.Path)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" {
			return fmt.Errorf("%s was built with cgo and needs libraries, which a sandbox does not have; run `make build`", path)
		}
	}
	return nil
}

// GvisorVersion returns the version of gVisor that the runsc-ub at path was built from.
func GvisorVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "unknown: " + err.Error()
	}
	for _, d := range info.Deps {
		if d.Path == "gvisor.dev/gvisor" {
			return d.Version
		}
	}
	return "unknown"
}
