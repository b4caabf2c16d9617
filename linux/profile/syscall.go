package profile

import "strconv"

//go:generate go run gen_names.go

// syscallName returns the name of x86-64's system call nr.
func syscallName(nr uint32) string {
	switch {
	case nr == ^uint32(0):
		return "(signal)" // the return of rt_sigreturn shows the interrupted state, without a number
	case nr < uint32(len(syscallNames)) && syscallNames[nr] != "":
		return syscallNames[nr]
	}
	return "syscall_" + strconv.FormatUint(uint64(nr), 10)
}
