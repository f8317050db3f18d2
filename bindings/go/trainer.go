package byol

/*
#include "callback.h"
*/
import "C"

import (
	"context"
	"image"
	"runtime"
	"unsafe"
)

// A Trainer holds examples that come and go, and fits heads to them. It holds features, not pictures. What it fits is the
// optimum of the examples that are there, in whatever order they came. Any number of goroutines may share it; examples
// may be added while a fit runs, which goes on without them.
type Trainer struct {
	handle
}

// TrainerInfo is what a trainer holds.
type TrainerInfo struct {
	Examples      int    // number of examples
	Classes       int    // number of classes
	Dimension     int    // features per example
	Fitted        bool   // Refit has a start
	EncoderSHA256 string // of the file of the encoder whose features it takes; empty if it is not known
}

// TrainerClass is a class of a trainer.
type TrainerClass struct {
	Name     string
	Examples int // number of its examples
}

// NewTrainer makes a trainer without examples for features of an encoder; its heads refuse other encoders.
func NewTrainer(encoder *Encoder) (*Trainer, error) {
	id, err := encoder.c()
	if err != nil {
		return nil, err
	}
	t, err := createTrainer(id, 0)
	runtime.KeepAlive(encoder)
	return t, err
}

// NewTrainerOf makes a trainer for features of so many numbers each, whose encoder is not known.
func NewTrainerOf(dimension int) (*Trainer, error) {
	size, err := unsigned("dimension", dimension)
	if err != nil {
		return nil, err
	}
	return createTrainer(C.byol_encoder{}, size)
}

func createTrainer(encoder C.byol_encoder, dimension C.uint32_t) (*Trainer, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	var id C.byol_trainer
	c := begin()
	if err := c.end(C.byol_trainer_create(encoder, dimension, &id, &c.err)); err != nil {
		return nil, err
	}
	t := new(Trainer)
	t.open(uint64(id.id), closeTrainer)
	return t, nil
}

func closeTrainer(id uint64) {
	C.byol_trainer_close(C.byol_trainer{id: C.uint64_t(id)}, nil)
}

// Close closes the trainer with its examples. Calls that use it finish. It may be called again, and returns nil.
func (t *Trainer) Close() error {
	if t != nil {
		t.close(closeTrainer)
		runtime.KeepAlive(t)
	}
	return nil
}

// c gives the trainer's number. Who uses it keeps the trainer alive until C has returned.
func (t *Trainer) c() (C.byol_trainer, error) {
	if t == nil {
		return C.byol_trainer{}, closed("trainer")
	}
	id := t.id.Load()
	if id == 0 {
		return C.byol_trainer{}, closed("trainer")
	}
	return C.byol_trainer{id: C.uint64_t(id)}, nil
}

// Info tells what the trainer holds.
func (t *Trainer) Info() (TrainerInfo, error) {
	id, err := t.c()
	if err != nil {
		return TrainerInfo{}, err
	}
	c := begin()
	info := C.byol_trainer_info{struct_size: C.sizeof_byol_trainer_info}
	err = c.end(C.byol_trainer_get_info(id, &info, &c.err))
	runtime.KeepAlive(t)
	if err != nil {
		return TrainerInfo{}, err
	}
	return TrainerInfo{
		Examples: int(info.examples), Classes: int(info.classes), Dimension: int(info.dimension),
		Fitted: info.is_fitted != 0, EncoderSHA256: C.GoString(&info.encoder_sha256[0]),
	}, nil
}

// AddClass adds a class without examples and gives its number, counted from 0; the number of the class of that name,
// where there is one.
func (t *Trainer) AddClass(name string) (uint32, error) {
	id, err := t.c()
	if err != nil {
		return 0, err
	}
	c := begin()
	text, err := c.text("the name", name)
	if err != nil {
		return 0, c.failed(err)
	}
	var class C.uint32_t
	err = c.end(C.byol_trainer_add_class(id, text, &class, &c.err))
	runtime.KeepAlive(t)
	return uint32(class), err
}

// Class tells of a class, or [ErrNotFound].
func (t *Trainer) Class(label uint32) (TrainerClass, error) {
	id, err := t.c()
	if err != nil {
		return TrainerClass{}, err
	}
	defer runtime.KeepAlive(t)
	var examples C.uint64_t
	name, err := readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_trainer_get_class(id, C.uint32_t(label), buffer, capacity, needed, &examples, failure)
	})
	return TrainerClass{name, int(examples)}, err
}

