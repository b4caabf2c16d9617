package launch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// MetricsAddr checks an address for metrics and completes it: "unix:" and an absolute path, or a loopback address and a
// port. Metrics have no access control of their own, and say which code a program runs: they stay on this machine.
func MetricsAddr(s string) (string, error) {
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		if p == "" {
			return "", errors.New("unix: without a path")
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return "", err
		}
		const maxLen = 107 // of sun_path
		if len(abs) > maxLen {
			return "", fmt.Errorf("%s is longer than the %d bytes that a socket's name may have", abs, maxLen)
		}
		return "unix:" + abs, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is neither HOST:PORT nor unix:PATH", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q is no port number", port)
	}
	switch host {
	case "", "localhost":
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", fmt.Errorf("%s is no loopback address: metrics are served on this machine only; use 127.0.0.1, [::1] or unix:PATH", host)
	}
	return net.JoinHostPort(host, port), nil
}
