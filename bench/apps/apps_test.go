package apps

import (
	"bufio"
	"bytes"
	"debug/elf"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ub/sentry/statfile"
)

func TestRedisRate(t *testing.T) {
	const out = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"16181.23\",\"0.047\"\n\"GET\",\"0.00\",\"0.1\"\n"
	if v, err := redisRate(out, "SET"); err != nil || v != 16181.23 {
		t.Errorf("SET: %v, %v", v, err)
	}
	for _, c := range []struct{ out, op string }{{out, "GET"}, {out, "LPUSH"}, {"", "SET"}, {"Could not connect to Redis\n", "SET"}, {"\"SET\",\"nan\"\n", "SET"}} {
		if v, err := redisRate(c.out, c.op); err == nil {
			t.Errorf("%s of %q is %v", c.op, c.out, v)
		}
	}
}

func TestWrkRate(t *testing.T) {
	const out = `Running 1s test @ http://127.0.0.1:7581/f1
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.13ms  365.28us   6.00ms   79.11%
    Req/Sec    14.43k     1.98k   17.36k    80.00%
  14366 requests in 1.00s, 17.75MB read
Requests/sec:  14365.46
Transfer/sec:     17.75MB
`
	if v, n, err := wrkRate(out); err != nil || v != 14365.46 || n != 14366 {
		t.Errorf("%v requests/s, %d requests, %v", v, n, err)
	}
	for _, bad := range []string{
		"", strings.Replace(out, "14366 requests", "0 requests", 1),
		strings.Replace(out, "Requests/sec", "  Non-2xx or 3xx responses: 14366\nRequests/sec", 1),
		strings.Replace(out, "Requests/sec", "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec", 1),
	} {
		if v, n, err := wrkRate(bad); err == nil {
			t.Errorf("%v requests/s, %d requests of %q", v, n, bad)
		}
	}
}