// RemoveClass removes a class with its examples. The numbers of the classes behind it become smaller by one.
func (t *Trainer) RemoveClass(label uint32) error {
	id, err := t.c()
	if err != nil {
		return err
	}
	c := begin()
	err = c.end(C.byol_trainer_remove_class(id, C.uint32_t(label), &c.err))
	runtime.KeepAlive(t)
	return err
}

// Add adds rows of features with the numbers of their classes, and gives the examples' own numbers, which are above 0 and
// never used again. All are added or none.
func (t *Trainer) Add(features Matrix, labels []uint32) ([]uint64, error) {
	id, err := t.c()
	if err != nil {
		return nil, err
	}
	if err := features.check("features"); err != nil {
		return nil, err
	}
	if len(labels) != features.Rows {
		return nil, fail(ErrLabel, "%d labels for %d rows", len(labels), features.Rows)
	}
	ids := make([]uint64, len(labels))
	c := begin()
	err = c.end(C.byol_trainer_add(id, floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), labels32(labels), numbers64(ids), &c.err))
	runtime.KeepAlive(t)
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// AddOptions say what becomes of bad pictures.
type AddOptions struct {
	// Statuses, one per picture, get how each picture went. A bad picture is left out and has the number 0. Where
	// Statuses is nil, the first bad picture fails the call, Error.Item names it, and none is added.
	Statuses []Status
}

// AddPixels adds pictures, by the encoder whose features the trainer takes. Otherwise as [Trainer.Add].
func (t *Trainer) AddPixels(ctx context.Context, encoder *Encoder, images []Image, labels []uint32,
	options *AddOptions) ([]uint64, error) {
	return t.add(ctx, encoder, len(images), labels, options, func(c *call, a addition) (C.byol_status, error) {
		return C.byol_trainer_add_images(a.trainer, a.encoder, c.pictures(images), a.count, labels32(labels), a.ids,
			a.statuses, a.token, &c.err), nil
	})
}

// AddImages adds Go's own pictures, after [FromImage]. Otherwise as [Trainer.AddPixels].
func (t *Trainer) AddImages(ctx context.Context, encoder *Encoder, images []image.Image, labels []uint32,
	options *AddOptions) ([]uint64, error) {
	return t.AddPixels(ctx, encoder, fromImages(images), labels, options)
}

// AddEncoded adds encoded pictures, each the bytes of one file. Otherwise as [Trainer.AddPixels].
func (t *Trainer) AddEncoded(ctx context.Context, encoder *Encoder, files [][]byte, labels []uint32,
	options *AddOptions) ([]uint64, error) {
	return t.add(ctx, encoder, len(files), labels, options, func(c *call, a addition) (C.byol_status, error) {
		data, lengths := c.files(files)
		return C.byol_trainer_add_encoded(a.trainer, a.encoder, data, lengths, a.count, labels32(labels), a.ids, a.statuses,
			a.token, &c.err), nil
	})
}

// AddFiles adds picture files. Otherwise as [Trainer.AddPixels].
func (t *Trainer) AddFiles(ctx context.Context, encoder *Encoder, paths []string, labels []uint32,
	options *AddOptions) ([]uint64, error) {
	return t.add(ctx, encoder, len(paths), labels, options, func(c *call, a addition) (C.byol_status, error) {
		names, err := c.texts("path", paths)
		if err != nil {
			return 0, err
		}
		return C.byol_trainer_add_files(a.trainer, a.encoder, names, a.count, labels32(labels), a.ids, a.statuses, a.token,
			&c.err), nil
	})
}

// An addition is what all functions that add pictures share.
type addition struct {
	trainer  C.byol_trainer
	encoder  C.byol_encoder
	count    C.size_t
	ids      *C.uint64_t
	statuses *C.byol_status
	token    C.byol_cancel
}

