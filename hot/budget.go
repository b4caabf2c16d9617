package hot

import "sync/atomic"

// Budget says when translation may go on. What it takes is lost when the program ends before it has gained, and nobody knows when
// that is; so it is paid from what crossings have cost the program so far, as one buys skis once their rent has come to
// the price. A program that lives for tenths of a second then loses a small part of its crossings' time to translation, and one that
// lives for long loses next to nothing before it gains. One that has crossed for long will, as far as anybody can tell, go on for
// as long again: it may pay more. What translation has saved counts as well: a program that gains can afford to gain more, and a new phase
// of it must not wait until it has lost enough.
//
// The zero Budget is ready. Lost may be called from any thread, the rest from the translating one.
type Budget struct {
	lost, spent atomic.Uint64
}

// Lost adds n crossings of so many ticks each, or n that bypass has saved.
func (b *Budget) Lost(n, crossing uint64) { b.lost.Add(n * crossing) }

// Spend adds what a translation took.
func (b *Budget) Spend(ticks uint64) { b.spent.Add(ticks) }

// Allows reports whether there may be another translation. It may go over the budget, so that there is no smallest one.
func (b *Budget) Allows(c *Config) bool {
	if c.TranslatePercent == 0 {
		return true
	}
	lost := b.lost.Load()
	early := min(lost, c.TranslateEarly)
	return b.spent.Load() <= c.TranslateFirst+early/100*c.TranslatePercent+(lost-early)/100*c.TranslateLaterPercent
}

// Crossing is what a short gap of the thread has taken of late without bypass, in ticks: the mean, since that is what
// translation can save; but not much more than the least, since on a busy machine the rest is waiting for a processor, which
// translation would take away. One that has to wake the other side takes some µs of that. It is 0 if the thread makes few syscalls.
func (t *Thread) Crossing() uint64 {
	if !t.busy {
		return 0
	}
	return min(t.cross.mean, 2*t.cross.least()+t.c.Short/2)
}
