package byol

/*
#include <byol.h>
*/
import "C"

import "runtime"

// RuntimeOptions say how to start ONNX Runtime.
type RuntimeOptions struct {
	// Threads for all encoders together; 0 takes what the process may use.
	Threads int
	// Library is the ONNX Runtime library, or the folder it lies in. Empty looks for it: in the environment variable
	// BYOL_ONNXRUNTIME, in the folders of libbyol and of the program, at last where the system's loader looks.
	Library string
	// MaxMemory is the most bytes that libbyol itself may hold, ONNX Runtime's not counted; 0 for no limit. What sizes of
	// the caller decide fails with [ErrLimit] beyond it. Once set it stays.
	MaxMemory uint64
}

// A Runtime is ONNX Runtime, started with certain settings. There is one per process. Programs that need no settings
// need no Runtime: the first encoder starts it.
type Runtime struct {
	handle
}

// StartRuntime starts ONNX Runtime with certain settings, or fails with [ErrBusyConfig] if it runs with others.
func StartRuntime(options *RuntimeOptions) (*Runtime, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	if options == nil {
		options = &RuntimeOptions{}
	}
	var id C.byol_runtime
	o := C.byol_runtime_options{struct_size: C.sizeof_byol_runtime_options, max_memory: C.uint64_t(options.MaxMemory)}
	c := begin()
	var err error
	if o.threads, err = unsigned("Threads", options.Threads); err != nil {
		return nil, c.failed(err)
	}
	if options.Library != "" {
		if o.library, err = c.text("Library", options.Library); err != nil {
			return nil, c.failed(err)
		}
	}
	if err := c.end(C.byol_runtime_create(&o, &id, &c.err)); err != nil {
		return nil, err
	}
	r := new(Runtime)
	r.open(uint64(id.id), closeRuntime)
	return r, nil
}

func closeRuntime(id uint64) {
	C.byol_runtime_close(C.byol_runtime{id: C.uint64_t(id)}, nil)
}

// Close closes the Runtime; ONNX Runtime itself stays, and so do encoders. It may be called again, and returns nil.
func (r *Runtime) Close() error {
	if r != nil {
		r.close(closeRuntime)
		runtime.KeepAlive(r)
	}
	return nil
}

// RuntimeStats are what libbyol has done in this process and holds. Go's own memory counts only as part of the process.
type RuntimeStats struct {
	Threads       int    // that all encoders share; 0 before ONNX Runtime is started
	Calls         uint64 // of functions that can fail
	Failures      uint64 // of those
	Pictures      uint64 // whose features were asked for
	HeldBytes     uint64 // that libbyol has allocated now, ONNX Runtime's not counted
	HeldPeak      uint64 // the most that HeldBytes ever was
	MaxMemory     uint64 // the limit on HeldBytes; 0 for none
	ResidentBytes uint64 // of the process in memory; 0 where the system does not say
	ResidentPeak  uint64 // the most that ResidentBytes ever was
}

// Stats tells what libbyol has done and holds.
func Stats() (RuntimeStats, error) {
	if err := compatible(); err != nil {
		return RuntimeStats{}, err
	}
	c := begin()
	s := C.byol_runtime_stats{struct_size: C.sizeof_byol_runtime_stats}
	if err := c.end(C.byol_runtime_get_stats(&s, &c.err)); err != nil {
		return RuntimeStats{}, err
	}
	return RuntimeStats{
		Threads: int(s.threads), Calls: uint64(s.calls), Failures: uint64(s.failures), Pictures: uint64(s.pictures),
		HeldBytes: uint64(s.held_bytes), HeldPeak: uint64(s.held_peak), MaxMemory: uint64(s.max_memory),
		ResidentBytes: uint64(s.resident_bytes), ResidentPeak: uint64(s.resident_peak),
	}, nil
}

// Trim gives memory that nobody holds any more back to the system, where the C library can be told to.
func Trim() error {
	if err := compatible(); err != nil {
		return err
	}
	c := begin()
	return c.end(C.byol_runtime_trim(&c.err))
}