func (t *Trainer) add(ctx context.Context, encoder *Encoder, count int, labels []uint32, options *AddOptions,
	run func(*call, addition) (C.byol_status, error)) ([]uint64, error) {
	a := addition{count: C.size_t(count)}
	var err error
	if a.trainer, err = t.c(); err != nil {
		return nil, err
	}
	if a.encoder, err = encoder.c(); err != nil {
		return nil, err
	}
	if len(labels) != count {
		return nil, fail(ErrLabel, "%d labels for %d pictures", len(labels), count)
	}
	if options == nil {
		options = &AddOptions{}
	}
	if a.statuses, err = statuses(options.Statuses, count); err != nil {
		return nil, err
	}
	ids := make([]uint64, count)
	w, err := watch(ctx)
	if err != nil {
		return nil, err
	}
	c := begin()
	// Both lie in a struct that Go hands on, not in arguments of the call into C.
	if count > 0 {
		c.pins.Pin(&ids[0])
		a.ids = numbers64(ids)
	}
	if a.statuses != nil && count > 0 {
		c.pins.Pin(&options.Statuses[0])
	}
	a.token = w.token
	status, err := run(c, a)
	if err != nil {
		err = c.failed(err)
	} else {
		err = c.end(status)
	}
	runtime.KeepAlive(t)
	runtime.KeepAlive(encoder)
	if err := w.end(err); err != nil {
		return nil, err
	}
	return ids, nil
}

// AddFeatures adds all rows of a container with labels; classes are matched by name, and new ones added. It gives the
// number of the first; the others follow it.
func (t *Trainer) AddFeatures(features *Features) (uint64, error) {
	id, err := t.c()
	if err != nil {
		return 0, err
	}
	from, err := features.c()
	if err != nil {
		return 0, err
	}
	var first C.uint64_t
	c := begin()
	err = c.end(C.byol_trainer_add_features(id, from, &first, &c.err))
	runtime.KeepAlive(t)
	runtime.KeepAlive(features)
	return uint64(first), err
}

// Features copies all examples into a new container, in the order of their numbers, with labels and classes.
func (t *Trainer) Features() (*Features, error) {
	id, err := t.c()
	if err != nil {
		return nil, err
	}
	var copied C.byol_features
	c := begin()
	err = c.end(C.byol_trainer_get_features(id, &copied, &c.err))
	runtime.KeepAlive(t)
	if err != nil {
		return nil, err
	}
	return newFeatures(copied), nil
}

// Remove removes examples by their numbers, all or none.
func (t *Trainer) Remove(examples ...uint64) error {
	id, err := t.c()
	if err != nil {
		return err
	}
	c := begin()
	err = c.end(C.byol_trainer_remove(id, numbers64(examples), C.size_t(len(examples)), &c.err))
	runtime.KeepAlive(t)
	return err
}

// Relabel gives an example to another class.
func (t *Trainer) Relabel(example uint64, label uint32) error {
	id, err := t.c()
	if err != nil {
		return err
	}
	c := begin()
	err = c.end(C.byol_trainer_relabel(id, C.uint64_t(example), C.uint32_t(label), &c.err))
	runtime.KeepAlive(t)
	return err
}

// Fit fits a head to all examples. Classes, Encoder and SampleWeights of the options are not used: the trainer has them.
func (t *Trainer) Fit(ctx context.Context, options *FitOptions) (*Head, FitReport, error) {
	return t.fit(ctx, options, 0)
}

// Refit fits a head to all examples, as [Trainer.Fit] and to the same optimum, starting at the last one: after examples
// or classes came or went, it takes a fraction of the time.
func (t *Trainer) Refit(ctx context.Context, options *FitOptions) (*Head, FitReport, error) {
	return t.fit(ctx, options, 1)
}

func (t *Trainer) fit(ctx context.Context, options *FitOptions, again C.int) (*Head, FitReport, error) {
	id, err := t.c()
	if err != nil {
		return nil, FitReport{}, err
	}
	if options == nil {
		options = &FitOptions{}
	}
	c := begin()
	o, err := options.trainer(c)
	if err != nil {
		return nil, FitReport{}, c.failed(err)
	}
	head, report, err := run(ctx, c, options.Progress, func(f fitCall) C.byol_status {
		return C.byol_go_trainer_fit(id, again, &o, f.user, f.token, f.head, f.report, &c.err)
	})
	runtime.KeepAlive(t)
	return head, report, err
}

// trainer gives the options as C reads them for a trainer, which takes no weights of rows.
func (o FitOptions) trainer(c *call) (C.byol_fit_options, error) {
	o.SampleWeights = nil
	return o.c(c, 0)
}

