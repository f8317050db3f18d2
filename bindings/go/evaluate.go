package byol

/*
#include <byol.h>
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// Metrics are what a labelled set says about a head.
type Metrics struct {
	Examples         int     // number of examples
	Top1             float64 // share of examples whose most probable class is theirs
	Top5             float64 // share of examples whose class is among the five most probable
	Balanced         float64 // mean share over the classes that occur
	LogLoss          float64 // mean of minus the natural logarithm of the probability of the right class
	CalibrationError float64 // expected calibration error, over 15 equal bins of confidence
	Top1Low          float64 // lower end of the 95% interval of Top1 (Wilson)
	Top1High         float64 // upper end of it
	// Classes has how well each class is told from the others.
	Classes []ClassMetrics
	// Confusion counts examples as Confusion[class][predicted class].
	Confusion [][]uint64
}

// ClassMetrics are how well a class is told from the others. A ratio of nothing by nothing is 0.
type ClassMetrics struct {
	Precision, Recall, F1 float64
}

// Evaluate judges the head on features and their labels, one per row.
func (h *Head) Evaluate(features Matrix, labels []uint32) (Metrics, error) {
	id, err := h.c()
	if err != nil {
		return Metrics{}, err
	}
	if err := features.check("features"); err != nil {
		return Metrics{}, err
	}
	if len(labels) != features.Rows {
		return Metrics{}, fail(ErrLabel, "%d labels for %d rows", len(labels), features.Rows)
	}
	n := h.classes
	length, err := product(n, n)
	if err != nil {
		return Metrics{}, err
	}
	classes, confusion := make([]ClassMetrics, n), make([]uint64, length)
	metrics := C.byol_metrics{struct_size: C.sizeof_byol_metrics}
	c := begin()
	err = c.end(C.byol_head_evaluate(id, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), labels32(labels), &metrics, (*C.double)(unsafe.Pointer(unsafe.SliceData(classes))),
		C.size_t(3*n), (*C.uint64_t)(unsafe.SliceData(confusion)), C.size_t(length), &c.err))
	runtime.KeepAlive(h)
	if err != nil {
		return Metrics{}, err
	}
	m := Metrics{
		Examples: int(metrics.examples), Top1: float64(metrics.top1), Top5: float64(metrics.top5),
		Balanced: float64(metrics.balanced), LogLoss: float64(metrics.log_loss),
		CalibrationError: float64(metrics.calibration_error), Top1Low: float64(metrics.top1_low),
		Top1High: float64(metrics.top1_high), Classes: classes, Confusion: make([][]uint64, n),
	}
	for i := range m.Confusion {
		m.Confusion[i] = confusion[i*n : (i+1)*n : (i+1)*n]
	}
	return m, nil
}

// KNN predicts the class of each row of queries by its k nearest neighbours, by cosine, among rows with labels: a look
// at features that needs no training. A temperature of 0 is a majority vote; above 0, a neighbour of cosine s has
// exp(s/temperature) votes.
func KNN(train Matrix, labels []uint32, queries Matrix, k int, temperature float32) ([]uint32, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	if err := train.check("train"); err != nil {
		return nil, err
	}
	if err := queries.check("queries"); err != nil {
		return nil, err
	}
	if train.Columns != queries.Columns {
		return nil, fail(ErrShape, "train has %d columns, queries %d", train.Columns, queries.Columns)
	}
	if len(labels) != train.Rows {
		return nil, fail(ErrLabel, "%d labels for %d rows", len(labels), train.Rows)
	}
	neighbours, err := unsigned("k", k)
	if err != nil {
		return nil, err
	}
	predicted := make([]uint32, queries.Rows)
	c := begin()
	err = c.end(C.byol_knn_predict(floats(train.Data), C.size_t(train.Rows), C.size_t(train.Stride), labels32(labels),
		floats(queries.Data), C.size_t(queries.Rows), C.size_t(queries.Stride), C.size_t(train.Columns), neighbours,
		C.float(temperature), labels32(predicted), &c.err))
	if err != nil {
		return nil, err
	}
	return predicted, nil
}
