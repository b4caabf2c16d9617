package sentry

import (
	"gvisor.dev/gvisor/pkg/sentry/arch"

	"ub/target"
)

// vectors says where the program's vector state is. There are three places for it: the stub process's thread (with
// systrap's copy), the Sentry's arch.Context64, and the context block of the machine's thread, where translated code
// works on it. It is moved only when somebody wants it: over any number of bypassed syscalls it stays in the block.
//
//	stub ──inner.PullFullState──► Context64 ──LoadVec──► block
//	stub ◄──native Switch── Context64 (inner.FullStateChanged) ◄──StoreVec── block
//
// All of it happens on the task's goroutine, or while the task is stopped.
type vectors struct {
	// owner is whose state the block has, nil for nobody's. When execve gives the task a new Context64, what the block
	// has of the old one is worth nothing.
	owner *arch.Context64
	// dirty: a run may have changed what the block has, and the owner's copy is old.
	dirty bool
	level target.Vec // of the runs to come
}

// setLevel prepares runs at vector level v. It returns false if that cannot be had: then the program goes on natively.
func (c *threadContext) setLevel(as *addressSpace, ac *arch.Context64, v target.Vec) bool {
	if v != target.VecNone && c.vec.owner != ac {
		if err := c.inner.PullFullState(as.inner, ac); err != nil {
			return false
		}
		if err := c.run.LoadVec(*ac.FloatingPointData()); err != nil {
			return false
		}
		c.vec.owner, c.vec.dirty = ac, false
	}
	if v != c.vec.level || v != target.VecNone {
		c.run.SetVec(v)
	}
	c.vec.level = v
	c.vec.dirty = c.vec.dirty || v != target.VecNone
	return true
}

// giveBack makes ac's copy of the vector state current, and has systrap load it into the stub before the program runs
// there.
func (c *threadContext) giveBack(ac *arch.Context64) {
	if c.vec.dirty && c.vec.owner == ac {
		c.run.StoreVec(*ac.FloatingPointData())
		c.inner.FullStateChanged()
	}
	c.vec.dirty = false
}
