package runner

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// gVisor gives the program descriptors of its own for this process's standard files, with offsets of their own that start
// at 0. For pipes, terminals and sockets that is right. A regular file's offset, however, belongs to whoever shares the
// descriptor: with `{ echo a; ub run -- echo b; echo c; } >file` the three must not overwrite each other, nor must
// standard output and error in `ub run -- PROG >file 2>&1`. So:
//
//   - Output to the end of a file goes through a second description of the same file that appends, and afterwards the
//     offset of ours is put at the end. (What is lost is seeking back in standard output.)
//   - Input from the start of a file is passed as it is, so that the program may seek in it and map it. (What is lost is
//     that a later reader of the same descriptor goes on where the program stopped.)
//   - Everything else goes through a pipe. What the program has not read of it is given back.
type stdio struct {
	files [3]*os.File // for the program
	own   []*os.File  // of those, the ones that are ours to close
	after []func()    // run when the program has ended, in order
}

// newStdio prepares the three files. close must be called when gVisor has been started with them, finish when it has ended.
func newStdio() (*stdio, error) {
	s := &stdio{files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
	if err := s.input(); err != nil {
		s.close()
		return nil, fmt.Errorf("standard input: %w", err)
	}
	for i, name := range []string{1: "output", 2: "error"} {
		if i == 0 {
			continue
		}
		if err := s.output(i); err != nil {
			s.close()
			return nil, fmt.Errorf("standard %s: %w", name, err)
		}
	}
	return s, nil
}

// offset returns where f stands and its size. ok is false if f is not of a kind that has an offset.
func offset(f *os.File) (pos, size int64, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0, 0, false
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFBLK {
		return 0, 0, false
	}
	pos, err := unix.Seek(int(f.Fd()), 0, io.SeekCurrent)
	return pos, st.Size, err == nil
}

func (s *stdio) input() error {
	in := os.Stdin // the variable changes, see with
	pos, _, ok := offset(in)
	if !ok || pos == 0 {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.files[0] = r
	var unsent int
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := unix.Read(int(in.Fd()), buf)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 || err != nil {
				return
			}
			if sent, err := w.Write(buf[:n]); err != nil {
				unsent = n - sent
				return
			}
		}
	}()
	s.after = append(s.after, func() {
		w.SetWriteDeadline(time.Now())
		<-done
		unread, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ) // FIONREAD by its other name
		if err != nil {
			unread = 0
		}
		unix.Seek(int(in.Fd()), -int64(unread+unsent), io.SeekCurrent)
		r.Close()
	})
	return nil
}

func (s *stdio) output(i int) error {
	f := s.files[i]
	pos, size, ok := offset(f)
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if !ok || err != nil || flags&unix.O_APPEND != 0 || flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil
	}
	if pos == size {
		path := fmt.Sprintf("/proc/self/fd/%d", i)
		if a, err := os.OpenFile(path, flags&unix.O_ACCMODE|unix.O_APPEND, 0); err == nil {
			s.files[i] = a
			s.own = append(s.own, a)
			s.after = append(s.after, func() { unix.Seek(int(f.Fd()), 0, io.SeekEnd) })
			return nil
		}
	}
	if i == 2 && s.files[1] != os.Stdout && sameFile(os.Stdout, os.Stderr) {
		s.files[2] = s.files[1] // one pipe, so that the order is kept
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.files[i] = w
	s.own = append(s.own, w)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(f, r) })
	s.after = append(s.after, func() {
		wg.Wait() // ends when the sandbox, which has the other end, is gone
		r.Close()
	})
	return nil
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// with calls f, which starts gVisor, with the files as those of this process. gVisor makes itself their owner, which a
// Sentry that already has them open does not need: their owners are put back.
func (s *stdio) with(f func() error) error {
	in, out, err := os.Stdin, os.Stdout, os.Stderr
	os.Stdin, os.Stdout, os.Stderr = s.files[0], s.files[1], s.files[2]
	defer func() { os.Stdin, os.Stdout, os.Stderr = in, out, err }()
	for _, file := range s.files {
		var st unix.Stat_t
		if unix.Fstat(int(file.Fd()), &st) == nil {
			defer unix.Fchown(int(file.Fd()), int(st.Uid), int(st.Gid))
		}
	}
	return f()
}

// close releases what only gVisor needs.
func (s *stdio) close() {
	for _, f := range s.own {
		f.Close()
	}
	s.own = nil
}

// finish waits for output to be written, and leaves the offsets where the program has left them.
func (s *stdio) finish() {
	s.close()
	for _, f := range s.after {
		f()
	}
	s.after = nil
}
