package linux

// Add adds the counts of another process.
func (s *Stats) Add(o *Stats) {
	s.Blobs += o.Blobs
	for _, f := range []struct {
		to   *uint64
		more uint64
	}{
		{&s.CodeBytes, o.CodeBytes}, {&s.Hooks, o.Hooks}, {&s.Chains, o.Chains}, {&s.Chained, o.Chained}, {&s.Entries, o.Entries},
		{&s.ExitSyscall, o.ExitSyscall}, {&s.ExitMiss, o.ExitMiss}, {&s.ExitStop, o.ExitStop}, {&s.ExitFault, o.ExitFault}, {&s.ExitFuel, o.ExitFuel},
		{&s.EndNoEntry, o.EndNoEntry}, {&s.EndSignal, o.EndSignal}, {&s.EndRestart, o.EndRestart}, {&s.EndWork, o.EndWork},
		{&s.EndNever, o.EndNever}, {&s.EndLimit, o.EndLimit}, {&s.EndOff, o.EndOff},
		{&s.Installs, o.Installs}, {&s.Refused, o.Refused}, {&s.Invalidated, o.Invalidated}, {&s.Expels, o.Expels}, {&s.EventsLost, o.EventsLost},
	} {
		*f.to += f.more
	}
}

// Share is the part of the system calls that was reached without a crossing, of those that the module sees.
func (s *Stats) Share() float64 {
	if s.Hooks+s.Chained == 0 {
		return 0
	}
	return float64(s.Chained) / float64(s.Hooks+s.Chained)
}

// ChainLength is the mean number of system calls that follow one without a crossing.
func (s *Stats) ChainLength() float64 {
	if s.Chains == 0 {
		return 0
	}
	return float64(s.Chained) / float64(s.Chains)
}
