package sentry

import (
	pkgcontext "gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	"gvisor.dev/gvisor/pkg/sentry/platform/systrap"

	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/target"
)

// Platform is systrap with userspace bypass. It implements platform.Platform.
type Platform struct {
	*systrap.Systrap

	config   statfile.Config
	stats    *statfile.File
	counters *statfile.Counters
	engine   *engine
	threads  func() (btcThread, error)
}

func newPlatform(inner *systrap.Systrap, m *machine.Machine, config statfile.Config, stats *statfile.File) *Platform {
	p := &Platform{
		Systrap:  inner,
		config:   config,
		stats:    stats,
		counters: stats.Counters(),
		engine:   newEngine(realArena{m}, config, stats),
		threads: func() (btcThread, error) {
			t, err := m.NewThread()
			if err != nil {
				return nil, err // not a nil *Thread in an interface
			}
			return t, nil
		},
	}
	p.engine.translate = translateFor(m.MaxVec())
	stats.SetTicksPerMicro(ticksPerMicro())
	go p.engine.work() // S/R-SAFE: has no state of the program's
	return p
}

// MaxUserAddress implements platform.Platform.MaxUserAddress: programs are loaded within the window's size, so that
// every address of theirs has its place in a mirror.
func (p *Platform) MaxUserAddress() hostarch.Addr {
	return min(p.Systrap.MaxUserAddress(), target.WindowSize)
}

// NewAddressSpace implements platform.Platform.NewAddressSpace.
func (p *Platform) NewAddressSpace() (platform.AddressSpace, error) {
	inner, err := p.Systrap.NewAddressSpace()
	if err != nil {
		return nil, err
	}
	return p.engine.newSpace(inner), nil
}

// NewContext implements platform.Platform.NewContext.
func (p *Platform) NewContext(ctx pkgcontext.Context) platform.Context {
	return newContext(p, p.Systrap.NewContext(ctx))
}

// SeccompInfo implements platform.Platform.SeccompInfo.
func (p *Platform) SeccompInfo() platform.SeccompInfo {
	return seccompInfo{p.Systrap.SeccompInfo()}
}
