package linux

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestIoctlFuzz sends requests without sense, from several threads at once, on files that are opened, enrolled and closed
// meanwhile. Addresses are those of a buffer of its own, or of nothing: the module writes only where a request's size says, or
// where a window's passes are to go, and that is within the buffer or beyond an unmapped page, so nothing of this process is hit.
func TestIoctlFuzz(t *testing.T) {
	needModule(t)
	v := newVictim(t, true)
	defer v.end()
	length := 8 * time.Second
	if n := number(t, 0); n > 0 {
		length = time.Duration(n) * time.Millisecond
	}
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	var calls, successes [4]int
	for g := range 4 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f := newFuzzer(t, uint64(g))
			for time.Now().Before(end) {
				for range 50 {
					calls[g]++
					if f.one(v) {
						successes[g]++
					}
				}
			}
			f.close()
		})
	}
	wg.Wait()
	t.Logf("calls %v, without error %v", calls, successes)
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Version(); err != nil {
		t.Error(err)
	}
}

type fuzzer struct {
	rng  *rand.Rand
	mem  []byte // four pages; the last one is not readable
	fds  []int
	pids []int
}

const fuzzPages = 4

func newFuzzer(t *testing.T, seed uint64) *fuzzer {
	mem, err := unix.Mmap(-1, 0, fuzzPages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := unix.Mprotect(mem[(fuzzPages-1)*pageSize:], unix.PROT_NONE); err != nil {
		t.Error(err)
	}
	return &fuzzer{rng: rand.New(rand.NewPCG(seed, 7)), mem: mem, pids: []int{1, os.Getppid(), -1, 0, 1 << 30}}
}

func (f *fuzzer) close() {
	for _, fd := range f.fds {
		unix.Close(fd)
	}
	_ = unix.Munmap(f.mem)
}

// value is a number that may matter.
func (f *fuzzer) value() uint64 {
	base := uint64(uintptr(unsafe.Pointer(&f.mem[0])))
	switch f.rng.IntN(10) {
	case 0:
		return 0
	case 1:
		return f.rng.Uint64()
	case 2:
		return f.rng.Uint64() >> f.rng.IntN(64)
	case 3:
		return 0xffffffff81000000 + f.rng.Uint64N(1<<24)
	case 4:
		return 1 << f.rng.IntN(64)
	case 5:
		return 1<<f.rng.IntN(64) - 1
	case 6:
		return f.rng.Uint64N(64)
	case 7:
		return 0x401000 + f.rng.Uint64N(1<<16)
	}
	return base + f.rng.Uint64N(fuzzPages*pageSize)
}

// one makes one call and tells whether it had success.
func (f *fuzzer) one(v *victim) bool {
	if len(f.fds) == 0 || f.rng.IntN(40) == 0 && len(f.fds) < 8 {
		fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			f.fds = append(f.fds, fd)
		}
		return err == nil
	}
	i := f.rng.IntN(len(f.fds))
	fd := f.fds[i]
	if f.rng.IntN(10) == 0 {
		fd = v.dev.fd
	}
	switch f.rng.IntN(20) {
	case 0:
		unix.Close(f.fds[i])
		f.fds = append(f.fds[:i], f.fds[i+1:]...)
		return true
	case 1:
		n := f.rng.IntN(2 * pageSize)
		_, err := unix.Read(f.fds[i], f.mem[:n])
		return err == nil
	case 2:
		p := []unix.PollFd{{Fd: int32(f.fds[i]), Events: unix.POLLIN}}
		_, err := unix.Poll(p, 0)
		return err == nil
	case 3:
		_, err := unix.Write(f.fds[i], f.mem[:f.rng.IntN(64)])
		return err == nil
	case 4:
		m, err := unix.Mmap(f.fds[i], 0, pageSize, unix.PROT_READ, unix.MAP_SHARED)
		if err == nil {
			_ = unix.Munmap(m)
		}
		return err == nil
	}
	request := uintptr(0xb700 + f.rng.IntN(8))
	if f.rng.IntN(10) == 0 {
		request = uintptr(f.value())
	}
	return f.ioctl(fd, request)
}

