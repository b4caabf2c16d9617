// Package sentry is the gVisor platform "ub": systrap with userspace bypass. Importing it registers the platform, after
// which gVisor's runsc takes --platform=ub.
//
// The platform wraps systrap's. A thread of the program runs in a stub process as under systrap, until one of its sites
// is hot: then the path behind the site is translated, and Context.Switch runs the translation in the Sentry, in the
// program's mirror (package machine), and returns as if the program had trapped at its next syscall. Whatever BTC does
// not do ends at an instruction boundary with exact state, from which systrap goes on.
//
// # Objects
//
//	Platform      one per sandbox      systrap's platform, the machine, the engine
//	addressSpace  one per mm           what is mapped (mapSet), the window if it has one, the table of entries
//	threadContext one per task         systrap's context, the machine's thread, the identifier
//	engine        one per sandbox      sites, blobs, the worker that translates, invalidation, limits
//
// # Locks
//
//	addressSpace.mapMu   changes of one address space's mappings and window, across the host syscalls they take
//	  engine.mu          mapSets, sites, blobs, code ranges, tables (writing); held for short, never across a syscall
//	    machine's lock
//
// gVisor's own locks come before all of them: it calls MapFile and Unmap with the mm's locks held. Where the platform calls
// into gVisor (fileOf, sourceFiles) it holds none.
//
// Task goroutines in BTC hold no lock and need none to leave; waiting for them to leave (Window.Expel) while holding
// mapMu is therefore safe. Nobody waits for them holding engine.mu. The fast path of Switch takes no lock: it
// reads the table, which is immutable, through an atomic pointer.
package sentry

import (
	"fmt"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/fd"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	"gvisor.dev/gvisor/pkg/sentry/platform/systrap"

	"ub/sentry/machine"
	"ub/sentry/statfile"
)

// Name is the name under which the platform is registered.
const Name = "ub"

func init() {
	platform.Register(Name, constructor{})
}

type constructor struct{}

// supported is a variable for tests.
var supported = machine.Supported

// OpenDevice opens the file that --platform_device_path names: a statistics file (package statfile) with the sandbox's
// configuration, or nothing for the default configuration and private statistics.
func (constructor) OpenDevice(path string) (*fd.FD, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("platform %s: its device is a statistics file, such as `ub run` makes: %w", Name, err)
	}
	defer f.Close()
	if err := statfile.Check(f); err != nil {
		return nil, fmt.Errorf("platform %s: %s: %w; leave --platform_device_path out for the default configuration", Name, path, err)
	}
	return fd.NewFromFile(f)
}

// Requirements implements platform.Constructor.Requirements: those of systrap.
func (constructor) Requirements() platform.Requirements {
	return platform.Requirements{RequiresCapSysPtrace: true}
}

// PrecompiledSeccompInfo implements platform.Constructor.PrecompiledSeccompInfo. gVisor compiles its filters when it is
// built, for the platforms it knows then; ours are compiled when a sandbox starts.
func (constructor) PrecompiledSeccompInfo() []platform.SeccompInfo { return nil }

// New implements platform.Constructor.New.
func (constructor) New(opts platform.Options) (platform.Platform, error) {
	stats, err := openStats(opts.DeviceFile)
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", Name, err)
	}
	config, err := stats.Config()
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", Name, err)
	}
	if config.Bypass == 0 {
		// The baseline: systrap itself, with no cost of ours.
		log.Infof("Platform %s: bypass is off: plain systrap", Name)
		return systrap.New(opts)
	}
	if err := supported(); err != nil {
		return nil, fmt.Errorf("platform %s: no bypass here: %w; use `ub run --bypass=off`, or runsc's --platform=systrap", Name, err)
	}
	if config.Patching == 0 {
		opts.DisableSyscallPatching = true
	}
	beginPrepare()
	// systrap comes first: it forks the first stub process, which must not inherit the machine's mappings.
	inner, err := systrap.New(opts)
	if err != nil {
		return nil, err
	}
	<-prepared
	m, err := theMachine()
	if err != nil {
		return nil, fmt.Errorf("platform %s: no bypass here: %w; use `ub run --bypass=off`, or runsc's --platform=systrap", Name, err)
	}
	return newPlatform(inner, m, config, stats), nil
}

// theMachine is the process's machine. A sandbox that restores a checkpoint makes a second platform, when its seccomp
// filter forbids what making a machine takes; the first platform's is used on, whose address spaces are gone by then.
var theMachine = sync.OnceValues(func() (*machine.Machine, error) {
	return machine.New(machine.Options{})
})

// openStats maps the donated statistics file, which it takes over, or makes private ones.
func openStats(dev *fd.FD) (*statfile.File, error) {
	if dev == nil || dev.FD() < 0 { // gVisor passes -1 for none
		return statfile.Private(statfile.DefaultConfig())
	}
	f := dev.ReleaseToFile("statistics")
	defer f.Close()
	return statfile.Map(f)
}
