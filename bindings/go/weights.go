package byol

/*
#include <byol.h>
*/
import "C"

import (
	"runtime"
)

// HeadOptions say what a head made of weights is.
type HeadOptions struct {
	// Classes are the names of the classes; nil calls them "0", "1", ...
	Classes []string
	// Encoder is the one whose features it takes, so that it will refuse others; nil leaves that open.
	Encoder *Encoder
}

// NewHead makes a head of weights, a row for each class, and a bias of one number per class, or nil for none: such as
// scikit-learn's coef_ and intercept_ or a PyTorch Linear.
func NewHead(weights Matrix, bias []float32, options *HeadOptions) (*Head, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	if err := weights.check("weights"); err != nil {
		return nil, err
	}
	if options == nil {
		options = &HeadOptions{}
	}
	if bias != nil && len(bias) != weights.Rows {
		return nil, fail(ErrShape, "%d numbers of bias for %d rows of weights", len(bias), weights.Rows)
	}
	if options.Classes != nil && len(options.Classes) != weights.Rows {
		return nil, fail(ErrShape, "%d Classes for %d rows of weights", len(options.Classes), weights.Rows)
	}
	count, err := unsigned("the number of classes", weights.Rows)
	if err != nil {
		return nil, err
	}
	var encoder C.byol_encoder
	if options.Encoder != nil {
		if encoder, err = options.Encoder.c(); err != nil {
			return nil, err
		}
	}
	c := begin()
	names, err := c.texts("class", options.Classes)
	if err != nil {
		return nil, c.failed(err)
	}
	var id C.byol_head
	err = c.end(C.byol_head_create(floats(weights.Data), count, C.size_t(weights.Columns), C.size_t(weights.Stride),
		floats(bias), names, encoder, &id, &c.err))
	runtime.KeepAlive(options)
	if err != nil {
		return nil, err
	}
	return newHead(id)
}

// Weights copies the head's weights, a row for each class, and its bias.
func (h *Head) Weights() (Matrix, []float32, error) {
	id, err := h.c()
	if err != nil {
		return Matrix{}, nil, err
	}
	info, err := h.Info()
	if err != nil {
		return Matrix{}, nil, err
	}
	length, err := product(info.Classes, info.Dimension)
	if err != nil {
		return Matrix{}, nil, err
	}
	weights := Matrix{Data: make([]float32, length), Rows: info.Classes, Columns: info.Dimension}
	bias := make([]float32, info.Classes)
	c := begin()
	err = c.end(C.byol_head_get_weights(id, floats(weights.Data), C.size_t(length), floats(bias), C.size_t(len(bias)),
		&c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return Matrix{}, nil, err
	}
	return weights, bias, nil
}

// Clone gives the head a second owner, which is closed by itself.
func (h *Head) Clone() (*Head, error) {
	id, err := h.c()
	if err != nil {
		return nil, err
	}
	var twin C.byol_head
	c := begin()
	err = c.end(C.byol_head_clone(id, &twin, &c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return nil, err
	}
	return newHead(twin)
}

// Calibrate makes a head whose probabilities are as often right as they say, by labelled features that this one was not
// fitted to: it divides the scores by the temperature of least log-loss, which it gives too. Above 1 the head was too
// sure. No prediction changes, and the head itself stays as it is.
func (h *Head) Calibrate(features Matrix, labels []uint32) (*Head, float64, error) {
	id, err := h.c()
	if err != nil {
		return nil, 0, err
	}
	if err := features.check("features"); err != nil {
		return nil, 0, err
	}
	if len(labels) != features.Rows {
		return nil, 0, fail(ErrLabel, "%d labels for %d rows", len(labels), features.Rows)
	}
	var cool C.byol_head
	var temperature C.double
	c := begin()
	err = c.end(C.byol_head_calibrate(id, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), labels32(labels), &cool, &temperature, &c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return nil, 0, err
	}
	made, err := newHead(cool)
	return made, float64(temperature), err
}

// TopK predicts the k most probable classes of every row, best first: k labels and probabilities for each. A class less
// probable than threshold (0 for none) becomes [NoLabel]; with k 1, that refuses rows that the head is not sure of.
func (h *Head) TopK(features Matrix, k int, threshold float32) (Prediction, error) {
	id, err := h.c()
	if err != nil {
		return Prediction{}, err
	}
	if err := features.check("features"); err != nil {
		return Prediction{}, err
	}
	if k < 1 || k > h.classes {
		return Prediction{}, fail(ErrInvalidArgument, "k is %d, not 1 to the %d classes", k, h.classes)
	}
	length, err := product(features.Rows, k)
	if err != nil {
		return Prediction{}, err
	}
	p := Prediction{
		Labels:        make([]uint32, length),
		Probabilities: Matrix{Data: make([]float32, length), Rows: features.Rows, Columns: k},
	}
	c := begin()
	err = c.end(C.byol_head_top_k(id, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), C.uint32_t(k), C.float(threshold), labels32(p.Labels), C.size_t(length),
		floats(p.Probabilities.Data), C.size_t(length), &c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return Prediction{}, err
	}
	return p, nil
}

// ONNX gives the head as an ONNX model: alone, from "features" to "logits" and "probabilities", where encoder is nil; else
// behind the encoder of that source, as one classifier from pictures to both, which stock ONNX Runtime runs.
func (h *Head) ONNX(encoder *Source) ([]byte, error) {
	id, err := h.c()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(h)
	keep := begin()
	defer keep.release()
	source, err := keep.behind(encoder)
	if err != nil {
		return nil, err
	}
	return readBytes(func(buffer *C.uint8_t, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_head_export_onnx_bytes(id, source, buffer, capacity, needed, failure)
	})
}

// ExportONNX writes what [Head.ONNX] gives to a file, whole or not at all.
func (h *Head) ExportONNX(path string, encoder *Source) error {
	id, err := h.c()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(h)
	keep := begin()
	defer keep.release()
	source, err := keep.behind(encoder)
	if err != nil {
		return err
	}
	c := begin()
	name, err := c.text("the path", path)
	if err != nil {
		return c.failed(err)
	}
	return c.end(C.byol_head_export_onnx(id, source, name, &c.err))
}

// behind gives C the source of an encoder that a head is put behind, or NULL.
func (c *call) behind(encoder *Source) (*C.byol_source, error) {
	if encoder == nil {
		return nil, nil
	}
	source, err := encoder.c(c, 0)
	if err != nil {
		return nil, err
	}
	made := &source
	c.pins.Pin(made)
	return made, nil
}
