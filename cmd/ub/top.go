package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ub/internal/launch"
	"ub/internal/top"
	"ub/sentry/statfile"
)

// topFlags are the flags of `ub top`.
type topFlags struct {
	once, json bool
	delay      time.Duration
	rows       int
}

func topCommand() *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top [flags] [ID]",
		Short: "Show live what bypass does in a running sandbox",
		Long: `Show the threads of a running sandbox and the gaps between its system calls: how often each is gone
through, whether it is bypassed, and why, and what that saves. ID is the process id of an ` + "`ub run`" + `, or a
statistics file; it may be left out while there is one sandbox.

The view is drawn anew every second until ^C. States of a gap: waiting for code; on trial; kept, since
bypass saves time; rolled back, since it does not, and tried again later; retired, after many such trials;
split, when its callers are looked at one by one.`,
		Example: `  ub top
  ub top 4711
  ub top --once --json 4711 | jq '.gaps[] | select(.state == "kept")'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.delay < 10*time.Millisecond || f.rows < 1 {
				return errors.New("--delay must be at least 10ms and --rows at least 1")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return f.show(ctx, cmd.OutOrStdout(), args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.once, "once", false, "show one view, of the time that --delay says, and end")
	fl.BoolVar(&f.json, "json", false, "print each view as one line of JSON")
	fl.DurationVarP(&f.delay, "delay", "d", time.Second, "`TIME` between views")
	fl.IntVarP(&f.rows, "rows", "n", 20, "show at most `N` threads and N gaps (not with --json)")
	return cmd
}

func (f *topFlags) show(ctx context.Context, w io.Writer, args []string) error {
	id, stat, err := openSandbox(args)
	if err != nil {
		return err
	}
	defer stat.Unmap()
	if c, err := stat.Config(); err == nil && c.Bypass == 0 {
		return fmt.Errorf("sandbox %s runs with --bypass=off: there is nothing to see", id)
	}
	redraw := !f.json && !f.once
	tick := time.NewTicker(f.delay)
	defer tick.Stop()
	if redraw {
		io.WriteString(w, "\x1b[2J")
	}
	for last := top.Read(stat); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := top.Read(stat)
		v := top.Compare(id, last, now)
		last = now
		if f.json {
			err = v.JSON(w)
		} else {
			err = draw(w, v, f.rows, redraw)
		}
		if err != nil || f.once {
			return err
		}
		if gone(id) {
			return nil
		}
	}
}

// draw writes a view, over the last one if redraw: each line clears what is left of an older one, and there is no
// flicker since the screen is never empty.
func draw(w io.Writer, v *top.View, rows int, redraw bool) error {
	var b bytes.Buffer
	if err := v.Table(&b, rows); err != nil {
		return err
	}
	text := b.String()
	if redraw {
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(w, text)
	return err
}

// openSandbox opens the statistics of the sandbox that args names, or of the only one.
func openSandbox(args []string) (id string, f *statfile.File, err error) {
	if len(args) == 0 {
		all, err := launch.Sandboxes()
		if err != nil {
			return "", nil, err
		}
		switch len(all) {
		case 0:
			return "", nil, errors.New("no sandbox is running: start one with `ub run`")
		case 1:
			args = all
		default:
			return "", nil, fmt.Errorf("there are several sandboxes, choose one: ub top %s", strings.Join(all, "|"))
		}
	}
	if f, err = statfile.Open(args[0]); err == nil {
		return args[0], f, nil
	}
	path, err2 := launch.SandboxStat(args[0])
	if err2 != nil {
		return "", nil, err2
	}
	f, err = statfile.Open(path)
	return args[0], f, err
}

// gone reports whether id names a sandbox that has ended. A statistics file that was kept has no end.
func gone(id string) bool {
	if _, err := launch.SandboxStat(id); err != nil {
		return !strings.ContainsRune(id, '/')
	}
	return false
}
