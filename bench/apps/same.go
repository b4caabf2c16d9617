package apps

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Comparing the answers of two servers, byte by byte, while others put load on both: what bypass must never change. The
// requests are random, but the same for both, and such that the answer depends on nothing but them.

// conversations is how many connections to each server are compared at the same time.
const conversations = 6

// Same is what was compared.
type Same struct {
	Requests, Bytes int
}

// compare lets conversations talk to servers until the time is over or answers differ.
func compare(ctx context.Context, d time.Duration, load func(ctx context.Context) error, talk func(ctx context.Context, i int, until time.Time) (Same, error)) (Same, error) {
	// The load ends when the comparison does: a client that is cut off then is no error.
	loadCtx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	var mu sync.Mutex
	var sum Same
	var errs []error
	loadDone := make(chan error, 1)
	go func() { loadDone <- load(loadCtx) }()
	until := time.Now().Add(d)
	for i := range conversations {
		all.Go(func() {
			s, err := talk(ctx, i, until)
			mu.Lock()
			defer mu.Unlock()
			sum.Requests += s.Requests
			sum.Bytes += s.Bytes
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	early := loadCtx.Err() == nil
	select {
	case err := <-loadDone:
		if err != nil && early {
			errs = append(errs, fmt.Errorf("load: %w", err))
		}
		stop()
	default:
		stop()
		<-loadDone
	}
	if err := ctx.Err(); err != nil {
		return sum, err
	}
	if len(errs) > 0 {
		return sum, fmt.Errorf("%w (%d of %d conversations have failed)", errs[0], len(errs), conversations)
	}
	return sum, nil
}

// pair is a connection to each of two servers.
type pair struct {
	name [2]string
	c    [2]net.Conn
	r    [2]*bufio.Reader
}

func dialPair(a, b *Server) (*pair, error) {
	p := &pair{}
	for i, s := range []*Server{a, b} {
		c, err := net.DialTimeout("tcp", s.Addr, 5*time.Second)
		if err != nil {
			p.close()
			return nil, err
		}
		p.name[i], p.c[i], p.r[i] = string(s.Mode), c, bufio.NewReaderSize(c, 1<<16)
	}
	return p, nil
}

func (p *pair) close() {
	for _, c := range p.c {
		if c != nil {
			c.Close()
		}
	}
}

// ask sends request to both and returns how many bytes each has answered. It is an error when they are not the same ones.
func (p *pair) ask(request []byte, read func(r *bufio.Reader) ([]byte, error)) (int, error) {
	var got [2][]byte
	var errs [2]error
	var both sync.WaitGroup
	for i := range p.c {
		both.Go(func() {
			p.c[i].SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := p.c[i].Write(request); err != nil {
				errs[i] = err
				return
			}
			got[i], errs[i] = read(p.r[i])
		})
	}
	both.Wait()
	for i, err := range errs {
		if err != nil {
			return 0, fmt.Errorf("%s: %w after %q, answer so far %q", p.name[i], err, short(request), short(got[i]))
		}
	}
	if at := differ(got[0], got[1]); at >= 0 {
		return 0, fmt.Errorf("answers to %q differ from byte %d on: %s %q, %s %q", short(request), at,
			p.name[0], short(got[0][at:]), p.name[1], short(got[1][at:]))
	}
	return len(got[0]), nil
}

// differ returns where a and b begin to differ, -1 if they don't.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func short(b []byte) string {
	const most = 300
	if len(b) > most {
		return string(b[:most]) + "..."
	}
	return string(b)
}

// SameRedis compares two Redises, both new.
func SameRedis(ctx context.Context, a, b Redis, d time.Duration) (Same, error) {
	load := func(ctx context.Context) error {
		for i := 0; ctx.Err() == nil; i++ {
			r := []Redis{a, b}[i%2]
			l := RedisLoad{Op: []string{"SET", "GET", "LPUSH", "INCR"}[i/2%4], Size: []int{3, 700, 20000}[i/8%3], Clients: 20, Pipeline: 1 + 7*(i/4%2)}
			if _, err := r.Run(ctx, l, 4000); err != nil {
				return err
			}
		}
		return nil
	}
	return compare(ctx, d, load, func(_ context.Context, i int, until time.Time) (s Same, err error) {
		p, err := dialPair(a.Server, b.Server)
		if err != nil {
			return s, err
		}
		defer p.close()
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for n := 0; time.Now().Before(until); n++ {
			script, count := redisScript(rng, i)
			mark := fmt.Sprintf("end of %d of %d", n, i)
			script = append(script, redisCommand("ECHO", mark)...)
			end := fmt.Appendf(nil, "$%d\r\n%s\r\n", len(mark), mark)
			got, err := p.ask(script, func(r *bufio.Reader) ([]byte, error) {
				var all []byte
				for !bytes.HasSuffix(all, end) {
					line, err := r.ReadSlice('\n')
					all = append(all, line...)
					if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
						return all, err
					}
				}
				return all, nil
			})
			if err != nil {
				return s, err
			}
			s.Requests += count
			s.Bytes += got
		}
		return s, nil
	})
}

// redisCommand returns a command in Redis' protocol.
func redisCommand(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// redisScript returns some random commands about keys of one conversation. No order of a hash table, no clock and no
// random number of the server's is seen in the answers: what SORT compares as equal, up to a NUL, is equal.
func redisScript(rng *rand.Rand, conversation int) (script []byte, commands int) {
	key := func(kind string) string { return fmt.Sprintf("%d:%s:%d", conversation, kind, rng.IntN(6)) }
	num := func(n int) string { return strconv.Itoa(rng.IntN(n)) }
	text := func(n int) string {
		var b strings.Builder
		for range rng.IntN(n + 1) {
			b.WriteByte("abcdefgh \r\n\x00\xff0123456789"[rng.IntN(23)])
		}
		return b.String()
	}
	float := func() string { return strconv.FormatFloat(rng.NormFloat64()*100, 'g', -1, 64) }
	kinds := []func() []string{
		func() []string { return []string{"SET", key("s"), text([]int{4, 60, 1000, 20000}[rng.IntN(4)])} },
		func() []string { return []string{"GET", key("s")} },
		func() []string { return []string{"APPEND", key("s"), text(40)} },
		func() []string { return []string{"SETRANGE", key("s"), num(3000), text(90)} },
		func() []string { return []string{"GETRANGE", key("s"), num(2000), num(20000)} },
		func() []string { return []string{"BITCOUNT", key("s"), num(300), num(3000)} },
		func() []string { return []string{"STRLEN", key("s")} },
		func() []string { return []string{"DEL", key("s")} },
		func() []string { return []string{"INCRBY", key("i"), num(1_000_000)} },
		func() []string { return []string{"INCRBYFLOAT", key("f"), float()} },
		func() []string { return []string{"LPUSH", key("l"), text(30), num(100000), text(300)} },
		func() []string { return []string{"RPUSH", key("l"), text(9)} },
		func() []string { return []string{"LRANGE", key("l"), num(10), num(60)} },
		func() []string { return []string{"LINSERT", key("l"), "BEFORE", num(100000), text(20)} },
		func() []string { return []string{"LTRIM", key("l"), "0", "99"} },
		func() []string { return []string{"RPOP", key("l"), num(4)} },
		func() []string { return []string{"SORT", key("l"), "ALPHA", "LIMIT", "0", num(20)} },
		func() []string { return []string{"HSET", key("h"), num(40), text(20), num(40), text(60)} },
		func() []string { return []string{"HGETALL", key("h")} },
		func() []string { return []string{"HINCRBYFLOAT", key("hf"), num(5), float()} },
		func() []string { return []string{"SADD", key("set"), num(300), num(300), "member " + num(1000)} },
		func() []string { return []string{"SISMEMBER", key("set"), num(300)} },
		func() []string { return []string{"SORT", key("set"), "ALPHA", "DESC"} },
		func() []string { return []string{"ZADD", key("z"), float(), num(300), float(), text(4)} },
		func() []string { return []string{"ZRANGE", key("z"), num(9), num(200), "WITHSCORES"} },
		func() []string { return []string{"ZRANGEBYSCORE", key("z"), "-30", "(" + float()} },
		func() []string { return []string{"PFADD", key("p"), text(8), num(100000)} },
		func() []string { return []string{"PFCOUNT", key("p")} },
		func() []string { return []string{"GEOADD", key("g"), "13." + num(1000), "38." + num(1000), num(20)} },
		func() []string { return []string{"GEODIST", key("g"), num(20), num(20)} },
		func() []string { return []string{"LCS", key("i"), key("f")} },
		func() []string {
			return []string{"EVAL", "local s = 0.5; for i = 1, tonumber(ARGV[1]) do s = s * 1.01 + i end; return {KEYS[1], tostring(s), string.rep(ARGV[2], 3), redis.call('strlen', KEYS[1])}",
				"1", key("s"), num(200), text(9)}
		},
		func() []string {
			return []string{"DUMP", []string{key("s"), key("l"), key("z"), key("p")}[rng.IntN(4)]}
		},
		func() []string { return []string{"NONSENSE", text(20)} },
		func() []string { return []string{"GET", key("l")} }, // of the wrong kind
	}
	n := 1 + rng.IntN(40)
	for range n {
		script = append(script, redisCommand(kinds[rng.IntN(len(kinds))]()...)...)
	}
	return script, n
}

// SameNginx compares two nginxes that serve the files of dir with these sizes, and what they serve with the files.
func SameNginx(ctx context.Context, a, b Nginx, dir string, sizes []int, d time.Duration) (Same, error) {
	files := map[string][]byte{}
	for _, s := range sizes {
		data, err := os.ReadFile(filepath.Join(dir, siteFile(s)))
		if err != nil {
			return Same{}, err
		}
		files[siteFile(s)] = data
	}
	load := func(ctx context.Context) error {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := []Nginx{a, b}[i%2].Run(ctx, NginxLoad{Size: sizes[i/2%len(sizes)], Clients: 8}, 1); err != nil {
				return err
			}
		}
		return nil
	}
	return compare(ctx, d, load, func(_ context.Context, i int, until time.Time) (s Same, err error) {
		p, err := dialPair(a.Server, b.Server)
		if err != nil {
			return s, err
		}
		defer p.close()
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		for time.Now().Before(until) {
			name := siteFile(sizes[rng.IntN(len(sizes))])
			method, path, more, whole := "GET", name, "", true
			switch rng.IntN(6) {
			case 0:
				method, whole = "HEAD", false
			case 1:
				path, whole = "no-such-file", false
			case 2:
				from := rng.IntN(len(files[name]))
				more, whole = fmt.Sprintf("Range: bytes=%d-%d\r\n", from, from+rng.IntN(9000)), false
			case 3:
				more, whole = "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n", false
			}
			request := fmt.Sprintf("%s /%s HTTP/1.1\r\nHost: test\r\nUser-Agent: %s\r\n%s\r\n", method, path, strings.Repeat("x", rng.IntN(200)), more)
			n, err := p.ask([]byte(request), func(r *bufio.Reader) ([]byte, error) {
				head, body, err := readAnswer(r, method == "HEAD")
				if err == nil && whole && !bytes.Equal(body, files[path]) {
					err = fmt.Errorf("the body is not the file %s, from byte %d on", path, differ(body, files[path]))
				}
				return append(head, body...), err
			})
			if err != nil {
				return s, err
			}
			s.Requests++
			s.Bytes += n
		}
		return s, nil
	})
}

// readAnswer reads an answer of HTTP/1.1 with Content-Length, and leaves out the time at which it was given.
func readAnswer(r *bufio.Reader, noBody bool) (head, body []byte, err error) {
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return head, nil, err
		}
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		switch name {
		case "Date":
			continue
		case "Content-Length":
			if length, err = strconv.Atoi(value); err != nil || length < 0 {
				return head, nil, fmt.Errorf("Content-Length %q", value)
			}
		}
		head = append(head, line...)
		if line == "\r\n" {
			break
		}
	}
	if !noBody {
		body = make([]byte, length)
		_, err = io.ReadFull(r, body)
	}
	return head, body, err
}
