// Package byol turns pictures into features, and learns to classify them from a few labelled examples, in the process
// that calls it. It is libbyol, a C library over ONNX Runtime, in Go's manner.
//
//	encoder, err := byol.OpenEncoder(byol.File("encoder.onnx"), nil)
//	...
//	defer encoder.Close()
//	features, err := encoder.ExtractFiles(ctx, paths, nil)
//	head, report, err := byol.Fit(ctx, features, labels, &byol.FitOptions{Encoder: encoder})
//	defer head.Close()
//	prediction, err := head.ClassifyImages(ctx, encoder, pictures, nil)
//
// # Building
//
// By default the package asks pkg-config for "byol", which `make install-sdk` installs. Two build tags change that:
// byol_static links libbyol.a, which pkg-config knows as "byol-static", so that the program needs no libbyol.so;
// byol_intree takes the header and target/release of the checkout that the package lies in, together with byol_static the
// archive there. ONNX Runtime is loaded at run time either way; [RuntimeOptions] says where it is sought.
//
// # Conventions
//
// Everything may be used by many goroutines at once. An [Encoder], [Head], [Trainer], [Features] or [Runtime] is closed
// once it is not needed any more; the garbage collector closes what was forgotten, but knows nothing of how much memory a model takes. Close
// may be called at any time and any number of times: calls that run finish, later ones fail with [ErrClosed].
//
// Calls whose work is long take a context first, and stop soon after it is done. Slices are read and written where they
// lie, without copies; don't change them during a call. No value that a caller passes makes the package panic.
//
// Options may be nil, and the zero value of every field is the default. Errors are of type *[Error], and match the
// constants Err... by [errors.Is].
package byol

/*
#include <byol.h>
*/
import "C"

import (
	"encoding/json"
	"sync"
)

// A Kind of thing that is open or closed, for [LiveHandles].
type Kind uint32

// The kinds of things that [LiveHandles] counts.
const (
	KindAny     Kind = C.BYOL_KIND_ANY     // all of them together
	KindRuntime Kind = C.BYOL_KIND_RUNTIME // [Runtime]
	KindEncoder Kind = C.BYOL_KIND_ENCODER // [Encoder]
	KindHead    Kind = C.BYOL_KIND_HEAD    // [Head]
	KindCancel  Kind = C.BYOL_KIND_CANCEL  // what a context becomes during a call

	KindFeatures Kind = C.BYOL_KIND_FEATURES // [Features]
	KindTrainer  Kind = C.BYOL_KIND_TRAINER  // [Trainer]
)

// LiveHandles says how many things of a kind are open in this process, for tests that look for leaks.
func LiveHandles(kind Kind) int {
	return int(C.byol_live_handles(C.uint32_t(kind)))
}

// Version is the version of the libbyol in use, such as "0.1.0".
func Version() string {
	return C.GoString(C.byol_version_string())
}

// VersionNumber is the version of the libbyol in use as major*1000000 + minor*1000 + patch.
func VersionNumber() int {
	return int(C.byol_version())
}

// BuildInfo says what libbyol is and runs on, as a JSON object: version, target, processor, picture formats, and, once
// it is loaded, ONNX Runtime's version, file and threads.
func BuildInfo() (json.RawMessage, error) {
	text, err := readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, e *C.byol_error) C.byol_status {
		return C.byol_build_info(buffer, capacity, needed, e)
	})
	return json.RawMessage(text), err
}

// Shutdown closes everything, and the log. Every later call that does work fails with [ErrShutdown]. For programs that
// want to see an end; nobody needs to call it.
func Shutdown() error {
	c := begin()
	return c.end(C.byol_shutdown(&c.err))
}

// compatible checks once that the library can serve the header this package was compiled with.
var compatible = sync.OnceValue(func() error {
	c := begin()
	return c.end(C.byol_abi_check(C.BYOL_VERSION_MAJOR, C.BYOL_VERSION_MINOR, &c.err))
})
