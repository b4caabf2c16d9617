package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// PrivateRoot gives this thread a mount namespace of its own, in which the whole file system is mounted a second time, and
// returns where. The thread stays locked to its goroutine, which must execute runsc-ub next.
//
// gVisor's file server cannot mount anything below a root that is "/" itself: it mounts it over itself first, and what is
// mounted later ends up below that. And what is mounted in a namespace of our own is gone when we are, however we end.
func PrivateRoot() (string, error) {
	base, err := stateRoot()
	if err != nil {
		return "", err
	}
	// Everybody uses the same mount point, and nobody sees the others' mounts.
	root := filepath.Join(base, "root")
	if err := os.Mkdir(root, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", fmt.Errorf("making a mount namespace: %w", err)
	}
	// What the system mounts later may become visible here, but not the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return "", fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("/", root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("mounting / at %s: %w", root, err)
	}
	return root, nil
}
