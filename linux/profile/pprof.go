package profile

import (
	"io"
	"time"

	pp "github.com/google/pprof/profile"
)

// Pprof writes the profile in pprof's format, compressed. The stacks have two frames, site and caller; the system call is
// a label. The values are gaps and the time in crossings, for all of the time.
func (p *Profile) Pprof(w io.Writer, end time.Time) error {
	out := &pp.Profile{
		SampleType:        []*pp.ValueType{{Type: "gaps", Unit: "count"}, {Type: "crossing", Unit: "nanoseconds"}, {Type: "saved", Unit: "nanoseconds"}},
		DefaultSampleType: "crossing",
		TimeNanos:         end.Add(-time.Duration(p.Seconds * 1e9)).UnixNano(),
		DurationNanos:     int64(p.Seconds * 1e9),
		Comments:          []string{p.Target},
	}
	t := pprofTables{p: out, mappings: map[string]*pp.Mapping{}, functions: map[[2]string]*pp.Function{}, locations: map[Place]*pp.Location{}}
	for _, s := range p.Sites {
		stack := []*pp.Location{t.location(s.Site)}
		if s.Caller != nil {
			stack = append(stack, t.location(*s.Caller))
		}
		calls := s.CallsPerSecond * p.Seconds
		out.Sample = append(out.Sample, &pp.Sample{
			Location: stack,
			Value:    []int64{int64(calls + 0.5), int64(calls * p.Crossing.Linux), int64(s.Saves.Linux * p.CPU * 1e9)},
			Label:    map[string][]string{"syscall": {s.Syscall}},
			NumLabel: map[string][]int64{"gap_p50": {int64(s.GapNS.P50)}, "gap_p99": {int64(s.GapNS.P99)}},
			NumUnit:  map[string][]string{"gap_p50": {"nanoseconds"}, "gap_p99": {"nanoseconds"}},
		})
	}
	if err := out.CheckValid(); err != nil {
		return err
	}
	return out.Write(w)
}

// pprofTables make each mapping, function and location once.
type pprofTables struct {
	p         *pp.Profile
	mappings  map[string]*pp.Mapping
	functions map[[2]string]*pp.Function
	locations map[Place]*pp.Location
}

func (t *pprofTables) location(at Place) *pp.Location {
	l := t.locations[at]
	if l != nil {
		return l
	}
	m := t.mappings[at.File]
	if m == nil {
		// Addresses are the file's own, so there is no shift.
		m = &pp.Mapping{ID: uint64(len(t.p.Mapping) + 1), Limit: 1 << 63, File: at.File, BuildID: at.BuildID, HasFunctions: true}
		t.mappings[at.File] = m
		t.p.Mapping = append(t.p.Mapping, m)
	}
	name := at.Symbol
	if name == "" {
		name = at.String()
	}
	f := t.functions[[2]string{at.File, name}]
	if f == nil {
		f = &pp.Function{ID: uint64(len(t.p.Function) + 1), Name: name, SystemName: name, Filename: at.File}
		t.functions[[2]string{at.File, name}] = f
		t.p.Function = append(t.p.Function, f)
	}
	l = &pp.Location{ID: uint64(len(t.p.Location) + 1), Mapping: m, Address: at.Address, Line: []pp.Line{{Function: f}}}
	t.locations[at] = l
	t.p.Location = append(t.p.Location, l)
	return l
}
