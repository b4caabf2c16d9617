package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kernel is a kernel to boot, as scripts/kernels.sh has unpacked it.
type Kernel struct {
	Series  string // 6.1
	Release string // 6.1.0-56-cloud-amd64
	Image   string
	Build   string // the headers, for Kbuild
}

// Series are the kernels that the module is made for and tested on, the first one in full.
var Series = []string{"6.1", "6.12"}

// Dir is where kernels are.
func Dir() string {
	if d := os.Getenv("UB_KERNELS"); d != "" {
		return d
	}
	return "/var/cache/ub/kernels"
}

// FindKernel finds the kernel of a series.
func FindKernel(series string) (*Kernel, error) {
	dir := filepath.Join(Dir(), series)
	b, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return nil, fmt.Errorf("there is no kernel %s in %s: run scripts/kernels.sh", series, Dir())
	}
	return &Kernel{
		Series:  series,
		Release: strings.TrimSpace(string(b)),
		Image:   filepath.Join(dir, "vmlinuz"),
		Build:   filepath.Join(dir, "build"),
	}, nil
}
