package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ub/bench/apps"
	"ub/internal/report"
	"ub/sentry/statfile"
)

// appsFlags are the flags of `ub-bench apps`.
type appsFlags struct {
	full    bool
	seconds float64
	same    bool
	tune    []string
}

// appModes take turns. Both servers of a workload are there all the time, one of them idle.
var appModes = []mode{off, on}

// appCell is one workload of one server, and what it measured.
type appCell struct {
	program, name string
	server        map[mode]*apps.Server
	// run puts load on the server of mode m. perSecond is what that server did last, 0 at first, when it warms up only.
	run func(ctx context.Context, m mode, perSecond float64) (apps.Load, error)

	perSecond map[mode][]float64
	paired    []float64 // on / off of each round
	total     map[mode]*appTotal
}

// appTotal adds up the rounds of one cell in one mode.
type appTotal struct {
	requests  float64
	wall      time.Duration
	cpu       apps.CPU
	clientCPU time.Duration
	system    apps.System
	counts    statfile.Snapshot
}

func (b *bencher) apps(ctx context.Context, f *appsFlags, args []string) error {
	what := map[string]bool{}
	for _, a := range args {
		if a != "redis" && a != "nginx" {
			return fmt.Errorf("no server %q: there are redis and nginx", a)
		}
		what[a] = true
	}
	if len(what) == 0 {
		what["redis"], what["nginx"] = true, true
	}
	l := apps.Launcher{UB: b.ub, Dir: b.dir}
	for _, t := range f.tune {
		l.Flags = append(l.Flags, "--tune="+t)
	}
	// The sandbox's file server may run as somebody else.
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if f.same {
		return b.appsSame(ctx, l, what)
	}
	b.heading(fmt.Sprintf("Servers in the sandbox, without and with bypass; medians of at most %d alternating rounds of %g s (nginx: %d of %d s).\nThe client runs natively, over loopback",
		b.rounds, f.seconds, b.wrkRounds(f), f.wrkSeconds()))
	crossing, err := b.crossingCost(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("A crossing with a getpid: %.2f µs.\n\n", crossing/1000)
	var rows []row
	for _, s := range []struct {
		name  string
		start func(context.Context, apps.Launcher, *appsFlags) ([]*appCell, func() error, error)
		limit time.Duration
	}{{"redis", b.redisCells, 175 * time.Second}, {"nginx", b.nginxCells, 85 * time.Second}} {
		if !what[s.name] {
			continue
		}
		cells, stop, err := s.start(ctx, l, f)
		if err != nil {
			return err
		}
		rounds := b.rounds
		if s.name == "nginx" {
			rounds = b.wrkRounds(f)
		}
		err = measureCells(ctx, cells, rounds, f.limit(s.limit))
		if err == nil {
			rows = append(rows, b.printCells(cells, crossing)...)
			err = printSites(cells)
		}
		if serr := stop(); err == nil {
			err = serr
		}
		if err != nil {
			return err
		}
	}
	return b.write("apps", rows)
}

// wrk's unit is a second: rounds that are meant to be shorter become fewer instead.
func (f *appsFlags) wrkSeconds() int { return max(1, int(math.Round(f.seconds))) }

func (b *bencher) wrkRounds(f *appsFlags) int {
	return max(1, int(math.Round(float64(b.rounds)*f.seconds/float64(f.wrkSeconds()))))
}

// limit is the time for a server's rounds: on a slow or busy machine there are fewer of them, so that all of it stays
// under five minutes.
func (f *appsFlags) limit(d time.Duration) time.Duration {
	if f.full {
		return noLimit
	}
	return d
}

// servers starts the server in both modes.
func servers(start func(m apps.Mode) (*apps.Server, error)) (map[mode]*apps.Server, func() error, error) {
	all := map[mode]*apps.Server{}
	stop := func() error {
		var first error
		for _, m := range appModes {
			if s := all[m]; s != nil {
				if err := s.Stop(); first == nil {
					first = err
				}
			}
		}
		return first
	}
	for _, m := range appModes {
		s, err := start(apps.Mode(m))
		if err != nil {
			stop()
			return nil, nil, err
		}
		all[m] = s
	}
	return all, stop, nil
}

// warmSeconds is for how long, about, redis-benchmark warms up a cell.
const warmSeconds = 0.3

func (b *bencher) redisCells(ctx context.Context, l apps.Launcher, f *appsFlags) ([]*appCell, func() error, error) {
	redis := map[mode]apps.Redis{}
	all, stop, err := servers(func(m apps.Mode) (*apps.Server, error) {
		r, err := l.StartRedis(ctx, m)
		redis[mode(m)] = r
		return r.Server, err
	})
	if err != nil {
		return nil, nil, err
	}
	sizes, clients := []int{1, 1024, 16384}, []int{1, 50}
	if f.full {
		sizes, clients = []int{1, 64, 1024, 4096, 16384}, []int{1, 10, 50}
	}
	var cells []*appCell
	for _, op := range []string{"SET", "GET"} {
		for _, size := range sizes {
			for _, c := range clients {
				for _, p := range []int{1, 16} {
					load := apps.RedisLoad{Op: op, Size: size, Clients: c, Pipeline: p}
					cells = append(cells, &appCell{program: "redis", name: load.String(), server: all,
						run: func(ctx context.Context, m mode, perSecond float64) (apps.Load, error) {
							n := perSecond * f.seconds
							if perSecond == 0 {
								if err := redis[m].Fill(size); err != nil {
									return apps.Load{}, err
								}
								n = warmSeconds * 10_000 * float64(p)
							}
							if op == "GET" {
								if err := redis[m].Fill(size); err != nil {
									return apps.Load{}, err
								}
							}
							return redis[m].Run(ctx, load, int(n))
						}})
				}
			}
		}
	}
	return cells, stop, nil
}

func (b *bencher) nginxCells(ctx context.Context, l apps.Launcher, f *appsFlags) ([]*appCell, func() error, error) {
	sizes := []int{1 << 10, 16 << 10, 64 << 10, 256 << 10}
	dir := filepath.Join(b.dir, "site")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	if err := apps.MakeSite(dir, sizes); err != nil {
		return nil, nil, err
	}
	var cells []*appCell
	var stops []func() error
	stop := func() error {
		var first error
		for _, s := range stops {
			if err := s(); first == nil {
				first = err
			}
		}
		return first
	}
	for _, workers := range []int{1, 2} {
		nginx := map[mode]apps.Nginx{}
		all, s, err := servers(func(m apps.Mode) (*apps.Server, error) {
			n, err := l.StartNginx(ctx, m, workers, dir)
			nginx[mode(m)] = n
			return n.Server, err
		})
		if err != nil {
			stop()
			return nil, nil, err
		}
		stops = append(stops, s)
		for _, size := range sizes {
			load := apps.NginxLoad{Size: size, Workers: workers, Clients: 16}
			cells = append(cells, &appCell{program: "nginx", name: load.String(), server: all,
				run: func(ctx context.Context, m mode, _ float64) (apps.Load, error) {
					return nginx[m].Run(ctx, load, f.wrkSeconds())
				}})
		}
	}
	return cells, stop, nil
}

// measureCells measures all cells, round by round, at least once. It begins no other round that would take it beyond limit
// if it were as long as the last.
func measureCells(ctx context.Context, cells []*appCell, rounds int, limit time.Duration) error {
	began := time.Now()
	for _, c := range cells {
		c.perSecond, c.total = map[mode][]float64{}, map[mode]*appTotal{}
		for _, m := range appModes {
			c.total[m] = &appTotal{}
		}
	}
	last := map[*appCell]map[mode]float64{}
	for round := range rounds {
		roundBegan := time.Now()
		for i, c := range cells {
			if round == 0 {
				last[c] = map[mode]float64{}
				// redis-benchmark is told how many requests to send: for that their speed must be known. It also
				// lets bypass find its sites. For wrk, whose unit is a second, that would take too long.
				for _, m := range appModes {
					if c.program != "redis" {
						continue
					}
					load, err := c.run(ctx, m, 0)
					if err != nil {
						return err
					}
					last[c][m] = load.PerSecond
				}
			}
			for k := range appModes {
				// A different one begins each time, so that a slow change of the machine's speed favours none.
				m := appModes[(k+round+i)%len(appModes)]
				progress("round %d of %d, %s %s, %s", round+1, rounds, c.program, c.name, describe(m))
				load, err := c.measure(ctx, m, last[c][m])
				if err != nil {
					return fmt.Errorf("%s %s, %s: %w", c.program, c.name, describe(m), err)
				}
				last[c][m] = load.PerSecond
				c.perSecond[m] = append(c.perSecond[m], load.PerSecond)
			}
			c.paired = append(c.paired, last[c][on]/last[c][off])
		}
		if time.Since(began)+time.Since(roundBegan) > limit {
			break
		}
	}
	progress("")
	return nil
}

// measure does one round of a cell in mode m.
func (c *appCell) measure(ctx context.Context, m mode, perSecond float64) (apps.Load, error) {
	s, t := c.server[m], c.total[m]
	counts := s.Counters()
	cpu, err := s.CPU()
	if err != nil {
		return apps.Load{}, err
	}
	system, err := apps.SystemCPU()
	if err != nil {
		return apps.Load{}, err
	}
	load, err := c.run(ctx, m, perSecond)
	if err != nil {
		return load, err
	}
	cpu2, err := s.CPU()
	if err != nil {
		return load, err
	}
	system2, err := apps.SystemCPU()
	if err != nil {
		return load, err
	}
	if err := s.Check(); err != nil {
		return load, err
	}
	d := cpu2.Sub(cpu)
	t.cpu.Sentry += d.Sentry
	t.cpu.Stub += d.Stub
	t.cpu.Gofer += d.Gofer
	y := system2.Sub(system)
	t.system.Idle += y.Idle
	t.system.Steal += y.Steal
	t.system.Busy += y.Busy
	t.requests += float64(load.Requests)
	t.wall += load.Wall
	t.clientCPU += load.ClientCPU
	for i, v := range s.Counters() {
		t.counts[i] += v - counts[i]
	}
	return load, nil
}

// crossingCost measures nanoseconds of a system call that does nothing, in the sandbox without bypass.
func (b *bencher) crossingCost(ctx context.Context) (float64, error) {
	static, _, err := b.build("syscalls")
	if err != nil {
		return 0, err
	}
	var all []float64
	for range 3 {
		s, err := b.runSyscalls(ctx, off, "crossings", static, []string{"getpid"})
		if err != nil {
			return 0, err
		}
		all = append(all, s[0].ns)
	}
	return median(all), nil
}

// ratio is how much faster bypass is: the median of the rounds, in each of which the two were neighbours.
func (c *appCell) ratio() float64 { return median(c.paired) }

// perRequest is what a request costs in one mode.
type perRequest struct {
	wall                        float64 // µs, by the clock
	sentry, stub, gofer, client float64 // µs of processors
	other                       float64 // µs of processors: what has nothing to do with it, and the kernel's own threads
	idle, steal                 float64 // µs of processors
	syscalls, crossings, misses float64
	stops, faults               float64
	share                       float64
}

// server is the processor time of the sandbox: on a machine that does other things as well, it says more than requests per
// second do.
func (p *perRequest) server() float64 { return p.sentry + p.stub + p.gofer }

func (t *appTotal) perRequest() perRequest {
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / t.requests }
	n := func(c statfile.Counter) float64 { return float64(t.counts[c]) / t.requests }
	p := perRequest{
		wall: us(t.wall), sentry: us(t.cpu.Sentry), stub: us(t.cpu.Stub), gofer: us(t.cpu.Gofer), client: us(t.clientCPU),
		idle: us(t.system.Idle), steal: us(t.system.Steal),
		syscalls: n(statfile.Native) + n(statfile.Bypassed), crossings: n(statfile.Crossings),
		misses: n(statfile.MissUnknown), stops: n(statfile.ExitStop), faults: n(statfile.ExitFault),
		share: report.Share(t.counts[statfile.Bypassed], t.counts.Syscalls()),
	}
	p.other = max(0, us(t.system.Busy)-p.sentry-p.stub-p.client-p.gofer)
	return p
}

// bypassing returns the servers with bypass.
func bypassing(cells []*appCell) []*apps.Server {
	var out []*apps.Server
	for _, c := range cells {
		if s := c.server[on]; !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func shareOf(n *statfile.Snapshot) float64 { return report.Share(n[statfile.Bypassed], n.Syscalls()) }
