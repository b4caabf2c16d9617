package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ub/internal/hostcheck"
	"ub/internal/launch"
	"ub/linux"
	"ub/linux/profile"
)

func checkCommand() *cobra.Command {
	var asJSON bool
	var parts []string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what of ub works on this machine, and what to do about the rest",
		Long: `Look at the processor, the kernel, its configuration and the module, and say which parts of ub work here:
sandboxes (ub run), the kernel module (ub run --kernel=linux, ub attach) and ub profile.

Exit status: 0 if at least one of the two kinds of bypass works, or all parts that --for names.`,
		Example: "  ub check\n  ub check --for module && modprobe ub\n  ub check --json | jq .works",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range parts {
				if !slices.Contains(hostcheck.Parts, p) {
					return fmt.Errorf("--for is one of %s, not %q", strings.Join(hostcheck.Parts, ", "), p)
				}
			}
			r := hostcheck.New(hostcheck.Read("/"), probe())
			var err error
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				err = r.Text(cmd.OutOrStdout())
			}
			if err == nil && !r.Good(parts) {
				os.Exit(1)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringArrayVar(&parts, "for", nil, "fail unless `PART` works: sandbox, module or profile (repeatable)")
	return cmd
}

// probe tries what cannot be read from files.
func probe() *hostcheck.Probes {
	p := &hostcheck.Probes{Sandbox: launch.CheckHost(true), Profile: profile.Check()}
	d, err := linux.Open()
	if err != nil {
		p.Module = err
		return p
	}
	defer d.Close()
	v, err := d.Version()
	p.Module = err
	if err == nil {
		p.Version = fmt.Sprintf("interface %d, %d hooks", v.ABI, v.Hooks)
		if v.Enabled == 0 {
			p.Version += ", switched off"
		}
	}
	return p
}
