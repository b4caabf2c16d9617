package guest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed agent/agent.c
var agentSource []byte

// NewImage returns an image with a shell, the usual small programs (busybox) and the agent that package guest talks to.
// scratch is a directory for what has to be compiled.
func NewImage(scratch string) (*Image, error) {
	m := &Image{}
	for _, d := range []string{"/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var/log", "/etc"} {
		m.Dir(d)
	}
	agent := filepath.Join(scratch, "agent")
	if err := os.WriteFile(agent+".c", agentSource, 0o644); err != nil {
		return nil, err
	}
	if err := CompileC(agent, agent+".c"); err != nil {
		return nil, err
	}
	if err := m.Add("/init", agent); err != nil {
		return nil, err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("busybox is missing: run scripts/deps.sh")
	}
	if err := m.Add("/bin/busybox", busybox); err != nil {
		return nil, err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			m.Link("/bin/"+a, "busybox")
		}
	}
	m.Write("/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\nwww-data:x:33:33:www-data:/:/bin/sh\n"), 0o644)
	m.Write("/etc/group", []byte("root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\n"), 0o644)
	m.Write("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644)
	m.Write("/etc/nsswitch.conf", []byte("passwd: files\ngroup: files\nhosts: files\n"), 0o644)
	return m, nil
}

// CompileC compiles a C program for a guest: static, so that it needs nothing else there.
func CompileC(bin string, args ...string) error {
	cmd := exec.Command("gcc", append([]string{"-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-static", "-o", bin}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// libraryLine is a line of ldd's: "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x...)", or the loader's path alone.
var libraryLine = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?(/\S+) \(0x`)

// AddProgram puts a program of the host at its own path into the guest, with the libraries that it is linked to.
func (m *Image) AddProgram(host string) error {
	if err := m.Add(host, host); err != nil {
		return err
	}
	out, err := exec.Command("ldd", host).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") || strings.Contains(string(out), "statically linked") {
			return nil
		}
		return fmt.Errorf("ldd %s: %w\n%s", host, err, out)
	}
	for _, l := range libraryLine.FindAllStringSubmatch(string(out), -1) {
		if m.Has(l[1]) {
			continue
		}
		if err := m.Add(l[1], l[1]); err != nil {
			return err
		}
	}
	return nil
}
