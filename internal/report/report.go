// Package report shows a sandbox's statistics to people (Table) and to programs (JSON).
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ub/sentry/statfile"
)

// Stats is what a sandbox has counted.
type Stats struct {
	// Bypass is whether bypass was on. If not, nothing is counted and all else is zero.
	Bypass   bool   `json:"bypass"`
	Syscalls uint64 `json:"syscalls"`
	Bypassed uint64 `json:"bypassed"`
	// Share is Bypassed/Syscalls, 0 if there were none.
	Share float64 `json:"share"`
	// Counters are statfile's, by name.
	Counters map[string]uint64 `json:"counters"`
	// Sites are those that are in the table at the end, most often entered first.
	Sites []Site `json:"sites"`
	// Gaps are what the payoff controller has decided about, most often entered first.
	Gaps []Gap `json:"gaps"`

	snap statfile.Snapshot
}

// Site is one place at which BTC is entered.
type Site struct {
	Entry    string `json:"entry"` // program address, hexadecimal
	Space    uint32 `json:"space"`
	State    string `json:"state"`
	Entered  uint64 `json:"entered"`
	Bypassed uint64 `json:"bypassed"`
	Misses   uint64 `json:"misses"`
	Stops    uint64 `json:"stops"`
	Bytes    uint64 `json:"code_bytes"`
}

// Collect reads f.
func Collect(f *statfile.File, bypass bool) *Stats {
	n := f.Snapshot()
	s := &Stats{
		Bypass:   bypass,
		Syscalls: n.Syscalls(),
		Bypassed: n[statfile.Bypassed],
		Share:    Share(n[statfile.Bypassed], n.Syscalls()),
		Counters: make(map[string]uint64, len(n)),
		Sites:    []Site{},
		Gaps:     Gaps(f.Gaps()),
		snap:     n,
	}
	for i, v := range n {
		s.Counters[statfile.Counter(i).Name()] = v
	}
	sites := f.Sites()
	slices.SortStableFunc(sites, func(a, b statfile.Site) int { return cmp.Compare(b.Entered, a.Entered) })
	for _, v := range sites {
		s.Sites = append(s.Sites, Site{
			Entry: fmt.Sprintf("%#x", v.Entry), Space: v.Space, State: v.State.String(), Entered: v.Entered,
			Bypassed: v.Bypassed, Misses: v.Misses, Stops: v.Stops, Bytes: v.CodeBytes,
		})
	}
	return s
}

// Share returns part/whole, 0 when whole is.
func Share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// JSON writes s as one object.
func (s *Stats) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(s)
}

// Table writes s for people.
func (s *Stats) Table(w io.Writer) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	if !s.Bypass {
		row("bypass", "off: nothing is counted")
		_, err := io.WriteString(w, b.String())
		return err
	}
	n := &s.snap
	row("syscalls", "%s", Group(s.Syscalls))
	row("bypassed", "%s (%.1f %%)", Group(s.Bypassed), 100*s.Share)
	row("crossings", "%s", Group(n[statfile.Crossings]))
	row("sites", "%s candidates of %s sampled gaps (%s short), %s retired",
		Group(n[statfile.Candidates]), Group(n[statfile.Sampled]), Group(n[statfile.ShortGaps]), Group(n[statfile.SitesRetired]))
	row("gaps", "%s trials: %s kept, %s rolled back; %s split by caller; paths %s raised, %s lowered; %s pairs of windows",
		Group(n[statfile.Trials]), Group(n[statfile.GapsKept]), Group(n[statfile.GapsRolledBack]), Group(n[statfile.GapsSplit]),
		Group(n[statfile.PathsRaised]), Group(n[statfile.PathsLowered]), Group(n[statfile.Pairs]))
	if n[statfile.GroupsRolledBack] > 0 {
		row("programs", "%s times bypass ended because the whole was slower", Group(n[statfile.GroupsRolledBack]))
	}
	row("blobs", "%s installed; %s invalidated, %s evicted", Group(n[statfile.BlobsInstalled]),
		Group(n[statfile.BlobsInvalidated]), Group(n[statfile.BlobsEvicted]))
	if n[statfile.SpacesLive] > 0 { // while the program runs
		row("live", "%s sites, %s blobs of %s bytes, %s address spaces (%s mirrored)", Group(n[statfile.SitesLive]),
			Group(n[statfile.BlobsLive]), Group(n[statfile.BlobBytesLive]), Group(n[statfile.SpacesLive]), Group(n[statfile.SpacesMirrored]))
	}
	var each time.Duration
	if t := n[statfile.Translations]; t > 0 {
		each = time.Duration(n[statfile.TranslateNS] / t)
	}
	row("translations", "%s, %v each; %s failed, %s given up for code that may change", Group(n[statfile.Translations]),
		each.Round(time.Microsecond), Group(n[statfile.TranslateFailed]), Group(n[statfile.CodeUnsafe]))
	row("verifier", "%s refused", Group(n[statfile.VerifierRefused]))
	row("exits", "%s syscall, %s miss (%s linked, %s native), %s stop, %s fault, %s fuel", Group(n[statfile.ExitSyscall]),
		Group(n[statfile.ExitMiss]), Group(n[statfile.MissLinked]), Group(n[statfile.MissUnknown]),
		Group(n[statfile.ExitStop]), Group(n[statfile.ExitFault]), Group(n[statfile.ExitFuel]))
	_, err := io.WriteString(w, b.String())
	return err
}

// Group returns n with a comma before each group of three digits.
func Group(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
