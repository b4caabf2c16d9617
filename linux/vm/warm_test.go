package vm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ub/internal/attach"
	"ub/linux"
)

// warmServers are servers, and what makes load for a while. How often that must be done until their paths have grown depends on how
// fast the emulation is; that they have grown in the end does not.
var warmServers = []struct {
	name, prepare, start, load string
	chain                      float64 // the least mean length of chains then
}{
	{"nginx", makeSite + "sed -i 's/daemon off;/daemon off; master_process off;/; s/access_log .*log;/access_log off;/' nginx.conf", "/usr/sbin/nginx -c /tmp/w/nginx.conf",
		"/usr/bin/wrk -t 1 -c 4 -d 2 http://127.0.0.1:8080/1k", 20},
	{"redis", "", "/usr/bin/redis-server --port 6379 --save '' --appendonly no --bind 127.0.0.1 --loglevel warning",
		"/usr/bin/redis-benchmark -p 6379 -n 1000 -c 10 -d 64 -t get -q", 5},
}

// TestChainsGoOn: chains of a server end at each target that is not translated, at entries that find no place in the module's
// tables, and where vector instructions begin. Once its paths have grown nothing of the kind is left, and nine of ten system calls are bypassed.
func TestChainsGoOn(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "")
	for _, s := range warmServers {
		t.Run(s.name, func(t *testing.T) {
			out := m.must(t, fresh+s.prepare+`
`+ub+` run --kernel=linux --tune guard=0 --tune controller=0 --tune translate-percent=0 --tune min-rate=50 -- `+s.start+` >server.log 2>&1 & S=$!
sleep 3; H=0; C=0; G=0
for i in $(seq 60); do
	`+s.load+` >load.log 2>&1; sleep 0.2
	echo; echo "===$(`+ub+` status --json | tr -d '\n')"
	h=$H; c=$C
	eval $(`+ub+` status --json | tr -d ' \n' | sed 's/.*"total":{[^}]*"hooks":\([0-9]*\),[^}]*"chained":\([0-9]*\),.*/H=\1 C=\2/')
	# Nine of ten of this round, and it was a round; twice, since one may be good by chance before the paths have grown.
	[ $((C - c)) -gt 200 ] && [ $((C - c)) -gt $(((H - h + C - c) * 9 / 10)) ] && [ $(((H - h) * 20)) -lt $((C - c)) ] && G=$((G + 1)) || G=0
	[ $G -ge 2 ] && break
done
`+s.load+` >load.log 2>&1; sleep 0.5; echo; echo "===$(`+ub+` status --json | tr -d '\n')"
cat server.log; kill $S; wait $S; exit 0
`, 6*time.Minute)
			var last, before linux.Stats
			n := 0
			for line := range strings.Lines(out) {
				text, ok := strings.CutPrefix(line, "===")
				if !ok {
					continue
				}
				var st struct {
					Attached []attach.Status `json:"attached"`
				}
				if err := json.Unmarshal([]byte(text), &st); err != nil || len(st.Attached) != 1 {
					t.Fatalf("%v: %s", err, tail(out))
				}
				before, last = last, st.Attached[0].Total
				n++
			}
			d := last.Since(&before)
			t.Logf("after %d rounds %.1f %% are bypassed, in chains of %.1f; altogether %+v", n-1, 100*d.Share(), d.ChainLength(), last)
			if d.Share() < 0.9 || d.ChainLength() < s.chain {
				t.Errorf("of the last round: %+v\n%s", d, tail(out))
			}
			if last.Crowded != 0 {
				t.Errorf("%d entries found no place", last.Crowded)
			}
		})
	}
}
