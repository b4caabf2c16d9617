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
	add := func(use, short string, rounds int, run func(ctx context.Context, args []string) error) {
		cmd := &cobra.Command{
			Use:   use,
			Short: short,
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := b.setUp(); err != nil {
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
	}
	add("demo", "System calls and coreutils: native, sandbox, sandbox with bypass", 3, b.demo)
	add("syscall [WORKLOAD...]", "Nanoseconds per system call", 7, b.syscall)
	add("idle", "What bypass costs a program that makes no system calls", 15, b.idle)
	add("profile", "What `ub profile` costs the program that it watches", 21, b.profile)
	add("rss", "Memory of the sandbox without and with bypass", 3, b.rss)
	return root
}
