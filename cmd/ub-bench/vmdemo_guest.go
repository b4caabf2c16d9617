package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"ub/internal/attach"
	"ub/internal/guest"
	"ub/linux"
)

// vmEmpty is the loop around the system call that does nothing.
const vmEmpty = "getuid"

// vmLoops are those of bench/c/vmloops.c.
var vmLoops = []string{vmEmpty, "read-1-zero", "pread-64-tmpfs", "pwrite-64-tmpfs", "write-64-null", "lseek-read-64", "pipe-64"}

var loopLine = regexp.MustCompile(`(?m)^loop \S+ (\d+) (\d+) (\w+)$`)

// vmLoop measures one loop, without and with bypass.
func vmLoop(vm *guest.VM, f *vmDemoFlags, name string) (*vmRow, error) {
	rounds := f.rounds
	run := func(script string) (perCall float64, sum string, err error) {
		out, err := vmRun(vm, script)
		if err != nil {
			return 0, "", err
		}
		m := loopLine.FindStringSubmatch(out)
		if m == nil {
			return 0, "", fmt.Errorf("what is %q", out)
		}
		calls, _ := strconv.ParseFloat(m[1], 64)
		ns, _ := strconv.ParseFloat(m[2], 64)
		return ns / calls, m[3], nil
	}
	off, want, err := run(fmt.Sprintf("/vmloops %s %d", name, rounds))
	if err != nil {
		return nil, err
	}
	on, got, err := run(fmt.Sprintf("%s /vmloops %s %d", f.bypass("--stats-json /run/s.json"), name, rounds))
	if err != nil {
		return nil, err
	}
	out, err := vmRun(vm, "cat /run/s.json")
	if err != nil {
		return nil, err
	}
	var st attach.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		return nil, err
	}
	r := &vmRow{Workload: name, Unit: "call", Off: off, On: on, Equal: got == want, Calls: 1}
	r.counts(&st.Total)
	// Of the measured rounds: those of warming up run natively, for the most part.
	r.Avoid = min(1, float64(st.Total.Chained)/float64(rounds*callsOf(name)))
	return r, nil
}

func callsOf(loop string) int {
	if loop == "lseek-read-64" || loop == "pipe-64" {
		return 2
	}
	return 1
}

// counts takes what the module has counted.
func (r *vmRow) counts(s *linux.Stats) {
	r.Share, r.Chain, r.Losses = s.Share(), s.ChainLength(), s.ExitMiss+s.ExitFault+s.ExitStop
}

const vmNginxConf = `
daemon off; master_process off; worker_processes 1; pid /tmp/nginx.pid; error_log stderr crit;
events { worker_connections 64; }
http {
	access_log off; sendfile on; keepalive_requests 1000000;
	client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
	server { listen 127.0.0.1:8080; root /tmp/site; }
}
`

// vmServer is a server in the guest, with requests of one or more kinds.
type vmServer struct {
	name  string
	start string
	ready string // succeeds when it answers
	kinds []string
	warm  int    // how often load is made before it counts, a quarter of it each time, with bypass: without, once will do
	load  string // makes $N requests of kind $KIND, and prints "requests: n"
	same  string // prints answers, the same ones each time
}

var vmServers = []vmServer{
	{
		name:  "redis",
		start: "/usr/bin/redis-server --port 6379 --save '' --appendonly no --bind 127.0.0.1 --dir /tmp --loglevel warning",
		ready: "/usr/bin/redis-cli -p 6379 ping 2>/dev/null | grep -q PONG",
		kinds: []string{"get", "set"},
		warm:  50,
		load:  `/usr/bin/redis-benchmark -p 6379 -n $N -c 10 -d 64 -t $KIND -q >/tmp/load 2>&1 && echo "requests: $N"`,
		same:  `for i in $(seq 50); do echo "set k$i v$i"; echo "get k$i"; echo "incr n"; echo "lpush l $i"; done | /usr/bin/redis-cli -p 6379; echo "lrange l 0 -1" | /usr/bin/redis-cli -p 6379`,
	},
	{
		name:  "nginx",
		start: "/usr/sbin/nginx -c /nginx.conf",
		ready: "wget -q -O - http://127.0.0.1:8080/1k >/dev/null 2>&1",
		kinds: []string{"1k"},
		warm:  8,
		load: `/usr/bin/wrk -t 1 -c 4 -d $(((N + 9999) / 10000)) http://127.0.0.1:8080/$KIND >/tmp/load 2>&1
grep -q -E 'Non-2xx|Socket errors' /tmp/load && cat /tmp/load; sed -n 's/^ *\([0-9]*\) requests in.*/requests: \1/p' /tmp/load`,
		same: "for f in 1 1k 100k; do wget -q -O - http://127.0.0.1:8080/$f | md5sum; done",
	},
}

