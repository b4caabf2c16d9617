package attach

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where the sockets are, one for each group, named after its first process. Only root gets there.
var Dir = "/run/ub"

// The protocol: a line with a word, then the answer to the end of the connection: JSON for status, "ok\n" for detach,
// which comes when the processes run natively.
const (
	askStatus = "status"
	askDetach = "detach"
)

func socketPath(pid int) string { return filepath.Join(Dir, strconv.Itoa(pid)+".sock") }

// Server answers for a group.
type Server struct {
	l    net.Listener
	path string
}

// Serve answers on the group's socket. detach is called when somebody asks for that, and returns when it is done.
func Serve(g *Group, detach func()) (*Server, error) {
	if err := os.MkdirAll(Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Server{path: socketPath(g.PID)}
	// What is left of one that was killed does not answer.
	if _, err := os.Stat(s.path); err == nil {
		if c, err := net.Dial("unix", s.path); err == nil {
			c.Close()
			return nil, fmt.Errorf("process %d has bypass already: `ub status` shows it, `ub detach %d` ends it", g.PID, g.PID)
		}
		os.Remove(s.path)
	}
	old := unix.Umask(0o077)
	l, err := net.Listen("unix", s.path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	s.l = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, g, detach)
		}
	}()
	return s, nil
}

func answer(c net.Conn, g *Group, detach func()) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	word, err := bufio.NewReader(io.LimitReader(c, 64)).ReadString('\n')
	if err != nil {
		return
	}
	switch strings.TrimSpace(word) {
	case askStatus:
		_ = json.NewEncoder(c).Encode(g.Status())
	case askDetach:
		detach()
		_, _ = io.WriteString(c, "ok\n")
	}
}

// Close ends the server.
func (s *Server) Close() {
	s.l.Close()
	os.Remove(s.path)
}

func ask(pid int, word string) ([]byte, error) {
	c, err := net.DialTimeout("unix", socketPath(pid), time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.WriteString(c, word+"\n"); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

// Detach ends bypass for the group of a process.
func Detach(pid int) error {
	b, err := ask(pid, askDetach)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: run it with sudo", Dir, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		if g := groupOf(pid); g != 0 {
			return fmt.Errorf("process %d has bypass as a descendant of %d: `ub detach %d`", pid, g, g)
		}
		return fmt.Errorf("process %d has no bypass: `ub status` shows which have", pid)
	case err != nil:
		return err
	case string(b) != "ok\n":
		return fmt.Errorf("process %d: bypass has not ended: %q", pid, b)
	}
	return nil
}

// groupOf returns the first process of the group that pid is in, 0 if there is none.
func groupOf(pid int) int {
	all, _ := List()
	for _, st := range all {
		for _, p := range st.Processes {
			if p.PID == pid {
				return st.PID
			}
		}
	}
	return 0
}

// List returns the status of all groups of this machine.
func List() ([]Status, error) {
	files, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Status
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".sock")
		pid, err := strconv.Atoi(name)
		if !ok || err != nil {
			continue
		}
		b, err := ask(pid, askStatus)
		if err != nil {
			continue // it has just ended, or was killed
		}
		var st Status
		if err := json.Unmarshal(b, &st); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		out = append(out, st)
	}
	return out, nil
}

// Supervise runs a group behind its socket, until its process ends, somebody detaches it, or the context is done. ready is called when the socket
// answers.
func Supervise(ctx context.Context, g *Group, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	s, err := Serve(g, func() {
		cancel()
		<-done
	})
	if err != nil {
		g.closeAll()
		return err
	}
	ready()
	err = g.Run(ctx)
	close(done)
	// Whoever has asked for it gets the answer before the socket goes.
	time.Sleep(20 * time.Millisecond)
	s.Close()
	return err
}

func (g *Group) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for pid, s := range g.sessions {
		s.Close()
		delete(g.sessions, pid)
	}
}
