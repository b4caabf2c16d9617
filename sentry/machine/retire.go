package machine

import "sync/atomic"

// retired is a blob on its way out: freed when all stays that may be inside it are over.
type retired struct {
	i  *Installed
	by []waiter
}

// Retire takes a blob out of use: when it returns, no thread enters it any more, neither by Run nor by dispatch from Run
// calls that begin afterwards. Threads that are inside stay until they leave by themselves; use StopAndWait to make
// that happen at once. The blob's memory is used again when they have left. The caller must have made sure that it does
// not Bind or Run the blob's places any more; if it does, Run answers with ExitMiss. Retiring twice does nothing.
func (m *Machine) Retire(blobs ...*Installed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var now []*Installed
	for _, i := range blobs {
		if !i.dead.Swap(true) {
			now = append(now, i)
		}
	}
	if len(now) == 0 {
		return
	}
	// retires first: whoever sees the new epoch flushes.
	m.retires.Add(1)
	m.epoch.Add(1)
	barrier()
	var by []waiter
	for t := range m.threads {
		if seq := atomic.LoadUint64(&t.b.seq); seq&1 != 0 {
			by = append(by, waiter{t.b, seq})
		}
	}
	for _, i := range now {
		m.retired = append(m.retired, retired{i: i, by: by})
	}
	m.reap()
}

// reap frees what nobody can be inside any more. The caller holds mu.
func (m *Machine) reap() {
	keep := m.retired[:0]
	gone := map[*Installed]bool{}
	for _, r := range m.retired {
		over := true
		for _, w := range r.by {
			over = over && w.over()
		}
		if !over {
			keep = append(keep, r)
			continue
		}
		gone[r.i] = true
	}
	clear(m.retired[len(keep):])
	m.retired = keep
	if len(gone) == 0 {
		return
	}
	old := *m.installed.Load()
	list := make([]*Installed, 0, len(old))
	for _, i := range old {
		if !gone[i] {
			list = append(list, i)
		}
	}
	m.installed.Store(&list)
	for i := range gone {
		fillINT3(mapping(m.rw+uintptr(i.off), roundUp(i.size)))
		m.space.release(i.off, i.size)
	}
}
