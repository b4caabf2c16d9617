package statfile

// Thread is one entry of the thread table.
type Thread struct {
	TID   uint32 // in the thread's own PID namespace
	Space uint32 // address space that it was in last

	Native, Bypassed uint64 // syscalls
	Sampled          uint64 // gaps that were measured
	SampleEvery      uint32 // mean distance of samples at present
	Busy             bool   // it makes enough syscalls for its sites to become candidates
}

const (
	// NumThreads is the number of entries of the thread table. Threads that find no place are counted, not listed.
	NumThreads = 512
	threadSize = 64
)

// SetThread writes entry i of the table; each word is stored atomically, the entry as a whole is not. The zero Thread frees
// the entry.
func (s *File) SetThread(i int, v Thread) {
	w := s.threadWords(i)
	busy := uint64(0)
	if v.Busy {
		busy = 1
	}
	w[1].Store(v.Native)
	w[2].Store(v.Bypassed)
	w[3].Store(v.Sampled)
	w[4].Store(uint64(v.SampleEvery) | busy<<32)
	w[0].Store(uint64(v.TID) | uint64(v.Space)<<32)
}

// Threads returns the entries in use.
func (s *File) Threads() []Thread {
	var out []Thread
	for i := range NumThreads {
		w := s.threadWords(i)
		id, how := w[0].Load(), w[4].Load()
		if id == 0 {
			continue
		}
		out = append(out, Thread{
			TID: uint32(id), Space: uint32(id >> 32), Native: w[1].Load(), Bypassed: w[2].Load(), Sampled: w[3].Load(),
			SampleEvery: uint32(how), Busy: how>>32&1 != 0,
		})
	}
	return out
}
