package byol

/*
#include <byol.h>
*/
import "C"

import "fmt"

// A Status says how something went. It is an error itself, for [errors.Is]:
//
//	if errors.Is(err, byol.ErrImageDecode) { ... }
type Status int32

// What can go wrong. The numbers are libbyol's, and stay.
const (
	OK                  Status = C.BYOL_OK                  // success; never an error, but seen in ExtractOptions.Statuses
	ErrInvalidArgument  Status = C.BYOL_E_INVALID_ARG       // an argument or option has a value that means nothing
	ErrNilPointer       Status = C.BYOL_E_NULL_POINTER      // something that must not be nil or empty is
	ErrClosed           Status = C.BYOL_E_HANDLE            // an Encoder, Head or Runtime is closed, or was never opened
	ErrABI              Status = C.BYOL_E_ABI               // the library is older than this package, or another major version
	ErrNoMemory         Status = C.BYOL_E_NO_MEMORY         // not enough memory
	ErrIO               Status = C.BYOL_E_IO                // a file or folder can't be read or written
	ErrNotFound         Status = C.BYOL_E_NOT_FOUND         // a file, a metadata key or a class does not exist
	ErrUnsupported      Status = C.BYOL_E_UNSUPPORTED       // this build of libbyol can't do that
	ErrUnsupportedCPU   Status = C.BYOL_E_UNSUPPORTED_CPU   // this processor lacks instructions that are needed
	ErrModelInvalid     Status = C.BYOL_E_MODEL_INVALID     // not an ONNX model, or a damaged one
	ErrModelUnsupported Status = C.BYOL_E_MODEL_UNSUPPORTED // an ONNX model that can't serve as an encoder
	ErrShape            Status = C.BYOL_E_SHAPE             // sizes that must agree do not
	ErrImageDecode      Status = C.BYOL_E_IMAGE_DECODE      // a picture can't be decoded
	ErrLimit            Status = C.BYOL_E_LIMIT             // a picture, file or model is larger than allowed
	ErrBufferTooSmall   Status = C.BYOL_E_BUFFER_TOO_SMALL  // a slice to write to is too short
	ErrLabel            Status = C.BYOL_E_LABEL             // labels and rows, or labels and classes, do not fit together
	ErrNonFinite        Status = C.BYOL_E_NON_FINITE        // a feature is NaN or infinite
	ErrData             Status = C.BYOL_E_DATA              // there is nothing to learn from the examples
	ErrCorrupt          Status = C.BYOL_E_CORRUPT           // a file is not what it should be
	ErrNewerFormat      Status = C.BYOL_E_NEWER_FORMAT      // a file was written by a newer byol
	ErrCancelled        Status = C.BYOL_E_CANCELLED         // stopped by a context or by a progress function
	ErrDeadline         Status = C.BYOL_E_DEADLINE          // stopped at a context's deadline
	ErrBusyConfig       Status = C.BYOL_E_BUSY_CONFIG       // the process already runs ONNX Runtime with other settings
	ErrForked           Status = C.BYOL_E_FORKED            // the process was forked after it first used libbyol
	ErrRuntime          Status = C.BYOL_E_RUNTIME           // ONNX Runtime failed, or can't be loaded
	ErrPanic            Status = C.BYOL_E_PANIC             // a defect in libbyol was caught; please report the message
	ErrShutdown         Status = C.BYOL_E_SHUTDOWN          // Shutdown was called
	ErrWrongEncoder     Status = C.BYOL_E_WRONG_ENCODER     // the head was fitted on the features of another encoder
	ErrNoOptimum        Status = C.BYOL_E_NO_OPTIMUM        // unpenalised, and the classes can be told apart without error
	ErrNotConverged     Status = C.BYOL_E_NOT_CONVERGED     // the solver ran out of iterations
	ErrReentrant        Status = C.BYOL_E_REENTRANT         // a callback called what it must not call
	ErrChecksum         Status = C.BYOL_E_CHECKSUM          // a model's SHA-256 is not the one that was asked for
	ErrOther            Status = C.BYOL_E_OTHER             // a failure that this version has no code for
)

// Name is the status' name in C, such as "BYOL_E_SHAPE".
func (s Status) Name() string {
	return C.GoString(C.byol_status_name(C.byol_status(s)))
}

// Error is the status' name in C.
func (s Status) Error() string {
	return "byol: " + s.Name()
}

// Retryable says whether the same call may succeed later without any change by the caller: memory, files, time.
func (s Status) Retryable() bool {
	return C.byol_status_is_retryable(C.byol_status(s)) != 0
}

// Error is why a call failed. [errors.Is] finds its Code, and where a context ended the call, the context's error:
// [context.Canceled] or [context.DeadlineExceeded].
type Error struct {
	// Code is the kind of failure.
	Code Status
	// Message is one sentence that names the culprit.
	Message string
	// Item is the picture, file or row to blame, counted from 0; -1 when no single one is.
	Item int
	// RuntimeCode is ONNX Runtime's own code with [ErrRuntime], where there is one, else 0.
	RuntimeCode int

	cause error
}

// Error is the message.
func (e *Error) Error() string {
	if e.cause != nil {
		return "byol: " + e.Message + ": " + e.cause.Error()
	}
	return "byol: " + e.Message
}

// Unwrap gives the code, and what ended the call where that came from Go.
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Code, e.cause}
	}
	return []error{e.Code}
}

func fail(code Status, format string, values ...any) *Error {
	return failAt(-1, code, format, values...)
}

func failAt(item int, code Status, format string, values ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, values...), Item: item}
}