// script starts the server with what run has in front of it, makes load warm times, measures, and prints everything.
func (s *vmServer) script(run string, warm, n int) string {
	kinds := strings.Join(s.kinds, " ")
	return `mkdir -p /tmp/site; head -c 1 /bin/busybox >/tmp/site/1; head -c 1024 /bin/busybox >/tmp/site/1k; head -c 100000 /bin/busybox >/tmp/site/100k
` + run + " " + s.start + ` >/tmp/server.log 2>&1 & S=$!
i=0; until ` + s.ready + `; do sleep 0.1; i=$((i + 1)); [ $i = 300 ] && { cat /tmp/server.log; exit 1; }; done
NAME=` + s.name + `; [ $NAME = redis ] && NAME=redis-server
P=$(pidof $NAME | tr ' ' '\n' | sort -n | tail -n 1)
cpu() { cut -d ' ' -f 1 /proc/$P/schedstat; }
# They are brought up to date four times a second.
counts() { [ "` + run + `" = exec ] || { sleep 0.5; /ub status --json | tr -d '\n '; }; echo; }
echo "=== same"
{ ` + s.same + `; } | md5sum
for KIND in ` + kinds + `; do
	# In pieces, with sleep in between, so that whoever translates gets to it.
	for w in $(seq ` + strconv.Itoa(warm) + `); do N=` + strconv.Itoa(max(n/4, 1)) + `; { ` + s.load + `; } >/dev/null; sleep 0.2; done
	N=` + strconv.Itoa(n) + `
	echo "=== kind $KIND"; echo "before: $(cpu) $(counts)"
	` + s.load + `
	echo "after: $(cpu) $(counts)"
done
kill $P; wait $S; exit 0
`
}

var (
	sameLine = regexp.MustCompile(`(?s)=== same\n(\w{32})`)
	kindPart = regexp.MustCompile(`(?s)=== kind (\S+)\nbefore: (\d+) ([^\n]*)\n.*?requests: (\d+)\n.*?after: (\d+) ([^\n]*)\n`)
)

// sample is what one kind of requests has cost.
type vmSample struct {
	kind     string
	requests float64
	cpu      float64
	stats    linux.Stats // difference
}

func (s *vmServer) run(vm *guest.VM, run string, warm, n int) (same string, samples []vmSample, err error) {
	out, err := vmRun(vm, s.script(run, warm, n))
	if err != nil {
		return "", nil, err
	}
	m := sameLine.FindStringSubmatch(out)
	parts := kindPart.FindAllStringSubmatch(out, -1)
	if m == nil || len(parts) != len(s.kinds) {
		return "", nil, fmt.Errorf("what is\n%s", out)
	}
	for _, p := range parts {
		before, _ := strconv.ParseFloat(p[2], 64)
		after, _ := strconv.ParseFloat(p[5], 64)
		requests, _ := strconv.ParseFloat(p[4], 64)
		v := vmSample{kind: p[1], requests: requests, cpu: after - before}
		if requests == 0 {
			return "", nil, errors.New("no request was answered")
		}
		a, err := totalOf(p[3])
		if err != nil {
			return "", nil, err
		}
		b, err := totalOf(p[6])
		if err != nil {
			return "", nil, err
		}
		v.stats = b.Since(a)
		samples = append(samples, v)
	}
	return m[1], samples, nil
}

// totalOf reads what `ub status --json` has printed, if it has.
func totalOf(text string) (*linux.Stats, error) {
	if text = strings.TrimSpace(text); text == "" {
		return &linux.Stats{}, nil
	}
	var st moduleStatusJSON
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return nil, fmt.Errorf("ub status: %w: %s", err, text)
	}
	if len(st.Attached) != 1 {
		return nil, fmt.Errorf("ub status shows %d programs", len(st.Attached))
	}
	return &st.Attached[0].Total, nil
}

type moduleStatusJSON struct {
	Attached []attach.Status `json:"attached"`
}

// measure runs the server without and with bypass.
func (s *vmServer) measure(vm *guest.VM, f *vmDemoFlags) ([]vmRow, error) {
	n := f.requests
	want, off, err := s.run(vm, "exec", 1, n)
	if err != nil {
		return nil, err
	}
	got, on, err := s.run(vm, f.bypass("--tune translate-percent=0"), s.warm, n)
	if err != nil {
		return nil, fmt.Errorf("with bypass: %w", err)
	}
	var rows []vmRow
	for i := range off {
		st := &on[i].stats
		r := vmRow{
			Workload: s.name + " " + on[i].kind, Unit: "request", Equal: got == want,
			Off: off[i].cpu / off[i].requests, On: on[i].cpu / on[i].requests,
			Calls: float64(st.Hooks+st.Chained) / on[i].requests, Avoid: float64(st.Chained) / on[i].requests,
		}
		r.counts(st)
		rows = append(rows, r)
	}
	return rows, nil
}
