package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DevicePath is where the module is.
const DevicePath = "/dev/ub"

// device is an open /dev/ub; an interface for tests.
type device interface {
	Version() (*Version, error)
	Enrol(pid int) error
	Install(*install) (id uint64, err error)
	Revoke(id uint64) error
	// Control sets what set names, and returns all.
	Control(set uint32, c Control) (Control, error)
	Stats() (*Stats, error)
	// Window ends a window of time and begins the next one. It returns the number of sums of passes of the former that it has put into buf.
	Window(w *window, buf []Passes) (int, error)
	// Read waits until there are events, at most so long, and returns them; none when the time is up. io.EOF is the end
	// of the enrolment.
	Read(buf []Event, timeout time.Duration) (int, error)
	Close() error
}

// Device is /dev/ub, opened. Its enrolment ends when it is closed.
type Device struct {
	fd     int
	waker  int // eventfd: Read returns when somebody writes to it
	closed bool
}

// Open opens the module's device. The error says what to do when there is none.
func Open() (*Device, error) {
	fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, explainOpen(err)
	}
	waker, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	d := &Device{fd: fd, waker: waker}
	v, err := d.Version()
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("%s does not say its version: %w; is this another module's device?", DevicePath, err)
	}
	if v.ABI != ABIVersion {
		d.Close()
		return nil, fmt.Errorf("the module speaks version %d of the interface, this ub version %d: install both from one release", v.ABI, ABIVersion)
	}
	return d, nil
}

func explainOpen(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		if _, serr := os.Stat("/sys/module/ub"); serr == nil {
			return fmt.Errorf("the module is loaded, but there is no %s: is /dev a devtmpfs?", DevicePath)
		}
		return fmt.Errorf("the module ub is not loaded: `modprobe ub`, or see docs/install-module.md; `ub check` says whether it can work here")
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: it takes CAP_SYS_ADMIN; run it with sudo", DevicePath, err)
	}
	return fmt.Errorf("%s: %w", DevicePath, err)
}

// Version implements device.
func (d *Device) Version() (*Version, error) {
	v := &Version{}
	return v, d.getVersion(v)
}

// Enrol implements device: all threads of process pid, now and later.
func (d *Device) Enrol(pid int) error {
	return explainEnrol(pid, d.enrol(&abiEnrol{pid: int32(pid)}))
}

func explainEnrol(pid int, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ESRCH):
		return fmt.Errorf("there is no process %d", pid)
	case errors.Is(err, unix.EBUSY):
		return &BusyError{pid}
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("process %d shares its memory with another one, as it does until it has executed its own program: try again when it has", pid)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("process %d is a thread of the kernel, or a 32-bit program: bypass is for 64-bit programs", pid)
	}
	return fmt.Errorf("enrolling process %d: %w", pid, err)
}

// BusyError says that somebody else has enrolled the process.
type BusyError struct{ PID int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("process %d has bypass already: `ub status` shows it, `ub detach %d` ends it", e.PID, e.PID)
}

// Install implements device.
func (d *Device) Install(in *install) (uint64, error) { return d.install(in) }

// Revoke implements device. 0 is all blobs.
func (d *Device) Revoke(id uint64) error { return d.revoke(&abiRevoke{id: id}) }

// Control implements device.
func (d *Device) Control(set uint32, c Control) (Control, error) {
	c.set = set
	return c, d.control(&c)
}

// Stats implements device.
func (d *Device) Stats() (*Stats, error) {
	s := &Stats{}
	return s, d.stats(s)
}

// Window implements device.
func (d *Device) Window(w *window, buf []Passes) (int, error) { return d.window(w, buf) }

// Read implements device.
func (d *Device) Read(buf []Event, timeout time.Duration) (int, error) {
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.waker), Events: unix.POLLIN}}
	// Not poll(2): its milliseconds are as long as a window.
	ts := unix.NsecToTimespec(max(timeout, 0).Nanoseconds())
	if _, err := unix.Ppoll(fds, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return 0, fmt.Errorf("%s: poll: %w", DevicePath, err)
	}
	if fds[1].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(d.waker, b[:])
	}
	if fds[0].Revents == 0 {
		return 0, nil
	}
	return d.read(buf)
}

// Wake makes a Read in another goroutine return.
func (d *Device) Wake() {
	_, _ = unix.Write(d.waker, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// Close implements device: the process runs natively from here on.
func (d *Device) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	unix.Close(d.waker)
	return unix.Close(d.fd)
}
