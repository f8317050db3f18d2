package byol

/*
#include <byol.h>
*/
import "C"

import (
	"context"
	"image"
	"io"
	"runtime"
	"unsafe"
)

// ExtractOptions say where features go, and what becomes of bad pictures.
type ExtractOptions struct {
	// Into is where the features are written; nil makes a new slice.
	Into []float32
	// Stride is the distance from one picture's features to the next one's; 0 is the encoder's dimension. What lies
	// between them is left alone.
	Stride int
	// Statuses, one per picture, get how each picture went. A bad picture then leaves its row alone, and the others go
	// on. Where Statuses is nil, the first bad picture fails the call, and Error.Item names it.
	Statuses []Status
}

// An extraction is what all kinds of extraction share: the destination, the statuses and the context.
type extraction struct {
	encoder  C.byol_encoder
	watch    cancellation
	count    C.size_t
	features Matrix
	statuses *C.byol_status
}

func (e *Encoder) extraction(ctx context.Context, count int, options *ExtractOptions) (extraction, error) {
	x := extraction{count: C.size_t(count)}
	var err error
	if x.encoder, err = e.c(); err != nil {
		return x, err
	}
	if options == nil {
		options = &ExtractOptions{}
	}
	if options.Stride < 0 || options.Stride != 0 && options.Stride < e.dimension {
		return x, fail(ErrShape, "Stride is %d, for %d features per picture", options.Stride, e.dimension)
	}
	if x.statuses, err = statuses(options.Statuses, count); err != nil {
		return x, err
	}
	x.features = Matrix{Data: options.Into, Rows: count, Columns: e.dimension, Stride: options.Stride}
	if x.features.Data == nil {
		length, err := product(count, x.features.stride())
		if err != nil {
			return x, err
		}
		x.features.Data = make([]float32, length)
	} else if err := x.features.check("Into"); err != nil {
		err.(*Error).Code = ErrBufferTooSmall
		return x, err
	}
	x.watch, err = watch(ctx)
	return x, err
}

func (x *extraction) end(err error) (Matrix, error) {
	if err := x.watch.end(err); err != nil {
		return Matrix{}, err
	}
	return x.features, nil
}

func statuses(statuses []Status, count int) (*C.byol_status, error) {
	if statuses == nil {
		return nil, nil
	}
	if len(statuses) != count {
		return nil, fail(ErrShape, "%d Statuses for %d pictures", len(statuses), count)
	}
	return (*C.byol_status)(unsafe.SliceData(statuses)), nil
}

// Extract computes the features of pictures: row i of the result is of picture i. They do not depend on what else is in
// the call.
func (e *Encoder) Extract(ctx context.Context, images []Image, options *ExtractOptions) (Matrix, error) {
	x, err := e.extraction(ctx, len(images), options)
	if err != nil {
		return Matrix{}, err
	}
	c := begin()
	err = c.end(C.byol_extract(x.encoder, c.pictures(images), x.count, nil, floats(x.features.Data),
		C.size_t(x.features.Stride), C.size_t(len(x.features.Data)), x.statuses, x.watch.token, &c.err))
	runtime.KeepAlive(e)
	return x.end(err)
}

// ExtractImages computes the features of Go's own pictures, after [FromImage]. Otherwise as [Encoder.Extract].
func (e *Encoder) ExtractImages(ctx context.Context, images []image.Image, options *ExtractOptions) (Matrix, error) {
	return e.Extract(ctx, fromImages(images), options)
}

// ExtractEncoded computes the features of encoded pictures (JPEG, PNG, WebP, BMP, GIF, TIFF), each the bytes of one
// file; EXIF orientation is obeyed. Otherwise as [Encoder.Extract].
func (e *Encoder) ExtractEncoded(ctx context.Context, files [][]byte, options *ExtractOptions) (Matrix, error) {
	x, err := e.extraction(ctx, len(files), options)
	if err != nil {
		return Matrix{}, err
	}
	c := begin()
	data, lengths := c.files(files)
	err = c.end(C.byol_extract_encoded(x.encoder, data, lengths, x.count, nil,
		floats(x.features.Data), C.size_t(x.features.Stride), C.size_t(len(x.features.Data)), x.statuses, x.watch.token,
		&c.err))
	runtime.KeepAlive(e)
	return x.end(err)
}

// ExtractReader computes the features of one encoded picture, which is read to its end, but not beyond the encoder's
// MaxImageBytes. Otherwise as [Encoder.ExtractEncoded]; an error of the reader is returned as it is.
func (e *Encoder) ExtractReader(ctx context.Context, reader io.Reader, options *ExtractOptions) (Matrix, error) {
	if _, err := e.c(); err != nil {
		return Matrix{}, err
	}
	file, err := readAll(ctx, reader, e.maxImageBytes)
	if err != nil {
		return Matrix{}, err
	}
	return e.ExtractEncoded(ctx, [][]byte{file}, options)
}

// ExtractFiles computes the features of picture files. Otherwise as [Encoder.ExtractEncoded].
func (e *Encoder) ExtractFiles(ctx context.Context, paths []string, options *ExtractOptions) (Matrix, error) {
	x, err := e.extraction(ctx, len(paths), options)
	if err != nil {
		return Matrix{}, err
	}
	c := begin()
	names, err := c.texts("path", paths)
	if err != nil {
		return x.end(c.failed(err))
	}
	err = c.end(C.byol_extract_files(x.encoder, names, x.count, nil, floats(x.features.Data),
		C.size_t(x.features.Stride), C.size_t(len(x.features.Data)), x.statuses, x.watch.token, &c.err))
	runtime.KeepAlive(e)
	return x.end(err)
}

// ExtractPixels computes the features of count pictures that already have the input's size and channels, without gaps,
// as [count, height, width, channels]. Otherwise as [Encoder.Extract]; Statuses are not used.
func (e *Encoder) ExtractPixels(ctx context.Context, pixels []uint8, count int, options *ExtractOptions) (Matrix, error) {
	return e.tensor(ctx, bytesOf(pixels), len(pixels), C.BYOL_TENSOR_U8, count, options)
}

// ExtractValues computes the features of count pictures as normalised values, without gaps, as [count, channels, height,
// width], for a model that takes those. Otherwise as [Encoder.ExtractPixels].
func (e *Encoder) ExtractValues(ctx context.Context, values []float32, count int, options *ExtractOptions) (Matrix, error) {
	return e.tensor(ctx, bytesOf(values), 4*len(values), C.BYOL_TENSOR_F32, count, options)
}

func (e *Encoder) tensor(ctx context.Context, values unsafe.Pointer, length int, element C.uint32_t, count int,
	options *ExtractOptions) (Matrix, error) {
	if count < 0 {
		return Matrix{}, fail(ErrInvalidArgument, "count is %d", count)
	}
	// Before room is made for the features of pictures that are not there.
	if count > length {
		return Matrix{}, fail(ErrShape, "%d bytes are too few for %d pictures", length, count)
	}
	if options != nil && options.Statuses != nil {
		return Matrix{}, fail(ErrInvalidArgument, "Statuses are not for tensors")
	}
	x, err := e.extraction(ctx, count, options)
	if err != nil {
		return Matrix{}, err
	}
	c := begin()
	err = c.end(C.byol_extract_tensor(x.encoder, values, C.size_t(length), element, x.count, nil,
		floats(x.features.Data), C.size_t(x.features.Stride), C.size_t(len(x.features.Data)), x.watch.token, &c.err))
	runtime.KeepAlive(e)
	return x.end(err)
}
