package linux

// This file is linux/module/ub_abi.h in Go. TestABI compares sizes, offsets and constants with the header.

// ABIVersion is the version of the interface that this package speaks.
const ABIVersion = 4

// Requests to /dev/ub.
const (
	iocGetVersion = 0xb700
	iocEnrol      = 0xb701
	iocInstall    = 0xb702
	iocRevoke     = 0xb703
	iocControl    = 0xb704
	iocStats      = 0xb705
	iocWindow     = 0xb706
)

// Facts of this machine and kernel, in Version.Facts.
const (
	FactSplitLock = 0x1  // split locks trap: code with LOCK is refused
	FactPTI       = 0x2  // user mode has its own page tables
	FactIBT       = 0x4  // the kernel tracks indirect branches
	FactSMAP      = 0x8  // always
	FactFRED      = 0x10 // the FRED entry code is in use
)

// Version is what the module says of itself.
type Version struct {
	size       uint32
	ABI        uint32
	Facts      uint32
	Vec        uint32 // highest vector level
	Enabled    uint32 // the global switch
	Hooks      uint32 // number of system calls after which a chain can begin
	Enrolments uint32
	TicksKHz   uint32 // ticks of the time stamp counter in a millisecond, see Window
	Arena      uint64 // bytes that all blobs share
	ArenaFree  uint64
	MaxCode    uint32 // limits of one installation
	MaxRelocs  uint32
	MaxEntries uint32
	MaxFaults  uint32
	MaxDirty   uint32
	MaxRanges  uint32
	MaxSource  uint32 // bytes in all ranges together
	MaxBlobs   uint32 // of one process
	MaxGates   uint32 // limits of a window
	MaxPasses  uint32
}

type abiEnrol struct {
	size     uint32
	pid      int32
	reserved uint64
}

type abiReloc struct {
	off uint32
	sym uint32
}

type abiEntry struct {
	rip      uint64
	off      uint32
	reserved uint32
}

type abiDirty struct {
	virt     uint8
	nat      uint8
	reserved uint16
	delta    int32
}

// Kinds of faults: those of btc.FaultKind.
const (
	faultAccess = 0
	faultTouch  = 1
	faultPoll   = 2
	faultDivide = 3
	faultString = 4
)

// Flags of a fault record.
const (
	faultFStr = 0x1
	faultFSI  = 0x2
)

type abiFault struct {
	rip      uint64
	off      uint32
	first    uint32
	kind     uint8
	ndirty   uint8
	flags    uint8
	origDI   uint8
	startDI  uint8
	origSI   uint8
	startSI  uint8
	reserved uint8
}

type abiRange struct {
	start uint64
	end   uint64
}

type abiInstall struct {
	size     uint32
	vec      uint32
	code     uint64
	relocs   uint64
	entries  uint64
	faults   uint64
	dirty    uint64
	ranges   uint64
	source   uint64
	codeLen  uint32
	nrelocs  uint32
	nentries uint32
	nfaults  uint32
	ndirty   uint32
	nranges  uint32
	reserved uint64
	id       uint64
	base     uint64
	rule     uint32
	off      uint32
}

type abiRevoke struct {
	size     uint32
	reserved uint32
	id       uint64
}

// What of a Control is to be set.
const (
	setEnabled = 0x1
	setHot     = 0x2
	setMiss    = 0x4
	setChain   = 0x8
)

// Control has the switches of one process.
type Control struct {
	size     uint32
	set      uint32
	Enabled  uint32 // 0: it runs natively, blobs are kept
	Hot      uint32 // native system calls of a site that make an event
	Miss     uint32 // misses, faults, stops of one place that make one
	MaxChain uint32 // system calls after which a thread goes back to user mode
}

// Stats are the module's counts for one process since it was enrolled.
type Stats struct {
	size      uint32
	Blobs     uint32 `json:"blobs"`
	CodeBytes uint64 `json:"code_bytes"`
	Hooks     uint64 `json:"hooks"`   // hooked system calls that came from user mode
	Chains    uint64 `json:"chains"`  // of them, those that entered translated code
	Chained   uint64 `json:"chained"` // system calls reached by translated code
	Entries   uint64 `json:"entries"` // times translated code was entered

	ExitSyscall uint64 `json:"exit_syscall"`
	ExitMiss    uint64 `json:"exit_miss"`
	ExitStop    uint64 `json:"exit_stop"`
	ExitFault   uint64 `json:"exit_fault"`
	ExitFuel    uint64 `json:"exit_fuel"`
	EndNoEntry  uint64 `json:"end_no_entry"`
	EndSignal   uint64 `json:"end_signal"`
	EndRestart  uint64 `json:"end_restart"`
	EndWork     uint64 `json:"end_work"`
	EndNever    uint64 `json:"end_never"`
	EndLimit    uint64 `json:"end_limit"`
	EndOff      uint64 `json:"end_off"`
	EndGate     uint64 `json:"end_gate"` // the gap runs natively for the time being

	Installs    uint64 `json:"installs"`
	Refused     uint64 `json:"refused"`
	Invalidated uint64 `json:"invalidated"`
	Expels      uint64 `json:"expels"`
	EventsLost  uint64 `json:"events_lost"`
	Crowded     uint64 `json:"crowded"` // entries that found no place in a table: chains end there
}

// Gates of gaps, and floors of windows: those of package hot.
const (
	gateNative = 0
	gateProbe  = 1
	gateTrial  = 2
	gateKept   = 3
)

type abiGate struct {
	rip      uint64
	gate     uint32
	reserved uint32
}

// Passes are those through one gap, behind the system call that returns to RIP, to the call NR that returns to End, in one window.
type Passes struct {
	RIP    uint64
	End    uint64
	NR     uint32
	How    uint32 // 0: natively, 1: bypassed at least in part
	Count  uint32
	Misses uint32
	Stops  uint32
	Tails  uint32
	Sum    uint64
	Excess uint64
}

type abiWindow struct {
	size    uint32
	floor   uint32
	timed   uint32
	ngates  uint32
	gates   uint64
	clip    uint64
	longest uint64
	passes  uint64
	room    uint32
	npasses uint32
	lost    uint64
}

// Types of events.
const (
	EventHot     = 1 // a system call returned natively to RIP, Count times; NR
	EventMiss    = 2 // translated code at From wanted to go on at RIP
	EventFault   = 3 // the instruction at RIP faulted in translated code; NR: kind
	EventStop    = 4 // translated code ended before RIP
	EventInvalid = 5 // blob RIP (its id) was dropped: its source changed
	EventLost    = 6 // Count happenings were not recorded
	EventGone    = 7 // the process has gone, or has another program now
	EventRseq    = 8 // rseq critical sections were seen: native from now on
)

// Event is a record of the module's.
type Event struct {
	Type     uint32
	NR       uint32
	RIP      uint64
	From     uint64
	Count    uint64
	NS       uint64 // from the first to the last
	TID      uint32
	reserved uint32
}
