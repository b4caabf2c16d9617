package guest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// BuildModule builds the module whose source is in dir for a kernel, in a copy of dir below scratch, and returns the path
// of the .ko file. A warning is an error.
func (k *Kernel) BuildModule(dir, scratch string) (string, error) {
	copied := filepath.Join(scratch, filepath.Base(dir)+"-"+k.Series)
	if err := copyTree(copied, dir); err != nil {
		return "", err
	}
	cmd := exec.Command("make", "-C", k.Build, "M="+copied, "modules")
	cmd.Env = BuildEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building %s for %s: %w\n%s", dir, k.Release, err, out)
	}
	if w := warnings(out); w != "" && os.Getenv("UB_VM_WARNINGS") == "" {
		return "", fmt.Errorf("building %s for %s: warnings\n%s", dir, k.Release, w)
	}
	found, err := filepath.Glob(filepath.Join(copied, "*.ko"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("building %s for %s made %d modules, not one", dir, k.Release, len(found))
	}
	return found[0], nil
}

// BuildEnv is the environment for Kbuild: without make's own variables, of a `make test` that runs it, which are not meant for it.
func BuildEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MAKE") && !strings.HasPrefix(e, "MFLAGS=") {
			env = append(env, e)
		}
	}
	return append(env, "LC_ALL=C")
}

var (
	warningLine = regexp.MustCompile(`(?i)warning|^ERROR`)
	// The headers come without the image, and may have been made with an older build of the same compiler.
	harmless = regexp.MustCompile(`the compiler differs from the one used|The kernel was built by|You are using|Skipping BTF generation`)
)

func warnings(out []byte) string {
	var b strings.Builder
	for _, l := range bytes.Split(out, []byte("\n")) {
		if warningLine.Match(l) && !harmless.Match(l) {
			fmt.Fprintf(&b, "%s\n", l)
		}
	}
	return b.String()
}

// copyTree copies the regular files of a directory, but for what a build has left there.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, p)
		switch ext := filepath.Ext(p); {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular(), ext == ".o", ext == ".ko", ext == ".cmd", ext == ".mod":
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
}
