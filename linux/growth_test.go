package linux

import (
	"encoding/binary"
	"testing"
	"time"
)

// What the translated code at an address is, only the blob tells that is there.
func TestMissOfCodeThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.feed(hotEvent(behind, 64))
	e := w.miss(branch, callee, 4)
	w.revoke(w.blobs[0])
	w.feed(e, missEvent(branch, callee, 4))
	if len(w.hints) != 0 || w.sites[callee] != nil {
		t.Errorf("hints %v, site %+v", w.hints, w.sites[callee])
	}
}

// twoCalls is a program that calls two functions through pointers.
func twoCalls() *fakeMemory {
	m := &fakeMemory{base: base, code: make([]byte, 3*pageSize)}
	copy(m.code, []byte{
		0xb8, 0x27, 0, 0, 0, // mov eax, 39
		0x0f, 0x05, // syscall
		0xff, 0xd2, // call rdx
		0xff, 0xd1, // call rcx
		0xeb, 0xf3, // jmp base
	})
	copy(m.code[4096:], []byte{0x48, 0xff, 0xcb, 0xc3}) // dec rbx; ret
	copy(m.code[8192:], []byte{0x48, 0xff, 0xc3, 0xc3}) // inc rbx; ret
	return m
}

const callee2 = base + 8192

func TestRequestsForOnePathAreOneTranslation(t *testing.T) {
	w := newWorld(t)
	w.memory = twoCalls()
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(base+7, callee, 4), w.miss(base+9, callee2, 4))
	if w.d.nextID != 2 || w.counts.Merged != 1 || w.entries[callee].id != 2 || w.entries[callee2].id != 2 {
		t.Errorf("%d translations, %+v, entries %v", w.d.nextID, w.counts, w.entries)
	}
}

// When a path cannot be made with all that is asked for, each request has a try of its own.
func TestMergedRequestsFailApart(t *testing.T) {
	w := newWorld(t)
	w.memory = twoCalls()
	w.feed(hotEvent(behind, 64))
	binary.LittleEndian.PutUint16(w.memory.(*fakeMemory).code[4096:], 0x0b0f) // ud2, at the first target
	w.feed(w.miss(base+7, callee, 4), w.miss(base+9, callee2, 4))
	if w.entries[callee] != nil || w.sites[callee].state != Refused || w.entries[callee2] == nil {
		t.Errorf("%+v, %+v", w.sites[callee], w.sites[callee2])
	}
	if len(w.queue) != 0 || w.sites[callee].queued || w.sites[callee2].queued {
		t.Error("something is still waiting")
	}
}

// A piece has what is missed, and leaves out what other paths have.
func TestPieces(t *testing.T) {
	w := newWorld(t)
	w.memory = twoCalls()
	w.config.MaxExtensions = 0
	// The first function goes on where the loop is.
	copy(w.memory.(*fakeMemory).code[4096:], []byte{0x48, 0xff, 0xcb, 0xe9, 0xf9, 0xef, 0xff, 0xff}) // jmp base+1
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(base+7, callee, 4))
	b := w.entries[callee]
	if b == nil || !b.root.piece || w.counts.Pieces != 1 {
		t.Fatalf("%+v, %+v", b, w.counts)
	}
	if b.covers(behind) {
		t.Errorf("it has what the first path has: %v", b.source)
	}
	if l := b.root.limits(&w.config); l != w.config.Pieces {
		t.Errorf("limits %+v", l)
	}
}

// What translation takes is paid from what mode switches cost.
func TestBudget(t *testing.T) {
	w := newWorld(t)
	w.config.TranslateFirst, w.config.TranslatePercent, w.config.CrossingNS = 0, 50, 100
	w.policy = w.config.policy()
	w.budget.Spend(uint64(time.Millisecond))
	w.feed(hotEvent(behind, 64))
	if w.d.nextID != 0 || len(w.queue) != 1 {
		t.Fatal("translated without a budget")
	}
	w.d.stats.Hooks, w.d.stats.Chained = 12_000, 9_000 // 2.1 ms
	w.judge()
	w.feed()
	if w.d.nextID != 1 || len(w.queue) != 0 {
		t.Error("not translated when it was paid for")
	}
}

// A path that begins with a vector instruction, and has other places to enter, is of no use without them.
func TestRootIsAnEntry(t *testing.T) {
	w := newWorld(t)
	m := twoCalls()
	// pxor xmm0, xmm0; call behind this; nop; ret
	copy(m.code[4096:], []byte{0x66, 0x0f, 0xef, 0xc0, 0xe8, 1, 0, 0, 0, 0x90, 0xc3})
	w.memory = m
	w.config.MaxExtensions = 0
	w.feed(hotEvent(behind, 64))
	w.feed(w.miss(base+7, callee, 4))
	if b := w.entries[callee]; b == nil || b.root != w.sites[callee] || !b.root.vectors {
		t.Errorf("%+v, entries %v", w.sites[callee], w.entries)
	}
}
