package byol

/*
#include <byol.h>
*/
import "C"

import (
	"io"
	"unsafe"
)

// A Source is an ONNX file: by its path, in memory, or from a reader. Set one of the three, or use [File], [Bytes] or
// [Reader].
type Source struct {
	// Path of the file.
	Path string
	// Data is the file's bytes. They are not needed after the call.
	Data []byte
	// Reader gives the file's bytes, such as an open [io/fs.File]. It is read to its end, and not closed.
	Reader io.Reader
	// SHA256 is what the file must have, in 64 hexadecimal digits; empty for any.
	SHA256 string
	// ExternalData allows the model to keep tensors in further files: regular ones in the folder of Path. Without it such
	// a model is refused.
	ExternalData bool
}

// File is an ONNX file on disk.
func File(path string) Source { return Source{Path: path} }

// Bytes is an ONNX file in memory.
func Bytes(data []byte) Source { return Source{Data: data} }

// Reader is an ONNX file that is read to its end.
func Reader(reader io.Reader) Source { return Source{Reader: reader} }

// c gives the source as C reads it, for the length of a call.
func (s Source) c(c *call, limit uint64) (C.byol_source, error) {
	source := C.byol_source{struct_size: C.sizeof_byol_source}
	if s.ExternalData {
		source.flags = C.BYOL_SOURCE_EXTERNAL_DATA
	}
	data := s.Data
	var err error
	if s.Reader != nil {
		if s.Path != "" || s.Data != nil {
			return source, fail(ErrInvalidArgument, "a source has a Reader and also a Path or Data")
		}
		if limit == 0 {
			limit = 2 << 30
		}
		if data, err = readAll(nil, s.Reader, limit); err != nil {
			return source, err
		}
		if data == nil {
			data = []byte{}
		}
	}
	if s.Path != "" {
		if source.path, err = c.text("Path", s.Path); err != nil {
			return source, err
		}
	}
	if data != nil {
		// No bytes are no model, which is another mistake than no source.
		if len(data) == 0 {
			data = make([]byte, 0, 1)
		}
		c.pins.Pin(unsafe.SliceData(data))
		source.data = (*C.uint8_t)(unsafe.SliceData(data))
		source.data_len = C.size_t(len(data))
	}
	if s.SHA256 != "" {
		source.sha256, err = c.text("SHA256", s.SHA256)
	}
	return source, err
}

// An Element is the type of a tensor's values.
type Element uint32

// The types of a tensor's values.
const (
	ElementOther   Element = C.BYOL_TENSOR_OTHER // one that encoders don't take
	ElementUint8   Element = C.BYOL_TENSOR_U8    // pixels of 0 to 255, as [n, height, width, channels]
	ElementFloat32 Element = C.BYOL_TENSOR_F32   // normalised values, as [n, channels, height, width]
)

// ModelInfo is what a model file says of itself. A size is 0 where the model leaves it open.
type ModelInfo struct {
	Input                   Element // of the first input
	Channels, Height, Width int     // of the first input
	Dimension               int     // features per picture of the first output
	HasContract             bool    // the file says how pictures become input
	HasExternalData         bool    // the file keeps tensors in other files: Source.ExternalData
	Nodes                   int     // number of operators
	Opset                   int     // version of the operator set
	SHA256                  string  // of the file, hexadecimal
	Producer                string  // the program that wrote the file
	InputName, OutputName   string  // of the first input and output
}

// Inspect reads what a model file says of itself. Nothing of it is run, and ONNX Runtime is not needed.
func Inspect(source Source) (ModelInfo, error) {
	if err := compatible(); err != nil {
		return ModelInfo{}, err
	}
	c := begin()
	s, err := source.c(c, 0)
	if err != nil {
		return ModelInfo{}, c.failed(err)
	}
	info := C.byol_model_info{struct_size: C.sizeof_byol_model_info}
	if err := c.end(C.byol_model_inspect(&s, &info, &c.err)); err != nil {
		return ModelInfo{}, err
	}
	return ModelInfo{
		Input: Element(info.input_type), Channels: int(info.channels), Height: int(info.height), Width: int(info.width),
		Dimension: int(info.dimension), HasContract: info.has_contract != 0, HasExternalData: info.has_external_data != 0,
		Nodes: int(info.nodes), Opset: int(info.opset), SHA256: C.GoString(&info.sha256[0]),
		Producer: C.GoString(&info.producer[0]), InputName: C.GoString(&info.input_name[0]),
		OutputName: C.GoString(&info.output_name[0]),
	}, nil
}
