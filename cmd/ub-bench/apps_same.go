package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ub/bench/apps"
)

// sameTime is how long the answers of one server are compared.
const sameTime = 10 * time.Second

// appsSame compares the answers of servers without and with bypass.
func (b *bencher) appsSame(ctx context.Context, l apps.Launcher, what map[string]bool) error {
	say := func(name string, s apps.Same, on *apps.Server) {
		n := on.Counters()
		fmt.Printf("%s: %d answers, %d bytes, the same; with bypass, %s of %d system calls bypassed\n", name, s.Requests, s.Bytes,
			percent(shareOf(&n)), n.Syscalls())
	}
	if what["redis"] {
		var r []apps.Redis
		all, stop, err := servers(func(m apps.Mode) (*apps.Server, error) {
			s, err := l.StartRedis(ctx, m)
			r = append(r, s)
			return s.Server, err
		})
		if err != nil {
			return err
		}
		s, err := apps.SameRedis(ctx, r[0], r[1], sameTime)
		if err == nil {
			say("redis", s, all[on])
		}
		if serr := stop(); err == nil {
			err = serr
		}
		if err != nil {
			return err
		}
	}
	if what["nginx"] {
		sizes := []int{1, 1 << 10, 16<<10 + 1, 100_000, 256 << 10}
		dir := filepath.Join(b.dir, "same")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := apps.MakeSite(dir, sizes); err != nil {
			return err
		}
		var n []apps.Nginx
		all, stop, err := servers(func(m apps.Mode) (*apps.Server, error) {
			s, err := l.StartNginx(ctx, m, 2, dir)
			n = append(n, s)
			return s.Server, err
		})
		if err != nil {
			return err
		}
		s, err := apps.SameNginx(ctx, n[0], n[1], dir, sizes, sameTime)
		if err == nil {
			say("nginx", s, all[on])
		}
		if serr := stop(); err == nil {
			err = serr
		}
		if err != nil {
			return err
		}
	}
	return nil
}
