package byol

/*
#include <byol.h>
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// A Resize says how a picture is brought to the input's size.
type Resize uint32

// The ways to resize.
const (
	ResizeStretch   Resize = C.BYOL_RESIZE_STRETCH    // to exactly the input's size
	ResizeShortSide Resize = C.BYOL_RESIZE_SHORT_SIDE // the short side to ResizeSize, then the centre is cut out
)

// A Filter says how pixels are blended when a picture is resized.
type Filter uint32

// The filters, both antialiased.
const (
	FilterBilinear Filter = C.BYOL_FILTER_BILINEAR // triangle
	FilterBicubic  Filter = C.BYOL_FILTER_BICUBIC  // cubic with a = -0.5
)

// A Contract says how a picture becomes an encoder's input.
type Contract struct {
	// Channels of the input: 1 (gray) or 3 (red, green, blue).
	Channels int
	// Height and Width of the input in pixels.
	Height, Width int
	// Resize is how a picture comes to that size, and ResizeSize the pixels of the short side with [ResizeShortSide].
	Resize     Resize
	ResizeSize int
	// Filter is how pixels are blended.
	Filter Filter
	// Mean and Deviation of each channel, of values scaled to 0 to 1.
	Mean, Deviation [4]float32
}

// EncoderOptions say how to open an encoder.
type EncoderOptions struct {
	// Runtime is the one to use; nil starts the default one, unless one runs already.
	Runtime *Runtime
	// Sessions is how many calls may be inferred at the same time, each with its own copy of the weights; 0 is 1, which
	// uses all threads for one call at a time. Further calls wait their turn.
	Sessions int
	// MaxModelBytes is the largest model file that is read; 0 is 2 GiB.
	MaxModelBytes uint64
	// MaxImagePixels is the largest picture that is decoded, in pixels; 0 is 100 million.
	MaxImagePixels uint64
	// MaxImageBytes is the largest picture file that is read; 0 is 256 MiB.
	MaxImageBytes uint64
	// Contract says how pictures become input, instead of what the file says; nil takes that.
	Contract *Contract
	// Output is the output that holds the features; empty takes "features", or else the first of float32.
	Output string
}

// EncoderInfo is what an open encoder is.
type EncoderInfo struct {
	// Dimension is the number of features per picture.
	Dimension int
	// Sessions is how many calls may be inferred at the same time.
	Sessions int
	// Threads is how many all encoders share.
	Threads int
	// Contract is how pictures become input.
	Contract Contract
	// SHA256 of the file, hexadecimal.
	SHA256 string
}

// An Encoder is an opened model that turns pictures into features. Any number of goroutines may share it.
type Encoder struct {
	handle
	dimension     int
	maxImageBytes uint64
}

// OpenEncoder opens a model file as an encoder.
func OpenEncoder(source Source, options *EncoderOptions) (*Encoder, error) {
	if err := compatible(); err != nil {
		return nil, err
	}
	if options == nil {
		options = &EncoderOptions{}
	}
	var engine C.byol_runtime
	if options.Runtime != nil {
		if engine.id = C.uint64_t(options.Runtime.id.Load()); engine.id == 0 {
			return nil, closed("runtime")
		}
	}
	c := begin()
	s, err := source.c(c, options.MaxModelBytes)
	if err != nil {
		return nil, c.failed(err)
	}
	o, err := options.c(c)
	if err != nil {
		return nil, c.failed(err)
	}
	var id C.byol_encoder
	err = c.end(C.byol_encoder_open(engine, &s, &o, &id, &c.err))
	runtime.KeepAlive(options)
	if err != nil {
		return nil, err
	}
	e := &Encoder{maxImageBytes: options.MaxImageBytes}
	if e.maxImageBytes == 0 {
		e.maxImageBytes = 256 << 20
	}
	e.open(uint64(id.id), closeEncoder)
	info, err := e.Info()
	if err != nil {
		_ = e.Close()
		return nil, err
	}
	e.dimension = info.Dimension
	return e, nil
}

// c gives the options as C reads them, for the length of a call.
func (o *EncoderOptions) c(c *call) (C.byol_encoder_options, error) {
	options := C.byol_encoder_options{
		struct_size:      C.sizeof_byol_encoder_options,
		max_model_bytes:  C.uint64_t(o.MaxModelBytes),
		max_image_pixels: C.uint64_t(o.MaxImagePixels),
		max_image_bytes:  C.uint64_t(o.MaxImageBytes),
	}
	var err error
	if options.sessions, err = unsigned("Sessions", o.Sessions); err != nil {
		return options, err
	}
	if o.Output != "" {
		if options.output, err = c.text("Output", o.Output); err != nil {
			return options, err
		}
	}
	if o.Contract != nil {
		contract := &C.byol_contract{
			struct_size: C.sizeof_byol_contract, resize: C.uint32_t(o.Contract.Resize), filter: C.uint32_t(o.Contract.Filter),
		}
		for _, field := range []struct {
			what  string
			value int
			to    *C.uint32_t
		}{
			{"Channels", o.Contract.Channels, &contract.channels}, {"Height", o.Contract.Height, &contract.height},
			{"Width", o.Contract.Width, &contract.width}, {"ResizeSize", o.Contract.ResizeSize, &contract.resize_size},
		} {
			if *field.to, err = unsigned(field.what, field.value); err != nil {
				return options, err
			}
		}
		for i := range o.Contract.Mean {
			contract.mean[i], contract.deviation[i] = C.float(o.Contract.Mean[i]), C.float(o.Contract.Deviation[i])
		}
		c.pins.Pin(contract)
		options.contract = contract
	}
	return options, nil
}

func closeEncoder(id uint64) {
	C.byol_encoder_close(C.byol_encoder{id: C.uint64_t(id)}, nil)
}

// Close closes the encoder. Calls that use it finish. It may be called again, and returns nil.
func (e *Encoder) Close() error {
	if e != nil {
		e.close(closeEncoder)
		runtime.KeepAlive(e)
	}
	return nil
}

// c gives the encoder's number. Who uses it keeps the encoder alive until C has returned.
func (e *Encoder) c() (C.byol_encoder, error) {
	if e == nil {
		return C.byol_encoder{}, closed("encoder")
	}
	id := e.id.Load()
	if id == 0 {
		return C.byol_encoder{}, closed("encoder")
	}
	return C.byol_encoder{id: C.uint64_t(id)}, nil
}

func closed(what string) *Error {
	return fail(ErrClosed, "the %s is closed, or was never opened", what)
}

// Dimension is the number of features per picture.
func (e *Encoder) Dimension() int {
	if e == nil {
		return 0
	}
	return e.dimension
}

// Info tells what the encoder is.
func (e *Encoder) Info() (EncoderInfo, error) {
	id, err := e.c()
	if err != nil {
		return EncoderInfo{}, err
	}
	c := begin()
	info := C.byol_encoder_info{struct_size: C.sizeof_byol_encoder_info}
	err = c.end(C.byol_encoder_get_info(id, &info, &c.err))
	runtime.KeepAlive(e)
	if err != nil {
		return EncoderInfo{}, err
	}
	about := EncoderInfo{
		Dimension: int(info.dimension), Sessions: int(info.sessions), Threads: int(info.threads),
		Contract: Contract{
			Channels: int(info.channels), Height: int(info.height), Width: int(info.width), Resize: Resize(info.resize),
			ResizeSize: int(info.resize_size), Filter: Filter(info.filter),
		},
		SHA256: C.GoString(&info.sha256[0]),
	}
	for i := range about.Contract.Mean {
		about.Contract.Mean[i], about.Contract.Deviation[i] = float32(info.mean[i]), float32(info.deviation[i])
	}
	return about, nil
}

// Metadata is all that the model file's metadata say.
func (e *Encoder) Metadata() (map[string]string, error) {
	id, err := e.c()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(e)
	all := map[string]string{}
	for i := C.size_t(0); ; i++ {
		key, err := readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
			return C.byol_encoder_get_metadata_key(id, i, buffer, capacity, needed, failure)
		})
		if err != nil {
			if err.(*Error).Code == ErrNotFound {
				return all, nil
			}
			return nil, err
		}
		if all[key], err = e.MetadataValue(key); err != nil {
			return nil, err
		}
	}
}

// MetadataValue is the value of one key of the model file's metadata, such as "byol.input.size", or [ErrNotFound].
func (e *Encoder) MetadataValue(key string) (string, error) {
	id, err := e.c()
	if err != nil {
		return "", err
	}
	keep := begin()
	name, err := keep.text("the key", key)
	if err != nil {
		return "", keep.failed(err)
	}
	defer keep.release()
	defer runtime.KeepAlive(e)
	return readText(func(buffer *C.char, capacity C.size_t, needed *C.size_t, failure *C.byol_error) C.byol_status {
		return C.byol_encoder_get_metadata(id, name, buffer, capacity, needed, failure)
	})
}

// bytesOf gives C a slice that is an argument itself.
func bytesOf[T uint8 | float32](values []T) unsafe.Pointer {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Pointer(&values[0])
}
