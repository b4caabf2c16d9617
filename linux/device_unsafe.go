package linux

import (
	"io"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Each request is given a pointer to a struct of this package, whose first field is set to the struct's size: the module
// reads and writes no more than that. TestABI proves that sizes and layouts are those of the module's header. The struct is
// live, and stays where it is, while the system call runs: the conversion to uintptr is in the argument list of call, which
// is marked for that (rule 4 of package unsafe).

func (d *Device) ioctl(request, arg uintptr) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), request, arg)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

//go:uintptrescapes
func (d *Device) call(request uintptr, arg uintptr) error { return d.ioctl(request, arg) }

func (d *Device) getVersion(v *Version) error {
	v.size = uint32(unsafe.Sizeof(*v))
	return d.call(iocGetVersion, uintptr(unsafe.Pointer(v)))
}

func (d *Device) enrol(e *abiEnrol) error {
	e.size = uint32(unsafe.Sizeof(*e))
	return d.call(iocEnrol, uintptr(unsafe.Pointer(e)))
}

func (d *Device) revoke(r *abiRevoke) error {
	r.size = uint32(unsafe.Sizeof(*r))
	return d.call(iocRevoke, uintptr(unsafe.Pointer(r)))
}

func (d *Device) control(c *Control) error {
	c.size = uint32(unsafe.Sizeof(*c))
	return d.call(iocControl, uintptr(unsafe.Pointer(c)))
}

func (d *Device) stats(s *Stats) error {
	s.size = uint32(unsafe.Sizeof(*s))
	return d.call(iocStats, uintptr(unsafe.Pointer(s)))
}

// address returns the address of a slice's elements as the module wants it, 0 for none. They are pinned, so they neither
// move nor are freed until unpin.
func address[T any](p *runtime.Pinner, s []T) uint64 {
	if len(s) == 0 {
		return 0
	}
	p.Pin(&s[0])
	return uint64(uintptr(unsafe.Pointer(&s[0])))
}

// install has the module read the arrays of in: as many elements as their lengths say, which are those of the slices.
func (d *Device) install(in *install) (uint64, error) {
	var p runtime.Pinner
	defer p.Unpin()
	a := &abiInstall{
		vec:      in.vec,
		code:     address(&p, in.code),
		relocs:   address(&p, in.relocs),
		entries:  address(&p, in.entries),
		faults:   address(&p, in.faults),
		dirty:    address(&p, in.dirty),
		ranges:   address(&p, in.ranges),
		source:   address(&p, in.source),
		codeLen:  uint32(len(in.code)),
		nrelocs:  uint32(len(in.relocs)),
		nentries: uint32(len(in.entries)),
		nfaults:  uint32(len(in.faults)),
		ndirty:   uint32(len(in.dirty)),
		nranges:  uint32(len(in.ranges)),
	}
	a.size = uint32(unsafe.Sizeof(*a))
	err := d.call(iocInstall, uintptr(unsafe.Pointer(a)))
	if err != nil {
		return 0, &InstallError{Errno: err.(unix.Errno), Rule: a.rule, Off: a.off}
	}
	in.base = a.base
	return a.id, nil
}

// window has the module read w's gates and write as many elements of buf as there are, at most.
func (d *Device) window(w *window, buf []Passes) (int, error) {
	var p runtime.Pinner
	defer p.Unpin()
	a := &abiWindow{
		floor:   w.floor,
		gates:   address(&p, w.gates),
		ngates:  uint32(len(w.gates)),
		clip:    w.clip,
		longest: w.longest,
		passes:  address(&p, buf),
		room:    uint32(len(buf)),
	}
	if w.timed {
		a.timed = 1
	}
	a.size = uint32(unsafe.Sizeof(*a))
	err := d.call(iocWindow, uintptr(unsafe.Pointer(a)))
	return int(a.npasses), err
}

// read fills buf with whole records. The bytes of an Event have no padding and every bit pattern is one.
func (d *Device) read(buf []Event) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	const size = int(unsafe.Sizeof(Event{}))
	b := unsafe.Slice((*byte)(unsafe.Pointer(&buf[0])), len(buf)*size)
	n, err := unix.Read(d.fd, b)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n / size, nil
}
