package sentry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ub/sentry/statfile"
)

func TestWillBypass(t *testing.T) {
	for args, want := range map[string]bool{
		"--root=/x --platform=ub --debug boot --bundle=/x --apply-caps=true c": true,
		"-platform=ub boot --device-fd=-1 c":                                   true,
		"--platform=systrap boot c":                                            false,
		"--platform=ub gofer c":                                                false,
		"boot c":                                                               false,
		"--platform=ub boot --device-fd=1000000 c":                             false, // there is none
	} {
		if got := willBypass(strings.Fields(args)); got != want {
			t.Errorf("%s: %v", args, got)
		}
	}
}

func TestBypasses(t *testing.T) {
	if !bypasses(-1) {
		t.Error("no statistics file: not the default configuration")
	}
	for _, want := range []uint64{0, 1} {
		c := statfile.DefaultConfig()
		c.Bypass = want
		path := filepath.Join(t.TempDir(), fmt.Sprint(want))
		s, err := statfile.Create(path, c)
		if err != nil {
			t.Fatal(err)
		}
		s.Unmap()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := bypasses(int(f.Fd())); got != (want != 0) {
			t.Errorf("bypass=%d: %v", want, got)
		}
		// It is for the platform to take over.
		if _, err := f.Stat(); err != nil {
			t.Errorf("the descriptor was closed: %v", err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if bypasses(int(null.Fd())) {
		t.Error("what is no statistics file says that there is bypass")
	}
}
