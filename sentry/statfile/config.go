package statfile

import (
	"encoding/binary"
	"fmt"
)

// Config is what a launcher tells a sandbox. All fields are plain numbers, so that the file needs no parser.
type Config struct {
	// Bypass is 1 for userspace bypass, 0 for plain systrap.
	Bypass uint64
	// Patching is 1 to let systrap replace syscall instructions by jumps, which makes crossings cheaper for
	// the calls that are not bypassed. Translation reads the original instructions in either case.
	Patching uint64

	// SampleEvery is the mean distance of the native syscalls that the identifier looks at; 1 for all.
	SampleEvery uint64
	// ShortGapNS is the time in nanoseconds, beyond that of a crossing, up to which a gap is short.
	ShortGapNS uint64
	// MinShort is the number of sampled short gaps within WindowMS milliseconds that make a site a candidate.
	MinShort uint64
	WindowMS uint64

	// MaxPathBlocks and MaxPathInsts limit one path.
	MaxPathBlocks uint64
	MaxPathInsts  uint64
	// MaxBlobs and MaxBlobBytes limit the blobs of the whole sandbox; an address space may have half of them.
	MaxBlobs     uint64
	MaxBlobBytes uint64

	// TrialEntries is the number of entries after which a site is judged: it is retired unless at least
	// MinYieldPercent of them ended in a bypassed syscall.
	TrialEntries    uint64
	MinYieldPercent uint64

	// Journal is 1 to record every installed blob with the program's bytes.
	Journal uint64
}

// DefaultConfig returns the configuration of a sandbox whose launcher says nothing.
func DefaultConfig() Config {
	return Config{
		Bypass:          1,
		Patching:        1,
		SampleEvery:     8,
		ShortGapNS:      8000,
		MinShort:        32,
		WindowMS:        500,
		MaxPathBlocks:   256,
		MaxPathInsts:    2048,
		MaxBlobs:        4096,
		MaxBlobBytes:    16 << 20,
		TrialEntries:    256,
		MinYieldPercent: 50,
		Journal:         1,
	}
}

// fields returns the fields in file order.
func (c *Config) fields() []*uint64 {
	return []*uint64{
		&c.Bypass, &c.Patching,
		&c.SampleEvery, &c.ShortGapNS, &c.MinShort, &c.WindowMS,
		&c.MaxPathBlocks, &c.MaxPathInsts, &c.MaxBlobs, &c.MaxBlobBytes,
		&c.TrialEntries, &c.MinYieldPercent, &c.Journal,
	}
}

// Check says what is wrong with c.
func (c Config) Check() error {
	for _, r := range []struct {
		name       string
		v, min, mx uint64
	}{
		{"Bypass", c.Bypass, 0, 1},
		{"Patching", c.Patching, 0, 1},
		{"SampleEvery", c.SampleEvery, 1, 1 << 20},
		{"ShortGapNS", c.ShortGapNS, 1, 1 << 32},
		{"MinShort", c.MinShort, 1, 1 << 20},
		{"WindowMS", c.WindowMS, 1, 1 << 32},
		{"MaxPathBlocks", c.MaxPathBlocks, 1, 1 << 16},
		{"MaxPathInsts", c.MaxPathInsts, 1, 1 << 20},
		{"MaxBlobs", c.MaxBlobs, 1, 1 << 20},
		{"MaxBlobBytes", c.MaxBlobBytes, 4096, 1 << 30},
		{"TrialEntries", c.TrialEntries, 1, 1 << 32},
		{"MinYieldPercent", c.MinYieldPercent, 0, 100},
		{"Journal", c.Journal, 0, 1},
	} {
		if r.v < r.min || r.v > r.mx {
			return fmt.Errorf("configuration: %s is %d, must be %d to %d", r.name, r.v, r.min, r.mx)
		}
	}
	return nil
}

func (c *Config) encode(b []byte) {
	for i, f := range c.fields() {
		binary.LittleEndian.PutUint64(b[8*i:], *f)
	}
}

// Config returns the configuration section. It fails when a value is out of range.
func (s *File) Config() (Config, error) {
	var c Config
	for i, f := range c.fields() {
		*f = binary.LittleEndian.Uint64(s.mem[configOff+8*i:])
	}
	return c, c.Check()
}
