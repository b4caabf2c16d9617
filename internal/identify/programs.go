package identify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ub/sentry/statfile"
)

// program is a real program with something to do.
type program struct {
	name string
	need string // must be in the PATH
	argv []string
	// stdin is what it reads; load drives a server, which is ended by SIGTERM afterwards.
	stdin func(w io.Writer) error
	load  func(ctx context.Context) error
}

var errMissing = errors.New("not installed")

// observe runs a program for about d and calls see with its statistics now and then.
func (b *Bench) observe(ctx context.Context, p program, d time.Duration, see func(since time.Duration, f *statfile.File)) (time.Duration, error) {
	if _, err := exec.LookPath(p.need); err != nil {
		return 0, fmt.Errorf("%s: %w", p.need, errMissing)
	}
	stat := filepath.Join(b.dir, "stat")
	os.Remove(stat)
	ctx, cancel := context.WithTimeout(ctx, d+60*time.Second)
	defer cancel()
	cmd := b.command(ctx, []string{"--stat-file=" + stat}, p.argv...)
	var errs strings.Builder
	cmd.Stderr = &errs
	var in io.WriteCloser
	if p.stdin != nil {
		var err error
		if in, err = cmd.StdinPipe(); err != nil {
			return 0, err
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	began := time.Now()
	work, stop := context.WithTimeout(ctx, d)
	defer stop()
	var wg sync.WaitGroup
	var loadErr error
	wg.Go(func() {
		switch {
		case p.stdin != nil:
			for work.Err() == nil && p.stdin(in) == nil {
			}
			in.Close()
		case p.load != nil:
			loadErr = p.load(work)
			cmd.Process.Signal(syscall.SIGTERM)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var f *statfile.File
	look := func() {
		if f == nil {
			f, _ = statfile.Open(stat)
		}
		if f != nil && see != nil {
			see(time.Since(began), f)
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			look()
			continue
		case err := <-ended:
			took := time.Since(began)
			stop()
			wg.Wait()
			look()
			if f != nil {
				defer f.Unmap()
			}
			if p.load != nil {
				err = loadErr // a server's status after SIGTERM says nothing
			}
			if err != nil {
				return took, fmt.Errorf("%s: %w: %s", p.name, err, strings.TrimSpace(errs.String()))
			}
			return took, nil
		}
	}
}

// connect waits for a server.
func connect(ctx context.Context, addr string) (net.Conn, error) {
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const clients = 4

// redisLoad asks for keys over some connections until ctx ends.
func redisLoad(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		return inParallel(func(n int) error {
			c, err := connect(ctx, addr)
			if err != nil {
				return err
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for i := 0; ctx.Err() == nil; i++ {
				cmd := fmt.Sprintf("GET key:%d\r\n", i%100)
				if i < 100 {
					cmd = fmt.Sprintf("SET key:%d value%d\r\n", i, n)
				}
				if _, err := io.WriteString(c, cmd); err != nil {
					return err
				}
				line, err := r.ReadString('\n')
				if err != nil {
					return err
				}
				if strings.HasPrefix(line, "$") && line != "$-1\r\n" {
					if _, err := r.ReadString('\n'); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

// httpLoad fetches a page over some connections that are kept open.
func httpLoad(url, addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := connect(ctx, addr)
		if err != nil {
			return err
		}
		c.Close()
		return inParallel(func(int) error {
			client := http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				resp, err := client.Get(url)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func inParallel(f func(n int) error) error {
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() { errs[n] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// freePort finds a port that nobody uses just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// servers are the four of experiment growth.
func (b *Bench) servers(seconds float64) ([]program, error) {
	redis, err := freePort()
	if err != nil {
		return nil, err
	}
	web, err := freePort()
	if err != nil {
		return nil, err
	}
	site := filepath.Join(b.dir, "nginx")
	for _, d := range []string{"logs", "html"} {
		if err := os.MkdirAll(filepath.Join(site, d), 0o755); err != nil {
			return nil, err
		}
	}
	conf := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/logs/error.log;\nevents {}\n"+
		"http { access_log off; keepalive_requests 1000000; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u;\n"+
		"scgi_temp_path %[1]s/s; server { listen 127.0.0.1:%[2]d; root %[1]s/html; } }\n", site, web)
	for name, text := range map[string]string{"nginx.conf": conf, "html/index.html": strings.Repeat("hello\n", 100), "script.py": fmt.Sprintf(pythonScript, seconds)} {
		if err := os.WriteFile(filepath.Join(site, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return []program{
		{name: "nginx", need: "nginx", argv: []string{"nginx", "-p", site, "-c", filepath.Join(site, "nginx.conf")},
			load: httpLoad(fmt.Sprintf("http://127.0.0.1:%d/", web), fmt.Sprintf("127.0.0.1:%d", web))},
		{name: "redis", need: "redis-server", argv: []string{"redis-server", "--port", fmt.Sprint(redis), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"},
			load: redisLoad(fmt.Sprintf("127.0.0.1:%d", redis))},
		{name: "python3", need: "python3", argv: []string{"python3", filepath.Join(site, "script.py")}},
		{name: "sqlite3", need: "sqlite3", argv: []string{"sqlite3", "/tmp/ub-identify.db"}, stdin: sqliteLoad()},
	}, nil
}

const pythonScript = `import os, time
end = time.time() + %g
fd = os.open("/tmp/ub-identify.py.data", os.O_RDWR | os.O_CREAT)
os.write(fd, b"x" * 65536)
n = 0
while time.time() < end:
    for i in range(200):
        d = os.pread(fd, 64, (i * 64) %% 65536)
        n += len(d)
        os.pwrite(fd, d, i)
        if i %% 10 == 0:
            os.stat("/tmp")
`

// sqliteLoad returns a source of statements that change and read a table.
func sqliteLoad() func(io.Writer) error {
	n := 0
	return func(w io.Writer) error {
		var s strings.Builder
		if n == 0 {
			s.WriteString("create table if not exists t(k integer primary key, v text);\n")
		}
		for range 20 {
			n++
			fmt.Fprintf(&s, "insert or replace into t values(%d, 'value %d');\nselect count(*) from t where k > %d;\n", n%1000, n, n%900)
		}
		_, err := io.WriteString(w, s.String())
		return err
	}
}