// sizes are those of the structs, by request.
var sizes = []uintptr{
	unsafe.Sizeof(Version{}), unsafe.Sizeof(abiEnrol{}), unsafe.Sizeof(abiInstall{}), unsafe.Sizeof(abiRevoke{}), unsafe.Sizeof(Control{}), unsafe.Sizeof(Stats{}), unsafe.Sizeof(abiWindow{}),
}

// window makes arg ask for a window that is all right but for a word now and then.
func (f *fuzzer) window(arg []byte) {
	w := abiWindow{floor: uint32(f.rng.IntN(4)), timed: uint32(f.rng.IntN(2)), room: uint32(f.rng.IntN(20)), ngates: uint32(f.rng.IntN(4)), clip: f.value()}
	w.longest = max(w.clip, f.value())
	w.gates, w.passes = uint64(uintptr(unsafe.Pointer(&f.mem[pageSize]))), uint64(uintptr(unsafe.Pointer(&f.mem[2*pageSize])))
	gates := (*[4]abiGate)(unsafe.Pointer(&f.mem[pageSize]))
	rip := uint64(0x401000)
	for i := range gates {
		rip += 1 + f.rng.Uint64N(1<<12)
		gates[i] = abiGate{rip: rip, gate: uint32(f.rng.IntN(3))}
	}
	w.size = uint32(unsafe.Sizeof(w))
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&w)), unsafe.Sizeof(w)/8)
	if f.rng.IntN(3) == 0 {
		words[f.rng.IntN(len(words))] = f.value()
	}
	for i, v := range words {
		if 8*i+8 <= len(arg) {
			*(*uint64)(unsafe.Pointer(&arg[8*i])) = v
		}
	}
}

// ioctl fills the place for the argument with numbers and makes a request. The place is in the buffer, at its beginning
// or at the end of what is readable, so that a size beyond that is an address that faults.
func (f *fuzzer) ioctl(fd int, request uintptr) bool {
	words := 24
	at := 0
	if f.rng.IntN(2) == 0 {
		at = (fuzzPages-1)*pageSize - 8*(1+f.rng.IntN(words))
	}
	arg := f.mem[at:]
	for i := 0; i < words && at+8*i < (fuzzPages-1)*pageSize; i++ {
		*(*uint64)(unsafe.Pointer(&arg[8*i])) = f.value()
	}
	size := uint32(f.value())
	if n := request - 0xb700; f.rng.IntN(4) != 0 && n < uintptr(len(sizes)) {
		size = uint32(sizes[n])
	}
	if at < (fuzzPages-1)*pageSize {
		*(*uint32)(unsafe.Pointer(&arg[0])) = size
		if request == iocEnrol {
			*(*int32)(unsafe.Pointer(&arg[4])) = int32(f.pids[f.rng.IntN(len(f.pids))])
		}
		if request == iocWindow && f.rng.IntN(2) == 0 {
			f.window(f.mem[at : (fuzzPages-1)*pageSize])
		} else if f.rng.IntN(3) == 0 { // reserved words are 0, most of them
			for i := 8; i < 64 && at+i < (fuzzPages-1)*pageSize; i++ {
				arg[i] = 0
			}
		}
	}
	p := uintptr(unsafe.Pointer(&arg[0]))
	if f.rng.IntN(20) == 0 {
		// Never mapped, the kernel's, not canonical, or the program's text, which is not writable.
		p = []uintptr{0, 8, 0xffffffff81000000, 0xffff888000000000, 1 << 47, 1<<47 - 8, 1 << 63, ^uintptr(7), 0x401000}[f.rng.IntN(9)]
	}
	// The memory is not Go's and lives until close. A request writes nowhere but to its argument.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, p)
	runtime.KeepAlive(f)
	return errno == 0
}
