package vm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ub/internal/attach"
	"ub/internal/guest"
)

// server is a server under load in the guest. The script starts it with $RUN in front of it, in the background, and then
// talks to it; what it says is compared.
type server struct {
	start string
	talk  string
	min   uint64
}

// redisServer answers questions with one answer each while others load it.
var redisServer = server{
	start: "/usr/bin/redis-server --port 6379 --save '' --appendonly no --bind 127.0.0.1 --daemonize no --dir /tmp/w --loglevel warning --io-threads 1",
	talk: `
cli="/usr/bin/redis-cli -p 6379"
for i in $(seq 100); do $cli ping 2>/dev/null | grep -q PONG && break; sleep 0.1; done
/usr/bin/redis-benchmark -p 6379 -n 4000 -c 5 -d 64 -t set,get,incr -q >bench 2>&1 &
B=$!
{
	for i in $(seq 150); do
		echo "set k$i value-$i"; echo "get k$i"; echo "incr n"; echo "append a $i,"; echo "lpush l $i"; echo "zadd z $i m$i"
	done
	echo "lrange l 0 -1"; echo "zrange z 0 -1 withscores"; echo "get a"; echo "strlen a"; echo "mget k1 k2 k3 nothing"
	echo "eval 'local s=0 for i=1,1000 do s=s+i*i end return s' 0"; echo "sort l limit 0 10 desc"; echo "get n"; echo "bad command"
} | $cli
wait $B
grep -c 'requests per second' bench | head -n 1
$cli dbsize
$cli shutdown nosave
`,
	min: 1000,
}

const nginxConf = `
daemon off; worker_processes 1; pid /tmp/w/nginx.pid; error_log stderr warn;
events { worker_connections 64; }
http {
	access_log /tmp/w/access.log; sendfile on; keepalive_requests 100000;
	client_body_temp_path /tmp/w/b; proxy_temp_path /tmp/w/p; fastcgi_temp_path /tmp/w/f; uwsgi_temp_path /tmp/w/u; scgi_temp_path /tmp/w/s;
	server { listen 127.0.0.1:8080; root /tmp/w/site; location /hello { return 200 "hello\n"; } }
}
`

var nginxServer = server{
	start: "/usr/sbin/nginx -c /tmp/w/nginx.conf",
	talk: `
for i in $(seq 100); do wget -q -O - http://127.0.0.1:8080/hello 2>/dev/null | grep -q hello && break; sleep 0.1; done
/usr/bin/wrk -t 1 -c 4 -d 5 http://127.0.0.1:8080/1k >bench 2>&1 &
B=$!
for i in $(seq 10); do for f in 1 1k 100k hello nothing; do wget -q -O - http://127.0.0.1:8080/$f 2>&1 | md5sum; done; done
wait $B
grep -E 'Non-2xx|Socket errors' bench
[ $(/usr/bin/wc -l <access.log) -gt 200 ] && echo served
# (A load that ends while it waits for an answer is logged with none.)
/usr/bin/cut -d ' ' -f 6- access.log | /usr/bin/sort | /usr/bin/uniq | grep -v wrk | grep -v '" 200 0 "-" "-"$' | grep -v '" 404'
kill -QUIT $(cat nginx.pid)
`,
	min: 20,
}

const makeSite = `
mkdir site; /usr/bin/head -c 1 /usr/bin/wc >site/1; /usr/bin/head -c 1024 /usr/bin/wc >site/1k; /usr/bin/head -c 100000 /usr/bin/redis-server >site/100k
cat >nginx.conf <<'END'` + nginxConf + "END\n"

func TestServers(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	t.Run("redis", func(t *testing.T) { redisServer.test(t, m, "") })
	t.Run("nginx", func(t *testing.T) { nginxServer.test(t, m, makeSite) })
}

func (s *server) test(t *testing.T, m *machine, prepare string) {
	const limit = 2 * time.Minute
	script := func(run string) string {
		return fmt.Sprintf("%s%s\n%s %s >server.log 2>&1 &\nS=$!\n%s\nwait $S\necho \"server: $?\"\ncat server.log\n", fresh, prepare, run, s.start, s.talk)
	}
	want := m.run(t, script("exec"), limit)
	if nativeOnly {
		compare(t, outcome{normal(want.Output), want.Status, 0}, m.outcome(t, script("exec"), limit))
		return
	}
	var got *guest.Result
	var st *attach.Status
	for try := 1; ; try++ { // as for programs
		got = m.run(t, script(guestPrograms+"/ub run --kernel=linux --tune guard=0 --tune controller=0 --tune min-rate=50 --tune hot-count=16 --stats-json /run/stats.json --"), limit)
		st = m.stats(t)
		t.Logf("%v, with bypass %v: %s", want.Took.Round(time.Millisecond), got.Took.Round(time.Millisecond), summary(st))
		compare(t, outcome{normal(want.Output), want.Status, 0}, outcome{normal(got.Output), got.Status, 0})
		if st.Total.Chained >= s.min || try == tries || t.Failed() {
			break
		}
	}
	if !strings.Contains(want.Output, "server: 0") {
		t.Errorf("the server did not end well:\n%s", tail(want.Output))
	}
	checkStats(t, st, s.min)
	if t.Failed() {
		t.Log(tail(got.Output))
	}
}

func (m *machine) outcome(t *testing.T, script string, limit time.Duration) outcome {
	r := m.run(t, script, limit)
	return outcome{normal(r.Output), r.Status, r.Took}
}

// normal leaves out what a server logs, with the times and process ids in it.
func normal(out string) string {
	head, _, _ := strings.Cut(out, "server: ")
	return head
}
