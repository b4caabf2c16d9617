// Package apps runs servers in sandboxes, with and without bypass, and puts load on them from outside: Redis and nginx as
// Debian ships them. The servers share the machine's network (--network=host), the clients run natively and reach them
// by its loopback interface: what is measured is the server, and both modes have the same client.
package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ub/sentry/statfile"
)

// Mode is how a server runs.
type Mode string

const (
	Native Mode = "native" // without a sandbox
	Off    Mode = "off"    // in the sandbox without bypass
	On     Mode = "on"     // in the sandbox with bypass
)

// Program returns the path of the server with this name.
func Program(name string) string {
	return map[string]string{"redis": redisServer, "nginx": nginxServer}[name]
}

// Launcher starts servers.
type Launcher struct {
	UB    string   // path of ub
	Dir   string   // for files of the servers and statistics
	Flags []string // more flags for `ub run`
}

// Server is a running server.
type Server struct {
	Name string
	Mode Mode
	Addr string // host:port

	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{} // closed when the process has ended
	err    error         // of Wait, valid when done is closed
	stats  *statfile.File
	stat   string
}

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 15 * time.Second
)

// start runs argv and waits until it accepts connections at addr.
func (l Launcher) start(ctx context.Context, name string, m Mode, addr string, argv ...string) (*Server, error) {
	s := &Server{Name: name, Mode: m, Addr: addr, done: make(chan struct{})}
	if m != Native {
		line := []string{l.UB, "run", "--network=host", "--cwd=/", "--bypass=" + string(m)}
		if m == On {
			f, err := os.MkdirTemp(l.Dir, "stat-")
			if err != nil {
				return nil, err
			}
			s.stat = filepath.Join(f, "stat")
			line = append(line, "--stat-file="+s.stat)
		}
		argv = append(append(append(line, l.Flags...), "--"), argv...)
	}
	s.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	s.cmd.Stderr = &s.stderr
	// When we are gone, or interrupted, the server goes the way it would by a signal: the sandbox cleans up after itself.
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(unix.SIGTERM) }
	s.cmd.WaitDelay = stopTimeout
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	if err := s.ready(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%s, %s: %w: %s", name, m, err, bytes.TrimSpace(s.stderr.Bytes()))
	}
	if m == On {
		var err error
		if s.stats, err = statfile.Open(s.stat); err != nil {
			s.Stop()
			return nil, err
		}
	}
	return s, nil
}

// ready returns when the server accepts connections.
func (s *Server) ready(ctx context.Context) error {
	end := time.Now().Add(startTimeout)
	for {
		c, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return errors.New("it ended at once")
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("it does not listen at %s after %v", s.Addr, startTimeout)
		}
	}
}

// Check returns an error when the server has ended by itself.
func (s *Server) Check() error {
	select {
	case <-s.done:
		return fmt.Errorf("%s, %s, has ended: %v: %s", s.Name, s.Mode, s.err, bytes.TrimSpace(s.stderr.Bytes()))
	default:
		return nil
	}
}

// Stop ends the server. It returns an error when it had ended before, or did not end well.
func (s *Server) Stop() error {
	if s.stats != nil {
		s.stats.Unmap()
		s.stats = nil
	}
	before := s.Check()
	if before == nil {
		s.cmd.Process.Signal(unix.SIGTERM)
	}
	select {
	case <-s.done:
	case <-time.After(stopTimeout):
		s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("%s, %s, did not end within %v of SIGTERM", s.Name, s.Mode, stopTimeout)
	}
	if before != nil {
		return before
	}
	if s.err != nil {
		return fmt.Errorf("%s, %s: %w: %s", s.Name, s.Mode, s.err, bytes.TrimSpace(s.stderr.Bytes()))
	}
	return nil
}

// Counters returns the sandbox's counters; all 0 unless the mode is On.
func (s *Server) Counters() statfile.Snapshot {
	if s.stats == nil {
		return statfile.Snapshot{}
	}
	return s.stats.Snapshot()
}

// Sites returns the sandbox's sites; none unless the mode is On.
func (s *Server) Sites() []statfile.Site {
	if s.stats == nil {
		return nil
	}
	return s.stats.Sites()
}

// Blobs returns the sandbox's journal of translations; none unless the mode is On.
func (s *Server) Blobs() []statfile.Blob {
	if s.stats == nil {
		return nil
	}
	return s.stats.Blobs()
}

// freePort returns a TCP port of the loopback interface that nobody has at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Load is what a client measured.
type Load struct {
	PerSecond float64       // requests
	Requests  int           // so many there were
	Wall      time.Duration // of the client's process
	ClientCPU time.Duration
}

// runClient runs a load generator and returns its output, with Wall and ClientCPU of the Load filled in.
func runClient(ctx context.Context, argv ...string) (string, Load, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	err := cmd.Run()
	l := Load{Wall: time.Since(began)}
	if err != nil {
		return "", l, fmt.Errorf("%s: %w: %s%s", cmd, err, bytes.TrimSpace(out.Bytes()), bytes.TrimSpace(errs.Bytes()))
	}
	l.ClientCPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return out.String(), l, nil
}
