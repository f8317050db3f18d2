package byol

/*
#include "callback.h"
*/
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"slices"
	"time"
)

// FitOptions say how to fit a head.
type FitOptions struct {
	// Classes are the names of the classes. Where there are none, they are called "0", "1", ..., and there are as many
	// as the largest label asks for.
	Classes []string
	// Encoder is the one whose features these are, so that the head will refuse others; nil leaves that open.
	Encoder *Encoder
	// L2 is the penalty per example on the squared weights; 0 is 1e-3. The objective is the mean cross-entropy plus L2/2
	// times the sum of the squared weights. scikit-learn's C is 1/(L2*rows).
	L2 float64
	// Unpenalized fits without a penalty, instead of L2. There may be no optimum then: [ErrNoOptimum].
	Unpenalized bool
	// Tolerance is the certified relative distance from the optimum to stop at; 0 is 1e-6.
	Tolerance float64
	// MaxIterations is the most that are done; 0 is 1000. Reaching them is no error: FitReport.Converged is then false.
	MaxIterations int
	// Threads to use, 0 for as many as the process may. The head does not depend on it, bit for bit.
	Threads int
	// Standardize penalises as if every column had standard deviation 1. A head always takes features as they are.
	Standardize bool
	// ClassWeights is a factor per class for the weight of its examples; nil for none.
	ClassWeights []float32
	// SampleWeights is a weight per row, at least 0; nil for none.
	SampleWeights []float32
	// Progress hears from the fit after every iteration, on the goroutine that called Fit. An error ends the fit, which
	// then fails with that error and [ErrCancelled].
	Progress func(FitProgress) error
}

// FitProgress is how far a fit has come.
type FitProgress struct {
	Iteration int     // iterations done
	Objective float64 // its value now
	Gap       float64 // proven relative distance from the optimum, infinite while nothing is proven
}

// FitReport is how a fit went.
type FitReport struct {
	Converged  bool          // the tolerance was met
	Iterations int           // done
	Passes     int           // over all rows
	Objective  float64       // its value at the end
	Gap        float64       // proven: (Objective-optimum)/optimum is at most this; -1 where nothing can be proven
	L2         float64       // the penalty
	Duration   time.Duration // wall time
}

// A listener is what one fit or search lends to libbyol.
type listener[Progress any] struct {
	progress func(Progress) error
	err      error
	panicked any
}

// hear tells a listener, which C knows by a number, and says whether to stop.
func hear[Progress any](user C.uintptr_t, progress Progress) (stop C.int32_t) {
	l := cgo.Handle(user).Value().(*listener[Progress])
	// A panic must not unwind through C: it stops the fit, and goes on when C has returned.
	defer func() {
		if l.panicked = recover(); l.panicked != nil {
			stop = 1
		}
	}()
	if l.err = l.progress(progress); l.err != nil {
		return 1
	}
	return 0
}

//export byolGoProgress
func byolGoProgress(user C.uintptr_t, iteration C.uint64_t, objective, gap C.double) C.int32_t {
	return hear(user, FitProgress{int(iteration), float64(objective), float64(gap)})
}

// Fit fits a head to features and their labels, one per row, counted from 0. The same input gives the same head.
func Fit(ctx context.Context, features Matrix, labels []uint32, options *FitOptions) (*Head, FitReport, error) {
	return fit(ctx, C.byol_head{}, features, labels, options)
}

// Refit fits a head again as [Fit] does, to the same optimum, starting at this one: after examples changed, or with
// another penalty, it takes a fraction of the time. The features are those of all examples. Classes are matched by name.
func (h *Head) Refit(ctx context.Context, features Matrix, labels []uint32, options *FitOptions) (*Head, FitReport, error) {
	start, err := h.c()
	if err != nil {
		return nil, FitReport{}, err
	}
	head, report, err := fit(ctx, start, features, labels, options)
	runtime.KeepAlive(h)
	return head, report, err
}

