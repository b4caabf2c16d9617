package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ProgramError says that a program cannot be run, with the exit status that tells it to a caller.
type ProgramError struct {
	Status int // StatusNotFound or StatusCannotExec
	Text   string
}

func (e *ProgramError) Error() string { return e.Text }

// CheckProgram looks name up as execvp(3) does in the sandbox, which sees the same files: in path unless it has a slash,
// relative ones from dir. The error is a *ProgramError.
func CheckProgram(name, path, dir string) error {
	if name == "" {
		return &ProgramError{StatusNotFound, "the program's name is empty"}
	}
	if strings.Contains(name, "/") {
		return checkExecutable(name, dir)
	}
	var first *ProgramError
	for _, d := range filepath.SplitList(path) {
		if d == "" {
			d = "."
		}
		err := checkExecutable(filepath.Join(d, name), dir)
		if err == nil {
			return nil
		}
		var pe *ProgramError
		if errors.As(err, &pe) && pe.Status == StatusCannotExec && first == nil {
			first = pe
		}
	}
	if first != nil {
		return first
	}
	return &ProgramError{StatusNotFound, fmt.Sprintf("%s: no such program in the PATH", name)}
}

func checkExecutable(name, dir string) error {
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	st, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return &ProgramError{StatusNotFound, fmt.Sprintf("%s: no such program", name)}
	case err != nil:
		return &ProgramError{StatusCannotExec, fmt.Sprintf("%s: %v", name, errors.Unwrap(err))}
	case st.IsDir():
		return &ProgramError{StatusCannotExec, fmt.Sprintf("%s is a directory", name)}
	}
	if unix.Access(file, unix.X_OK) != nil {
		return &ProgramError{StatusCannotExec, fmt.Sprintf("%s is not executable", name)}
	}
	return nil
}
