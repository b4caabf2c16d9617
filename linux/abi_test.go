package linux

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"ub/btc"
	"ub/hot"
)

// structs are the structs of linux/module/ub_abi.h and what they are here.
var structs = map[string]any{
	"ub_version": Version{}, "ub_enrol": abiEnrol{}, "ub_reloc": abiReloc{}, "ub_entry": abiEntry{}, "ub_dirty": abiDirty{},
	"ub_fault": abiFault{}, "ub_range": abiRange{}, "ub_install": abiInstall{}, "ub_revoke": abiRevoke{}, "ub_control": Control{},
	"ub_stats": Stats{}, "ub_event": Event{}, "ub_gate": abiGate{}, "ub_passes": Passes{}, "ub_window": abiWindow{},
}

var constants = map[string]uint64{
	"UB_ABI_VERSION": ABIVersion,
	"UB_GET_VERSION": iocGetVersion, "UB_ENROL": iocEnrol, "UB_INSTALL": iocInstall, "UB_REVOKE": iocRevoke,
	"UB_CONTROL": iocControl, "UB_STATS": iocStats, "UB_WINDOW": iocWindow,
	"UB_GATE_NATIVE": gateNative, "UB_GATE_PROBE": gateProbe, "UB_GATE_TRIAL": gateTrial, "UB_GATE_KEPT": gateKept,
	"UB_FACT_SPLIT_LOCK": FactSplitLock, "UB_FACT_PTI": FactPTI, "UB_FACT_IBT": FactIBT, "UB_FACT_SMAP": FactSMAP, "UB_FACT_FRED": FactFRED,
	"UB_FAULT_ACCESS": faultAccess, "UB_FAULT_TOUCH": faultTouch, "UB_FAULT_POLL": faultPoll, "UB_FAULT_DIVIDE": faultDivide,
	"UB_FAULT_STRING": faultString, "UB_FAULT_F_STR": faultFStr, "UB_FAULT_F_SI": faultFSI,
	"UB_SET_ENABLED": setEnabled, "UB_SET_HOT": setHot, "UB_SET_MISS": setMiss, "UB_SET_CHAIN": setChain,
	"UB_EV_HOT": EventHot, "UB_EV_MISS": EventMiss, "UB_EV_FAULT": EventFault, "UB_EV_STOP": EventStop,
	"UB_EV_INVALID": EventInvalid, "UB_EV_LOST": EventLost, "UB_EV_GONE": EventGone, "UB_EV_RSEQ": EventRseq,
}

// TestABI compiles the module's header and compares what it says with this package: every struct, field by field, and
// every constant. Nothing in the header is without a counterpart.
func TestABI(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is missing: run scripts/deps.sh")
	}
	text, err := os.ReadFile("module/ub_abi.h")
	if err != nil {
		t.Fatal(err)
	}
	src := "#include <stdio.h>\n#include <stddef.h>\n#include \"ub_abi.h\"\nint main(void) {\n"
	n := 0
	for _, m := range regexp.MustCompile(`(?ms)^struct (ub_\w+) \{(.*?)^\};`).FindAllStringSubmatch(string(text), -1) {
		n++
		if structs[m[1]] == nil {
			t.Errorf("struct %s has no counterpart", m[1])
		}
		src += fmt.Sprintf("printf(\"%s %%zu\\n\", sizeof(struct %s));\n", m[1], m[1])
		for _, f := range regexp.MustCompile(`(?m)^\t__[us]\d+ (\w+);`).FindAllStringSubmatch(m[2], -1) {
			src += fmt.Sprintf("printf(\"%s.%s %%zu %%zu\\n\", offsetof(struct %s, %s), sizeof(((struct %s *)0)->%s));\n", m[1], f[1], m[1], f[1], m[1], f[1])
		}
	}
	if n != len(structs) {
		t.Errorf("%d structs in the header, %d here", n, len(structs))
	}
	n = 0
	for _, m := range regexp.MustCompile(`(?m)^#define (UB_\w+)[ \t]+\S`).FindAllStringSubmatch(string(text), -1) {
		if m[1] == "UB_IOC" {
			continue
		}
		n++
		if _, ok := constants[m[1]]; !ok {
			t.Errorf("%s has no counterpart", m[1])
		}
		src += fmt.Sprintf("printf(\"%s %%llu\\n\", (unsigned long long)%s);\n", m[1], m[1])
	}
	if n != len(constants) {
		t.Errorf("%d constants in the header, %d here", n, len(constants))
	}
	want := run(t, src+"return 0;\n}\n")

	var got strings.Builder
	for name, v := range constants {
		fmt.Fprintf(&got, "%s %d\n", name, v)
	}
	for name, v := range structs {
		typ := reflect.TypeOf(v)
		fmt.Fprintf(&got, "%s %d\n", name, typ.Size())
		for f := range typ.Fields() {
			fmt.Fprintf(&got, "%s.%s %d %d\n", name, fieldName(f.Name), f.Offset, f.Type.Size())
		}
	}
	have := map[string]bool{}
	for l := range strings.Lines(got.String()) {
		have[l] = true
	}
	for l := range strings.Lines(want) {
		if !have[l] {
			t.Errorf("the header has %q, this package has not", strings.TrimSpace(l))
		}
		delete(have, l)
	}
	for l := range have {
		t.Errorf("this package has %q, the header has not", strings.TrimSpace(l))
	}
}

// fieldName makes origDI orig_di, and MaxRelocs max_relocs; but the arrays' lengths are nrelocs and so on.
func fieldName(s string) string {
	for _, up := range []string{"DI", "SI", "ABI", "RIP", "NR", "NS", "TID"} {
		if s == up {
			return strings.ToLower(s)
		}
		if rest, ok := strings.CutSuffix(s, up); ok {
			s = rest + up[:1] + strings.ToLower(up[1:])
		}
	}
	s = regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(s, "${1}_$2")
	return strings.ToLower(s)
}

func run(t *testing.T, src string) string {
	t.Helper()
	dir := t.TempDir()
	c, bin := filepath.Join(dir, "abi.c"), filepath.Join(dir, "abi")
	if err := os.WriteFile(c, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-Wall", "-Werror", "-Wpadded", "-Imodule", "-o", bin, c).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(bin).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestKinds compares with packages btc and hot what the module numbers as they do.
func TestKinds(t *testing.T) {
	for k, n := range map[btc.FaultKind]int{
		btc.FaultAccess: faultAccess, btc.FaultTouch: faultTouch, btc.FaultPoll: faultPoll, btc.FaultDivide: faultDivide, btc.FaultString: faultString,
	} {
		if int(k) != n {
			t.Errorf("fault kind %d is %d to the module", k, n)
		}
	}
	for g, n := range map[uint32]uint32{
		hot.GateNative: gateNative, hot.GateProbe: gateProbe, hot.GateTrial: gateTrial, hot.GateKept: gateKept,
	} {
		if g != n {
			t.Errorf("gate %d is %d to the module", g, n)
		}
	}
}
