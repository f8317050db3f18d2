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
	o := C.byol_runtime_options{struct_size: C.sizeof_byol_runtime_options}
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
