package sentry

import (
	"errors"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/sentry/memmap"

	"ub/btc"
	"ub/sentry/machine"
	"ub/sentry/statfile"
	"ub/sfi"
)

// The order is what matters: code is retired, and threads are out of it, before the mirror and systrap's address space
// show the change.
func TestInvalidation(t *testing.T) {
	text := func(f *fakeFile) *fakeFile { return f }
	other := &fakeFile{name: "other"}
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, w *world, as *addressSpace, f *fakeFile)
		gone bool
		want []string
	}{
		{"unmap", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) { as.Unmap(0x1000, 0x1000) },
			true, []string{"retire 1100", "expel", "unmirror 1000+1000", "unmap 1000+1000"}},
		{"unmap everything", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) { as.Unmap(0, 1<<40) },
			true, []string{"retire 1100", "expel", "unmirror 0+10000000000", "unmap 0+10000000000"}},
		{"unmap the next page", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) { as.Unmap(0x2000, 0x1000) },
			false, []string{"unmirror 2000+1000", "unmap 2000+1000"}},
		{"unmap what is not mapped", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) { as.Unmap(0x9000, 0x1000) },
			false, []string{"unmap 9000+1000"}},
		{"another file", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x1000, other, 0, rx)
		}, true, []string{"retire 1100", "expel", "unmirror 1000+1000", "map 1000+1000", "mirror 1000+1000"}},
		{"another offset", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x1000, text(f), 0x11000, rx)
		}, true, []string{"retire 1100", "expel", "unmirror 1000+1000", "map 1000+1000", "mirror 1000+1000"}},
		{"the same again", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x2000, text(f), 0x10000, rx)
		}, false, []string{"map 1000+2000", "mirror 1000+2000"}},
		{"becomes writable", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x1000, text(f), 0x10000, hostarch.AnyAccess)
		}, true, []string{"retire 1100", "expel", "map 1000+1000", "mirror 1000+1000"}},
		{"loses execution", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x1000, text(f), 0x10000, ro)
		}, true, []string{"retire 1100", "expel", "map 1000+1000", "mirror 1000+1000"}},
		{"same bytes writable at another address", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x70000, 0x1000, text(f), 0x10000, rw)
		}, true, []string{"retire 1100", "expel", "map 70000+1000", "mirror 70000+1000"}},
		{"other bytes of the file writable", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x70000, 0x1000, text(f), 0x12000, rw)
		}, false, []string{"map 70000+1000", "mirror 70000+1000"}},
		{"same bytes writable in another address space", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, w.space(), 0x5000, 0x1000, text(f), 0x10000, rw)
		}, true, []string{"retire 1100", "expel", "map 5000+1000"}},
		{"mprotect that adds writing", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.e.protect(as, 0x1000, 1, 7)
		}, true, []string{"retire 1100", "expel"}},
		{"mprotect that does not", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.e.protect(as, 0x1000, 0x2000, 5)
		}, false, nil},
		{"mprotect elsewhere", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.e.protect(as, 0x2000, 0x1000, 7)
		}, false, nil},
		{"mprotect of a range that wraps", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.e.protect(as, 0x1000, ^uint64(0), 7)
		}, false, nil},
		{"tracer", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) { w.e.standDown(as) },
			true, []string{"retire 1100", "expel"}},
		{"release", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) { as.Release() },
			true, []string{"retire 1100", "release window", "release space"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			as, f := hotSite(t, w)
			tc.do(t, w, as, f)
			w.want("order", tc.want...)
			if live(as, 0x1100) == tc.gone {
				t.Errorf("entry there: %v, want %v", !tc.gone, !tc.gone)
			}
			blobs := 1
			if tc.gone {
				blobs = 0
			}
			w.wantCount(statfile.BlobsLive, blobs)
			w.wantCount(statfile.BlobBytesLive, blobs)
			w.wantCount(statfile.SitesLive, blobs)
			if n := len(w.e.code); n != blobs {
				t.Errorf("%d files with code, want %d", n, blobs)
			}
		})
	}
}

