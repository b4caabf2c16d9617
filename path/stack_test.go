package path

import (
	"slices"
	"testing"
)

// TestStacks: from a stack that was seen, a path goes up through the functions that were active, past pushes, pops and
// frames; it stops where RSP is not known any more, and at words that are no return addresses.
func TestStacks(t *testing.T) {
	const (
		wrapper = 0x1000 // syscall; ret
		inner   = 0x2000 // calls wrapper; leaves a frame of 24 bytes and two registers
		outer   = 0x3000 // calls inner; jumps on to a syscall
		helper  = 0x4000 // called by inner afterwards; returns within the path
		framed  = 0x5000 // a function that ends by leave
		above   = 0x6000
	)
	p := program{
		wrapper: cat(syscall, ret),
		inner: cat(rel32(inner, wrapper, 0xe8), // +5: return site
			rel32(inner+5, helper, 0xe8),
			[]byte{0x48, 0x83, 0xc4, 0x18, 0x5b, 0x41, 0x5c}, ret), // add rsp,24; pop rbx; pop r12
		outer:  cat(rel32(outer, inner, 0xe8), xorEAX, syscall, ret),
		helper: cat([]byte{0x53, 0x48, 0x8d, 0x64, 0x24, 0xf0, 0x48, 0x8d, 0x64, 0x24, 0x10, 0x5b}, ret), // push rbx; lea rsp,[rsp-16]; lea rsp,[rsp+16]; pop
		framed: cat(rel32(framed, outer, 0xe8), []byte{0xc9}, ret),                                       // leave
		above:  cat(callRAX, xorEAX, syscall),
	}
	entry := uint64(wrapper + 2)
	stack := []uint64{inner + 5, 1, 2, 3, 4, 5, outer + 5, framed + 5, 0, above + 2}
	find := func(stacks Stacks) *Path {
		t.Helper()
		path, err := Order{Entries: []uint64{entry}, Stacks: stacks}.Discover(p)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	if p := find(nil); p.BlockAt(inner+5) != nil {
		t.Error("found the caller without a stack")
	}
	got := find(Stacks{entry: stack})
	for _, want := range []struct {
		at   uint64
		what string
		ok   bool
	}{
		{inner + 5, "the caller", true},
		{helper, "what it calls", true},
		{outer + 5, "its caller, above a frame", true},
		{framed + 5, "the caller of that, past a syscall", true},
		{above + 2, "what is above a leave", false},
	} {
		if b := got.BlockAt(want.at); (b != nil) != want.ok {
			t.Errorf("%s at %#x: found %v, want %v\n%s", want.what, want.at, b != nil, want.ok, describe(got))
		} else if want.ok && want.at != helper && !b.Entry {
			t.Errorf("%s at %#x is no entry", want.what, want.at)
		}
	}
	if b := got.BlockAt(entry); !slices.Equal(b.Targets, []uint64{inner + 5}) {
		t.Errorf("targets of the first return: %#x", b.Targets)
	}
	// The helper's return leads to its call only, though there are words on the stack.
	if b := got.BlockAt(helper); len(b.Targets) != 1 || b.Targets[0] != inner+10 {
		t.Errorf("targets of the helper's return: %#x", b.Targets)
	}
	// Words that are no return addresses: not behind a call, not code.
	for _, w := range []uint64{inner, 0x9999, 3} {
		if b := find(Stacks{entry: {w}}).BlockAt(entry); len(b.Targets) != 0 {
			t.Errorf("word %#x was taken for a return address", w)
		}
	}
}