// SearchOptions say how to search for a penalty. The zero value judges thirteen penalties from 1 to 1e-6 on a fifth of
// the examples.
type SearchOptions struct {
	// Fit says how to fit; its L2 and Progress are not used.
	Fit FitOptions
	// Penalties to try, as FitOptions.L2; nil for thirteen from 1 to 1e-6.
	Penalties []float64
	// Folds, where it is 2 or more, judges by cross-validation in so many folds: longer, and surer with few examples. 0
	// judges on a share of the examples that is held out.
	Folds int
	// HeldOut is that share of every class, at most 0.5; 0 is 0.2.
	HeldOut float64
	// Patience ends a search without folds once the loss has not fallen for so many penalties; 0 is 3, below 0 is never.
	Patience int
	// Seed decides which examples are held out.
	Seed uint64
	// Progress hears from the search after every penalty, of every fold. An error ends the search, which then fails with
	// that error and [ErrCancelled].
	Progress func(Penalty) error
}

// Penalty is what became of one penalty of a search.
type Penalty struct {
	L2        float64 // the penalty
	Accuracy  float64 // share of right examples among those held out
	Deviation float64 // standard deviation of Accuracy over the folds; 0 without folds
	LogLoss   float64 // mean cross-entropy of those held out
}

//export byolGoSearch
func byolGoSearch(user C.uintptr_t, l2, accuracy, logLoss C.double) C.int32_t {
	return hear(user, Penalty{L2: float64(l2), Accuracy: float64(accuracy), LogLoss: float64(logLoss)})
}

// Search tries penalties, judges each on examples that are held out, and fits a head with the best to all examples: the
// highest accuracy, then the lowest loss, then the strongest penalty, which FitReport.L2 tells. The penalties that were
// tried come strongest first.
func (t *Trainer) Search(ctx context.Context, options *SearchOptions) (*Head, FitReport, []Penalty, error) {
	var none FitReport
	id, err := t.c()
	if err != nil {
		return nil, none, nil, err
	}
	if options == nil {
		options = &SearchOptions{}
	}
	var s C.byol_search_options
	C.byol_search_options_init(&s, C.sizeof_byol_search_options)
	if s.folds, err = unsigned("Folds", options.Folds); err != nil {
		return nil, none, nil, err
	}
	switch {
	case options.Patience > 0:
		if s.patience, err = unsigned("Patience", options.Patience); err != nil {
			return nil, none, nil, err
		}
	case options.Patience < 0:
		s.patience = 0
	}
	if options.HeldOut != 0 {
		s.held_out = C.double(options.HeldOut)
	}
	s.seed = C.uint64_t(options.Seed)
	c := begin()
	most := C.BYOL_SEARCH_PENALTIES
	if len(options.Penalties) > 0 {
		c.pins.Pin(&options.Penalties[0])
		s.penalties, s.penalties_len = (*C.double)(&options.Penalties[0]), C.size_t(len(options.Penalties))
		most = len(options.Penalties)
	}
	o, err := options.Fit.trainer(c)
	if err != nil {
		return nil, none, nil, c.failed(err)
	}
	tried := make([]Penalty, most)
	var count C.size_t
	head, report, err := run(ctx, c, options.Progress, func(f fitCall) C.byol_status {
		return C.byol_go_trainer_search(id, &o, &s, f.user, f.token, f.head, f.report,
			(*C.double)(unsafe.Pointer(unsafe.SliceData(tried))), C.size_t(4*most), &count, &c.err)
	})
	runtime.KeepAlive(t)
	runtime.KeepAlive(options)
	if err != nil {
		return nil, none, nil, err
	}
	return head, report, tried[:count], nil
}

// Imprint makes a head without fitting: every class's weights are the mean of its examples, each scaled to length 1,
// scaled to length scale (10 to 30 is usual). One example of each class is enough.
func (t *Trainer) Imprint(scale float32) (*Head, error) {
	id, err := t.c()
	if err != nil {
		return nil, err
	}
	var head C.byol_head
	c := begin()
	err = c.end(C.byol_trainer_imprint(id, C.float(scale), &head, &c.err))
	runtime.KeepAlive(t)
	if err != nil {
		return nil, err
	}
	return newHead(head)
}

func numbers64(values []uint64) *C.uint64_t {
	if len(values) == 0 {
		return nil
	}
	return (*C.uint64_t)(&values[0])
}
