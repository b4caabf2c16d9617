package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what to boot.
type Options struct {
	Kernel *Kernel
	Image  *Image
	// CPUs is 1 by default. Two share one thread of QEMU: with more, patching a hot kernel function can hang the guest,
	// whoever does it.
	CPUs     int
	MemoryMB int    // 768 by default
	PTI      bool   // page table isolation, which processors without Meltdown have off
	Append   string // more for the kernel's command line
	// Count makes the guest's clock count instructions: a nanosecond each, whatever the machine does meanwhile.
	Count bool
	// Emulate forbids KVM.
	Emulate bool
	Debug   bool      // for Trace
	Console io.Writer // gets the console's output as it comes, if not nil
}

// VM is a running guest. Its methods are for one goroutine at a time.
type VM struct {
	opts    Options
	dir     string
	cmd     *exec.Cmd
	line    net.Conn
	in      *bufio.Reader
	console console
	exited  chan struct{}
	err     error // why the guest cannot be used any more
}

// Result is what a job leaves behind.
type Result struct {
	Output string // standard output and error
	Status int    // as in a shell; StatusTimeout when time was up
	Log    string // what the kernel has said meanwhile
	Took   time.Duration
}

// StatusTimeout is the status of a job that was ended because its time was up.
const StatusTimeout = 124

// TroubleError says that the guest's kernel has complained.
type TroubleError struct{ Log string }

func (e *TroubleError) Error() string {
	lines := Trouble(e.Log)
	if len(lines) == 0 {
		return "the guest's kernel is tainted by something that went wrong\n" + tail(e.Log, 60)
	}
	return fmt.Sprintf("the guest's kernel says: %s\n%s", lines[0], tail(e.Log, 80))
}

// Supported says why no guest can be run here, or nil.
func Supported() error {
	if _, err := exec.LookPath(qemu); err != nil {
		return fmt.Errorf("%s is missing: run scripts/deps.sh", qemu)
	}
	for _, s := range Series {
		if _, err := FindKernel(s); err != nil {
			return err
		}
	}
	return nil
}

// Required tells whether a test without guests is a failure, not one to skip: `make test` fetches what they need, so there it is.
func Required() bool { return os.Getenv("UB_GUESTS") == "required" }

const qemu = "qemu-system-x86_64"

// kvmWorks tries to make a virtual machine. There are forms of KVM without the processor's help: they run only kernels
// made for them, and not these.
var kvmWorks = sync.OnceValue(func() bool {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !vmFlag.Match(cpu) {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	const createVM = 0xae01
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), createVM, 0)
	if errno != 0 {
		return false
	}
	unix.Close(int(fd))
	return true
})

var vmFlag = regexp.MustCompile(`(?m)^flags\s.*\b(vmx|svm)\b`)

// Accel is what runs guests here: "kvm" or "tcg", software emulation.
func (o *Options) Accel() string {
	if !o.Count && !o.Emulate && kvmWorks() {
		return "kvm"
	}
	return "tcg"
}

// Boot starts a guest and waits until it takes jobs.
func Boot(ctx context.Context, o Options) (*VM, error) {
	if o.CPUs == 0 {
		o.CPUs = 1
	}
	if o.MemoryMB == 0 {
		o.MemoryMB = 768
	}
	dir, err := os.MkdirTemp("", "ub-guest-")
	if err != nil {
		return nil, err
	}
	vm := &VM{opts: o, dir: dir, exited: make(chan struct{})}
	if err := vm.boot(ctx); err != nil {
		vm.Close()
		return nil, fmt.Errorf("booting %s: %w\n%s", o.Kernel.Release, err, tail(vm.console.text(), 40))
	}
	return vm, nil
}

