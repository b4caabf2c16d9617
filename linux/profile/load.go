package profile

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// tracer is the eBPF side: its programs and maps, in the kernel.
type tracer struct {
	coll *ebpf.Collection
	// follow are the links of the tracepoints for fork and exec. They are rare, so these stay.
	follow []link.Link
	// window are the links of the tracepoints for system calls, none between windows.
	window []link.Link
	self   uint32
	floor  uint64
	epoch  uint64 // of the last window
}

// spec describes programs and maps. Unless all, only processes in the map procs are looked at.
func spec(all bool, tgidOffset int16) *ebpf.CollectionSpec {
	s := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{
			mapControl: {Type: ebpf.Array, KeySize: 4, ValueSize: ctlSize, MaxEntries: 1},
			mapBlank:   {Type: ebpf.Array, KeySize: 4, ValueSize: valSize, MaxEntries: 1},
			mapSeen:    {Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1},
			mapThreads: {Type: ebpf.LRUHash, KeySize: 8, ValueSize: thSize, MaxEntries: maxThreads},
			mapSites:   {Type: ebpf.LRUHash, KeySize: keySize, ValueSize: valSize, MaxEntries: maxSites},
			mapDepths:  {Type: ebpf.LRUHash, KeySize: depthKeySize, ValueSize: 4, MaxEntries: maxDepths},
			mapProcs:   {Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: maxProcs},
		},
		Programs: map[string]*ebpf.ProgramSpec{},
	}
	if all {
		// Only forks and execs make entries then, and a process without one is looked at all the same.
		s.Maps[mapProcs].Type = ebpf.LRUHash
	}
	for n, m := range s.Maps {
		m.Name = "ub_" + n
	}
	for tracepoint, p := range map[string]*ebpf.ProgramSpec{
		"sys_enter":          {Instructions: sysEnter()},
		"sys_exit":           {Instructions: sysExit(all)},
		"sched_process_fork": {Instructions: sysFork(all, tgidOffset)},
		"sched_process_exec": {Instructions: sysExec(all)},
	} {
		p.Name = "ub_" + tracepoint
		p.Type = ebpf.Tracing
		p.AttachType = ebpf.AttachTraceRawTp
		p.AttachTo = tracepoint
		p.License = "GPL" // the helpers that read user memory and the name of a thread ask for it
		s.Programs[tracepoint] = p
	}
	return s
}

// load loads the programs. The tracepoints for fork and exec are attached, those of system calls not yet.
func load(all bool, self uint32) (*tracer, error) {
	_ = rlimit.RemoveMemlock() // before Linux 5.11 maps count; if it fails, so does what follows, with a better message
	offset, err := tgidOffset()
	if err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollection(spec(all, offset))
	if err != nil {
		return nil, fmt.Errorf("loading eBPF programs: %w", err)
	}
	t := &tracer{coll: coll, self: self}
	for _, name := range []string{"sched_process_fork", "sched_process_exec"} {
		l, err := t.attach(name)
		if err != nil {
			t.Close()
			return nil, err
		}
		t.follow = append(t.follow, l)
	}
	return t, nil
}

// tgidOffset asks the kernel's BTF where a task's thread group id is.
func tgidOffset() (int16, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return 0, fmt.Errorf("the kernel's types: %w", err)
	}
	var task *btf.Struct
	if err := kernel.TypeByName("task_struct", &task); err != nil {
		return 0, fmt.Errorf("the kernel's types: task_struct: %w", err)
	}
	for _, m := range task.Members {
		if m.Name == "tgid" {
			return int16(m.Offset.Bytes()), nil
		}
	}
	return 0, errors.New("the kernel's types: task_struct has no tgid")
}

func (t *tracer) attach(name string) (link.Link, error) {
	l, err := link.AttachTracing(link.TracingOptions{Program: t.coll.Programs[name]})
	if err != nil {
		return nil, fmt.Errorf("attaching to tracepoint %s: %w", name, err)
	}
	return l, nil
}

// open begins a window. Threads that are in a gap then are counted from their next system call on.
func (t *tracer) open() error {
	for _, name := range []string{"sys_enter", "sys_exit"} {
		l, err := t.attach(name)
		if err != nil {
			t.close()
			return err
		}
		t.window = append(t.window, l)
	}
	t.epoch++
	return t.setControl(t.epoch)
}

// shut ends what the window counts. It stays attached until close.
func (t *tracer) shut() error { return t.setControl(0) }

// close detaches.
func (t *tracer) close() {
	for _, l := range t.window {
		l.Close()
	}
	t.window = nil
}

func (t *tracer) isOpen() bool { return t.window != nil }

func (t *tracer) setControl(epoch uint64) error {
	c := control{Epoch: epoch, Floor: t.floor, Self: t.self}
	if err := t.coll.Maps[mapControl].Put(uint32(0), &c); err != nil {
		return fmt.Errorf("window: %w", err)
	}
	return nil
}

// Close removes everything from the kernel.
func (t *tracer) Close() {
	t.close()
	for _, l := range t.follow {
		l.Close()
	}
	t.coll.Close()
}

// enrol adds a process to those that are looked at, with all its threads.
func (t *tracer) enrol(tgid uint32) error {
	if err := t.coll.Maps[mapProcs].Put(tgid, &image{TGID: tgid}); err != nil {
		return fmt.Errorf("following process %d: %w", tgid, err)
	}
	return nil
}

// drop forgets a process that has ended.
func (t *tracer) drop(tgid uint32) { _ = t.coll.Maps[mapProcs].Delete(tgid) }

// image returns what a process runs.
func (t *tracer) image(tgid uint32) image {
	i := image{TGID: tgid}
	_ = t.coll.Maps[mapProcs].Lookup(tgid, &i) // without an entry, its first
	return i
}

// procs returns the processes in the map, with what they run.
func (t *tracer) procs() ([]uint32, []image, error) {
	return readAll[uint32, image](t.coll.Maps[mapProcs])
}

// sites returns all sites so far.
func (t *tracer) sites() ([]siteKey, []siteValue, error) {
	return readAll[siteKey, siteValue](t.coll.Maps[mapSites])
}

// threads returns what is known about threads.
func (t *tracer) threads() ([]uint64, []threadState, error) {
	return readAll[uint64, threadState](t.coll.Maps[mapThreads])
}

// seen returns the number of system calls so far on each CPU, of all programs.
func (t *tracer) seen() ([]uint64, error) {
	var n []uint64
	if err := t.coll.Maps[mapSeen].Lookup(uint32(0), &n); err != nil {
		return nil, fmt.Errorf("reading counters: %w", err)
	}
	return n, nil
}

// missed returns how often a program did not run, since the tracer was loaded. Newer kernels can preempt a program, and as
// long as one waits to go on, the same program does not run on that CPU for anybody else.
func (t *tracer) missed() uint64 {
	var n uint64
	for _, name := range []string{"sys_enter", "sys_exit"} {
		if info, err := t.coll.Programs[name].Info(); err == nil {
			m, _ := info.RecursionMisses() // 0 before Linux 5.12, which does not count them
			n += m
		}
	}
	return n
}

// readAll reads a map in pieces, so that it takes few system calls and little memory as long as the map has few elements.
func readAll[K, V any](m *ebpf.Map) (keys []K, values []V, err error) {
	const piece = 512
	var cursor ebpf.MapBatchCursor
	for {
		k, v := make([]K, piece), make([]V, piece)
		n, err := m.BatchLookup(&cursor, k, v, nil)
		keys, values = append(keys, k[:n]...), append(values, v[:n]...)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return keys, values, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading map %v: %w", m, err)
		}
	}
}
