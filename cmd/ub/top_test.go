package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ub/internal/top"
)

func TestTopAndMetrics(t *testing.T) {
	needSandbox(t)
	socket := filepath.Join(t.TempDir(), "metrics")
	cmd := command(t, "run", "--metrics-addr=unix:"+socket, "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	id := strconv.Itoa(cmd.Process.Pid)
	var v top.View
	for range 100 {
		// Until the sandbox is there, and the controller has decided.
		r := ub(t, "top", "--once", "--json", "-d", "200ms", id)
		if r.status == 0 {
			if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
				t.Fatalf("%v: %s", err, r.stdout)
			}
			if v.Share > 0.5 && v.Kept > 0 && len(v.Gaps) > 0 {
				break
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if v.Share <= 0.5 || len(v.Threads) != 1 || len(v.Gaps) == 0 {
		t.Fatalf("%+v", v)
	}
	if r := ub(t, "top", "--once", "-d", "200ms", id); r.status != 0 || !strings.Contains(r.stdout, "kept") || strings.Contains(r.stdout, "\x1b") {
		t.Errorf("%+v", r)
	}
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := c.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(text), "ub_gaps{state=\"kept\"}") {
		t.Errorf("metrics:\n%s", text)
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	ended = true
	if r := ub(t, "top", "--once", id); r.status != 125 || !strings.Contains(r.stderr, "no sandbox") {
		t.Errorf("of a sandbox that has ended: %+v", r)
	}
}

func TestTopRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"top nonsense":                         "neither a statistics file nor the process id",
		"top --delay 1ms 1":                    "--delay must be at least",
		"top --rows 0 1":                       "--rows at least 1",
		"run --metrics-addr=0.0.0.0:1 -- true": "no loopback address",
		"run --metrics-addr=unix:/tmp/x --bypass=off -- /bin/true": "nothing to show",
	} {
		needSandbox(t)
		if r := ub(t, strings.Fields(args)...); r.status != 125 || !strings.Contains(r.stderr, want) {
			t.Errorf("ub %s: %+v, want %q", args, r, want)
		}
	}
}
