// Command ub-bench measures what bypass gains and costs, always in one run with the baseline: native Linux, the sandbox
// without bypass and the sandbox with it take turns, and medians are shown. Rows also go to out/bench/NAME.json, one JSON
// object a line.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ub/internal/launch"
)

func main() {
	slog.SetDefault(slog.New(launch.LogHandler(os.Stderr)))
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	var b bencher
	root := &cobra.Command{
		Use:           "ub-bench",
		Short:         "Measure what bypass gains and costs (root)",
		Long:          "Measure what bypass gains and costs, side by side with native Linux and the sandbox without bypass (root).",
		Example:       "  ub-bench demo\n  ub-bench syscall --rounds 9 getpid pread-64",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&b.ub, "ub", "", "the ub to measure (default: beside this program)")
	root.PersistentFlags().StringVar(&b.out, "out", "out/bench", "directory for NAME.json")
	add := func(use, short string, rounds int, run func(ctx context.Context, args []string) error) *cobra.Command {
		cmd := &cobra.Command{
			Use:   use,
			Short: short,
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := b.setUp(forSandboxes); err != nil {
					return err
				}
				defer b.tearDown()
				return run(cmd.Context(), args)
			},
		}
		n := cmd.Flags().Int("rounds", rounds, "how often everything is measured; medians count")
		cmd.PreRunE = func(*cobra.Command, []string) error {
			if b.rounds = *n; b.rounds < 1 {
				return fmt.Errorf("--rounds is %d, must be at least 1", b.rounds)
			}
			return nil
		}
		root.AddCommand(cmd)
		return cmd
	}
	add("demo", "System calls and coreutils: native, sandbox, sandbox with bypass", 3, b.demo)
	add("syscall [WORKLOAD...]", "Nanoseconds per system call", 7, b.syscall)
	add("idle", "What bypass costs a program that makes no system calls", 15, b.idle)
	add("profile", "What `ub profile` costs the program that it watches", 21, b.profile)
	add("rss", "Memory of the sandbox without and with bypass", 3, b.rss)
	var f appsFlags
	cmd := add("apps [redis] [nginx]", "Requests per second of Redis and nginx, and what a request costs", 7, func(ctx context.Context, args []string) error {
		return b.apps(ctx, &f, args)
	})
	cmd.Flags().BoolVar(&f.full, "full", false, "more sizes and numbers of clients: takes longer than five minutes")
	cmd.Flags().Float64Var(&f.seconds, "seconds", 0.4, "length of a round in seconds")
	cmd.Flags().BoolVar(&f.same, "same", false, "measure nothing: compare the answers of both modes, byte by byte, under load")
	cmd.Flags().StringArrayVar(&f.tune, "tune", nil, "a parameter of bypass, `NAME=NUMBER`, as of `ub run` (repeatable)")
	var c codeFlags
	cmd = add("code [WORKLOAD...]", "Slow-down of translated code, and what each rule of the safety policy costs", 15, func(ctx context.Context, args []string) error {
		return b.code(ctx, &c, args)
	})
	cmd.Flags().BoolVar(&c.noRules, "no-rules", false, "do not measure the rules of the policy one by one")
	root.AddCommand(vmCommand(), b.vmDemoCommand())
	return root
}
