package statfile

import "fmt"

// State of a site.
type State uint32

const (
	Free      State = iota // table entry not in use
	Candidate              // nominated, waiting for its translation
	Live                   // has an installed entry
	Retired                // did not yield; runs natively
	Refused                // could not be translated, or the verifier refused the blob
	Dropped                // its code changed, or its blob was evicted
)

func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case Candidate:
		return "candidate"
	case Live:
		return "live"
	case Retired:
		return "retired"
	case Refused:
		return "refused"
	case Dropped:
		return "dropped"
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// Site is one entry of the site table.
type Site struct {
	Entry        uint64 // program RIP at which BTC is entered: behind the syscall instruction, or a dispatch target
	Space        uint32 // address space, numbered from 1 in order of creation
	State        State
	Entered      uint64 // times BTC was entered here
	Bypassed     uint64 // of those, how often the next syscall was reached
	Misses       uint64 // exits by reason, as far as they began here
	Stops        uint64 // stop and fault exits
	Translations uint64
	CodeBytes    uint64 // of the present blob
}

// SetSite writes entry i of the table; each field is stored atomically, the entry as a whole is not.
func (s *File) SetSite(i int, v Site) {
	w := s.siteWords(i)
	w[1].Store(uint64(v.Space) | uint64(v.State)<<32)
	w[0].Store(v.Entry)
	w[2].Store(v.Entered)
	w[3].Store(v.Bypassed)
	w[4].Store(v.Misses)
	w[5].Store(v.Stops)
	w[6].Store(v.Translations)
	w[7].Store(v.CodeBytes)
}

// Sites returns the entries in use.
func (s *File) Sites() []Site {
	var out []Site
	for i := range NumSites {
		w := s.siteWords(i)
		t := w[1].Load()
		if State(t>>32) == Free {
			continue
		}
		out = append(out, Site{
			Entry: w[0].Load(), Space: uint32(t), State: State(t >> 32), Entered: w[2].Load(), Bypassed: w[3].Load(),
			Misses: w[4].Load(), Stops: w[5].Load(), Translations: w[6].Load(), CodeBytes: w[7].Load(),
		})
	}
	return out
}