func (vm *VM) boot(ctx context.Context) error {
	o := &vm.opts
	initrd, err := os.Create(filepath.Join(vm.dir, "initrd"))
	if err != nil {
		return err
	}
	_, err = o.Image.WriteTo(initrd)
	if cerr := initrd.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("initial RAM disk: %w", err)
	}
	socket := filepath.Join(vm.dir, "line")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer listener.Close()

	// No watchdog but the kernel's own, and those patient: an emulated processor may have to wait for a real one.
	cmdline := "console=ttyS0 loglevel=7 printk.devkmsg=on panic=-1 oops=panic nokaslr no_timer_check tsc=reliable random.trust_cpu=on "
	if o.PTI {
		cmdline += "pti=on "
	} else {
		cmdline += "pti=off "
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc",
		"-smp", fmt.Sprint(o.CPUs), "-m", fmt.Sprint(o.MemoryMB), "-kernel", o.Kernel.Image, "-initrd", initrd.Name(),
		"-append", cmdline + o.Append, "-serial", "stdio", "-chardev", "socket,id=line,path=" + socket, "-serial", "chardev:line",
	}
	switch {
	case o.Accel() == "kvm":
		args = append(args, "-accel", "kvm", "-cpu", "host")
	case o.Count:
		args = append(args, "-accel", "tcg", "-cpu", "max", "-icount", "shift=0,sleep=off")
	default:
		args = append(args, "-accel", "tcg,thread=single", "-cpu", "max")
	}
	if o.Debug {
		args = append(args, "-gdb", "unix:"+filepath.Join(vm.dir, "debug")+",server=on,wait=off")
	}
	vm.cmd = exec.Command(qemu, args...)
	out, err := vm.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var complaints strings.Builder
	vm.cmd.Stderr = &complaints
	if err := vm.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(vm.exited)
		vm.console.copy(out, o.Console)
		vm.cmd.Wait()
	}()

	type accepted struct {
		conn net.Conn
		err  error
	}
	ch := make(chan accepted, 1)
	go func() {
		c, err := listener.Accept()
		ch <- accepted{c, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	select {
	case a := <-ch:
		if a.err != nil {
			return a.err
		}
		vm.line, vm.in = a.conn, bufio.NewReader(a.conn)
	case <-vm.exited:
		return fmt.Errorf("%s: %s", qemu, strings.TrimSpace(complaints.String()))
	case <-ctx.Done():
		return ctx.Err()
	}
	stop := context.AfterFunc(ctx, func() { vm.line.SetReadDeadline(time.Now()) })
	defer stop()
	for {
		l, err := vm.in.ReadString('\n')
		if err != nil {
			vm.cmd.Process.Kill()
			<-vm.exited
			return fmt.Errorf("the guest does not answer: %w\n%s", err, complaints.String())
		}
		if l == "ready\n" {
			break
		}
	}
	stop()
	vm.line.SetReadDeadline(time.Time{})
	if log := vm.console.text(); len(Trouble(log)) > 0 {
		return &TroubleError{Log: log}
	}
	return nil
}

// Run runs a shell script in the guest. The error is not about the script's status: it says that the guest has died or
// that its kernel is in trouble (*TroubleError), and that it should not be used any more. There is a result nevertheless.
func (vm *VM) Run(script string, timeout time.Duration) (*Result, error) {
	if vm.err != nil {
		return nil, vm.err
	}
	began, logged := time.Now(), vm.console.len()
	r := &Result{Status: -1}
	tainted, err := vm.job(script, timeout, r)
	r.Took = time.Since(began)
	if err == nil {
		err = vm.console.await(logged, jobDone, 20*time.Second)
	} else {
		// A kernel that dies has something to say.
		vm.console.await(logged, "\x00", 3*time.Second)
	}
	r.Log = vm.console.from(logged)
	switch {
	case len(Trouble(r.Log)) > 0, err == nil && tainted&badTaint != 0:
		err = &TroubleError{Log: r.Log}
	case err != nil:
		err = fmt.Errorf("%w\n%s", err, tail(r.Log, 40))
	}
	vm.err = err
	return r, err
}

// jobDone is what the agent writes to the kernel's log when a job has ended: what comes before it belongs to the job.
const jobDone = "ub-guest: job done"

func (vm *VM) job(script string, timeout time.Duration, r *Result) (tainted int64, err error) {
	// What the guest's clock calls a second may be more when it counts instructions.
	slack := 60 * time.Second
	vm.line.SetDeadline(time.Now().Add(timeout + slack))
	defer vm.line.SetDeadline(time.Time{})
	if _, err := fmt.Fprintf(vm.line, "run %d %d\n%s", timeout.Milliseconds(), len(script), script); err != nil {
		return 0, err
	}
	var out strings.Builder
	defer func() { r.Output = out.String() }()
	for {
		l, err := vm.in.ReadString('\n')
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, fmt.Errorf("the guest has not answered for %v after the end of a job's time", slack)
			}
			return 0, fmt.Errorf("the guest is gone: %w", err)
		}
		var n int64
		if _, err := fmt.Sscanf(l, "out %d\n", &n); err == nil {
			if _, err := io.CopyN(&out, vm.in, n); err != nil {
				return 0, fmt.Errorf("the guest is gone: %w", err)
			}
			continue
		}
		if _, err := fmt.Sscanf(l, "exit %d %d\n", &r.Status, &tainted); err == nil {
			return tainted, nil
		}
		return 0, fmt.Errorf("what does the guest mean by %q", l)
	}
}

// Log is all that the console has shown.
func (vm *VM) Log() string { return vm.console.text() }

// Close ends the guest, and returns the error that has made it useless, if there is one.
func (vm *VM) Close() error {
	if vm.line != nil {
		vm.line.Close()
	}
	if vm.cmd != nil && vm.cmd.Process != nil {
		vm.cmd.Process.Kill()
		<-vm.exited
	}
	os.RemoveAll(vm.dir)
	return vm.err
}

func tail(s string, lines int) string {
	l := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}
