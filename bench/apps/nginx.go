package apps

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Programs of Debian's packages nginx and wrk.
const (
	nginxServer = "/usr/sbin/nginx"
	wrkProgram  = "/usr/bin/wrk"
)

// Nginx is a running nginx.
type Nginx struct {
	*Server
	Workers int
}

// nginxConfig is for static files over connections that stay. What it writes goes to the sandbox's memory. No daemon:
// the sandbox ends with its first process.
const nginxConfig = `
daemon off;
user root;
worker_processes %d;
pid %s/nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000000;
	default_type application/octet-stream;
	client_body_temp_path /tmp/nginx-body;
	proxy_temp_path /tmp/nginx-proxy;
	fastcgi_temp_path /tmp/nginx-fastcgi;
	uwsgi_temp_path /tmp/nginx-uwsgi;
	scgi_temp_path /tmp/nginx-scgi;
	server {
		listen 127.0.0.1:%d;
		root %s;
	}
}
`

// MakeSite writes the files that nginx serves into dir: NAME.bin with NAME bytes for each size, the same every time.
func MakeSite(dir string, sizes []int) error {
	for _, size := range sizes {
		data := make([]byte, size)
		for i, x := 0, uint32(size); i < size; i++ {
			x = x*1664525 + 1013904223
			data[i] = byte(x >> 24)
		}
		name := filepath.Join(dir, siteFile(size))
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
		// Answers have the time of the last change in them: one that does not depend on when this ran.
		if err := os.Chtimes(name, time.Time{}, time.Unix(1_700_000_000, 0)); err != nil {
			return err
		}
	}
	return nil
}

func siteFile(size int) string { return strconv.Itoa(size) + ".bin" }

// StartNginx starts an nginx that serves the files of dir.
func (l Launcher) StartNginx(ctx context.Context, m Mode, workers int, dir string) (Nginx, error) {
	port, err := freePort()
	if err != nil {
		return Nginx{}, err
	}
	own, err := os.MkdirTemp(l.Dir, "nginx-")
	if err != nil {
		return Nginx{}, err
	}
	conf := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConfig, workers, own, port, dir), 0o644); err != nil {
		return Nginx{}, err
	}
	s, err := l.start(ctx, "nginx", m, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nginxServer, "-e", "stderr", "-c", conf)
	return Nginx{s, workers}, err
}

// NginxLoad is one way to ask for a file.
type NginxLoad struct {
	Size    int
	Workers int // of the server
	Clients int // connections that stay
}

func (l NginxLoad) String() string {
	return fmt.Sprintf("%s, %d worker%s", Bytes(l.Size), l.Workers, map[bool]string{true: "s"}[l.Workers != 1])
}

// Run asks for a file for so many seconds: wrk has no finer unit.
func (n Nginx) Run(ctx context.Context, l NginxLoad, seconds int) (Load, error) {
	out, load, err := runClient(ctx, wrkProgram, "-t1", "-c"+strconv.Itoa(l.Clients), "-d"+strconv.Itoa(seconds)+"s",
		"http://"+n.Addr+"/"+siteFile(l.Size))
	if err != nil {
		return load, fmt.Errorf("%w (%v)", err, n.Check())
	}
	load.PerSecond, load.Requests, err = wrkRate(out)
	return load, err
}

var (
	wrkPerSecond = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)$`)
	wrkRequests  = regexp.MustCompile(`(?m)^\s+([0-9]+) requests in `)
	wrkErrors    = regexp.MustCompile(`(?m)^\s*(Socket errors:|Non-2xx).*$`)
)

// wrkRate finds requests per second and their number in what wrk says. An answer that is no success is an error.
func wrkRate(out string) (perSecond float64, requests int, err error) {
	if e := wrkErrors.FindString(out); e != "" {
		return 0, 0, fmt.Errorf("wrk: %s", e)
	}
	a, b := wrkPerSecond.FindStringSubmatch(out), wrkRequests.FindStringSubmatch(out)
	if a == nil || b == nil {
		return 0, 0, fmt.Errorf("wrk says %q", out)
	}
	if perSecond, err = strconv.ParseFloat(a[1], 64); err == nil {
		requests, err = strconv.Atoi(b[1])
	}
	if err == nil && requests == 0 {
		err = fmt.Errorf("wrk got no answer")
	}
	return perSecond, requests, err
}
