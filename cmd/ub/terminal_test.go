package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is an ub with a terminal, of which the test is the user.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	pty   *os.File
	chars chan byte
	seen  strings.Builder
}

// onTerminal starts ub with a terminal of 40 rows and 100 columns.
func onTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	cmd := command(t, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "PS1=$ ", "TERM=dumb", "HOME=/", "UB_RUNSC=" + os.Getenv("UB_RUNSC")}
	p, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		p.Close()
	})
	w := &terminal{t: t, cmd: cmd, pty: p, chars: make(chan byte, 1<<16)}
	go func() {
		defer close(w.chars)
		buf := make([]byte, 4096)
		for {
			n, err := p.Read(buf)
			for _, c := range buf[:n] {
				w.chars <- c
			}
			if err != nil {
				return
			}
		}
	}()
	return w
}

func (w *terminal) typ(s string) {
	w.t.Helper()
	if _, err := io.WriteString(w.pty, s); err != nil {
		w.t.Fatal(err)
	}
}

// wait reads until what is displayed, since the last wait, contains s.
func (w *terminal) wait(s string) {
	w.t.Helper()
	w.seen.Reset()
	timer := time.After(20 * time.Second)
	for !strings.HasSuffix(w.seen.String(), s) {
		select {
		case c, ok := <-w.chars:
			if !ok {
				w.t.Fatalf("the terminal is closed; it shows %q, not %q", w.seen.String(), s)
			}
			w.seen.WriteByte(c)
		case <-timer:
			w.t.Fatalf("the terminal shows %q, not %q", w.seen.String(), s)
		}
	}
}

func (w *terminal) end(status int) {
	w.t.Helper()
	err := w.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := w.cmd.ProcessState.ExitCode(); got != status {
		w.t.Errorf("status %d (%v), want %d", got, w.cmd.ProcessState, status)
	}
}

func TestTerminal(t *testing.T) {
	w := onTerminal(t, "run", "--", "sh", "-c", `tty -s && stty size; trap 'stty size' WINCH; echo ready; read x || read x; echo "[$x]"`)
	w.wait("40 100\r\n")
	w.wait("ready\r\n")
	if err := pty.Setsize(w.pty, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	w.wait("50 132\r\n")
	w.typ("hello\n")
	w.wait("[hello]\r\n")
	w.end(0)
}

func TestTerminalJobControl(t *testing.T) {
	w := onTerminal(t, "run", "--", "sh", "-i")
	w.wait("$ ")
	w.typ("sleep 100\n")
	w.wait("sleep 100\r\n")
	time.Sleep(300 * time.Millisecond)
	w.typ("\x03") // ^C ends sleep, not the shell
	w.wait("$ ")
	w.typ("echo $?\n")
	w.wait("130\r\n")
	w.wait("$ ")
	w.typ("sleep 1; echo over\n")
	w.wait("over\r\n")
	time.Sleep(300 * time.Millisecond)
	w.typ("\x1a") // ^Z stops it
	w.wait("Stopped")
	w.wait("$ ")
	w.typ("fg\n")
	w.wait("$ ")
	w.typ("exit 5\n")
	w.end(5)
}

// TestTerminalInterrupt: ^C reaches a program that is no shell, and its death is passed on.
func TestTerminalInterrupt(t *testing.T) {
	w := onTerminal(t, "run", "--", "sh", "-c", "echo ready; exec sleep 100")
	w.wait("ready\r\n")
	w.typ("\x03")
	w.end(128 + int(syscall.SIGINT))
}

// TestTerminalIsRestored: a program that is killed leaves the terminal as it was; one that ends may change it.
func TestTerminalIsRestored(t *testing.T) {
	needSandbox(t)
	script := `"$0" run -- sh -c 'stty -echo; stty -a | grep -o "[-]*echo "; kill -9 $$'; echo $?; stty -a | grep -o "[-]*echo "; ` +
		`"$0" run -- stty -echo; stty -a | grep -o "[-]*echo "`
	cmd := exec.Command("sh", "-c", script, ubPath)
	p, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, _ := io.ReadAll(p) // ends with EIO
	cmd.Wait()
	if got := strings.Fields(string(out)); strings.Join(got, " ") != "-echo 137 echo -echo" {
		t.Errorf("%q", out)
	}
}

// TestTerminalStop: with nobody inside to continue it, a program is not stopped by ^Z, which would leave the user with a
// dead terminal.
func TestTerminalStop(t *testing.T) {
	w := onTerminal(t, "run", "--", "sh", "-c", "echo ready; sleep 1; echo done")
	w.wait("ready\r\n")
	w.typ("\x1a")
	w.wait("done\r\n")
	w.end(0)
}
