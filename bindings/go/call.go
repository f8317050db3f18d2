package byol

/*
#include <byol.h>
*/
import "C"

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// A call holds what one call into libbyol needs: the error struct, what is pinned, and arrays that C reads. Calls are
// reused, so that a call allocates little.
type call struct {
	err      C.byol_error
	pins     runtime.Pinner
	images   []C.byol_image
	pointers []*C.uint8_t
	lengths  []C.size_t
}

var calls = sync.Pool{New: func() any { return new(call) }}

func begin() *call {
	c := calls.Get().(*call)
	c.err.struct_size = C.sizeof_byol_error
	return c
}

// end gives the call back, and says what its status means. No other use of the call may follow.
func (c *call) end(status C.byol_status) error {
	var err error
	if status != C.BYOL_OK {
		err = c.failure(Status(status))
	}
	c.release()
	return err
}

// failed gives the call back where Go found the mistake before libbyol was asked.
func (c *call) failed(err error) error {
	c.release()
	return err
}

func (c *call) release() {
	c.pins.Unpin()
	// The next call must find no pointer to memory that is not pinned any more.
	clear(c.images[:cap(c.images)])
	clear(c.pointers[:cap(c.pointers)])
	calls.Put(c)
}

func (c *call) failure(code Status) *Error {
	failure := &Error{Code: code, Item: -1, RuntimeCode: int(c.err.runtime_code)}
	if c.err.item_index != C.BYOL_NO_ITEM {
		failure.Item = int(c.err.item_index)
	}
	failure.Message = C.GoStringN(&c.err.message[0], C.int(c.err.message_len))
	if failure.Message == "" {
		failure.Message = code.Name()
	}
	return failure
}

// text gives C a text, which stays until the call ends.
func (c *call) text(what, text string) (*C.char, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, fail(ErrInvalidArgument, "%s holds a NUL", what)
	}
	bytes := append(make([]byte, 0, len(text)+1), text...)
	bytes = append(bytes, 0)
	c.pins.Pin(&bytes[0])
	return (*C.char)(unsafe.Pointer(&bytes[0])), nil
}

// texts gives C an array of texts, which stays until the call ends; NULL for none.
func (c *call) texts(what string, texts []string) (**C.char, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	size := 0
	for i, text := range texts {
		if strings.IndexByte(text, 0) >= 0 {
			return nil, failAt(i, ErrInvalidArgument, "%s %d holds a NUL", what, i)
		}
		size += len(text) + 1
	}
	bytes := make([]byte, 0, size)
	c.pins.Pin(unsafe.SliceData(bytes))
	c.pointers = c.pointers[:0]
	for _, text := range texts {
		start := len(bytes)
		bytes = append(append(bytes, text...), 0)
		c.pointers = append(c.pointers, (*C.uint8_t)(&bytes[start]))
	}
	return (**C.char)(unsafe.Pointer(unsafe.SliceData(c.pointers))), nil
}

// files gives C encoded files and their lengths, for the length of the call.
func (c *call) files(files [][]byte) (**C.uint8_t, *C.size_t) {
	c.pointers, c.lengths = c.pointers[:0], c.lengths[:0]
	for _, file := range files {
		c.pointers = append(c.pointers, c.pinned(file))
		c.lengths = append(c.lengths, C.size_t(len(file)))
	}
	return unsafe.SliceData(c.pointers), unsafe.SliceData(c.lengths)
}

// pinned gives a pointer to bytes that may stand in memory that C reads; NULL for none.
func (c *call) pinned(bytes []byte) *C.uint8_t {
	if len(bytes) == 0 {
		return nil
	}
	c.pins.Pin(&bytes[0])
	return (*C.uint8_t)(&bytes[0])
}

// readText reads one of the texts that libbyol writes into a buffer of the caller's.
func readText(read func(buffer *C.char, capacity C.size_t, needed *C.size_t, e *C.byol_error) C.byol_status) (string, error) {
	needed := C.size_t(256)
	for {
		buffer := make([]byte, needed)
		c := begin()
		err := c.end(read((*C.char)(unsafe.Pointer(&buffer[0])), C.size_t(len(buffer)), &needed, &c.err))
		if err == nil {
			return string(buffer[:needed-1]), nil
		}
		if err.(*Error).Code != ErrBufferTooSmall || int(needed) <= len(buffer) {
			return "", err
		}
	}
}

// readBytes reads bytes that libbyol writes into a buffer of the caller's, after it has told how many.
func readBytes(read func(buffer *C.uint8_t, capacity C.size_t, needed *C.size_t, e *C.byol_error) C.byol_status) ([]byte, error) {
	var needed C.size_t
	c := begin()
	if err := c.end(read(nil, 0, &needed, &c.err)); err != nil {
		return nil, err
	}
	if uint64(needed) > math.MaxInt {
		return nil, fail(ErrNoMemory, "%d bytes", uint64(needed))
	}
	data := make([]byte, needed)
	c = begin()
	if err := c.end(read((*C.uint8_t)(unsafe.SliceData(data)), needed, &needed, &c.err)); err != nil {
		return nil, err
	}
	return data, nil
}

// floats and labels32 give C a slice that is an argument itself, which cgo keeps in place during the call.
func floats(values []float32) *C.float {
	if len(values) == 0 {
		return nil
	}
	return (*C.float)(&values[0])
}

func labels32(values []uint32) *C.uint32_t {
	if len(values) == 0 {
		return nil
	}
	return (*C.uint32_t)(&values[0])
}

// unsigned refuses numbers that C's uint32_t does not hold.
func unsigned(what string, value int) (C.uint32_t, error) {
	if value < 0 || uint64(value) > 1<<32-1 {
		return 0, fail(ErrInvalidArgument, "%s is %d", what, value)
	}
	return C.uint32_t(value), nil
}
