package byol

/*
#include <byol.h>
*/
import "C"

import (
	"context"
	"runtime"
	"unsafe"
)

// Features is a container: rows of features with what is known about each, kept in files and searched by similarity. Any
// number of goroutines may share it.
type Features struct {
	handle
}

// FeaturesInfo is what a container holds.
type FeaturesInfo struct {
	Rows          int    // number of rows
	Dimension     int    // features per row
	Classes       int    // number of classes that have names
	HasLabels     bool   // the rows have labels
	HasNames      bool   // the rows have names
	EncoderSHA256 string // of the file of the encoder that made the features; empty if it is not known
}

// NewFeatures makes an empty container for features of an encoder.
func NewFeatures(encoder *Encoder) (*Features, error) {
	id, err := encoder.c()
	if err != nil {
		return nil, err
	}
	f, err := createFeatures(id, 0)
	runtime.KeepAlive(encoder)
	return f, err
}

// NewFeaturesOf makes an empty container for features of so many numbers each, whose encoder is not known.
func NewFeaturesOf(dimension int) (*Features, error) {
	size, err := unsigned("dimension", dimension)
	if err != nil {
		return nil, err
	}
	return createFeatures(C.byol_encoder{}, size)
}

func createFeatures(encoder C.byol_encoder, dimension C.uint32_t) (*Features, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	var id C.byol_features
	c := begin()
	if err := c.end(C.byol_features_create(encoder, dimension, &id, &c.err)); err != nil {
		return nil, err
	}
	return newFeatures(id), nil
}

// LoadFeatures reads a container from a file that [Features.Save] or the command wrote, or any two-dimensional ".npy" of
// numbers.
func LoadFeatures(path string) (*Features, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	c := begin()
	name, err := c.text("the path", path)
	if err != nil {
		return nil, c.failed(err)
	}
	var id C.byol_features
	if err := c.end(C.byol_features_load(name, &id, &c.err)); err != nil {
		return nil, err
	}
	return newFeatures(id), nil
}

func newFeatures(id C.byol_features) *Features {
	f := new(Features)
	f.open(uint64(id.id), closeFeatures)
	return f
}

func closeFeatures(id uint64) {
	C.byol_features_close(C.byol_features{id: C.uint64_t(id)}, nil)
}

// Close closes the container. Calls that use it finish. It may be called again, and returns nil.
func (f *Features) Close() error {
	if f != nil {
		f.close(closeFeatures)
		runtime.KeepAlive(f)
	}
	return nil
}

// c gives the container's number. Who uses it keeps the container alive until C has returned.
func (f *Features) c() (C.byol_features, error) {
	if f == nil {
		return C.byol_features{}, closed("container of features")
	}
	id := f.id.Load()
	if id == 0 {
		return C.byol_features{}, closed("container of features")
	}
	return C.byol_features{id: C.uint64_t(id)}, nil
}

// Info tells what the container holds.
func (f *Features) Info() (FeaturesInfo, error) {
	id, err := f.c()
	if err != nil {
		return FeaturesInfo{}, err
	}
	c := begin()
	info := C.byol_features_info{struct_size: C.sizeof_byol_features_info}
	err = c.end(C.byol_features_get_info(id, &info, &c.err))
	runtime.KeepAlive(f)
	if err != nil {
		return FeaturesInfo{}, err
	}
	return FeaturesInfo{
		Rows: int(info.rows), Dimension: int(info.dimension), Classes: int(info.classes), HasLabels: info.has_labels != 0,
		HasNames: info.has_names != 0, EncoderSHA256: C.GoString(&info.encoder_sha256[0]),
	}, nil
}

// Append adds rows, with their labels and names, or nil where they have none: either all rows of a container have labels,
// or none has, and so for names. All are added or none.
func (f *Features) Append(values Matrix, labels []uint32, names []string) error {
	id, err := f.c()
	if err != nil {
		return err
	}
	if err := values.check("values"); err != nil {
		return err
	}
	if labels != nil && len(labels) != values.Rows {
		return fail(ErrLabel, "%d labels for %d rows", len(labels), values.Rows)
	}
	if names != nil && len(names) != values.Rows {
		return fail(ErrShape, "%d names for %d rows", len(names), values.Rows)
	}
	c := begin()
	texts, err := c.texts("name", names)
	if err != nil {
		return c.failed(err)
	}
	err = c.end(C.byol_features_append(id, floats(values.Data), C.size_t(values.Rows), C.size_t(values.Columns),
		C.size_t(values.Stride), labels32(labels), texts, &c.err))
	runtime.KeepAlive(f)
	return err
}

// SetClasses names the classes that labels count.
func (f *Features) SetClasses(names []string) error {
	id, err := f.c()
	if err != nil {
		return err
	}
	count, err := unsigned("the number of classes", len(names))
	if err != nil {
		return err
	}
	c := begin()
	texts, err := c.texts("class", names)
	if err != nil {
		return c.failed(err)
	}
	err = c.end(C.byol_features_set_classes(id, texts, count, &c.err))
	runtime.KeepAlive(f)
	return err
}

