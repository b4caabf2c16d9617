package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ub/internal/identify"
	"ub/internal/launch"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how well bypass does, against its parameters",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchIdentifyCommand())
	return cmd
}

func benchIdentifyCommand() *cobra.Command {
	b := identify.Bench{}
	var what strings.Builder
	for _, e := range identify.All {
		fmt.Fprintf(&what, "\n  %-12s %s", e.Name, e.What)
	}
	cmd := &cobra.Command{
		Use:   "identify [flags] [EXPERIMENT...]",
		Short: "Experiments with the hot site identifier and the payoff controller",
		Long: `Run experiments, all if none is named. Each prints a table and writes charts (SVG) with their data (JSON).
They run programs in sandboxes one after the other (root, gcc; programs that are missing are left out)
and take some minutes; leave the machine alone meanwhile.
` + what.String(),
		Example: `  ub bench identify
  ub bench identify --quick phases
  ub bench identify --out /tmp/x thresholds`,
		ValidArgs: identify.Names(),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := launch.CheckHost(true); err != nil {
				return err
			}
			if b.UB, err = os.Executable(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			b.Tab, b.Log = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return b.Run(ctx, args)
		},
	}
	cmd.Flags().StringVarP(&b.Out, "out", "o", "out/identify", "write charts and data to `DIR`")
	cmd.Flags().BoolVar(&b.Quick, "quick", false, "shorter and fewer runs")
	return cmd
}