// After an invalidation the site may come back, with the new code.
func TestDroppedSiteComesBack(t *testing.T) {
	w := newWorld(t, nil)
	as, f := hotSite(t, w)
	as.Unmap(0x1000, 0x1000)
	w.e.nominate(as, 0x1100, nil)
	w.run()
	if live(as, 0x1100) {
		t.Fatal("live without code")
	}
	mapAt(t, as, 0x1000, 0x1000, f, 0x10000, rx)
	as.sites[0x1100].retryAt = time.Time{}
	w.e.nominate(as, 0x1100, nil)
	w.run()
	if !live(as, 0x1100) {
		t.Error("the site does not come back")
	}
	// After a mprotect that added writing it must not, even though nothing has been mapped anew.
	w.e.protect(as, 0x1000, 0x1000, 7)
	w.e.nominate(as, 0x1100, nil)
	w.run()
	if live(as, 0x1100) {
		t.Error("translated code that may be written")
	}
}

func TestCodeThatMayBeWrittenIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(t *testing.T, w *world, as *addressSpace, f *fakeFile)
	}{
		{"writable itself", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x1000, f, 0, hostarch.AnyAccess)
		}},
		{"not executable", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x1000, 0x1000, f, 0, ro)
		}},
		{"writable at another address", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, as, 0x9000, 0x1000, f, 0, rw)
		}},
		{"writable in another address space", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			mapAt(t, w.space(), 0x9000, 0x3000, f, 0, rw)
		}},
		{"changed between reading and publishing", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.beforeRead = func() { w.poke(0x1104, []byte{0x90}) }
		}},
		{"mapped anew between reading and publishing", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.beforeRead = func() {
				mapAt(t, as, 0x1000, 0x1000, &fakeFile{}, 0, rw)
			}
		}},
		{"traced meanwhile", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.beforeRead = func() { w.e.standDown(as) }
		}},
		{"released meanwhile", func(t *testing.T, w *world, as *addressSpace, f *fakeFile) {
			w.beforeRead = func() { as.Release() }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			as, f := w.space(), &fakeFile{}
			mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
			tc.set(t, w, as, f)
			w.e.nominate(as, 0x1100, nil)
			w.run()
			if w.count(statfile.Translations) == 0 {
				t.Fatal("not even tried")
			}
			if live(as, 0x1100) {
				t.Error("published")
			}
			w.wantCount(statfile.BlobsLive, 0)
			w.wantCount(statfile.BlobBytesLive, 0)
			if len(w.e.blobs) != 0 || len(w.e.code) != 0 || w.e.bytes != 0 {
				t.Errorf("left behind: %d blobs, %d files, %d bytes", len(w.e.blobs), len(w.e.code), w.e.bytes)
			}
		})
	}
}

func TestRecheckDropsChangedCode(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	w.e.recheck()
	if !live(as, 0x1100) {
		t.Fatal("unchanged code dropped")
	}
	w.poke(0x110f, []byte{1}) // the last byte of the source
	w.e.recheck()
	if live(as, 0x1100) {
		t.Error("changed code is still live")
	}
	w.want("order", "retire 1100", "expel")
}

func TestMissesExtendThePath(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	const branch, target = 0x1108, 0x1800
	for i := range firstMisses {
		if w.translated != 1 {
			t.Fatalf("translated after %d misses", i)
		}
		w.e.missed(as, branch, target, w.e.noGap, false, func() []uint64 { return []uint64{7, 8} })
		w.run()
	}
	if w.translated != 2 || !live(as, target) || !live(as, 0x1100) {
		t.Fatalf("translations %d, live: target %v, site %v", w.translated, live(as, target), live(as, 0x1100))
	}
	if h := w.hints[branch]; len(h) != 1 || h[0] != target {
		t.Errorf("hints %v", w.hints)
	}
	if s := w.stacks[target]; len(s) != 2 || s[0] != 7 {
		t.Errorf("stacks %v", w.stacks)
	}
	tab := as.entries.Load()
	if a, b := tab.entries[target], tab.entries[0x1100]; a.site != b.site || a.code.Installed() != b.code.Installed() {
		t.Error("the target is not part of the site's blob")
	}
	w.wantCount(statfile.BlobsLive, 1)
	w.want("the old blob goes, without waiting", "retire 1100")

	// Should the target be missed again, it takes as many misses as there have been, each time.
	for i := range 3 * firstMisses {
		if want := 2 + i/firstMisses - i/(2*firstMisses); w.translated != want {
			t.Fatalf("%d translations after %d more misses, want %d", w.translated, i, want)
		}
		w.e.missed(as, branch, target, w.e.noGap, false, noStack)
		w.run()
	}
	for range 8 * firstMisses {
		w.e.missed(as, branch, 0x1900, w.e.noGap, false, noStack)
		w.run()
	}
	if h := w.hints[branch]; len(h) != 2 || h[0] != 0x1900 {
		t.Errorf("hints are not the most frequent first: %#x", h)
	}

	// A branch that leads everywhere: its targets become sites of their own.
	for i := range 200 {
		w.e.missed(as, branch, 0x1a00+uint64(i%8)*16, w.e.noGap, false, noStack)
		w.run()
	}
	if s := as.sites[0x1a10]; s == nil || s.blob == nil || s.blob.root != s {
		t.Errorf("target of a megamorphic branch has no blob of its own: %+v", s)
	}
}

