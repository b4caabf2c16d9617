package profile

// The types of this file are shared with the eBPF programs, which know their fields by the offsets below. They have no
// padding and only exported fields, so that maps are read into them without conversion.

// siteKey is what gaps are grouped by: who returned from which system call, to where.
type siteKey struct {
	RIP    uint64 // behind the syscall instruction
	Image  image
	Caller uint64 // return address of the function that has the syscall instruction, 0 if none was found
	NR     uint32
	Zero   uint32
}

// image is a program in memory: what a process got from its last exec. Children have their parent's until they make an exec
// themselves, so that the same addresses are the same site in all of them.
type image struct {
	TGID  uint32 // the process that made the exec
	Count uint32 // of execs before
}

const (
	keyRIP    = 0
	keyImage  = 8
	keyCaller = 16
	keyNR     = 24
	keyZero   = 28
	keySize   = 32
	// depthKeySize is the part of a siteKey that the map of caller depths is keyed by.
	depthKeySize = 16
)

// siteValue is what is known about a site. It only grows: readers take differences.
type siteValue struct {
	Gaps  uint64
	GapNS uint64
	SysNS uint64 // inside the SysN system calls before the gaps, blocking included
	SysN  uint64
	Comm  [16]byte
	Hist  [numBuckets]uint32
}

const (
	valGaps  = 0
	valGapNS = 8
	valSysNS = 16
	valSysN  = 24
	valComm  = 32
	valHist  = 48
	valSize  = valHist + 4*numBuckets
)

// threadState is where a thread is. Times are only good in the window that they were written in, which is Epoch.
type threadState struct {
	Key   siteKey // of the last return
	Start uint64  // when the thread returned; 0: it is in the kernel, or nobody knows
	Enter uint64  // when it went into the kernel; 0: it is outside, or nobody knows
	SysNS uint64  // of the system call before the gap,
	SysN  uint64  // if this is 1
	Epoch uint64
	Gaps  uint64 // ended so far: grows
}

const (
	thStart = keySize
	thEnter = keySize + 8
	thSysNS = keySize + 16
	thSysN  = keySize + 24
	thEpoch = keySize + 32
	thGaps  = keySize + 40
	thSize  = keySize + 48
)

// control is written by the Go side while the programs run.
type control struct {
	Epoch uint64 // number of the window, 0 between windows
	Floor uint64 // length of a gap without any instruction, in ns, as the programs see it
	Self  uint32 // thread group that is never looked at: the profiler's own
	Zero  uint32
}

const (
	ctlEpoch = 0
	ctlFloor = 8
	ctlSelf  = 16
	ctlSize  = 24
)

// Sizes of the maps. All but procs evict what was used least recently, so that a machine with more threads or sites than
// this loses the quiet ones. A new process that finds procs full is not followed.
const (
	maxSites   = 4096
	maxThreads = 8192
	maxDepths  = 4096
	maxProcs   = 8192
)

// depthNone in the map of caller depths says that no caller can be told from the stack.
const depthNone = 1 << 30
