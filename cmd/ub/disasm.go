package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ub/btc"
	"ub/internal/launch"
	"ub/internal/listing"
	"ub/path"
	"ub/sentry/machine"
	"ub/sentry/statfile"
)

// disasmFlags are the flags of `ub disasm`.
type disasmFlags struct {
	json    bool
	sandbox string
	limits  path.Limits
}

func disasmCommand() *cobra.Command {
	f := disasmFlags{limits: path.DefaultLimits}
	cmd := &cobra.Command{
		Use:   "disasm [flags] FILE ADDRESS|SYMBOL   or   ub disasm --sandbox ID [SITE]",
		Short: "Show a path, its translation and the verifier's verdict beside each other",
		Long: `Show what bypass makes of a piece of code: each instruction of the program, the code that translates
it, and what the verifier established about every instruction of that code.

For a file, the path that begins at an address or symbol of an ELF program or library is translated as
it would be in a sandbox that has not yet seen where indirect branches go. With --sandbox, the code that
a running sandbox uses is shown and verified anew; without SITE, its sites are listed.`,
		Example: `  ub disasm /bin/dd _start
  ub disasm /usr/lib/x86_64-linux-gnu/libc.so.6 read
  ub disasm --max-insts 40 ./prog 0x401136
  ub disasm --sandbox 4711             sites of the sandbox of the ` + "`ub run`" + ` with process id 4711
  ub disasm --sandbox 4711 0x44f2b7    one of them`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case f.sandbox == "" && len(args) != 2:
				return errors.New("which code? write `ub disasm FILE ADDRESS|SYMBOL` or `ub disasm --sandbox ID [SITE]`")
			case f.sandbox != "" && len(args) > 1:
				return errors.New("one site at a time: `ub disasm --sandbox ID [SITE]`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.sandbox != "" {
				return f.running(cmd.OutOrStdout(), args)
			}
			return f.file(cmd.OutOrStdout(), args[0], args[1])
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.StringVar(&f.sandbox, "sandbox", "", "the running sandbox: process id of its `ub run`, or its statistics file")
	fl.IntVar(&f.limits.MaxBlocks, "max-blocks", f.limits.MaxBlocks, "longest path, in basic blocks")
	fl.IntVar(&f.limits.MaxInsts, "max-insts", f.limits.MaxInsts, "longest path, in instructions")
	return cmd
}

// file lists the path of an ELF file that begins at what.
func (f *disasmFlags) file(w io.Writer, name, what string) error {
	if f.limits.MaxBlocks < 1 || f.limits.MaxInsts < 1 {
		return errors.New("--max-blocks and --max-insts must be at least 1")
	}
	prog, err := listing.OpenProgram(name)
	if err != nil {
		return err
	}
	defer prog.Close()
	addr, err := prog.Resolve(what)
	if err != nil {
		return err
	}
	p, err := path.Discover([]uint64{addr}, prog, nil, f.limits)
	if err != nil {
		return fmt.Errorf("%s at %#x: %w", name, addr, err)
	}
	l, err := listing.Of(fmt.Sprintf("%s %s", name, what), p, btc.Options{}, machine.SymOffsets())
	if err != nil {
		return fmt.Errorf("%s at %#x: %w", name, addr, err)
	}
	return f.print(w, l)
}

// running lists a site of a running sandbox, or the sites.
func (f *disasmFlags) running(w io.Writer, args []string) error {
	stat, err := statfile.Open(f.sandbox)
	if err != nil {
		p, err2 := launch.SandboxStat(f.sandbox)
		if err2 != nil {
			return err2
		}
		if stat, err = statfile.Open(p); err != nil {
			return err
		}
	}
	defer stat.Unmap()
	if len(args) == 0 {
		return f.sites(w, stat.Sites())
	}
	addr, err := strconv.ParseUint(args[0], 0, 64)
	if err != nil {
		return fmt.Errorf("%q is not an address: give a site as `ub disasm --sandbox %s` lists it", args[0], f.sandbox)
	}
	b := listing.FindBlob(stat.Blobs(), addr)
	if b == nil {
		return fmt.Errorf("no code for %#x in the sandbox's journal: `ub disasm --sandbox %s` lists the sites", addr, f.sandbox)
	}
	return f.print(w, listing.OfBlob(b, machine.SymOffsets()))
}

func (f *disasmFlags) sites(w io.Writer, sites []statfile.Site) error {
	if f.json {
		type row struct {
			Site     string `json:"site"`
			Space    uint32 `json:"space"`
			State    string `json:"state"`
			Entered  uint64 `json:"entered"`
			Bypassed uint64 `json:"bypassed"`
			Code     uint64 `json:"code_bytes"`
		}
		rows := make([]row, 0, len(sites))
		for _, s := range sites {
			rows = append(rows, row{fmt.Sprintf("%#x", s.Entry), s.Space, s.State.String(), s.Entered, s.Bypassed, s.CodeBytes})
		}
		return encode(w, rows)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SITE\tSPACE\tSTATE\tENTERED\tBYPASSED\tCODE")
	for _, s := range sites {
		fmt.Fprintf(t, "%#x\t%d\t%s\t%d\t%d\t%d\n", s.Entry, s.Space, s.State, s.Entered, s.Bypassed, s.CodeBytes)
	}
	return t.Flush()
}

func (f *disasmFlags) print(w io.Writer, l *listing.Listing) error {
	if f.json {
		return encode(w, l)
	}
	return l.Write(w)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
