package byol

/*
#include <byol.h>
*/
import "C"

import (
	"image"
	"image/color"
	"unsafe"
)

// A Format is how pixels lie in memory.
type Format uint32

// The pixel formats. Alpha is ignored.
const (
	Gray8 Format = C.BYOL_FORMAT_GRAY8 // 1 byte, luminance
	RGB8  Format = C.BYOL_FORMAT_RGB8  // 3 bytes, red, green, blue
	BGR8  Format = C.BYOL_FORMAT_BGR8  // 3 bytes, blue, green, red
	RGBA8 Format = C.BYOL_FORMAT_RGBA8 // 4 bytes, red, green, blue, alpha; not premultiplied
	BGRA8 Format = C.BYOL_FORMAT_BGRA8 // 4 bytes, blue, green, red, alpha; not premultiplied
	RGBX8 Format = C.BYOL_FORMAT_RGBX8 // 4 bytes, red, green, blue, and one without meaning
)

// The largest width and height of a picture.
const maxSide = 65535

// An Image is pixels in memory, read where they lie.
type Image struct {
	// Format is how the pixels lie in Data.
	Format Format
	// Width and Height in pixels, 1 to 65535.
	Width, Height int
	// Stride is the bytes from one row to the next; 0 for rows without gaps.
	Stride int
	// Data begins with the first pixel of the first row.
	Data []byte
}

// pictures gives C the pictures, for the length of the call; libbyol checks them.
func (c *call) pictures(images []Image) *C.byol_image {
	c.images = c.images[:0]
	for i := range images {
		m := &images[i]
		c.images = append(c.images, C.byol_image{
			struct_size: C.sizeof_byol_image, format: C.uint32_t(m.Format), width: side(m.Width), height: side(m.Height),
			// A negative stride becomes one that is longer than any memory.
			stride: C.size_t(m.Stride), data: c.pinned(m.Data), data_len: C.size_t(len(m.Data)),
		})
	}
	return unsafe.SliceData(c.images)
}

// side turns what can't be a side into one that libbyol refuses.
func side(value int) C.uint32_t {
	return C.uint32_t(max(0, min(value, maxSide+1)))
}

// FromImage makes Go's own pictures ready for [Encoder.Extract]. Gray, NRGBA and opaque RGBA pictures, and parts of them
// by SubImage, are taken where they lie; RGBA with alpha, YCbCr, Gray16 and all others are converted. As with pictures
// that libbyol decodes itself, colours are those without their alpha: where alpha is 0, RGBA gives black. What is no
// picture, such as nil or one without pixels, becomes an Image that the encoder refuses.
func FromImage(picture image.Image) Image {
	if picture == nil {
		return Image{Format: Gray8}
	}
	switch m := picture.(type) {
	case *image.Gray:
		if m == nil {
			return Image{Format: Gray8}
		}
		return inPlace(Gray8, m.Rect, m.Pix, m.Stride)
	case *image.NRGBA:
		if m == nil {
			return Image{Format: RGBA8}
		}
		return inPlace(RGBA8, m.Rect, m.Pix, m.Stride)
	case *image.RGBA:
		if m == nil {
			return Image{Format: RGBA8}
		}
		return straight(inPlace(RGBA8, m.Rect, m.Pix, m.Stride))
	case *image.Gray16:
		if m == nil {
			return Image{Format: Gray8}
		}
		return highBytes(m)
	case *image.YCbCr:
		if m == nil {
			return Image{Format: RGB8}
		}
		return fromYCbCr(m)
	}
	return fromAny(picture)
}

func fromImages(pictures []image.Image) []Image {
	images := make([]Image, len(pictures))
	for i, picture := range pictures {
		images[i] = FromImage(picture)
	}
	return images
}

func bytesPerPixel(format Format) int {
	switch format {
	case Gray8:
		return 1
	case RGB8, BGR8:
		return 3
	}
	return 4
}

// inPlace is the picture whose first pixel is the first of pix, as in a picture of the image package and its SubImage.
// Where pix is shorter than the rest promises, the Image has no data.
func inPlace(format Format, bounds image.Rectangle, pix []byte, stride int) Image {
	m := Image{Format: format, Width: bounds.Dx(), Height: bounds.Dy(), Stride: stride}
	width := m.Width * bytesPerPixel(format)
	if bounds.Empty() || m.Width > maxSide || m.Height > maxSide || stride < width {
		return m
	}
	// Divided, because stride times height may be more than an int holds.
	if len(pix) < width || (len(pix)-width)/stride < m.Height-1 {
		return m
	}
	m.Data = pix[:stride*(m.Height-1)+width]
	return m
}