func TestMissFromUntranslatedCodeMakesASite(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	for range firstMisses {
		w.e.missed(as, 0x2f00, 0x2100, w.e.noGap, false, noStack)
	}
	w.run()
	if s := as.sites[0x2100]; s == nil || s.state != statfile.Live {
		t.Errorf("site %+v", s)
	}
	w.wantCount(statfile.BlobsLive, 2)
}

// TestReplacedBlobLeavesNoEntries: an entry that only the replaced blob had would lead to retired code. It would never be
// noted as missed either, because it is there.
func TestReplacedBlobLeavesNoEntries(t *testing.T) {
	w := newWorld(t, nil)
	w.entries = []uint64{0x1180}
	as, _ := hotSite(t, w)
	if !live(as, 0x1180) {
		t.Fatal("the first blob's entry is not live")
	}
	w.entries = []uint64{0x1190}
	for range firstMisses {
		w.e.missed(as, 0x1108, 0x1200, w.e.noGap, false, noStack)
	}
	w.run()
	for rip, want := range map[uint64]bool{0x1100: true, 0x1190: true, 0x1200: true, 0x1180: false} {
		if live(as, rip) != want {
			t.Errorf("%#x is an entry: %v, want %v", rip, !want, want)
		}
	}
	for rip, e := range as.entries.Load().entries {
		if e.code.Installed() != as.sites[0x1100].blob.installed {
			t.Errorf("entry %#x leads to another blob than the only one", rip)
		}
	}
}

func TestSiteThatDoesNotYieldIsRetired(t *testing.T) {
	w := newWorld(t, nil)
	as, _ := hotSite(t, w)
	s := as.sites[0x1100]
	c := cached{site: s, gap: w.e.noGap, entered: uint32(w.e.config.TrialEntries), bypassed: uint32(w.e.config.TrialEntries) * 6 / 10}
	s.count(&c)
	if !s.due(&w.e.config) {
		t.Fatal("not due")
	}
	w.e.judge(s)
	if s.state != statfile.Live || s.due(&w.e.config) {
		t.Fatalf("a site that yields 60 %% was not kept: %v", s.state)
	}
	c.bypassed = uint32(w.e.config.TrialEntries) * 4 / 10
	s.queued = true
	for range maxPostponed {
		s.count(&c)
		if w.e.judge(s); s.state != statfile.Live {
			t.Fatal("judged while more of the path is being translated")
		}
	}
	s.count(&c)
	w.e.judge(s)
	s.queued = false
	if s.state != statfile.Retired || live(as, 0x1100) {
		t.Fatalf("a site that yields 40 %% is %v", s.state)
	}
	w.want("retired without waiting", "retire 1100")
	w.wantCount(statfile.SitesRetired, 1)

	w.e.nominate(as, 0x1100, nil)
	w.run()
	if live(as, 0x1100) {
		t.Error("came back at once")
	}
	s.retryAt = time.Now().Add(-1)
	w.e.nominate(as, 0x1100, nil)
	w.run()
	if !live(as, 0x1100) {
		t.Error("never comes back")
	}
	if s.setBack(time.Time{}); s.retryAt.Sub(time.Time{}) != 2*time.Second {
		t.Errorf("second setback postpones by %v", s.retryAt.Sub(time.Time{}))
	}
}

func TestLimits(t *testing.T) {
	w := newWorld(t, func(c *statfile.Config) { c.MaxBlobs = 3 })
	as, f := w.space(), &fakeFile{}
	mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
	for i := range uint64(5) {
		w.e.nominate(as, 0x1000+i*32, nil)
		w.run()
	}
	for i := range uint64(5) {
		if got := live(as, 0x1000+i*32); got != (i >= 2) {
			t.Errorf("blob %d is live: %v", i, got)
		}
	}
	w.wantCount(statfile.BlobsLive, 3)
	w.wantCount(statfile.BlobsEvicted, 2)

	w.installErr = machine.ErrArenaFull
	w.e.nominate(as, 0x1f00, nil)
	w.run()
	if !live(as, 0x1f00) {
		t.Error("no room was made in a full arena")
	}
}

