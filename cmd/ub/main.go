// Command ub runs programs in a gVisor sandbox with userspace bypass, and shows what bypass makes of them.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"ub/internal/launch"
)

func main() {
	slog.SetDefault(slog.New(launch.LogHandler(os.Stderr)))
	if err := rootCommand().Execute(); err != nil {
		slog.Error(err.Error())
		os.Exit(status(err))
	}
}

// status returns the exit status for an error: docker's, so that scripts can tell ub's failures from the program's.
func status(err error) int {
	var pe *launch.ProgramError
	if errors.As(err, &pe) {
		return pe.Status
	}
	return launch.StatusFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ub",
		Short: "Run programs in a sandbox whose system calls cost little",
		Long: `ub runs unmodified Linux programs in a gVisor sandbox. The short pieces of code between a program's
system calls are translated and run inside the sandbox's kernel, so that most system calls need no
switch between processes ("userspace bypass"). Results are the same; only time differs.`,
		Example: `  ub run -- ls -l /                       a program, in a sandbox
  ub run --stats -- dd if=/dev/zero of=/dev/null bs=64 count=1000000
  ub run --bypass=off -- ./server         the same sandbox without bypass, to compare
  ub top                                  what bypass does in it, live
  ub disasm /bin/dd main                  what bypass makes of a function`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists what there is", err, cmd.CommandPath())
	})
	root.AddCommand(runCommand(), topCommand(), profileCommand(), disasmCommand(), benchCommand(),
		attachCommand(), detachCommand(), statusCommand(), checkCommand(), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of ub and of the gVisor in it",
		Example: "  ub version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runsc, err := launch.FindRunsc()
			if err != nil {
				runsc = err.Error()
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ub %s\n", buildVersion())
			fmt.Fprintf(cmd.OutOrStdout(), "runsc-ub: %s\n", runsc)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "gVisor: %s\n", launch.GvisorVersion(runsc))
			}
			return nil
		},
	}
}

// Version is set when a release is built: -ldflags=-X=main.Version=...
var Version = ""

func buildVersion() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "development, " + s.Value
			}
		}
	}
	return "development"
}
