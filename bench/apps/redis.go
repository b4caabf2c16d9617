package apps

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Programs of Debian's packages redis-server and redis-tools.
const (
	redisServer    = "/usr/bin/redis-server"
	redisBenchmark = "/usr/bin/redis-benchmark"
)

// Redis is a running Redis.
type Redis struct{ *Server }

// StartRedis starts a Redis that keeps nothing on disk.
func (l Launcher) StartRedis(ctx context.Context, m Mode) (Redis, error) {
	port, err := freePort()
	if err != nil {
		return Redis{}, err
	}
	s, err := l.start(ctx, "redis", m, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), redisServer,
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp",
		"--daemonize", "no", "--logfile", "", "--loglevel", "warning")
	return Redis{s}, err
}

// RedisLoad is one way to ask for data.
type RedisLoad struct {
	Op       string // GET or SET
	Size     int    // of the value in bytes
	Clients  int
	Pipeline int // requests that are sent at a time
}

func (r RedisLoad) String() string {
	return fmt.Sprintf("%s %s, %d cl., pipe %d", r.Op, Bytes(r.Size), r.Clients, r.Pipeline)
}

// benchKey is the only key that redis-benchmark uses when it is not told to use many.
const benchKey = "key:__rand_int__"

// Fill stores the value that GET asks for.
func (r Redis) Fill(size int) error {
	c, err := net.DialTimeout("tcp", r.Addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(c, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(benchKey), benchKey, size, strings.Repeat("x", size)); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && answer != "+OK\r\n" {
		err = fmt.Errorf("redis, %s: SET is answered by %q", r.Mode, answer)
	}
	return err
}

// Run sends n requests.
func (r Redis) Run(ctx context.Context, l RedisLoad, n int) (Load, error) {
	n = max(n, l.Clients*l.Pipeline)
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return Load{}, err
	}
	out, load, err := runClient(ctx, redisBenchmark, "-p", port, "-c", strconv.Itoa(l.Clients), "-P", strconv.Itoa(l.Pipeline),
		"-d", strconv.Itoa(l.Size), "-n", strconv.Itoa(n), "-t", strings.ToLower(l.Op), "--csv")
	if err != nil {
		return load, fmt.Errorf("%w (%v)", err, r.Check())
	}
	load.Requests = n
	load.PerSecond, err = redisRate(out, l.Op)
	return load, err
}

// redisRate finds the requests per second of op in what redis-benchmark --csv says.
func redisRate(out, op string) (float64, error) {
	c := csv.NewReader(strings.NewReader(out))
	c.FieldsPerRecord = -1
	rows, err := c.ReadAll()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark says %q: %w", out, err)
	}
	for _, f := range rows {
		if len(f) > 1 && f[0] == op {
			v, err := strconv.ParseFloat(f[1], 64)
			if err != nil || !(v > 0) {
				return 0, fmt.Errorf("redis-benchmark counts %q requests per second", f[1])
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("redis-benchmark says nothing about %s: %q", op, out)
}

// Bytes writes a size the way tables do.
func Bytes(n int) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}
