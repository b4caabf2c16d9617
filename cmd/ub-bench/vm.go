package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ub/internal/guest"
)

// vmFlags are the flags of `ub-bench vm`.
type vmFlags struct {
	kernel   string
	module   string
	pti      bool
	count    bool
	cpus     int
	programs []string
	files    []string
	appendTo string
	timeout  time.Duration
	console  bool
}

func vmCommand() *cobra.Command {
	var f vmFlags
	cmd := &cobra.Command{
		Use:   "vm [flags] -- SCRIPT",
		Short: "Boot a kernel in a virtual machine, with the module, and run a shell script in it",
		Long: `Boot one of the kernels that scripts/kernels.sh has fetched in QEMU, with busybox, and run a shell
script in it. The module that --module names is built for that kernel and lies there as /ub.ko. The exit status is the
script's, or 1 when the kernel's log tells of trouble.`,
		Example: `  ub-bench vm -- uname -a
  ub-bench vm --kernel 6.12 --module linux/module -- 'insmod /ub.ko; dmesg | tail; rmmod ub'
  ub-bench vm --program /usr/bin/redis-server --file ./test:/test -- /test`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := runVM(cmd.Context(), &f, strings.Join(args, " "))
			if err == nil && status != 0 {
				os.Exit(status)
			}
			return err
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.kernel, "kernel", guest.Series[0], "`SERIES` of the kernel: "+strings.Join(guest.Series, " or "))
	cmd.Flags().StringVar(&f.module, "module", "", "build the module whose source is in `DIR`, and put it into the guest as /ub.ko")
	cmd.Flags().StringArrayVar(&f.programs, "program", nil, "put this machine's `PROGRAM` into the guest, with its libraries (repeatable)")
	cmd.Flags().StringArrayVar(&f.files, "file", nil, "put a file into the guest, `HOST:GUEST` (repeatable)")
	cmd.Flags().BoolVar(&f.pti, "pti", false, "page table isolation on")
	cmd.Flags().BoolVar(&f.count, "count", false, "the guest's clock counts instructions, a nanosecond each")
	cmd.Flags().IntVar(&f.cpus, "cpus", 1, "number of processors")
	cmd.Flags().StringVar(&f.appendTo, "append", "", "`WORDS` for the kernel's command line")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "for the script")
	cmd.Flags().BoolVar(&f.console, "console", false, "show the kernel's console on standard error")
	return cmd
}

func runVM(ctx context.Context, f *vmFlags, script string) (status int, err error) {
	k, err := guest.FindKernel(f.kernel)
	if err != nil {
		return 0, err
	}
	scratch, err := os.MkdirTemp("", "ub-vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	m, err := guest.NewImage(scratch)
	if err != nil {
		return 0, err
	}
	if f.module != "" {
		ko, err := k.BuildModule(f.module, scratch)
		if err != nil {
			return 0, err
		}
		if err := m.Add("/ub.ko", ko); err != nil {
			return 0, err
		}
	}
	for _, p := range f.programs {
		abs, err := filepath.Abs(p)
		if err != nil {
			return 0, err
		}
		if err := m.AddProgram(abs); err != nil {
			return 0, err
		}
	}
	for _, p := range f.files {
		host, to, ok := strings.Cut(p, ":")
		if !ok {
			return 0, fmt.Errorf("--file %s: write HOST:GUEST", p)
		}
		if err := m.Add(to, host); err != nil {
			return 0, err
		}
	}
	o := guest.Options{Kernel: k, Image: m, PTI: f.pti, Count: f.count, CPUs: f.cpus, Append: f.appendTo}
	if f.console {
		o.Console = os.Stderr
	}
	vm, err := guest.Boot(ctx, o)
	if err != nil {
		return 0, err
	}
	defer vm.Close()
	r, err := vm.Run(script, f.timeout)
	if r != nil {
		fmt.Print(r.Output)
	}
	var trouble *guest.TroubleError
	if errors.As(err, &trouble) {
		return 0, fmt.Errorf("status %d; %w", r.Status, err)
	}
	if err != nil {
		return 0, err
	}
	return r.Status, nil
}
