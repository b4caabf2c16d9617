package attach

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ub/linux"
)

type fakeSession struct {
	pid int
	end chan struct{}
	w   *fakeWorld
}

func (s *fakeSession) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.end:
	}
	return nil
}

func (s *fakeSession) Status() linux.Status {
	return linux.Status{PID: s.pid, Stats: linux.Stats{Chained: 10}}
}

func (s *fakeSession) Close() error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	delete(s.w.open, s.pid)
	return nil
}

// fakeWorld is a tree of processes.
type fakeWorld struct {
	mu    sync.Mutex
	tree  map[int][]int
	open  map[int]*fakeSession
	made  int
	fails map[int]bool
}

func newFake(t *testing.T) (*fakeWorld, *Group) {
	w := &fakeWorld{tree: map[int][]int{1: nil}, open: map[int]*fakeSession{}, fails: map[int]bool{}}
	g := &Group{PID: 1, Children: true, Log: slog.New(slog.DiscardHandler)}
	g.enrol = func(pid int) (session, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.fails[pid] {
			return nil, errors.New("no")
		}
		if w.open[pid] != nil {
			t.Errorf("%d is enrolled twice", pid)
		}
		w.made++
		w.open[pid] = &fakeSession{pid: pid, end: make(chan struct{}), w: w}
		return w.open[pid], nil
	}
	g.children = func(pid int) []int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.tree[pid])
	}
	g.alive = func(pid int) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		_, ok := w.tree[pid]
		return ok
	}
	return w, g
}

func (w *fakeWorld) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func eventually(t *testing.T, w *fakeWorld, what string, f func() bool) {
	t.Helper()
	for range 500 {
		w.mu.Lock()
		ok := f()
		w.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestGroupFollows(t *testing.T) {
	w, g := newFake(t)
	if err := g.init(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- g.Run(t.Context()) }()
	w.with(func() { w.tree = map[int][]int{1: {2, 4}, 2: {3}, 3: nil, 4: nil}; w.fails[4] = true })
	eventually(t, w, "descendants", func() bool { return w.open[2] != nil && w.open[3] != nil && w.open[4] == nil })
	// It executes another program: the enrolment ends, and there is another one.
	w.with(func() { close(w.open[2].end) })
	eventually(t, w, "enrolled again", func() bool { return w.made == 4 && w.open[2] != nil })
	if st := g.Status(); len(st.Processes) != 3 || len(st.Ended) != 1 || st.Total.Chained != 40 {
		t.Errorf("%+v", st)
	}
	w.with(func() { delete(w.tree, 1) })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if w.with(func() {}); len(w.open) != 0 {
		t.Errorf("still enrolled: %v", w.open)
	}
}

func TestSocket(t *testing.T) {
	Dir = t.TempDir()
	if err := Detach(1); err == nil || !strings.Contains(err.Error(), "no bypass") {
		t.Errorf("nothing is attached: %v", err)
	}
	w, g := newFake(t)
	w.tree = map[int][]int{1: {2}, 2: nil}
	if err := g.init(); err != nil {
		t.Fatal(err)
	}
	done, ready := make(chan error), make(chan struct{})
	go func() { done <- Supervise(t.Context(), g, func() { close(ready) }) }()
	// From then on others find it.
	<-ready
	if all, err := List(); err != nil || len(all) != 1 {
		t.Fatalf("ready, but %+v, %v", all, err)
	}
	eventually(t, w, "enrolled", func() bool { return w.open[2] != nil })
	all, err := List()
	if err != nil || len(all) != 1 || all[0].PID != 1 || len(all[0].Processes) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := Detach(2); err == nil || !strings.Contains(err.Error(), "descendant of 1") {
		t.Errorf("a descendant: %v", err)
	}
	if _, err := Serve(g, nil); err == nil {
		t.Error("two servers for one process")
	}
	if err := Detach(1); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(w.open) != 0 {
		t.Error("still enrolled")
	}
	if all, err := List(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	// The socket of one that was killed is in nobody's way.
	if err := os.WriteFile(socketPath(1), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Serve(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestProc(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if !slices.Contains(childrenOf(os.Getpid()), cmd.Process.Pid) {
		t.Error("the child is not found")
	}
	if !alive(cmd.Process.Pid) {
		t.Error("the child is not alive")
	}
	cmd.Process.Kill()
	for range 100 {
		if !alive(cmd.Process.Pid) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if alive(cmd.Process.Pid) {
		t.Error("a zombie is alive")
	}
}