func TestForkedCodeReusesThePlan(t *testing.T) {
	w := newWorld(t, nil)
	parent, f := hotSite(t, w)
	for range firstMisses {
		w.e.missed(parent, 0x1108, 0x1800, w.e.noGap, false, noStack)
	}
	w.run()
	child := w.space()
	mapAt(t, child, 0x1000, 0x2000, f, 0x10000, rx)
	w.e.nominate(child, 0x1100, nil)
	w.run()
	if w.translated != 2 || !live(child, 0x1100) || !live(child, 0x1800) {
		t.Errorf("%d translations; child's entries: site %v, target %v", w.translated, live(child, 0x1100), live(child, 0x1800))
	}
	w.wantCount(statfile.PlansReused, 1)
	// Other code in the same place: a translation of its own.
	w.poke(0x1104, []byte{9})
	other := w.space()
	mapAt(t, other, 0x1000, 0x2000, f, 0x10000, rx)
	w.e.nominate(other, 0x1100, nil)
	w.run()
	if w.translated != 3 || !live(other, 0x1100) {
		t.Errorf("%d translations after the code differs", w.translated)
	}
	for i := range uint64(2 * maxPlans) {
		w.e.keep(i, &plan{})
	}
	if len(w.e.plans) > maxPlans {
		t.Errorf("%d plans kept", len(w.e.plans))
	}
}

func TestTranslatorPanicIsAFailure(t *testing.T) {
	w := newWorld(t, nil)
	as, f := w.space(), &fakeFile{}
	mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
	w.beforeRead = func() { panic("BUG") }
	w.e.nominate(as, 0x1100, nil)
	w.run()
	w.wantCount(statfile.TranslateFailed, 1)
	if live(as, 0x1100) {
		t.Error("published")
	}
}

func TestVerifierRefusal(t *testing.T) {
	w := newWorld(t, nil)
	as, f := w.space(), &fakeFile{}
	mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
	w.installErr = &sfi.Error{}
	w.e.nominate(as, 0x1100, nil)
	w.run()
	w.wantCount(statfile.VerifierRefused, 1)
	if live(as, 0x1100) || as.sites[0x1100].state != statfile.Refused {
		t.Errorf("state %v", as.sites[0x1100].state)
	}
}

func TestMirror(t *testing.T) {
	t.Run("lazy and complete", func(t *testing.T) {
		w := newWorld(t, nil)
		as, f := w.space(), &fakeFile{}
		mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
		mapAt(t, as, 0x5000, 0x1000, f, 0x8000, ro)
		w.want("no mirror yet", "map 1000+1000", "map 5000+1000")
		w.e.nominate(as, 0x1100, nil)
		w.run()
		w.want("all of it", "mirror 1000+1000", "mirror 5000+1000")
		w.wantCount(statfile.SpacesMirrored, 1)
	})
	t.Run("no window", func(t *testing.T) {
		w := newWorld(t, nil)
		w.windows = 0
		as, f := w.space(), &fakeFile{}
		mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
		w.e.nominate(as, 0x1100, nil)
		w.run()
		w.wantCount(statfile.SpacesNoWindow, 1)
		w.wantCount(statfile.SpacesMirrored, 0)
		w.windows = 1
		as.noMirror, as.sites[0x1100].retryAt = time.Time{}, time.Time{}
		w.e.nominate(as, 0x1100, nil)
		w.run()
		if !live(as, 0x1100) {
			t.Error("not live though a window is free again")
		}
	})
	t.Run("a mapping that fails is left out", func(t *testing.T) {
		w := newWorld(t, nil)
		as, f := hotSite(t, w)
		w.mapErr = errors.New("no")
		mapAt(t, as, 0x9000, 0x1000, f, 0, ro)
		w.want("order", "map 9000+1000")
		w.wantCount(statfile.MirrorMapFailed, 1)
		if !live(as, 0x1100) {
			t.Error("site lost")
		}
	})
	t.Run("a mapping that cannot be taken back ends the mirror", func(t *testing.T) {
		w := newWorld(t, nil)
		as, _ := hotSite(t, w)
		w.unmapErr = errors.New("no")
		as.Unmap(0x2000, 0x1000)
		w.want("order", "retire 1100", "expel", "release window", "unmap 2000+1000")
		if live(as, 0x1100) || as.mirror != nil {
			t.Error("mirror or entry left")
		}
		w.wantCount(statfile.SpacesMirrored, 0)
	})
	t.Run("inner failure", func(t *testing.T) {
		w := newWorld(t, nil)
		as, f := hotSite(t, w)
		as.inner.(*fakeSpace).err = errors.New("no")
		err := as.MapFile(0x2000, f, memmap.FileRange{Start: 0, End: 0x1000}, ro, false)
		if err == nil || as.maps.at(0x2000) != nil {
			t.Errorf("error %v, mapping %v", err, as.maps.at(0x2000))
		}
	})
	t.Run("windows come back", func(t *testing.T) {
		w := newWorld(t, nil)
		w.windows = 2
		for range 20 {
			as, _ := hotSite(t, w)
			as.Release()
		}
		if w.windows != 2 || w.e.mirroredMappings != 0 || len(w.e.mirrored) != 0 || len(w.e.spaces) != 0 {
			t.Errorf("%d windows free, %d mappings, %d mirrored, %d spaces", w.windows, w.e.mirroredMappings, len(w.e.mirrored), len(w.e.spaces))
		}
		w.wantCount(statfile.SpacesLive, 0)
		if n := len(w.e.freeSlots); n != statfile.NumSites {
			t.Errorf("%d of %d slots of the site table free", n, statfile.NumSites)
		}
	})
}

