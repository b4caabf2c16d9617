package machine

import "sync/atomic"

// counterAt returns the quadword at addr, memory that the test has mapped and keeps mapped while it uses the pointer.
func counterAt(addr uintptr) *atomic.Uint64 { return (*atomic.Uint64)(pointer(addr)) }
