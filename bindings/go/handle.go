package byol

import (
	"runtime"
	"sync/atomic"
)

// A handle is what Encoder, Head and Runtime share: a number of libbyol's that is closed once, by Close or, where that
// was forgotten, after the garbage collector found the owner unreachable. libbyol itself refuses numbers that are
// closed, so a Close during a call is harmless; owners only keep themselves alive until C has returned.
type handle struct {
	id      atomic.Uint64
	cleanup runtime.Cleanup
}

func (h *handle) open(id uint64, release func(uint64)) {
	h.id.Store(id)
	h.cleanup = runtime.AddCleanup(h, release, id)
}

func (h *handle) close(release func(uint64)) {
	if id := h.id.Swap(0); id != 0 {
		h.cleanup.Stop()
		release(id)
	}
}
