package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ub/bench"
	"ub/internal/guest"
)

// vmDemoFlags are the flags of `ub-bench vmdemo`.
type vmDemoFlags struct {
	kernels  []string
	module   string
	rounds   int
	requests int
	crossing float64
	nsInst   float64
	tune     []string
}

func (b *bencher) vmDemoCommand() *cobra.Command {
	var f vmDemoFlags
	cmd := &cobra.Command{
		Use:   "vmdemo",
		Short: "The kernel module in virtual machines: what is equal, and counts of what it saves",
		Long: `Build the kernel module, boot the distribution's kernel in a virtual machine that counts instructions, with
page table isolation off and on, and run loops of system calls, Redis and nginx in it, with bypass off and on:
equal results, crossings avoided, instructions per system call and per request.

These are counts from software emulation, not speeds. A model makes an estimate of them, with the time of a
crossing on this machine, or that of --crossing-ns.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return b.vmDemo(cmd.Context(), &f)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringSliceVar(&f.kernels, "kernel", guest.Series[:1], "`SERIES` of the kernels: "+strings.Join(guest.Series, ", "))
	fl.StringVar(&f.module, "module", "linux/module", "`DIR` of the module's source")
	fl.IntVar(&f.rounds, "loops", 8000, "measured rounds of each loop")
	fl.IntVar(&f.requests, "requests", 3000, "measured requests to each server")
	fl.Float64Var(&f.crossing, "crossing-ns", 0, "`time` of an empty system call for the estimate, in ns (default: measured on this machine)")
	fl.Float64Var(&f.nsInst, "ns-per-instruction", 0.3, "`time` of any other instruction for the estimate, in ns")
	fl.StringArrayVar(&f.tune, "tune", nil, "a parameter of bypass, `NAME=NUMBER`, as of ub run (repeatable); controller=1 has gaps run natively that do not pay")
	return cmd
}

// bypass is how a program is run with bypass, up to its own arguments: all that has code is bypassed, unless told otherwise.
func (f *vmDemoFlags) bypass(flags string) string {
	run := "/ub run --kernel=linux --tune guard=0 --tune controller=0 " + flags
	for _, t := range f.tune {
		run += " --tune '" + t + "'"
	}
	return run + " --"
}

// vmRow is one workload in one guest, with bypass off and on.
type vmRow struct {
	Bench    string `json:"bench"`
	Kernel   string `json:"kernel"`
	PTI      bool   `json:"pti"`
	Workload string `json:"workload"`
	// Unit is what counts are per: call or request.
	Unit   string  `json:"unit"`
	Off    float64 `json:"instructions_off"`
	On     float64 `json:"instructions_on"`
	Equal  bool    `json:"equal"`
	Calls  float64 `json:"calls"`   // system calls per unit
	Avoid  float64 `json:"avoided"` // crossings avoided per unit
	Share  float64 `json:"share"`
	Chain  float64 `json:"chain_length"`
	Losses uint64  `json:"misses_faults_stops"`
	// Estimate of the model: time per unit in ns.
	EstimateOff float64 `json:"estimate_off_ns"`
	EstimateOn  float64 `json:"estimate_on_ns"`
	Note        string  `json:"note"`
}

const vmNote = "counts from software emulation, not speeds"

func (b *bencher) vmDemo(ctx context.Context, f *vmDemoFlags) error {
	if err := b.setUp(guest.Supported); err != nil {
		return err
	}
	defer b.tearDown()
	where := "--crossing-ns"
	if f.crossing == 0 {
		f.crossing, where = hostCrossing(), "measured here"
	}
	fmt.Printf("The kernel module in a virtual machine: %s.\n", vmNote)
	fmt.Printf("Estimates: an empty system call takes %.0f ns (%s), any other instruction %.2f ns.\n", f.crossing, where, f.nsInst)
	var rows []vmRow
	for _, series := range f.kernels {
		for _, pti := range []bool{false, true} {
			got, err := b.vmGuest(ctx, f, series, pti)
			if err != nil {
				return fmt.Errorf("Linux %s, pti=%s: %w", series, onOff(pti), err)
			}
			progress("")
			printVM(got)
			rows = append(rows, got...)
		}
	}
	if err := b.writeVM(rows); err != nil {
		return err
	}
	for _, r := range rows {
		if !r.Equal {
			return fmt.Errorf("%s, Linux %s, pti=%s: results differ with bypass", r.Workload, r.Kernel, onOff(r.PTI))
		}
	}
	return nil
}

// vmImage makes what the guests boot.
func (b *bencher) vmImage(f *vmDemoFlags, k *guest.Kernel) (*guest.Image, error) {
	dir := filepath.Join(b.dir, k.Series)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m, err := guest.NewImage(dir)
	if err != nil {
		return nil, err
	}
	ko, err := k.BuildModule(f.module, dir)
	if err != nil {
		return nil, err
	}
	loops, err := bench.Build(b.dir, "vmloops", true)
	if err != nil {
		return nil, err
	}
	for to, host := range map[string]string{"/ub.ko": ko, "/ub": b.ub, "/vmloops": loops} {
		if err := m.Add(to, host); err != nil {
			return nil, err
		}
	}
	for _, p := range []string{"/usr/bin/redis-server", "/usr/bin/redis-benchmark", "/usr/bin/redis-cli", "/usr/sbin/nginx", "/usr/bin/wrk"} {
		if err := m.AddProgram(p); err != nil {
			return nil, err
		}
	}
	m.Write("/nginx.conf", []byte(vmNginxConf), 0o644)
	return m, nil
}

// vmGuest measures everything in one guest.
func (b *bencher) vmGuest(ctx context.Context, f *vmDemoFlags, series string, pti bool) ([]vmRow, error) {
	k, err := guest.FindKernel(series)
	if err != nil {
		return nil, err
	}
	progress("Linux %s, pti=%s: building", series, onOff(pti))
	img, err := b.vmImage(f, k)
	if err != nil {
		return nil, err
	}
	progress("Linux %s, pti=%s: booting", series, onOff(pti))
	vm, err := guest.Boot(ctx, guest.Options{Kernel: k, Image: img, PTI: pti, Count: true})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	// The clock of a kernel that has just booted is still being adjusted.
	if _, err := vmRun(vm, "insmod /ub.ko && sleep 8"); err != nil {
		return nil, err
	}
	var rows []vmRow
	var empty float64
	for _, w := range vmLoops {
		progress("Linux %s, pti=%s: %s", series, onOff(pti), w)
		r, err := vmLoop(vm, f, w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w, err)
		}
		if w == vmEmpty {
			empty = r.Off
		}
		rows = append(rows, *r)
	}
	for _, s := range vmServers {
		progress("Linux %s, pti=%s: %s", series, onOff(pti), s.name)
		r, err := s.measure(vm, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		rows = append(rows, r...)
	}
	for i := range rows {
		r := &rows[i]
		r.Bench, r.Kernel, r.PTI, r.Note = "vm-demo", k.Release, pti, vmNote
		r.EstimateOff, r.EstimateOn = estimate(r, empty, f.crossing, f.nsInst)
	}
	return rows, nil
}

// vmRun runs a script that must not fail.
func vmRun(vm *guest.VM, script string) (string, error) {
	r, err := vm.Run(script, 10*time.Minute) // by the guest's clock
	if err != nil {
		return "", err
	}
	if r.Status != 0 {
		return "", fmt.Errorf("status %d: %s", r.Status, strings.TrimSpace(r.Output))
	}
	return r.Output, nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// printVM prints the rows of one guest.
func printVM(rows []vmRow) {
	fmt.Printf("\nLinux %s, pti=%s (%s)\n\n", rows[0].Kernel, onOff(rows[0].PTI), vmNote)
	t := [][]string{{"instructions per", "off", "on", "change", "results", "crossings avoided", "bypassed", "chain", "estimate"}}
	for _, r := range rows {
		equal := "equal"
		if !r.Equal {
			equal = "DIFFER"
		}
		t = append(t, []string{
			r.Workload + ", " + r.Unit, fmt.Sprintf("%.0f", r.Off), fmt.Sprintf("%.0f", r.On), fmt.Sprintf("%+.0f %%", 100*(r.On-r.Off)/r.Off), equal,
			fmt.Sprintf("%.2f of %.2f", r.Avoid, r.Calls), fmt.Sprintf("%.0f %%", 100*r.Share), fmt.Sprintf("%.1f", r.Chain),
			fmt.Sprintf("%.2fx", r.EstimateOff/r.EstimateOn),
		})
	}
	table(t)
}

// writeVM writes out/bench/vm-demo.json.
func (b *bencher) writeVM(rows []vmRow) error {
	if len(rows) == 0 {
		return errNoValues
	}
	path := filepath.Join(b.out, "vm-demo.json")
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	e := json.NewEncoder(file)
	for _, r := range rows {
		// The machine's kernel is the host's, which has nothing to say here.
		if err := e.Encode(struct {
			vmRow
			Machine string `json:"machine"`
			CPU     string `json:"cpu"`
			Time    string `json:"time"`
		}{r, b.machine.Machine, b.machine.CPU, b.began.UTC().Format(time.RFC3339)}); err != nil {
			return err
		}
	}
	fmt.Printf("\nRows for programs: %s\n", path)
	return file.Close()
}
