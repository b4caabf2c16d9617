package guest

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestGuest is the tell-tale: if it fails, it is not the module's fault.
func TestGuest(t *testing.T) {
	if err := Supported(); err != nil {
		if Required() {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			k, err := FindKernel(series)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			ko, err := k.BuildModule("testdata/hello", dir)
			if err != nil {
				t.Fatal(err)
			}
			m, err := NewImage(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Add("/hello.ko", ko); err != nil {
				t.Fatal(err)
			}
			if err := m.AddProgram("/usr/bin/sha256sum"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			vm, err := Boot(t.Context(), Options{Kernel: k, Image: m, PTI: series == "6.1"})
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			t.Logf("booted in %v", time.Since(began))
			check(t, vm, "uname -r", 0, k.Release+"\n")
			check(t, vm, "printf 'a\\0b'; exit 3", 3, "a\x00b")
			check(t, vm, "kill -9 $$", 128+9, "")
			check(t, vm, "echo x | /usr/bin/sha256sum", 0, "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac  -\n")
			check(t, vm, "sleep 1000 & echo begun", 0, "begun\n")
			check(t, vm, "ps | grep -c '[s]leep 1000'", 1, "0\n")
			check(t, vm, "seq 100000 | md5sum", 0, "dea9193b768319cbb4ff1a137ac03113  -\n")
			check(t, vm, "insmod /hello.ko && rmmod hello", 0, "")
			r, err := vm.Run("echo waiting; sleep 1000", time.Second)
			if err != nil || r.Status != StatusTimeout || r.Output != "waiting\n" {
				t.Errorf("a job that hangs: %+v, %v", r, err)
			}
			r, err = vm.Run("seq 100000", 10*time.Second)
			if err != nil || len(r.Output) != 588895 {
				t.Errorf("long output: %d bytes, %v", len(r.Output), err)
			}
			t.Logf("%d bytes in %v", len(r.Output), r.Took)
			r, err = vm.Run("insmod /hello.ko warn=1", 10*time.Second)
			var trouble *TroubleError
			if !errors.As(err, &trouble) || !strings.Contains(err.Error(), "hello_init") {
				t.Errorf("a warning was not seen: %+v, %v", r, err)
			}
		})
	}
}

func check(t *testing.T, vm *VM, script string, status int, output string) {
	t.Helper()
	r, err := vm.Run(script, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	if r.Status != status || r.Output != output {
		t.Errorf("%s: status %d, output %q; want %d, %q", script, r.Status, r.Output, status, output)
	}
}
