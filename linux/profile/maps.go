package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
)

// mapping is an executable piece of a process's address space.
type mapping struct {
	start, end uint64
	offset     uint64 // in the file
	path       string // as the kernel shows it; "[vdso]", or "" if no file is behind it
	id         string // device and inode
}

// addressSpace is what a process had mapped when it was looked at.
type addressSpace struct {
	pid  uint32
	maps []mapping
}

// readMaps reads the executable mappings of a process.
func readMaps(pid uint32) (*addressSpace, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	return &addressSpace{pid: pid, maps: parseMaps(b)}, nil
}

// parseMaps reads the format of /proc/PID/maps.
func parseMaps(b []byte) []mapping {
	var out []mapping
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		// start-end perms offset dev inode path, and the path can have spaces
		f := strings.SplitN(sc.Text(), " ", 6)
		if len(f) < 5 || !strings.Contains(f[1], "x") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		offset, err3 := strconv.ParseUint(f[2], 16, 64)
		if err1 != nil || err2 != nil || err3 != nil {
			continue
		}
		m := mapping{start: start, end: end, offset: offset, id: f[3] + " " + f[4]}
		if len(f) == 6 {
			m.path = strings.TrimSuffix(strings.TrimLeft(f[5], " "), " (deleted)")
		}
		out = append(out, m)
	}
	return out
}

// find returns the mapping that addr is in.
func (s *addressSpace) find(addr uint64) (mapping, bool) {
	i := sort.Search(len(s.maps), func(i int) bool { return s.maps[i].end > addr })
	if i == len(s.maps) || s.maps[i].start > addr {
		return mapping{}, false
	}
	return s.maps[i], true
}

// files returns where the file of m can be opened, best first: the link in /proc also leads to files that were deleted or
// that belong to another mount namespace, the others serve when the process has ended.
func (s *addressSpace) files(m mapping) []string {
	return []string{
		fmt.Sprintf("/proc/%d/map_files/%x-%x", s.pid, m.start, m.end),
		fmt.Sprintf("/proc/%d/root%s", s.pid, m.path),
		m.path,
	}
}
