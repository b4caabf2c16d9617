package guest

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"
)

// console collects what a guest writes to its console.
type console struct {
	mu      sync.Mutex
	b       strings.Builder
	closed  bool
	changed chan struct{}
}

// copy reads r to its end.
func (c *console) copy(r io.Reader, also io.Writer) {
	buf := make([]byte, 8192)
	for {
		n, err := r.Read(buf)
		if n > 0 && also != nil {
			also.Write(buf[:n])
		}
		c.mu.Lock()
		c.b.WriteString(strings.ReplaceAll(string(buf[:n]), "\r", ""))
		c.closed = c.closed || err != nil
		if c.changed != nil {
			close(c.changed)
			c.changed = nil
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until s has been written after the first from bytes.
func (c *console) await(from int, s string, timeout time.Duration) error {
	end := time.After(timeout)
	for {
		c.mu.Lock()
		found := strings.Contains(c.b.String()[from:], s)
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		switch {
		case found:
			return nil
		case closed:
			return errors.New("the guest is gone")
		}
		select {
		case <-changed:
		case <-end:
			return errors.New("the guest's console is silent")
		}
	}
}

func (c *console) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Len()
}

func (c *console) from(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()[n:]
}

func (c *console) text() string { return c.from(0) }
