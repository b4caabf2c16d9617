package guest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

// Step is an instruction that was executed.
type Step struct {
	PC   uint64
	Noop bool
}

// Trace lets the guest come to an address, and from there execute one instruction after another until it is there again,
// often times. It returns all these instructions; interrupts wait meanwhile. Of a guest with Options.Debug,
// also while a job is running, which goes on afterwards.
func (vm *VM) Trace(at uint64, often int, timeout time.Duration) ([]Step, error) {
	c, err := net.Dial("unix", filepath.Join(vm.dir, "debug"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	s := &stub{c: c, in: bufio.NewReader(c)}
	for _, command := range []string{fmt.Sprintf("Z1,%x,1", at), "c", fmt.Sprintf("z1,%x,1", at)} {
		if _, err := s.do(command); err != nil {
			return nil, err
		}
	}
	const most = 100_000
	var steps []Step
	noops := map[uint64]bool{}
	for n := 0; len(steps) < most; {
		pc, err := s.pc()
		if err != nil {
			return nil, err
		}
		if pc == at {
			if n++; n > often {
				_, err := s.do("D")
				return steps, err
			}
		}
		noop, known := noops[pc]
		if !known {
			if noop, err = s.noop(pc); err != nil {
				return nil, err
			}
			noops[pc] = noop
		}
		steps = append(steps, Step{pc, noop})
		if _, err := s.do("s"); err != nil {
			return nil, err
		}
	}
	if _, err := s.do("D"); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the guest does not come back to %#x in %d instructions", at, most)
}

// stub speaks GDB's remote protocol with QEMU.
type stub struct {
	c  net.Conn
	in *bufio.Reader
}

// do sends a packet and returns the answer.
func (s *stub) do(command string) (string, error) {
	sum := byte(0)
	for i := range len(command) {
		sum += command[i]
	}
	if _, err := fmt.Fprintf(s.c, "$%s#%02x", command, sum); err != nil {
		return "", err
	}
	for {
		answer, err := s.answer()
		switch {
		case err != nil:
			return "", fmt.Errorf("no answer to %q: %w", command, err)
		case answer == "", answer[0] == 'E':
			return "", fmt.Errorf("the answer to %q is %q", command, answer)
		case answer[0] != 'T' || command == "c" || command == "s":
			return answer, nil
		}
		// That the guest has stopped when we came: nobody has asked.
	}
}

func (s *stub) answer() (string, error) {
	// An acknowledgement may come first.
	if _, err := s.in.ReadString('$'); err != nil {
		return "", err
	}
	answer, err := s.in.ReadString('#')
	if err != nil {
		return "", err
	}
	if _, err := io.CopyN(io.Discard, s.in, 2); err != nil {
		return "", err
	}
	_, err = s.c.Write([]byte("+"))
	return answer[:len(answer)-1], err
}

// noop reports whether there is a NOP at an address: 90, or 0F 1F, behind any number of prefixes 66 and one 2E.
func (s *stub) noop(at uint64) (bool, error) {
	text, err := s.do(fmt.Sprintf("m%x,%x", at, 8))
	if err != nil {
		return false, err
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return false, err
	}
	b = bytes.TrimLeft(b, "\x66")
	b = bytes.TrimPrefix(b, []byte{0x2e})
	return bytes.HasPrefix(b, []byte{0x90}) || bytes.HasPrefix(b, []byte{0x0f, 0x1f}), nil
}

// pc is where the guest is: after the sixteen registers.
func (s *stub) pc() (uint64, error) {
	regs, err := s.do("g")
	if err != nil {
		return 0, err
	}
	const at = 16 * 16
	if len(regs) < at+16 {
		return 0, fmt.Errorf("what are registers like %q", regs)
	}
	b, err := hex.DecodeString(regs[at : at+16])
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}
