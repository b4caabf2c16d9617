// Package attach keeps processes of this machine's own kernel enrolled with the module: one process, what it executes
// later, and the processes that it starts. A unix socket in /run/ub shows how that goes, and ends it.
package attach

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"ub/linux"
)

// session is a *linux.Session; an interface for tests.
type session interface {
	Run(context.Context) error
	Status() linux.Status
	Close() error
}

// Group is a process and its descendants.
type Group struct {
	PID      int
	Children bool // follow the processes that it starts
	Log      *slog.Logger

	enrol    func(pid int) (session, error)
	children func(pid int) []int
	alive    func(pid int) bool
	began    time.Time

	mu       sync.Mutex
	sessions map[int]session
	failed   map[int]failure
	past     []linux.Status // of sessions that have ended, the last ones
	sum      linux.Stats    // of those
	wg       sync.WaitGroup
	kick     chan struct{} // a session has ended: perhaps because the process executes another program
}

// failure is about a process that could not be enrolled: in the middle of an exec, for instance, or it is not to be.
type failure struct {
	next  time.Time
	delay time.Duration
}

const (
	// poll is how often new children are looked for.
	poll = 50 * time.Millisecond
	// A process that could not be enrolled is left alone for so long, doubled each time.
	againMin = 5 * time.Millisecond
	againMax = 5 * time.Second
	// maxPast bounds what is remembered of processes that have ended.
	maxPast = 64
)

// New enrols a process. Run does the work.
func New(pid int, c linux.Config, children bool, log *slog.Logger) (*Group, error) {
	g := &Group{
		PID: pid, Children: children, Log: log,
		enrol: func(pid int) (session, error) {
			s, err := linux.Attach(pid, c, log.With("pid", pid))
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		children: childrenOf,
		alive:    alive,
	}
	return g, g.init()
}

func (g *Group) init() error {
	g.began = time.Now()
	g.sessions, g.failed = map[int]session{}, map[int]failure{}
	g.kick = make(chan struct{}, 1)
	s, err := g.enrol(g.PID)
	if err != nil {
		return err
	}
	g.sessions[g.PID] = s
	return nil
}

// Run serves the group until its first process has ended, or the context is done. When it returns, all processes run
// natively.
func (g *Group) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer g.wg.Wait()
	defer stop()
	g.mu.Lock()
	for pid, s := range g.sessions {
		g.serve(ctx, pid, s)
	}
	g.mu.Unlock()
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.kick:
		case <-t.C:
		}
		if !g.alive(g.PID) {
			return nil
		}
		g.look(ctx)
	}
}

// look enrols processes of the group that are not: new ones, and those that have executed another program.
func (g *Group) look(ctx context.Context) {
	pids := []int{g.PID}
	if g.Children {
		for i := 0; i < len(pids) && len(pids) < 4096; i++ {
			pids = append(pids, g.children(pids[i])...)
		}
	}
	now := time.Now()
	for _, pid := range pids {
		g.mu.Lock()
		_, has := g.sessions[pid]
		wait := now.Before(g.failed[pid].next)
		g.mu.Unlock()
		if has || wait {
			continue
		}
		s, err := g.enrol(pid)
		g.mu.Lock()
		if err != nil {
			f := g.failed[pid]
			f.delay = min(max(2*f.delay, againMin), againMax)
			f.next = now.Add(f.delay)
			g.failed[pid] = f
			if f.delay < poll {
				time.AfterFunc(f.delay, g.kickIt)
			}
			var busy *linux.BusyError
			if g.alive(pid) && !errors.As(err, &busy) {
				g.Log.Debug("not enrolled", "pid", pid, "error", err)
			}
		} else {
			delete(g.failed, pid)
			g.sessions[pid] = s
			g.serve(ctx, pid, s)
		}
		g.mu.Unlock()
	}
	g.mu.Lock()
	for pid := range g.failed {
		if !slices.Contains(pids, pid) {
			delete(g.failed, pid)
		}
	}
	g.mu.Unlock()
}

// serve runs a session in a goroutine of its own. g.mu is held.
func (g *Group) serve(ctx context.Context, pid int, s session) {
	g.wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			g.Log.Warn("bypass has ended", "pid", pid, "error", err)
		}
		st := s.Status()
		s.Close()
		g.mu.Lock()
		delete(g.sessions, pid)
		if len(g.past) == maxPast {
			g.past = g.past[1:]
		}
		g.past = append(g.past, st)
		g.sum.Add(&st.Stats)
		g.mu.Unlock()
		g.kickIt()
	})
}

// kickIt has Run look for processes now.
func (g *Group) kickIt() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// Status is what a group shows.
type Status struct {
	PID       int            `json:"pid"`
	Command   string         `json:"command"`
	Seconds   float64        `json:"seconds"`
	Total     linux.Stats    `json:"total"` // of all processes, ended ones included
	Processes []linux.Status `json:"processes"`
	Ended     []linux.Status `json:"ended"`
}

// Status returns how the group does.
func (g *Group) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := Status{PID: g.PID, Command: command(g.PID), Seconds: time.Since(g.began).Seconds(), Total: g.sum,
		Processes: []linux.Status{}, Ended: slices.Clone(g.past)}
	for _, pid := range slices.Sorted(maps.Keys(g.sessions)) {
		p := g.sessions[pid].Status()
		st.Processes = append(st.Processes, p)
		st.Total.Add(&p.Stats)
	}
	return st
}

var _ session = (*linux.Session)(nil)

func alive(pid int) bool {
	state, err := procState(pid)
	return err == nil && state != 'Z' && state != 'X' || errors.Is(err, os.ErrPermission)
}
