// Package launch is what `ub run` and the runsc-ub that it becomes agree on: the request, and the exit statuses.
//
// `ub run` checks its arguments, writes a Request into an anonymous file, and executes runsc-ub in its own place, so that
// there is one process to signal, to stop and to wait for.
package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"ub/sentry/statfile"
)

// Subcommand is runsc-ub's first argument when it is to run a Request; the second is the number of the file descriptor
// from which to read it.
const Subcommand = "ub-run"

// Exit statuses other than the program's own. A program killed by signal N gives 128+N.
const (
	StatusFailed     = 125 // ub itself failed: the program did not run, or not to its end
	StatusCannotExec = 126 // the program is there but cannot be executed
	StatusNotFound   = 127 // there is no such program
)

// version is that of Request: both commands must come from one build.
const version = 1

// Network is what of the network a program sees.
type Network string

const (
	// NetworkHost: the sockets of the machine, as without a sandbox.
	NetworkHost Network = "host"
	// NetworkNone: a loopback interface of its own.
	NetworkNone Network = "none"
)

// Request says what to run, and how.
type Request struct {
	Version int

	Args []string // Args[0] is looked up in Env's PATH, in the sandbox
	Env  []string
	Cwd  string // absolute
	Root string // what the program sees as "/", see PrivateRoot

	Network Network
	RW      []string // absolute paths that the program writes to on the host; everything else goes to memory

	// Terminal: standard input, output and error are a terminal, to be the program's controlling one.
	Terminal bool

	Config statfile.Config

	Stats     bool   // print a table to standard error at the end
	StatsJSON string // absolute path to write statistics to, or empty
	StatFile  string // absolute path where the statistics file is to be and to remain, or empty
	Metrics   string // where to serve metrics, as MetricsAddr returns it, or empty
	DebugLog  string // absolute directory for gVisor's debug logs, or empty
}

// Write puts r into an anonymous file and returns its descriptor, which stays open across exec.
func (r *Request) Write() (int, error) {
	r.Version = version
	data, err := json.Marshal(r)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("ub-request", 0)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("writing the request: %w", err)
		}
		data = data[n:]
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("rewinding the request: %w", err)
	}
	return fd, nil
}

// Read reads the request from the descriptor named by arg, and closes it.
func Read(arg string) (*Request, error) {
	fd, err := strconv.Atoi(arg)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%q is no descriptor of a request: this command is for `ub run` only", arg)
	}
	f := os.NewFile(uintptr(fd), "request")
	defer f.Close()
	var r Request
	if err := json.NewDecoder(f).Decode(&r); err != nil {
		return nil, fmt.Errorf("reading the request from descriptor %d: %w", fd, err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("ub speaks version %d to runsc-ub, which speaks %d: build both together with `make build`", r.Version, version)
	}
	if len(r.Args) == 0 {
		return nil, errors.New("the request names no program")
	}
	return &r, nil
}