func TestSum(t *testing.T) {
	text := []string{
		"10 (runsc-ub) S 1 10 10 0 -1 0 0 0 0 0 1 2 0 0 20 0 9 0 1 1 1",
		"11 (exe) S 10 10 10 0 -1 0 0 0 0 0 100 20 0 0 20 0 9 0 1 1 1",       // the Sentry
		"12 (a name) (with)) S 11 10 10 0 -1 0 0 0 0 0 7 3 0 0 20 0 9 0 1 1", // a stub
		"13 (exe) S 12 10 10 0 -1 0 0 0 0 0 5 5 0 0 20 0 9 0 1 1",            // one below it
		"14 (exe) S 10 10 10 0 -1 0 0 0 0 0 2 2 0 0 20 0 9 0 1 1",            // the gofer
		"15 (other) S 1 10 10 0 -1 0 0 0 0 0 900 900 0 0 20 0 9 0 1 1",
	}
	all := map[int]process{}
	for _, s := range text {
		p, err := parseStat([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		all[p.pid] = p
	}
	names := map[int]string{10: "runsc-ub", 11: "runsc-sandbox", 12: "[exe]", 13: "[exe]", 14: "runsc-gofer", 15: "other"}
	got := sum(all, 10, func(pid int) string { return names[pid] })
	// What the launcher itself has used is so little that it may count as the program's.
	if want := (CPU{Sentry: 120 * tick, Stub: 23 * tick, Gofer: 4 * tick}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "1", "1 (x", "1 (x) S 2", "x (x) S 1 10 10 0 -1 0 0 0 0 0 1 2 0"} {
		if p, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func TestSystem(t *testing.T) {
	s, err := parseSystem("cpu  10 1 20 300 4 1 2 5 0 0\ncpu0 1 2 3\n")
	if want := (System{Idle: 304 * tick, Steal: 5 * tick, Busy: 34 * tick}); err != nil || s != want {
		t.Errorf("%+v, %v, want %+v", s, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpu0 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x"} {
		if _, err := parseSystem(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSymbols(t *testing.T) {
	sym := func(name string, value, size uint64) elf.Symbol {
		return elf.Symbol{Name: name, Info: uint8(elf.STT_FUNC), Section: 1, Value: value, Size: size}
	}
	code := make([]byte, 0x400)
	for _, off := range []int{0x10, 0x123, 0x3f0} {
		copy(code[off:], "\x0f\x05")
	}
	s := newSymbols(0x1000, code, []elf.Symbol{sym("read", 0x1000, 0x40), sym("__read", 0x1000, 0x40), sym("write", 0x1100, 0x80)})
	const base = 0x7f0000000000
	addrs := []uint64{base + 0x1012, base + 0x1125, 0x555555}
	if got := s.Base(addrs); got != base {
		t.Fatalf("base %#x", got)
	}
	if got := s.Base(nil); got != 0 {
		t.Errorf("base %#x of nothing", got)
	}
	for addr, want := range map[uint64]string{
		base + 0x1012: "read+0x12", base + 0x1125: "write+0x25", base + 0x1180: "0x7f0000001180", 0x555555: "0x555555",
	} {
		if got := s.Name(base, addr); got != want {
			t.Errorf("%#x is %s, want %s", addr, got, want)
		}
	}
	before := []statfile.Site{{Entry: addrs[0], Space: 1, Entered: 5, Bypassed: 4}}
	after := []statfile.Site{{Entry: addrs[1], Space: 1, Entered: 7}, {Entry: addrs[0], Space: 1, State: statfile.Live, Entered: 25, Bypassed: 20}}
	got := s.Sites(before, after, nil)
	if len(got) != 2 || got[0].Name != "read+0x12" || got[0].Entered != 20 || got[0].Bypassed != 16 || got[1].Name != "write+0x25" {
		t.Errorf("%+v", got)
	}
}

func TestStops(t *testing.T) {
	code := append(make([]byte, 0x10), 0x0f, 0xa2) // cpuid
	s := newSymbols(0x1000, code, []elf.Symbol{{Name: "f", Info: uint8(elf.STT_FUNC), Section: 1, Value: 0x1000, Size: 0x12}})
	const base = 0x7f0000000000
	blobs := []statfile.Blob{
		{Space: 1, Entries: []statfile.Entry{{RIP: base + 0x1000}}, Lines: []statfile.Entry{{RIP: 0x99}}},
		{Space: 1, Entries: []statfile.Entry{{RIP: base + 0x1000}}, Sources: []statfile.Source{{Addr: base + 0x1000, Code: code[:0x10]}},
			Lines: []statfile.Entry{{RIP: base + 0x1000}, {RIP: base + 0x1010}, {RIP: 0}, {RIP: base + 0x1010}}},
		{Space: 2, Entries: []statfile.Entry{{RIP: base + 0x1000}}},
	}
	got := s.Stops(blobs, 1, base+0x1000, base)
	if len(got) != 1 || got[0].Name != "f+0x10" || got[0].Text == "" {
		t.Errorf("%+v", got)
	}
	if got := s.Stops(blobs, 1, base+0x1001, base); got != nil {
		t.Errorf("%+v", got)
	}
	// In the program: found by the code before it.
	prog := []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x90\x90\xff\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\xf4")
	s.program, s.progAt, s.prog = "prog", 0x5000, prog
	for _, c := range []struct {
		code []byte
		want uint64
	}{{prog[:13], 0x500d}, {prog[15:28], 0x501c}, {prog[1:13], 0}, {[]byte("something else than that"), 0}} {
		at, ok := s.inProgram([]statfile.Source{{Addr: 0x7000, Code: c.code}}, 0x7000+uint64(len(c.code)))
		if at != c.want || ok != (c.want != 0) {
			t.Errorf("% x is at %#x, %v, want %#x", c.code, at, ok, c.want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int]string{1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1500: "1500 B", 256 << 10: "256 KiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: Tue, 24 Nov 2026 19:00:00 GMT\r\nContent-Length: 3\r\n\r\nabcHTTP"
	head, body, err := readAnswer(bufio.NewReader(strings.NewReader(answer)), false)
	if err != nil || string(head) != "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\n" || string(body) != "abc" {
		t.Errorf("%q, %q, %v", head, body, err)
	}
	if _, body, err = readAnswer(bufio.NewReader(strings.NewReader(answer)), true); err != nil || len(body) != 0 {
		t.Errorf("HEAD: %q, %v", body, err)
	}
	if _, _, err = readAnswer(bufio.NewReader(strings.NewReader(answer[:len(answer)-6])), false); err == nil {
		t.Error("a short body is taken")
	}
}

func TestRedisScript(t *testing.T) {
	a, n := redisScript(rand.New(rand.NewPCG(3, 1)), 3)
	b, _ := redisScript(rand.New(rand.NewPCG(3, 1)), 3)
	if !bytes.Equal(a, b) {
		t.Error("the same seed gives different scripts")
	}
	if c := bytes.Count(a, []byte("\r\n*")) + 1; n < 1 || c < n {
		t.Errorf("%d commands, it says %d", c, n)
	}
	if got := string(redisCommand("GET", "a b")); got != "*2\r\n$3\r\nGET\r\n$3\r\na b\r\n" {
		t.Errorf("%q", got)
	}
}

// TestPair compares two servers that answer alike until they don't.
func TestPair(t *testing.T) {
	serve := func(answers ...string) *Server {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for _, a := range answers {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				c.Write([]byte(a))
			}
		}()
		return &Server{Addr: l.Addr().String(), Mode: "test"}
	}
	p, err := dialPair(serve("one\n", "two\n"), serve("one\n", "twO\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	line := func(r *bufio.Reader) ([]byte, error) { return r.ReadBytes('\n') }
	if n, err := p.ask([]byte("?\n"), line); n != 4 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := p.ask([]byte("?\n"), line); err == nil || !strings.Contains(err.Error(), "from byte 2 on") {
		t.Errorf("%v, want a difference at byte 2", err)
	}
	if _, err := p.ask([]byte("?\n"), line); err == nil {
		t.Error("a connection that is closed answers")
	}
}

func TestMakeSite(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	sizes := []int{1, 5000}
	for _, d := range []string{a, b} {
		if err := MakeSite(d, sizes); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sizes {
		x, err := os.ReadFile(filepath.Join(a, siteFile(s)))
		y, err2 := os.ReadFile(filepath.Join(b, siteFile(s)))
		if err != nil || err2 != nil || len(x) != s || !slices.Equal(x, y) {
			t.Errorf("%d: %d bytes, %v, %v", s, len(x), err, err2)
		}
		st, err := os.Stat(filepath.Join(a, siteFile(s)))
		if err != nil || !st.ModTime().Equal(time.Unix(1_700_000_000, 0)) {
			t.Errorf("%d: %v, %v", s, st, err)
		}
	}
}
