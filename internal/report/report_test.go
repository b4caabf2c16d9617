package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"ub/sentry/statfile"
)

func collect(t *testing.T, bypass bool) *Stats {
	t.Helper()
	f, err := statfile.Private(statfile.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Unmap()
	c := f.Counters()
	c.Add(statfile.Native, 250)
	c.Add(statfile.Bypassed, 1_234_750)
	c.Add(statfile.Crossings, 300)
	c.Add(statfile.Translations, 4)
	c.Add(statfile.TranslateNS, 10_000_000)
	c.Add(statfile.ExitSyscall, 1_234_750)
	c.Add(statfile.VerifierRefused, 2)
	f.SetSite(0, statfile.Site{Entry: 0x1000, Space: 1, State: statfile.Live, Entered: 5})
	f.SetSite(1, statfile.Site{Entry: 0x2000, Space: 1, State: statfile.Retired, Entered: 7})
	return Collect(f, bypass)
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := collect(t, true).Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  syscalls       1,235,000\n", "  bypassed       1,234,750 (100.0 %)\n", "  crossings      300\n", "4, 2.5ms each",
		"  verifier       2 refused\n", "1,234,750 syscall, 0 miss",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := collect(t, true).JSON(&b); err != nil {
		t.Fatal(err)
	}
	var s Stats
	if err := json.Unmarshal(b.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Syscalls != 1_235_000 || s.Bypassed != 1_234_750 || s.Share < 0.999 || s.Share >= 1 || !s.Bypass {
		t.Errorf("%+v", s)
	}
	if len(s.Counters) != int(statfile.NumCounters) || s.Counters["verifier_refused"] != 2 {
		t.Errorf("%d counters: %v", len(s.Counters), s.Counters)
	}
	if len(s.Sites) != 2 || s.Sites[0].Entry != "0x2000" || s.Sites[0].State != "retired" {
		t.Errorf("%+v", s.Sites)
	}
}

func TestGroupAndShare(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 123456: "123,456", 1234567: "1,234,567"} {
		if got := Group(n); got != want {
			t.Errorf("Group(%d) = %q, want %q", n, got, want)
		}
	}
	if Share(0, 0) != 0 || Share(1, 4) != 0.25 {
		t.Error("Share")
	}
}