func TestUnpatch(t *testing.T) {
	// What systrap leaves: a jump through table entry 0x61230 in place of "mov $39, %eax; syscall", which ended at 0x1107.
	w := newWorld(t, nil)
	as, f := w.space(), &fakeFile{}
	mapAt(t, as, 0x1000, 0x1000, f, 0, rx)
	mapAt(t, as, 0x61000, 0x1000, f, 0x8000, rx)
	if !as.takeMirror() {
		t.Fatal("no mirror")
	}
	w.poke(0x1100, []byte{0xff, 0x24, 0x25, 0x30, 0x12, 0x06, 0x00, 0xc3})
	trap := make([]byte, trapSize)
	copy(trap, []byte{0x38, 0x12, 0x06})
	copy(trap[38:], []byte{0x48, 0xb8, 0x07, 0x11})
	copy(trap[57:], []byte{0xb8, 39})
	copy(trap[62:], []byte{0x65, 0xff, 0x24, 0x25, 0x10})
	w.poke(0x61230, trap)

	got := make([]byte, 8)
	if n, _ := newCodeReader(as).ReadCode(0x1100, got); n != 8 || string(got) != "\xb8\x27\x00\x00\x00\x0f\x05\xc3" {
		t.Errorf("patched code reads % x", got)
	}
	// The same jump elsewhere is no patch: the table entry belongs to 0x1107.
	w.poke(0x1200, []byte{0xff, 0x24, 0x25, 0x30, 0x12, 0x06, 0x00, 0xc3})
	if newCodeReader(as).ReadCode(0x1200, got); got[0] != 0xff {
		t.Errorf("a jump of the program's own reads % x", got)
	}
	w.memory[0x61230+57] = 0x90
	if newCodeReader(as).ReadCode(0x1100, got); got[0] != 0xff {
		t.Errorf("a jump through something else reads % x", got)
	}
}

func TestJournalAndSiteTable(t *testing.T) {
	w := newWorld(t, nil)
	w.source = []btc.Range{{Start: 0x1100, End: 0x1104}, {Start: 0x2ffe, End: 0x3000}}
	w.poke(0x1100, []byte{1, 2, 3, 4})
	as, _ := hotSite(t, w)
	blobs := w.e.stats.Blobs()
	if len(blobs) != 1 {
		t.Fatalf("%d blobs in the journal", len(blobs))
	}
	b := blobs[0]
	if b.Space != as.id || len(b.Entries) != 1 || b.Entries[0].RIP != 0x1100 || len(b.Sources) != 2 ||
		string(b.Sources[0].Code) != "\x01\x02\x03\x04" || b.Sources[1].Addr != 0x2ffe || len(b.Code) != 1 {
		t.Errorf("journal: %+v", b)
	}
	w.e.writeSites()
	if s := w.e.stats.Sites(); len(s) != 1 || s[0].Entry != 0x1100 || s[0].State != statfile.Live || s[0].CodeBytes != 1 {
		t.Errorf("sites: %+v", s)
	}
	as.Release()
	if s := w.e.stats.Sites(); len(s) != 1 || s[0].State != statfile.Dropped {
		t.Errorf("sites after the end: %+v", s)
	}
}
