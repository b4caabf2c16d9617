package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ub/internal/attach"
	"ub/linux"
)

// moduleStatus is what `ub status --json` prints.
type moduleStatus struct {
	Module *linux.Version  `json:"module"` // null when it is not loaded
	Why    string          `json:"why,omitempty"`
	Groups []attach.Status `json:"attached"`
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the kernel module, and which programs have bypass by it",
		Long: `Show whether the module ub is loaded, which processes have bypass by it, and what that does: system calls
reached without a crossing, and why translated code was left. (Sandboxes: ` + "`ub top`" + `.)`,
		Example: "  ub status\n  ub status --json | jq '.attached[].total.chained'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := readStatus()
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(st)
			}
			return st.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func readStatus() (*moduleStatus, error) {
	st := &moduleStatus{Groups: []attach.Status{}}
	if d, err := linux.Open(); err == nil {
		st.Module, err = d.Version()
		d.Close()
		if err != nil {
			return nil, err
		}
	} else {
		st.Why = err.Error()
	}
	groups, err := attach.List()
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s: %w: run it with sudo", attach.Dir, err)
	}
	if err != nil {
		return nil, err
	}
	st.Groups = append(st.Groups, groups...)
	return st, nil
}

func (st *moduleStatus) print(w io.Writer) error {
	if m := st.Module; m != nil {
		state := "on"
		if m.Enabled == 0 {
			state = "switched off"
		}
		fmt.Fprintf(w, "module: loaded, %s, interface %d; %d processes; %d of %d KiB of code in use\n",
			state, m.ABI, m.Enrolments, (m.Arena-m.ArenaFree)>>10, m.Arena>>10)
	} else {
		fmt.Fprintf(w, "module: %s\n", st.Why)
	}
	if len(st.Groups) == 0 {
		_, err := fmt.Fprintln(w, "no process has bypass")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "PID\tTIME\tPROCESSES\tNATIVE\tBYPASSED\tSHARE\tCHAIN\tMISSES\tFAULTS\tGAPS\tCODE KiB\t  COMMAND\t")
	for _, g := range st.Groups {
		s := &g.Total
		gaps, all := countGaps(g.Processes), uint64(0)
		for _, n := range gaps {
			all += n
		}
		fmt.Fprintf(t, "%d\t%v\t%d\t%d\t%d\t%.0f%%\t%.1f\t%d\t%d\t%d/%d\t%d\t  %s\t\n", g.PID, time.Duration(g.Seconds)*time.Second, len(g.Processes),
			s.Hooks, s.Chained, 100*s.Share(), s.ChainLength(), s.ExitMiss, s.ExitFault, gaps["kept"], all, s.CodeBytes>>10, shorten(g.Command, 40))
	}
	return t.Flush()
}

// countGaps counts the gaps of processes by their state.
func countGaps(ps []linux.Status) map[string]uint64 {
	n := map[string]uint64{}
	for i := range ps {
		for _, g := range ps[i].Gaps {
			n[g.State]++
		}
	}
	return n
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// printModuleStats prints the counts of a program that has run, as `ub run --stats` does.
func printModuleStats(w io.Writer, g *attach.Status) error {
	s := &g.Total
	gaps := countGaps(slices.Concat(g.Processes, g.Ended))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range []struct {
		name string
		n    uint64
		text string
	}{
		{"native", s.Hooks, "system calls that came from user mode (those that the module watches)"},
		{"bypassed", s.Chained, fmt.Sprintf("reached without a crossing: %.1f %%", 100*s.Share())},
		{"chains", s.Chains, fmt.Sprintf("of %.1f bypassed calls", s.ChainLength())},
		{"misses", s.ExitMiss, "jumps to where there was no code"},
		{"stops", s.ExitStop, "instructions that are not translated"},
		{"faults", s.ExitFault, "accesses left to the processor"},
		{"interrupted", s.ExitFuel, "times a thread was asked to leave"},
		{"ended", s.EndNoEntry, "chains, for want of code behind a system call"},
		{"", s.EndSignal + s.EndRestart, "by signals"},
		{"", s.EndWork, "because seccomp, ptrace, audit or tracing wants the next call"},
		{"", s.EndNever, "at calls that are never bypassed"},
		{"", s.EndGate, "before gaps that run natively: without gain, on trial, or compared"},
		{"gaps", gaps["kept"], fmt.Sprintf("are bypassed since that saves time; %d on trial, %d rolled back", gaps["trial"], gaps["rolled back"]+gaps["retired"])},
		{"blobs", s.Installs, fmt.Sprintf("pieces of code; %d refused, %d dropped since their source changed", s.Refused, s.Invalidated)},
	} {
		fmt.Fprintf(t, "%s\t%d\t%s\n", r.name, r.n, r.text)
	}
	return t.Flush()
}
