package linux

// fields are the counters that only grow.
func (s *Stats) fields() []*uint64 {
	return []*uint64{
		&s.Hooks, &s.Chains, &s.Chained, &s.Entries,
		&s.ExitSyscall, &s.ExitMiss, &s.ExitStop, &s.ExitFault, &s.ExitFuel,
		&s.EndNoEntry, &s.EndSignal, &s.EndRestart, &s.EndWork, &s.EndNever, &s.EndLimit, &s.EndOff, &s.EndGate,
		&s.Installs, &s.Refused, &s.Invalidated, &s.Expels, &s.EventsLost, &s.Crowded,
	}
}

// Add adds the counts of another process.
func (s *Stats) Add(o *Stats) {
	s.Blobs += o.Blobs
	s.CodeBytes += o.CodeBytes
	from := o.fields()
	for i, f := range s.fields() {
		*f += *from[i]
	}
}

// Since returns what has been counted since before; what there is now stays as it is.
func (s *Stats) Since(before *Stats) Stats {
	d := *s
	from := before.fields()
	for i, f := range d.fields() {
		*f -= *from[i]
	}
	return d
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
