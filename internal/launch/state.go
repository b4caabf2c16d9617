package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A running sandbox keeps its state in a directory named after the process id of its `ub run`. It is on a file system in
// memory where there is one, so that counters never go to a disk.
const stateInDir = "stat"

// stateRoot is where the directories are: in the first of these that can be written to.
func stateRoot() (string, error) {
	var errs []error
	for _, root := range []string{"/run/ub", filepath.Join(os.TempDir(), "ub-run")} {
		err := os.Mkdir(root, 0o700)
		if err == nil || errors.Is(err, os.ErrExist) {
			if err = unix.Access(root, unix.W_OK); err == nil {
				return root, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", root, err))
	}
	return "", fmt.Errorf("no place for the sandbox's state: %w", errors.Join(errs...))
}

// MakeState makes the state directory of this process, and removes those of processes that are gone: of an `ub run`
// that was killed by SIGKILL there is nobody else to do it. A directory is in use while somebody holds its lock, as this
// process does from now on. (That a process of its name exists says little: names are used again.)
func MakeState() (string, error) {
	root, err := stateRoot()
	if err != nil {
		return "", err
	}
	old, _ := os.ReadDir(root)
	for _, e := range old {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join(root, e.Name())
		if fd, err := lock(dir); err == nil {
			RemoveState(dir)
			unix.Close(fd)
		}
	}
	dir := filepath.Join(root, strconv.Itoa(os.Getpid()))
	for {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", err
		}
		fd, err := lock(dir)
		if err == nil && isAt(fd, dir) {
			return dir, nil
		}
		// Another process has seen the directory before it was locked, and has removed it or is about to.
		if err == nil {
			unix.Close(fd)
		}
		RemoveState(dir)
	}
}

// RemoveState removes a state directory with the files in it. It does not descend into directories: there are none, and
// a file system that has been mounted by mistake must not be emptied.
func RemoveState(dir string) {
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if !f.IsDir() {
			os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	unix.Rmdir(dir)
}

// isAt tells whether the directory open as fd is still the one at path.
func isAt(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// lock takes a directory's lock, which the descriptor that it returns keeps, or fails at once.
func lock(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// StatPath returns the path of the statistics file in a state directory.
func StatPath(dir string) string { return filepath.Join(dir, stateInDir) }

// SandboxStat returns the path of the statistics file of the running sandbox id, the process id of its `ub run`.
func SandboxStat(id string) (string, error) {
	root, err := stateRoot()
	if err != nil {
		return "", err
	}
	if _, err := strconv.Atoi(id); err != nil {
		return "", fmt.Errorf("%q is neither a statistics file nor the process id of an `ub run`", id)
	}
	p := StatPath(filepath.Join(root, id))
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("there is no sandbox %s: give the process id of a running `ub run`", id)
	}
	return p, nil
}

// Sandboxes lists the running sandboxes.
func Sandboxes() ([]string, error) {
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		// One whose lock is free is of an `ub run` that was killed.
		if fd, err := lock(dir); err == nil {
			unix.Close(fd)
			continue
		}
		if _, err := os.Stat(StatPath(dir)); err == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
