package statfile

import "sync/atomic"

// Counter numbers a counter. Those that only grow are totals since the sandbox started; Live ones go both ways.
type Counter int

const (
	Native           Counter = iota // syscalls that arrived by a crossing
	Bypassed                        // syscalls reached by BTC
	Crossings                       // times the program ran natively, for whatever reason
	Entries                         // times BTC was entered
	Sampled                         // gaps the identifier looked at
	ShortGaps                       // of those, short ones
	Candidates                      // sites nominated by the identifier
	SitesLive                       // sites with an installed entry
	SitesRetired                    // sites given up because they did not yield
	BlobsInstalled                  // blobs installed since the start
	BlobsLive                       // blobs installed now
	BlobBytesLive                   // their code bytes
	BlobsInvalidated                // blobs dropped because the code they were made from changed
	BlobsEvicted                    // blobs dropped to stay within the limits
	Invalidations                   // changes of memory that hit translated code
	ExitSyscall                     // exits of BTC by reason
	ExitMiss
	ExitStop
	ExitFault
	ExitFuel
	MissLinked       // misses whose target had an entry: continued without a crossing
	MissUnknown      // misses that ran natively
	Translations     // blobs translated, installed or not
	PlansReused      // plans made for another address space and used again
	RequestsMerged   // targets that were translated in passing, with others of the same path
	Pieces           // paths that continue others without room
	TranslateNS      // nanoseconds spent discovering, translating, verifying and installing
	TranslateFailed  // paths that could not be discovered or translated
	VerifierRefused  // blobs that the verifier refused
	CodeUnsafe       // translations given up because the code is writable somewhere or changed meanwhile
	SpacesLive       // address spaces
	SpacesMirrored   // address spaces with a mirror now
	SpacesNoWindow   // times an address space got no mirror because all windows were taken
	MirrorMaps       // mappings put into mirrors
	MirrorMapFailed  // mappings that could not be mirrored: BTC faults there and the program runs natively
	Interrupts       // interrupts that found a thread in BTC
	Trials           // gaps put on trial
	GapsKept         // trials that ended with bypass
	GapsRolledBack   // trials that ended without, and gaps that did not go on paying
	GapsSplit        // gaps whose callers were looked at one by one
	GroupsRolledBack // times a program as a whole was slower with bypass
	Pairs            // pairs of windows that were compared
	PathsRaised      // paths that were allowed to grow, and that were made smaller again
	PathsLowered

	NumCounters
)

// Name returns the counter's name as tools print it: lower case, words joined by '_'.
func (c Counter) Name() string {
	if c < 0 || c >= NumCounters {
		return "?"
	}
	return counterNames[c]
}

var counterNames = [NumCounters]string{
	"native", "bypassed", "crossings", "entries", "sampled", "short_gaps", "candidates",
	"sites_live", "sites_retired", "blobs_installed", "blobs_live", "blob_bytes_live", "blobs_invalidated",
	"blobs_evicted", "invalidations", "exit_syscall", "exit_miss", "exit_stop", "exit_fault", "exit_fuel",
	"miss_linked", "miss_unknown", "translations", "plans_reused", "requests_merged", "pieces", "translate_ns", "translate_failed", "verifier_refused",
	"code_unsafe", "spaces_live", "spaces_mirrored", "spaces_no_window", "mirror_maps", "mirror_map_failed",
	"interrupts", "trials", "gaps_kept", "gaps_rolled_back", "gaps_split", "groups_rolled_back", "pairs", "paths_raised", "paths_lowered",
}

// Counters is the counters section, in the mapping.
type Counters [NumCounters]atomic.Uint64

// Add adds n, which may be negative for Live counters.
func (c *Counters) Add(i Counter, n int64) { c[i].Add(uint64(n)) }

// Snapshot is the counters at one moment; each is exact, together they need not be.
type Snapshot [NumCounters]uint64

// Snapshot reads all counters.
func (s *File) Snapshot() Snapshot {
	var n Snapshot
	c := s.Counters()
	for i := range n {
		n[i] = c[i].Load()
	}
	return n
}

// Syscalls returns the number of syscalls, by whichever way.
func (n *Snapshot) Syscalls() uint64 { return n[Native] + n[Bypassed] }
