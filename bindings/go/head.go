package byol

/*
#include <byol.h>
*/
import "C"

import (
	"context"
	"image"
	"io"
	"math"
	"runtime"
)

// NoLabel is the label of a picture that could not be classified.
const NoLabel = math.MaxUint32

// A Head is a linear classifier of features. Any number of goroutines may share it.
type Head struct {
	handle
	classes int
}

// HeadInfo is what a head is.
type HeadInfo struct {
	Classes       int     // number of classes
	Dimension     int     // features per picture that it takes
	Converged     bool    // its fit met the tolerance
	Examples      int     // that it was fitted on; 0 if it is not known
	L2            float64 // penalty that it was fitted with; 0 if it is not known
	EncoderSHA256 string  // of the file of the encoder whose features it takes; empty if it is not known
	Temperature   float64 // what Calibrate divided the scores by; 1 where it did not
}

// A Prediction is a head's opinion of some rows or pictures.
type Prediction struct {
	// Labels are the most probable classes, counted from 0, the lower number in a tie.
	Labels []uint32
	// Probabilities has a row for each label and a column for each class; each row sums to 1.
	Probabilities Matrix
}

// LoadHead reads a head from its file (safetensors), and checks every part of it.
func LoadHead(path string) (*Head, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	c := begin()
	name, err := c.text("the path", path)
	if err != nil {
		return nil, c.failed(err)
	}
	var id C.byol_head
	if err := c.end(C.byol_head_load(name, &id, &c.err)); err != nil {
		return nil, err
	}
	return newHead(id)
}

// LoadHeadBytes reads a head from the bytes of its file.
func LoadHeadBytes(data []byte) (*Head, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, fail(ErrCorrupt, "no bytes are no head")
	}
	var id C.byol_head
	c := begin()
	if err := c.end(C.byol_head_load_bytes((*C.uint8_t)(&data[0]), C.size_t(len(data)), &id, &c.err)); err != nil {
		return nil, err
	}
	return newHead(id)
}

// ReadHead reads a head from the bytes of its file, which end where the reader does.
func ReadHead(reader io.Reader) (*Head, error) {
	data, err := readAll(nil, reader, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	return LoadHeadBytes(data)
}

func newHead(id C.byol_head) (*Head, error) {
	h := new(Head)
	h.open(uint64(id.id), closeHead)
	info, err := h.Info()
	if err != nil {
		_ = h.Close()
		return nil, err
	}
	h.classes = info.Classes
	return h, nil
}

func closeHead(id uint64) {
	C.byol_head_close(C.byol_head{id: C.uint64_t(id)}, nil)
}

// Close closes the head. Calls that use it finish. It may be called again, and returns nil.
func (h *Head) Close() error {
	if h != nil {
		h.close(closeHead)
		runtime.KeepAlive(h)
	}
	return nil
}

// c gives the head's number. Who uses it keeps the head alive until C has returned.
func (h *Head) c() (C.byol_head, error) {
	if h == nil {
		return C.byol_head{}, closed("head")
	}
	id := h.id.Load()
	if id == 0 {
		return C.byol_head{}, closed("head")
	}
	return C.byol_head{id: C.uint64_t(id)}, nil
}

// Info tells what the head is.
func (h *Head) Info() (HeadInfo, error) {
	id, err := h.c()
	if err != nil {
		return HeadInfo{}, err
	}
	c := begin()
	info := C.byol_head_info{struct_size: C.sizeof_byol_head_info}
	err = c.end(C.byol_head_get_info(id, &info, &c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return HeadInfo{}, err
	}
	return HeadInfo{
		Classes: int(info.classes), Dimension: int(info.dimension), Converged: info.converged != 0,
		Examples: int(info.examples), L2: float64(info.l2), EncoderSHA256: C.GoString(&info.encoder_sha256[0]),
		Temperature: float64(info.temperature),
	}, nil
}

// ClassName is the name of a class, counted from 0, or [ErrNotFound].
func (h *Head) ClassName(label uint32) (string, error) {
	id, err := h.c()
	if err != nil {
		return "", err
	}
	defer runtime.KeepAlive(h)
	return readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_head_get_label(id, C.uint32_t(label), buffer, capacity, needed, failure)
	})
}

