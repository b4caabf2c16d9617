package sentry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/fd"
	"gvisor.dev/gvisor/pkg/sentry/platform"

	"ub/sentry/statfile"
)

func TestRegistered(t *testing.T) {
	c, err := platform.Lookup(Name)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Requirements().RequiresCapSysPtrace {
		t.Error("systrap needs CAP_SYS_PTRACE")
	}
}

func TestUnsupportedMachine(t *testing.T) {
	defer func(f func() error) { supported = f }(supported)
	supported = func() error { return errors.New("BMI2 is missing") }
	_, err := constructor{}.New(platform.Options{DeviceFile: fd.New(-1)})
	if err == nil || !strings.Contains(err.Error(), "BMI2 is missing") || !strings.Contains(err.Error(), "--platform=systrap") {
		t.Errorf("error %v: want the cause and the way out", err)
	}
}

func TestOpenDevice(t *testing.T) {
	if f, err := (constructor{}).OpenDevice(""); f != nil || err != nil {
		t.Errorf("no path: %v, %v", f, err)
	}
	dir := t.TempDir()
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("hello, I am something else entirely"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{wrong, filepath.Join(dir, "none"), dir} {
		if _, err := (constructor{}).OpenDevice(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("OpenDevice(%s): %v", path, err)
		}
	}
	path := filepath.Join(dir, "stat")
	c := statfile.DefaultConfig()
	c.MinShort = 77
	s, err := statfile.Create(path, c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unmap()
	f, err := constructor{}.OpenDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := openStats(f)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Unmap()
	if got, err := stats.Config(); err != nil || got.MinShort != 77 {
		t.Errorf("configuration through the device: %+v, %v", got, err)
	}
}

func TestSeccompInfo(t *testing.T) {
	i := seccompInfo{platform.StaticSeccompInfo{PlatformName: "systrap"}}
	if i.ConfigKey() == "systrap" {
		t.Error("the key is systrap's: gVisor would use its precompiled filter")
	}
}
