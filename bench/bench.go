// Package bench holds the C programs that benchmarks run.
package bench

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed c/*.c
var sources embed.FS

// Build compiles the program c/NAME.c with gcc into dir, statically linked or not, and returns the executable's path.
func Build(dir, name string, static bool) (string, error) {
	src, err := sources.ReadFile("c/" + name + ".c")
	if err != nil {
		return "", fmt.Errorf("no benchmark %s: %w", name, err)
	}
	bin := filepath.Join(dir, name+"-dynamic")
	args := []string{"-O2", "-Wall", "-Wextra", "-Werror", "-x", "c", "-"}
	if static {
		bin = filepath.Join(dir, name+"-static")
		args = append(args, "-static")
	}
	cmd := exec.Command("gcc", append(args, "-o", bin)...)
	cmd.Stdin = strings.NewReader(string(src))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return bin, nil
}
