package machine

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is wrapped by what Supported returns.
var ErrUnsupported = errors.New("this machine cannot run translated code")

const (
	atHWCAP2        = 26
	hwcap2FSGSBASE  = 1 << 1 // the kernel lets programs use WRGSBASE
	fsgsbaseMessage = "FSGSBASE (CPU since Ivy Bridge or Zen 2, and enabled by Linux 5.9 or later)"
	bmi2Message     = "BMI2 (CPU since Haswell or Zen)"
)

// Supported returns nil when this CPU and kernel can run translated code, else an error that names all that is missing.
func Supported() error {
	var missing []string
	if !cpu.X86.HasBMI2 {
		missing = append(missing, bmi2Message)
	}
	if !kernelHasFSGSBASE() {
		missing = append(missing, fsgsbaseMessage)
	}
	if err := barrierSupported(); err != nil {
		missing = append(missing, err.Error())
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: missing %s", ErrUnsupported, strings.Join(missing, "; "))
	}
	return nil
}

// kernelHasFSGSBASE asks the kernel, not CPUID: the instructions fault unless the kernel has enabled them.
func kernelHasFSGSBASE() bool {
	aux, err := unix.Auxv()
	if err != nil {
		return false
	}
	for _, kv := range aux {
		if kv[0] == atHWCAP2 {
			return kv[1]&hwcap2FSGSBASE != 0
		}
	}
	return false
}
