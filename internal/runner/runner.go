// Package runner carries out a request of `ub run`: it starts a sandbox, passes signals and the exit status through, and
// leaves nothing behind. It runs in runsc-ub, of which the sandbox and its file server are copies.
package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/flag"

	"ub/internal/launch"
	"ub/internal/metrics"
	"ub/internal/report"
	"ub/sentry/statfile"
)

// Main carries out the request in the file descriptor that arg names and exits with the program's status.
func Main(arg string) {
	slog.SetDefault(slog.New(launch.LogHandler(os.Stderr)))
	// Signals are taken from here on: whatever arrives before the program runs is delivered when it does.
	sigs := catch()
	req, err := launch.Read(arg)
	if err != nil {
		slog.Error(err.Error())
		os.Exit(launch.StatusFailed)
	}
	status, err := run(req, sigs)
	if err != nil {
		slog.Error(err.Error())
		var pe *launch.ProgramError
		if errors.As(err, &pe) {
			os.Exit(pe.Status)
		}
		os.Exit(launch.StatusFailed)
	}
	os.Exit(status)
}

// run returns the exit status of the program. With an error, none is known.
func run(req *launch.Request, sigs *signals) (int, error) {
	dir, err := launch.MakeState()
	if err != nil {
		return 0, err
	}
	defer launch.RemoveState(dir)

	statPath := launch.StatPath(dir)
	if req.StatFile != "" {
		statPath = req.StatFile
		if err := removeOld(statPath); err != nil {
			return 0, err
		}
		// So that `ub disasm --sandbox` finds this one too.
		if err := os.Symlink(statPath, launch.StatPath(dir)); err != nil {
			return 0, err
		}
	}
	stats, err := statfile.Create(statPath, req.Config)
	if err != nil {
		return 0, fmt.Errorf("statistics file: %w", err)
	}
	defer stats.Unmap()
	if req.Metrics != "" {
		m, err := metrics.Serve(req.Metrics, stats)
		if err != nil {
			return 0, err
		}
		defer m.Close()
	}

	status, err := runSandbox(req, dir, statPath, sigs)
	if err != nil {
		return 0, err
	}
	s := report.Collect(stats, req.Config.Bypass != 0)
	if req.StatsJSON != "" {
		if err := writeJSON(req.StatsJSON, s); err != nil {
			return 0, fmt.Errorf("the program ended with status %d, but its statistics could not be written: %w", status, err)
		}
	}
	if req.Stats {
		if err := s.Table(os.Stderr); err != nil {
			return 0, err
		}
	}
	return status, nil
}

func writeJSON(path string, s *report.Stats) error {
	var b bytes.Buffer
	if err := s.JSON(&b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// removeOld makes place for a statistics file, if what is there is one.
func removeOld(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := statfile.Check(f); errors.Is(err, statfile.ErrNotStatFile) {
		return fmt.Errorf("%s exists: %w; choose another name", path, err)
	}
	return os.Remove(path)
}

// runSandbox runs the program to its end. Nothing of the sandbox is left when it returns.
func runSandbox(req *launch.Request, dir, statPath string, sigs *signals) (int, error) {
	panics := filepath.Join(dir, "panic")
	conf, err := runscConfig(req, dir, statPath, panics)
	if err != nil {
		return 0, err
	}
	if err := logTo(req.DebugLog); err != nil {
		return 0, err
	}
	spec := programSpec(req)
	data, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		return 0, err
	}

	std, err := newStdio()
	if err != nil {
		return 0, err
	}
	defer std.finish()
	var c *container.Container
	err = std.with(func() error {
		c, err = container.New(conf, container.Args{ID: "ub", Spec: spec, BundleDir: dir, Attached: true})
		return err
	})
	std.close()
	if err != nil {
		return 0, crashed(panics, explain("starting a sandbox", err))
	}
	defer c.Destroy()
	if err := c.Start(conf); err != nil {
		return 0, crashed(panics, programError(req.Args[0], err))
	}
	tty := saveTerminal(req.Terminal)
	stop := sigs.forward(c, req.Terminal)
	ws, err := c.Wait()
	stop()
	if err := crashed(panics, err); err != nil {
		tty.restore()
		return 0, err
	}
	if ws.Signaled() {
		tty.restore()
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// crashed returns err, or what the Sentry has said at its end if it has. A Sentry that panics exits with a status that
// looks like the program's.
func crashed(panics string, err error) error {
	text, _ := os.ReadFile(panics)
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return err
	}
	first := text
	for _, line := range bytes.Split(text, []byte("\n")) {
		if bytes.HasPrefix(line, []byte("panic:")) || bytes.HasPrefix(line, []byte("fatal error:")) || bytes.HasPrefix(line, []byte("SIG")) {
			first = line
			break
		}
	}
	first, _, _ = bytes.Cut(first, []byte("\n"))
	kept, werr := os.CreateTemp("", "ub-crash-*.log")
	if werr != nil {
		return fmt.Errorf("the sandbox crashed: %s", first)
	}
	defer kept.Close()
	kept.Write(text)
	return fmt.Errorf("the sandbox crashed: %s; all it said is in %s", first, kept.Name())
}

// runscConfig returns gVisor's configuration for req.
func runscConfig(req *launch.Request, dir, statPath, panics string) (*config.Config, error) {
	fs := flag.NewFlagSet("ub", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	config.RegisterFlags(fs)
	args := []string{
		"--root=" + dir,
		"--platform=ub",
		"--platform_device_path=" + statPath,
		"--network=" + string(req.Network),
		// What the program writes goes to memory, but for what it may write to.
		"--overlay2=root:memory",
		"--panic-log=" + panics,
		// There is nothing to account a single program to, and it would need write access to cgroups.
		"--ignore-cgroups",
		// A shared namespace would be kept by a mount, which would survive if we are killed.
		"--gofer-network-namespace=new",
	}
	if req.DebugLog != "" {
		args = append(args, "--debug", "--debug-log="+req.DebugLog+"/")
	}
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("gVisor's flags: %w", err)
	}
	return config.NewFromFlags(fs)
}

// logTo sends gVisor's log messages of this process to a file in dir, or nowhere.
func logTo(dir string) error {
	var w io.Writer = io.Discard
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("debug log: %w", err)
		}
		f, err := os.Create(filepath.Join(dir, "ub.log"))
		if err != nil {
			return fmt.Errorf("debug log: %w", err)
		}
		w = f
		log.SetLevel(log.Debug)
	}
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: w}})
	return nil
}

// programError says why the program did not start.
func programError(name string, err error) error {
	text := err.Error()
	for _, k := range []struct {
		err    unix.Errno
		status int
		why    string
	}{
		{unix.ENOEXEC, launch.StatusCannotExec, "is no program that can be executed: neither ELF for x86-64 nor a script with #!"},
		{unix.EACCES, launch.StatusCannotExec, "is not executable"},
		{unix.ENOENT, launch.StatusNotFound, "or the interpreter that it names does not exist"},
		{unix.ELOOP, launch.StatusCannotExec, "has too many levels of symbolic links"},
	} {
		if strings.HasSuffix(text, k.err.Error()) {
			return &launch.ProgramError{Status: k.status, Text: fmt.Sprintf("%s %s", name, k.why)}
		}
	}
	return explain("starting "+name, err)
}

// explain adds to an error of gVisor's what to do next.
func explain(doing string, err error) error {
	return fmt.Errorf("%s: %w; `ub run --debug-log DIR` keeps gVisor's logs", doing, err)
}

func ptr[T any](v T) *T { return &v }
