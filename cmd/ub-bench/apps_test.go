package main

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ub/bench/apps"
	"ub/internal/launch"
	btcmachine "ub/sentry/machine"
	"ub/sentry/statfile"
)

// launcher builds what runs servers, and skips the test where that cannot be.
func launcher(t *testing.T) apps.Launcher {
	t.Helper()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if os.Getuid() != 0 {
		t.Skip("sandboxes need root")
	}
	if err := btcmachine.Supported(); err != nil {
		t.Skip(err)
	}
	for _, f := range []string{"/usr/bin/redis-server", "/usr/bin/redis-benchmark", "/usr/sbin/nginx", "/usr/bin/wrk"} {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("%s is missing: run scripts/deps.sh", f)
		}
	}
	dir, err := os.MkdirTemp("", "ub-bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	build := func(name string) string {
		bin := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-w", "-o", bin, "ub/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
		return bin
	}
	if os.Getenv(launch.RunscVar) == "" {
		t.Setenv(launch.RunscVar, build("runsc-ub"))
	}
	return apps.Launcher{UB: build("ub"), Dir: dir}
}

const compareTime = 5 * time.Second

// TestRedisSame: with bypass, Redis answers the same bytes as without, under load.
func TestRedisSame(t *testing.T) {
	l := launcher(t)
	r := map[apps.Mode]apps.Redis{}
	for _, m := range []apps.Mode{apps.Off, apps.On} {
		s, err := l.StartRedis(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		defer stopServer(t, s.Server)
		r[m] = s
	}
	same, err := apps.SameRedis(t.Context(), r[apps.Off], r[apps.On], compareTime)
	if err != nil {
		t.Fatal(err)
	}
	judgeSame(t, same, r[apps.On].Server)
}

// TestNginxSame: the same of nginx.
func TestNginxSame(t *testing.T) {
	l := launcher(t)
	sizes := []int{1, 1 << 10, 16<<10 + 1, 100_000, 256 << 10}
	site := filepath.Join(l.Dir, "site")
	if err := os.Mkdir(site, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := apps.MakeSite(site, sizes); err != nil {
		t.Fatal(err)
	}
	n := map[apps.Mode]apps.Nginx{}
	for _, m := range []apps.Mode{apps.Off, apps.On} {
		s, err := l.StartNginx(t.Context(), m, 2, site)
		if err != nil {
			t.Fatal(err)
		}
		defer stopServer(t, s.Server)
		n[m] = s
	}
	same, err := apps.SameNginx(t.Context(), n[apps.Off], n[apps.On], site, sizes, compareTime)
	if err != nil {
		t.Fatal(err)
	}
	judgeSame(t, same, n[apps.On].Server)
}

func stopServer(t *testing.T, s *apps.Server) {
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func judgeSame(t *testing.T, same apps.Same, on *apps.Server) {
	t.Helper()
	c := on.Counters()
	t.Logf("%d answers, %d bytes; %d of %d system calls bypassed, %d times in translated code",
		same.Requests, same.Bytes, c[statfile.Bypassed], c.Syscalls(), c[statfile.ExitSyscall]+c[statfile.ExitMiss]+c[statfile.ExitStop]+c[statfile.ExitFault])
	if same.Requests < 100 {
		t.Errorf("only %d answers were compared", same.Requests)
	}
	if c.Syscalls() == 0 {
		t.Error("nothing was counted: was bypass on?")
	}
}

func TestPerRequest(t *testing.T) {
	total := &appTotal{
		requests: 1000, wall: time.Second, clientCPU: 100 * time.Millisecond,
		cpu:    apps.CPU{Sentry: 400 * time.Millisecond, Stub: 200 * time.Millisecond, Gofer: 50 * time.Millisecond},
		system: apps.System{Idle: time.Second, Steal: 100 * time.Millisecond, Busy: 900 * time.Millisecond},
	}
	total.counts[statfile.Native], total.counts[statfile.Bypassed], total.counts[statfile.Crossings] = 1000, 3000, 1100
	p := total.perRequest()
	want := perRequest{wall: 1000, sentry: 400, stub: 200, gofer: 50, client: 100, other: 150, idle: 1000, steal: 100, syscalls: 4, crossings: 1.1, share: 0.75}
	if p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
}

func TestWrkRounds(t *testing.T) {
	for _, c := range []struct {
		rounds          int
		seconds         float64
		wantR, wantSecs int
	}{{7, 0.4, 3, 1}, {1, 0.1, 1, 1}, {3, 1, 3, 1}, {4, 2, 4, 2}} {
		b, f := &bencher{rounds: c.rounds}, &appsFlags{seconds: c.seconds}
		if r, s := b.wrkRounds(f), f.wrkSeconds(); r != c.wantR || s != c.wantSecs {
			t.Errorf("%d rounds of %g s: %d of %d s, want %d of %d s", c.rounds, c.seconds, r, s, c.wantR, c.wantSecs)
		}
	}
}

func TestExtremes(t *testing.T) {
	v := []float64{2, 1, 3}
	if minOf(v) != 1 || maxOf(v) != 3 || !math.IsInf(minOf(nil), 1) || !math.IsInf(maxOf(nil), -1) {
		t.Error("minOf or maxOf is wrong")
	}
}