// fit fits, starting at a head where that is one.
func fit(ctx context.Context, start C.byol_head, features Matrix, labels []uint32,
	options *FitOptions) (*Head, FitReport, error) {
	var none FitReport
	if err := compatible(); err != nil {
		return nil, none, err
	}
	if options == nil {
		options = &FitOptions{}
	}
	if err := features.check("features"); err != nil {
		return nil, none, err
	}
	if len(labels) != features.Rows {
		return nil, none, fail(ErrLabel, "%d labels for %d rows", len(labels), features.Rows)
	}
	classes := len(options.Classes)
	if classes == 0 && len(labels) > 0 {
		classes = int(slices.Max(labels)) + 1
	}
	var encoder C.byol_encoder
	var err error
	if options.Encoder != nil {
		if encoder, err = options.Encoder.c(); err != nil {
			return nil, none, err
		}
	}
	c := begin()
	o, err := options.c(c, features.Rows)
	if err != nil {
		return nil, none, c.failed(err)
	}
	names, err := c.texts("class", options.Classes)
	if err != nil {
		return nil, none, c.failed(err)
	}
	count, err := unsigned("the number of classes", classes)
	if err != nil {
		return nil, none, c.failed(err)
	}
	head, report, err := run(ctx, c, options.Progress, func(f fitCall) C.byol_status {
		return C.byol_go_head_fit(start, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
			C.size_t(features.Stride), labels32(labels), names, count, encoder, &o, f.user, f.token, f.head, f.report, &c.err)
	})
	runtime.KeepAlive(options)
	return head, report, err
}

// A fitCall is what a fit or search gives to C beside its examples.
type fitCall struct {
	user   C.uintptr_t
	token  C.byol_cancel
	head   *C.byol_head
	report *C.byol_fit_report
}

// run does what all fits and searches share: the context, the progress, the head and its report. It ends the call.
func run[Progress any](ctx context.Context, c *call, progress func(Progress) error,
	fit func(fitCall) C.byol_status) (*Head, FitReport, error) {
	w, err := watch(ctx)
	if err != nil {
		return nil, FitReport{}, c.failed(err)
	}
	l := listener[Progress]{progress: progress}
	f := fitCall{token: w.token, head: new(C.byol_head), report: new(C.byol_fit_report)}
	f.report.struct_size = C.sizeof_byol_fit_report
	if progress != nil {
		user := cgo.NewHandle(&l)
		defer user.Delete()
		f.user = C.uintptr_t(user)
	}
	err = w.end(c.end(fit(f)))
	if l.panicked != nil {
		panic(l.panicked)
	}
	if err != nil {
		if failure := err.(*Error); l.err != nil && failure.Code == ErrCancelled {
			failure.cause = l.err
		}
		return nil, FitReport{}, err
	}
	head, err := newHead(*f.head)
	if err != nil {
		return nil, FitReport{}, err
	}
	return head, reportOf(f.report), nil
}

func reportOf(report *C.byol_fit_report) FitReport {
	return FitReport{
		Converged: report.converged != 0, Iterations: int(report.iterations), Passes: int(report.passes),
		Objective: float64(report.objective), Gap: float64(report.gap), L2: float64(report.l2),
		Duration: time.Duration(float64(report.seconds) * float64(time.Second)),
	}
}

// c gives the options as C reads them, for the length of a call.
func (o *FitOptions) c(c *call, rows int) (C.byol_fit_options, error) {
	var options C.byol_fit_options
	C.byol_fit_options_init(&options, C.sizeof_byol_fit_options)
	var err error
	if o.L2 != 0 {
		options.l2 = C.double(o.L2)
	}
	if o.Unpenalized {
		options.l2 = 0
	}
	if o.Tolerance != 0 {
		options.tolerance = C.double(o.Tolerance)
	}
	if o.MaxIterations != 0 {
		if options.max_iterations, err = unsigned("MaxIterations", o.MaxIterations); err != nil {
			return options, err
		}
	}
	if options.threads, err = unsigned("Threads", o.Threads); err != nil {
		return options, err
	}
	if o.Standardize {
		options.standardize = 1
	}
	if o.ClassWeights != nil {
		// To libbyol, which counts the classes, no number of weights would be an unknown one.
		if len(o.ClassWeights) == 0 {
			return options, fail(ErrShape, "ClassWeights is empty")
		}
		c.pins.Pin(&o.ClassWeights[0])
		options.class_weights, options.class_weights_len = floats(o.ClassWeights), C.size_t(len(o.ClassWeights))
	}
	if o.SampleWeights != nil {
		if len(o.SampleWeights) != rows {
			return options, fail(ErrShape, "%d SampleWeights for %d rows", len(o.SampleWeights), rows)
		}
		if rows > 0 {
			c.pins.Pin(&o.SampleWeights[0])
			options.sample_weights = floats(o.SampleWeights)
		}
	}
	return options, nil
}
