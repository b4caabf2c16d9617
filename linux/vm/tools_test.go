package vm

import (
	"strings"
	"testing"
)

// tools are programs of the distribution, which compute with files of the guest's own and tell what came out.
var tools = []program{
	{cmd: "/usr/bin/dd if=/usr/bin/redis-server of=out bs=512 status=none; /usr/bin/cksum out", min: 4000, core: true},
	{cmd: "/usr/bin/dd if=/dev/zero of=/dev/null bs=1 count=30000 status=none", min: 20000},
	{cmd: "/usr/bin/sha256sum /usr/sbin/nginx /usr/bin/wrk", min: 0},
	{cmd: "/usr/bin/od -An -tx1 -v -N 200000 /usr/bin/redis-server", min: 0},
	{cmd: "/usr/bin/base64 /usr/bin/gzip", min: 0},
	{cmd: "/usr/bin/sort -R --random-source=/usr/bin/gzip /etc/passwd /etc/group", min: 0},
	{cmd: "/usr/bin/tac /bin/busybox", min: 0},
	{cmd: "/usr/bin/wc /usr/bin/redis-server", min: 0},
	{cmd: "/usr/bin/seq 30000", min: 0},
	{cmd: "/usr/bin/tar -cf out -C / usr/bin/seq usr/bin/wc usr/bin/tar etc; /usr/bin/tar -tf out | /usr/bin/wc -l", min: 0},
	{cmd: "/usr/bin/gzip -1 -c /usr/bin/redis-cli", min: 0},
}

func TestTools(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "6.1", 1, "pti=on no5lvl")
	for _, p := range tools {
		t.Run(p.cmd, func(t *testing.T) { p.tool(t, m) })
	}
}

// tool compares checksums of the output: it may be long. What follows a ';' runs natively.
func (p *program) tool(t *testing.T, m *machine) {
	first, rest, _ := strings.Cut(p.cmd, ";")
	cmd := first + " >first; s=$?\n/usr/bin/cksum <first\n" + rest + "\n(exit $s)\n"
	want := m.native(t, cmd, programTime)
	p.bypassed(t, m, cmd, want)
}