// Rows copies count rows from first on.
func (f *Features) Rows(first, count int) (Matrix, error) {
	id, err := f.c()
	if err != nil {
		return Matrix{}, err
	}
	info, err := f.has(first, count)
	if err != nil {
		return Matrix{}, err
	}
	rows := Matrix{Data: make([]float32, count*info.Dimension), Rows: count, Columns: info.Dimension}
	if count == 0 {
		return rows, nil
	}
	c := begin()
	err = c.end(C.byol_features_get_rows(id, C.size_t(first), C.size_t(count), floats(rows.Data), 0,
		C.size_t(len(rows.Data)), nil, &c.err))
	runtime.KeepAlive(f)
	if err != nil {
		return Matrix{}, err
	}
	return rows, nil
}

// Labels copies the labels of count rows from first on.
func (f *Features) Labels(first, count int) ([]uint32, error) {
	id, err := f.c()
	if err != nil {
		return nil, err
	}
	if _, err := f.has(first, count); err != nil {
		return nil, err
	}
	labels := make([]uint32, count)
	if count == 0 {
		return labels, nil
	}
	c := begin()
	err = c.end(C.byol_features_get_rows(id, C.size_t(first), C.size_t(count), nil, 0, 0, labels32(labels), &c.err))
	runtime.KeepAlive(f)
	if err != nil {
		return nil, err
	}
	return labels, nil
}

// has refuses rows that are not there before room is made for them, and tells what the container holds.
func (f *Features) has(first, count int) (FeaturesInfo, error) {
	info, err := f.Info()
	if err == nil && (first < 0 || count < 0 || first > info.Rows || count > info.Rows-first) {
		err = fail(ErrNotFound, "%d rows from %d on, of %d", count, first, info.Rows)
	}
	return info, err
}

// Name is the name of a row, or [ErrNotFound].
func (f *Features) Name(row int) (string, error) {
	id, err := f.c()
	if err != nil {
		return "", err
	}
	if row < 0 {
		return "", fail(ErrNotFound, "row %d", row)
	}
	defer runtime.KeepAlive(f)
	return readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_features_get_name(id, C.size_t(row), buffer, capacity, needed, failure)
	})
}

// ClassName is the name of a class, counted from 0, or [ErrNotFound].
func (f *Features) ClassName(label uint32) (string, error) {
	id, err := f.c()
	if err != nil {
		return "", err
	}
	defer runtime.KeepAlive(f)
	return readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_features_get_class(id, C.uint32_t(label), buffer, capacity, needed, failure)
	})
}

// Save writes the container to a file, whole or not at all: ".safetensors" takes everything, ".npy" the features alone.
func (f *Features) Save(path string) error {
	id, err := f.c()
	if err != nil {
		return err
	}
	c := begin()
	name, err := c.text("the path", path)
	if err != nil {
		return c.failed(err)
	}
	err = c.end(C.byol_features_save(id, name, &c.err))
	runtime.KeepAlive(f)
	return err
}

// Similarity computes the cosine of each query with every row: a row for each query, a column for each row.
func (f *Features) Similarity(queries Matrix) (Matrix, error) {
	id, err := f.c()
	if err != nil {
		return Matrix{}, err
	}
	if err := queries.check("queries"); err != nil {
		return Matrix{}, err
	}
	info, err := f.Info()
	if err != nil {
		return Matrix{}, err
	}
	length, err := product(queries.Rows, info.Rows)
	if err != nil {
		return Matrix{}, err
	}
	cosines := Matrix{Data: make([]float32, length), Rows: queries.Rows, Columns: info.Rows}
	c := begin()
	err = c.end(C.byol_features_similarity(id, floats(queries.Data), C.size_t(queries.Rows), C.size_t(queries.Columns),
		C.size_t(queries.Stride), floats(cosines.Data), C.size_t(len(cosines.Data)), &c.err))
	runtime.KeepAlive(f)
	if err != nil {
		return Matrix{}, err
	}
	return cosines, nil
}

// Nearest finds the k rows with the largest cosine to each query, nearest first, the lower row first in a tie: their
// numbers, k for each query, and their cosines, a row for each query.
func (f *Features) Nearest(queries Matrix, k int) ([]uint32, Matrix, error) {
	id, err := f.c()
	if err != nil {
		return nil, Matrix{}, err
	}
	if err := queries.check("queries"); err != nil {
		return nil, Matrix{}, err
	}
	info, err := f.Info()
	if err != nil {
		return nil, Matrix{}, err
	}
	if info.Rows > 0 && (k < 1 || k > info.Rows) {
		return nil, Matrix{}, fail(ErrInvalidArgument, "k is %d, not 1 to the %d rows", k, info.Rows)
	}
	wanted, err := unsigned("k", k)
	if err != nil {
		return nil, Matrix{}, err
	}
	length, err := product(queries.Rows, k)
	if err != nil {
		return nil, Matrix{}, err
	}
	rows := make([]uint32, length)
	cosines := Matrix{Data: make([]float32, length), Rows: queries.Rows, Columns: k}
	c := begin()
	err = c.end(C.byol_features_nearest(id, floats(queries.Data), C.size_t(queries.Rows), C.size_t(queries.Columns),
		C.size_t(queries.Stride), wanted, labels32(rows), C.size_t(length), floats(cosines.Data), C.size_t(length), &c.err))
	runtime.KeepAlive(f)
	if err != nil {
		return nil, Matrix{}, err
	}
	return rows, cosines, nil
}

