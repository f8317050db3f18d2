package byol

/*
#include <byol.h>
*/
import "C"

import (
	"context"
	"errors"
	"io"
)

// A cancellation is a context as libbyol sees it: a token that is triggered when the context is done. For contexts that
// never end it is no token, and costs nothing.
type cancellation struct {
	ctx   context.Context
	token C.byol_cancel
	stop  func() bool
}

func watch(ctx context.Context) (cancellation, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	w := cancellation{ctx: ctx}
	if ctx.Err() != nil {
		return w, w.blame(fail(ErrCancelled, "stopped before it began"))
	}
	if ctx.Done() == nil {
		return w, nil
	}
	var token C.byol_cancel
	c := begin()
	if err := c.end(C.byol_cancel_create(0, &token, &c.err)); err != nil {
		return w, err
	}
	w.token = token
	// A trigger that comes after end has closed the token finds it closed, which is fine.
	w.stop = context.AfterFunc(ctx, func() { _ = C.byol_cancel_trigger(token, nil) })
	return w, nil
}

// end must follow the call. It adds the context's error where the context ended the call.
func (w *cancellation) end(err error) error {
	if w.stop != nil {
		w.stop()
		C.byol_cancel_close(w.token, nil)
	}
	var failure *Error
	if errors.As(err, &failure) && failure.Code == ErrCancelled && failure.cause == nil && w.ctx.Err() != nil {
		return w.blame(failure)
	}
	return err
}

func (w *cancellation) blame(failure *Error) error {
	failure.cause = w.ctx.Err()
	if errors.Is(failure.cause, context.DeadlineExceeded) {
		failure.Code = ErrDeadline
	}
	if cause := context.Cause(w.ctx); cause != failure.cause {
		failure.cause = errors.Join(failure.cause, cause)
	}
	return failure
}

// readAll reads at most limit bytes, and one more to show that there are more.
func readAll(ctx context.Context, reader io.Reader, limit uint64) ([]byte, error) {
	if reader == nil {
		return nil, fail(ErrNilPointer, "the reader is nil")
	}
	if limit < 1<<62 {
		reader = io.LimitReader(reader, int64(limit)+1)
	}
	return io.ReadAll(patient{ctx, reader})
}

// A patient reader stops between two reads when its context is done.
type patient struct {
	ctx    context.Context
	reader io.Reader
}

func (p patient) Read(bytes []byte) (int, error) {
	if p.ctx != nil && p.ctx.Err() != nil {
		w := cancellation{ctx: p.ctx}
		return 0, w.blame(fail(ErrCancelled, "stopped while reading"))
	}
	return p.reader.Read(bytes)
}
