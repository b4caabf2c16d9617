// Command runsc-ub is gVisor's runsc with the platform "ub" in it: --platform=ub works wherever runsc takes a platform.
package main

import (
	"os"
	"path/filepath"

	"gvisor.dev/gvisor/runsc/cli/maincli"

	"ub/internal/launch"
	"ub/internal/runner"
	"ub/sentry" // registers the platform
)

// sidecars is the environment variable that says where runsc's helper programs are.
const sidecars = "GVISOR_SIDECAR_BINARIES_DIR"

func main() {
	// Beside an installed runsc there may be a separate Sentry, which runsc prefers over itself: it does not know our
	// platform. So helpers are looked for in a place of our own; runsc has what it needs in itself.
	if os.Getenv(sidecars) == "" {
		if self, err := os.Executable(); err == nil {
			os.Setenv(sidecars, filepath.Join(filepath.Dir(self), "runsc-ub-bin"))
		}
	}
	if len(os.Args) == 3 && os.Args[1] == launch.Subcommand {
		runner.Main(os.Args[2])
	}
	sentry.Prepare(os.Args[1:])
	maincli.Main()
}