// A Packing is how features lie in fewer bytes.
type Packing uint32

// The ways to pack.
const (
	PackFloat16 Packing = C.BYOL_ELEMENT_F16 // 2 bytes; relative error at most 2^-11, values beyond 65504 become 65504
	PackInt8    Packing = C.BYOL_ELEMENT_I8  // 1 byte, -127 to 127, times the row's scale; error at most half a scale
)

// Packed is rows of features in fewer bytes, without gaps.
type Packed struct {
	Packing       Packing
	Rows, Columns int
	// Data is the values in the machine's byte order.
	Data []byte
	// Scales has one number per row with [PackInt8].
	Scales []float32
}

func newPacked(packing Packing, rows, columns int) (Packed, error) {
	p := Packed{Packing: packing, Rows: rows, Columns: columns}
	length, err := product(rows, columns)
	if err != nil {
		return p, err
	}
	switch packing {
	case PackFloat16:
		// Made of wider numbers, so that it lies as float16 must.
		wide := make([]uint16, length)
		p.Data = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(wide))), 2*length)
	case PackInt8:
		p.Data, p.Scales = make([]byte, length), make([]float32, rows)
	default:
		return p, fail(ErrInvalidArgument, "packing is %d, not PackFloat16 or PackInt8", packing)
	}
	return p, nil
}

// Pack packs features.
func Pack(features Matrix, packing Packing) (Packed, error) {
	if err := compatible(); err != nil {
		return Packed{}, err
	}
	if err := features.check("features"); err != nil {
		return Packed{}, err
	}
	p, err := newPacked(packing, features.Rows, features.Columns)
	if err != nil {
		return Packed{}, err
	}
	c := begin()
	err = c.end(C.byol_pack(floats(features.Data), C.size_t(features.Rows), C.size_t(features.Columns),
		C.size_t(features.Stride), C.uint32_t(packing), bytesOf(p.Data), C.size_t(len(p.Data)), floats(p.Scales), &c.err))
	if err != nil {
		return Packed{}, err
	}
	return p, nil
}

// Unpack gives the features back.
func (p Packed) Unpack() (Matrix, error) {
	if err := compatible(); err != nil {
		return Matrix{}, err
	}
	if p.Rows < 0 || p.Columns < 0 {
		return Matrix{}, fail(ErrShape, "%d rows of %d columns", p.Rows, p.Columns)
	}
	length, err := product(p.Rows, p.Columns)
	if err != nil {
		return Matrix{}, err
	}
	// Before room is made for values that are not there.
	if length > len(p.Data) || p.Packing == PackInt8 && p.Rows > len(p.Scales) {
		return Matrix{}, fail(ErrShape, "%d bytes and %d scales for %d rows of %d columns", len(p.Data), len(p.Scales),
			p.Rows, p.Columns)
	}
	features := Matrix{Data: make([]float32, length), Rows: p.Rows, Columns: p.Columns}
	c := begin()
	err = c.end(C.byol_unpack(bytesOf(p.Data), C.size_t(len(p.Data)), C.uint32_t(p.Packing), floats(p.Scales),
		C.size_t(p.Rows), C.size_t(p.Columns), floats(features.Data), 0, C.size_t(length), &c.err))
	if err != nil {
		return Matrix{}, err
	}
	return features, nil
}

// ExtractPacked computes the features of pictures in fewer bytes. A bad picture of Statuses has a row of zeros. Into and
// Stride are not used.
func (e *Encoder) ExtractPacked(ctx context.Context, images []Image, packing Packing, options *ExtractOptions) (Packed, error) {
	id, err := e.c()
	if err != nil {
		return Packed{}, err
	}
	if options == nil {
		options = &ExtractOptions{}
	}
	s, err := statuses(options.Statuses, len(images))
	if err != nil {
		return Packed{}, err
	}
	p, err := newPacked(packing, len(images), e.dimension)
	if err != nil {
		return Packed{}, err
	}
	w, err := watch(ctx)
	if err != nil {
		return Packed{}, err
	}
	c := begin()
	o := C.byol_extract_options{
		struct_size: C.sizeof_byol_extract_options, element: C.uint32_t(packing), packed: bytesOf(p.Data),
		packed_len: C.size_t(len(p.Data)), scales: floats(p.Scales),
	}
	if len(p.Data) > 0 {
		c.pins.Pin(&p.Data[0])
	}
	if len(p.Scales) > 0 {
		c.pins.Pin(&p.Scales[0])
	}
	err = c.end(C.byol_extract(id, c.pictures(images), C.size_t(len(images)), &o, nil, 0, 0, s, w.token, &c.err))
	runtime.KeepAlive(e)
	if err := w.end(err); err != nil {
		return Packed{}, err
	}
	return p, nil
}