// ClassNames are the names of all classes.
func (h *Head) ClassNames() ([]string, error) {
	if _, err := h.c(); err != nil {
		return nil, err
	}
	names := make([]string, h.classes)
	for i := range names {
		var err error
		if names[i], err = h.ClassName(uint32(i)); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Save writes the head to a file, whole or not at all.
func (h *Head) Save(path string) error {
	id, err := h.c()
	if err != nil {
		return err
	}
	c := begin()
	name, err := c.text("the path", path)
	if err != nil {
		return c.failed(err)
	}
	err = c.end(C.byol_head_save(id, name, &c.err))
	runtime.KeepAlive(h)
	return err
}

// MarshalBinary gives the bytes of the head's file; with it a Head is an [encoding.BinaryMarshaler].
func (h *Head) MarshalBinary() ([]byte, error) {
	id, err := h.c()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(h)
	return readBytes(func(buffer *C.uint8_t, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_head_save_bytes(id, buffer, capacity, needed, failure)
	})
}

// WriteTo writes the bytes of the head's file; with it a Head is an [io.WriterTo].
func (h *Head) WriteTo(writer io.Writer) (int64, error) {
	if writer == nil {
		return 0, fail(ErrNilPointer, "the writer is nil")
	}
	data, err := h.MarshalBinary()
	if err != nil {
		return 0, err
	}
	written, err := writer.Write(data)
	if err == nil && written < len(data) {
		err = io.ErrShortWrite
	}
	return int64(written), err
}

// Check succeeds when the head belongs to an encoder: it takes features of that length, and was fitted on those of that
// very file. A head that does not know its encoder passes. Classify checks it by itself.
func (h *Head) Check(encoder *Encoder) error {
	id, err := h.c()
	if err != nil {
		return err
	}
	e, err := encoder.c()
	if err != nil {
		return err
	}
	c := begin()
	err = c.end(C.byol_head_check(id, e, &c.err))
	runtime.KeepAlive(h)
	runtime.KeepAlive(encoder)
	return err
}

// Predict predicts the classes of rows of features.
func (h *Head) Predict(features Matrix) (Prediction, error) {
	id, err := h.c()
	if err != nil {
		return Prediction{}, err
	}
	if err := features.check("features"); err != nil {
		return Prediction{}, err
	}
	p, err := h.prediction(features.Rows)
	if err != nil {
		return Prediction{}, err
	}
	c := begin()
	err = c.end(C.byol_head_predict(id, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), labels32(p.Labels), floats(p.Probabilities.Data), C.size_t(len(p.Probabilities.Data)),
		&c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return Prediction{}, err
	}
	return p, nil
}

func (h *Head) prediction(rows int) (Prediction, error) {
	length, err := product(rows, h.classes)
	if err != nil {
		return Prediction{}, err
	}
	p := Prediction{
		Labels:        make([]uint32, rows),
		Probabilities: Matrix{Data: make([]float32, length), Rows: rows, Columns: h.classes},
	}
	for i := range p.Labels {
		p.Labels[i] = NoLabel
	}
	return p, nil
}

// Logits computes the scores before they become probabilities: features times weights plus bias, a column for each class.
func (h *Head) Logits(features Matrix) (Matrix, error) {
	id, err := h.c()
	if err != nil {
		return Matrix{}, err
	}
	if err := features.check("features"); err != nil {
		return Matrix{}, err
	}
	length, err := product(features.Rows, h.classes)
	if err != nil {
		return Matrix{}, err
	}
	logits := Matrix{Data: make([]float32, length), Rows: features.Rows, Columns: h.classes}
	c := begin()
	err = c.end(C.byol_head_logits(id, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), floats(logits.Data), C.size_t(len(logits.Data)), &c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return Matrix{}, err
	}
	return logits, nil
}

// ClassifyOptions say what becomes of bad pictures.
type ClassifyOptions struct {
	// Statuses, one per picture, get how each picture went. A bad picture then has [NoLabel] and a row of zeros, and the
	// others go on. Where Statuses is nil, the first bad picture fails the call, and Error.Item names it.
	Statuses []Status
}

// Classify extracts and predicts in one call, with the encoder whose features the head was fitted on.
func (h *Head) Classify(ctx context.Context, encoder *Encoder, images []Image, options *ClassifyOptions) (Prediction, error) {
	id, err := h.c()
	if err != nil {
		return Prediction{}, err
	}
	e, err := encoder.c()
	if err != nil {
		return Prediction{}, err
	}
	if options == nil {
		options = &ClassifyOptions{}
	}
	s, err := statuses(options.Statuses, len(images))
	if err != nil {
		return Prediction{}, err
	}
	p, err := h.prediction(len(images))
	if err != nil {
		return Prediction{}, err
	}
	w, err := watch(ctx)
	if err != nil {
		return Prediction{}, err
	}
	c := begin()
	err = c.end(C.byol_head_classify(id, e, c.pictures(images), C.size_t(len(images)), nil, labels32(p.Labels),
		floats(p.Probabilities.Data), C.size_t(len(p.Probabilities.Data)), s, w.token, &c.err))
	runtime.KeepAlive(h)
	runtime.KeepAlive(encoder)
	if err := w.end(err); err != nil {
		return Prediction{}, err
	}
	return p, nil
}

// ClassifyImages classifies Go's own pictures, after [FromImage]. Otherwise as [Head.Classify].
func (h *Head) ClassifyImages(ctx context.Context, encoder *Encoder, images []image.Image,
	options *ClassifyOptions) (Prediction, error) {
	return h.Classify(ctx, encoder, fromImages(images), options)
}
