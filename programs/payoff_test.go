package programs

import (
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"

	"ub/hot"
	"ub/sentry/statfile"
)

// TestPayoffIsFollowed runs a program whose one gap becomes unprofitable, and profitable again, on command, and waits for the
// controller to see it. How soon it does depends on the machine's load; that it does, does not.
func TestPayoffIsFollowed(t *testing.T) {
	needSandbox(t)
	bin, err := compile("payoff.c", "-static")
	if err != nil {
		t.Fatal(err)
	}
	slots <- struct{}{}
	defer func() { <-slots }()
	s, argv := newSandbox(t, on, []string{bin})
	cmd := exec.Command(argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil || out.String() != "ok\n" {
			t.Errorf("%v: %s", err, tail(out.String()))
		}
		n := s.stats.Snapshot()
		t.Logf("%s", dump(&n))
	}()

	site, ok := await(func() (uint64, bool) {
		for _, g := range s.stats.Gaps() {
			if hot.State(g.State) == hot.Kept && g.Bypassed > 20_000 {
				return g.Site, true
			}
		}
		return 0, false
	})
	if !ok {
		t.Fatalf("the gap is not kept: %+v", s.stats.Gaps())
	}
	for range 2 {
		command(t, in, "b")
		if !awaitState(s.stats, site, hot.RolledBack, hot.Retired) {
			t.Fatalf("an unprofitable gap is not rolled back: %+v", s.stats.Gaps())
		}
		command(t, in, "g")
		if !awaitState(s.stats, site, hot.Kept) {
			t.Fatalf("a gap that pays again is not taken back: %+v", s.stats.Gaps())
		}
	}
}

func command(t *testing.T, w io.Writer, c string) {
	t.Helper()
	if _, err := io.WriteString(w, c); err != nil {
		t.Fatal(err)
	}
}

// awaitState waits until the site's gap, or that of one of its callers, is in one of the states, and none is kept unless
// that is one.
func awaitState(f *statfile.File, site uint64, states ...hot.State) bool {
	_, ok := await(func() (uint64, bool) {
		found := false
		for _, g := range f.Gaps() {
			if g.Site != site || hot.State(g.State) == hot.Split {
				continue
			}
			in := false
			for _, s := range states {
				in = in || hot.State(g.State) == s
			}
			if !in && hot.State(g.State) == hot.Kept {
				return 0, false
			}
			found = found || in
		}
		return 0, found
	})
	return ok
}

// await polls for up to 30 s.
func await(f func() (uint64, bool)) (uint64, bool) {
	for range 300 {
		if v, ok := f(); ok {
			return v, true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return 0, false
}