// room is an Image of a format with new pixels, or without any where bounds allow none.
func room(format Format, bounds image.Rectangle) Image {
	m := Image{Format: format, Width: bounds.Dx(), Height: bounds.Dy()}
	if !bounds.Empty() && m.Width <= maxSide && m.Height <= maxSide {
		m.Data = make([]byte, m.Width*m.Height*bytesPerPixel(format))
	}
	return m
}

// straight takes the alpha back out of premultiplied colours; opaque pictures stay where they are.
func straight(m Image) Image {
	if m.Data == nil || opaque(m) {
		return m
	}
	s := room(RGBA8, image.Rect(0, 0, m.Width, m.Height))
	for y := range m.Height {
		from, to := m.Data[y*m.Stride:][:4*m.Width], s.Data[y*4*m.Width:][:4*m.Width]
		for i := 0; i < len(from); i += 4 {
			alpha := uint32(from[i+3])
			switch alpha {
			case 0:
			case 255:
				copy(to[i:i+4], from[i:i+4])
			default:
				for channel := range 3 {
					to[i+channel] = uint8(min(uint32(from[i+channel])*0xffff/alpha, 0xffff) >> 8)
				}
				to[i+3] = uint8(alpha)
			}
		}
	}
	return s
}

func opaque(m Image) bool {
	for y := range m.Height {
		row := m.Data[y*m.Stride:][:4*m.Width]
		for i := 3; i < len(row); i += 4 {
			if row[i] != 255 {
				return false
			}
		}
	}
	return true
}

func highBytes(m *image.Gray16) Image {
	wide := Image{Format: Gray8, Width: m.Rect.Dx(), Height: m.Rect.Dy()}
	if m.Rect.Empty() || wide.Width > maxSide || wide.Height > maxSide || m.Stride < 2*wide.Width ||
		len(m.Pix) < 2*wide.Width || (len(m.Pix)-2*wide.Width)/m.Stride < wide.Height-1 {
		return wide
	}
	wide.Data = make([]byte, wide.Width*wide.Height)
	for y := range wide.Height {
		for x := range wide.Width {
			wide.Data[y*wide.Width+x] = m.Pix[y*m.Stride+2*x]
		}
	}
	return wide
}

func fromYCbCr(m *image.YCbCr) Image {
	r := m.Rect
	empty := Image{Format: RGB8, Width: r.Dx(), Height: r.Dy()}
	if r.Empty() || r.Dx() > maxSide || r.Dy() > maxSide || m.YStride < 0 || m.CStride < 0 {
		return empty
	}
	last, chroma := m.YOffset(r.Max.X-1, r.Max.Y-1), m.COffset(r.Max.X-1, r.Max.Y-1)
	if m.YOffset(r.Min.X, r.Min.Y) < 0 || m.COffset(r.Min.X, r.Min.Y) < 0 || m.COffset(r.Max.X-1, r.Min.Y) < 0 ||
		last < 0 || chroma < 0 || last >= len(m.Y) || chroma >= min(len(m.Cb), len(m.Cr)) ||
		m.COffset(r.Max.X-1, r.Min.Y) > chroma || m.YOffset(r.Max.X-1, r.Min.Y) > last {
		return empty
	}
	rgb, i := room(RGB8, r), 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		luma := m.YOffset(r.Min.X, y)
		for x := r.Min.X; x < r.Max.X; x++ {
			c := m.COffset(x, y)
			rgb.Data[i], rgb.Data[i+1], rgb.Data[i+2] = color.YCbCrToRGB(m.Y[luma], m.Cb[c], m.Cr[c])
			luma, i = luma+1, i+3
		}
	}
	return rgb
}

// fromAny asks for every pixel.
func fromAny(picture image.Image) Image {
	bounds := picture.Bounds()
	m, i := room(RGBA8, bounds), 0
	if m.Data == nil {
		return m
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := color.NRGBAModel.Convert(picture.At(x, y)).(color.NRGBA)
			m.Data[i], m.Data[i+1], m.Data[i+2], m.Data[i+3] = c.R, c.G, c.B, c.A
			i += 4
		}
	}
	return m
}
