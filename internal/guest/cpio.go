package guest

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
)

// Image is the content of an initial RAM disk: what the guest has as its root file system. The zero value is empty.
type Image struct {
	files map[string]file
}

type file struct {
	mode fs.FileMode
	data []byte // of a file, or where a link leads
	host string // the host's file that has the data, if not data
}

// Add puts a file of the host into the guest.
func (m *Image) Add(guest, host string) error {
	st, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", host)
	}
	m.put(guest, file{mode: st.Mode().Perm(), host: host})
	return nil
}

// Write puts data into the guest as a file.
func (m *Image) Write(guest string, data []byte, mode fs.FileMode) {
	m.put(guest, file{mode: mode, data: data})
}

// Link makes a symbolic link.
func (m *Image) Link(guest, to string) {
	m.put(guest, file{mode: fs.ModeSymlink | 0o777, data: []byte(to)})
}

// Dir makes a directory.
func (m *Image) Dir(guest string) { m.put(guest, file{mode: fs.ModeDir | 0o755}) }

// Has tells whether there is such a file.
func (m *Image) Has(guest string) bool {
	_, ok := m.files[path.Clean("/"+guest)]
	return ok
}

func (m *Image) put(name string, f file) {
	if m.files == nil {
		m.files = map[string]file{}
	}
	name = path.Clean("/" + name)
	for d := path.Dir(name); d != "/"; d = path.Dir(d) {
		if _, ok := m.files[d]; ok {
			break
		}
		m.files[d] = file{mode: fs.ModeDir | 0o755}
	}
	m.files[name] = f
}

// WriteTo writes the image as an archive in the format "newc", which is what the kernel unpacks.
func (m *Image) WriteTo(to io.Writer) (int64, error) {
	w := &countingWriter{w: bufio.NewWriterSize(to, 1<<20)}
	names := make([]string, 0, len(m.files))
	for n := range m.files {
		names = append(names, n)
	}
	sort.Strings(names)
	for i, n := range names {
		if err := m.files[n].write(w, i+1, strings.TrimPrefix(n, "/")); err != nil {
			return w.n, fmt.Errorf("%s: %w", n, err)
		}
	}
	if err := (file{}).write(w, 0, "TRAILER!!!"); err != nil {
		return w.n, err
	}
	return w.n, w.w.Flush()
}

func (f file) write(w *countingWriter, ino int, name string) error {
	size := int64(len(f.data))
	var in *os.File
	if f.host != "" {
		var err error
		if in, err = os.Open(f.host); err != nil {
			return err
		}
		defer in.Close()
		st, err := in.Stat()
		if err != nil {
			return err
		}
		size = st.Size()
	}
	mode := uint32(f.mode.Perm())
	switch {
	case f.mode&fs.ModeDir != 0:
		mode |= 0o040000
	case f.mode&fs.ModeSymlink != 0:
		mode |= 0o120000
	case ino != 0:
		mode |= 0o100000
	}
	fmt.Fprintf(w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	w.pad()
	if in != nil {
		n, err := io.Copy(w, in)
		if err != nil {
			return err
		}
		if n != size {
			return fmt.Errorf("%s has changed its size", f.host)
		}
	} else {
		w.Write(f.data)
	}
	return w.pad()
}

type countingWriter struct {
	w *bufio.Writer
	n int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.n += int64(n)
	return n, err
}

// pad fills up to a multiple of four bytes.
func (w *countingWriter) pad() error {
	_, err := w.Write(make([]byte, -w.n&3))
	return err
}
