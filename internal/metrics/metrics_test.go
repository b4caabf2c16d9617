package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ub/hot"
	"ub/sentry/statfile"
)

func TestServe(t *testing.T) {
	f, err := statfile.Private(statfile.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Unmap()
	f.Counters().Add(statfile.Native, 3)
	f.Counters().Add(statfile.Bypassed, 7)
	f.SetGap(5, statfile.Gap{Site: 1, State: uint8(hot.Kept), Bypassed: 1000, PayoffNS: 4000})
	f.SetGap(6, statfile.Gap{Site: 2, State: 200})
	f.SetThread(9, statfile.Thread{TID: 1})
	path := filepath.Join(t.TempDir(), "sock")
	for _, addr := range []string{"127.0.0.1:0", "unix:" + path} {
		s, err := Serve(addr, f)
		if err != nil {
			t.Fatal(err)
		}
		c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, s.Addr().Network(), s.Addr().String())
		}, DisableKeepAlives: true}}
		r, err := c.Get("http://localhost/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		for _, want := range []string{
			"\nub_native_total 3\n", "\nub_syscalls_total{way=\"bypassed\"} 7\n", "\nub_gaps{state=\"kept\"} 1\n", "\nub_saved_seconds 0.004\n",
			"\nub_threads 1\n", "\n# TYPE ub_sites_live gauge\n", "\n# TYPE ub_pairs_total counter\n",
		} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q in:\n%s", addr, want, text)
			}
		}
		if strings.HasPrefix(addr, "unix:") {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("socket: %v %v", st, err)
			}
			if _, err := Serve(addr, f); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("a second server at the same place: %v", err)
			}
		}
		s.Close()
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left")
	}
	// What a killed server leaves is replaced; anything else is not.
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve("unix:"+path, f); err == nil {
		t.Error("a file was replaced")
	}
}
