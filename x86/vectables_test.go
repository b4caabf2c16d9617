package x86

import (
	"go/format"
	"os"
	"testing"
)

func TestVectorTables(t *testing.T) {
	z := needZydis(t)
	for _, f := range []struct {
		file, name string
		spaces     []int
	}{
		{"table_sse.go", "groupsSSE", []int{1, 2, 3}},
		{"table_avx.go", "groupsAVX", []int{spaceVEX, spaceVEX + 1, spaceVEX + 2}},
		{"table_evex.go", "groupsEVEX", []int{spaceEVEX, spaceEVEX + 1, spaceEVEX + 2}},
	} {
		got, err := format.Source([]byte(z.vecTable(f.name, f.spaces...)))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(f.file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(f.file)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(got) {
			t.Errorf("%s differs from what Zydis knows: run go test -run TestVectorTables -update and look at the difference", f.file)
		}
	}
}
