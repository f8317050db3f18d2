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

// The pixel formats. Alpha is ignored, but for Image.Premultiplied.
const (
	Gray8 Format = C.BYOL_FORMAT_GRAY8 // 1 byte, luminance
	RGB8  Format = C.BYOL_FORMAT_RGB8  // 3 bytes, red, green, blue
	BGR8  Format = C.BYOL_FORMAT_BGR8  // 3 bytes, blue, green, red
	RGBA8 Format = C.BYOL_FORMAT_RGBA8 // 4 bytes, red, green, blue, alpha; not premultiplied
	BGRA8 Format = C.BYOL_FORMAT_BGRA8 // 4 bytes, blue, green, red, alpha; not premultiplied
	RGBX8 Format = C.BYOL_FORMAT_RGBX8 // 4 bytes, red, green, blue, and one without meaning

	Gray16       Format = C.BYOL_FORMAT_GRAY16        // 2 bytes in the machine's order, luminance
	RGB16        Format = C.BYOL_FORMAT_RGB16         // red, green, blue of 2 bytes each in the machine's order
	RGBF32       Format = C.BYOL_FORMAT_RGBF32        // red, green, blue as float32 from 0 to 1
	RGBF32Planar Format = C.BYOL_FORMAT_RGBF32_PLANAR // the same in three planes
	NV12         Format = C.BYOL_FORMAT_NV12          // YCbCr 4:2:0 of cameras, BT.601 in video range
	NV12Full     Format = C.BYOL_FORMAT_NV12_FULL     // the same in full range
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
	// Premultiplied says that colours are multiplied by their alpha; they are divided before they are used.
	Premultiplied bool
	// Orientation is how the picture has to be mirrored and turned to stand upright, as EXIF numbers it, 1 to 8: 6 is a
	// quarter clockwise. 0 is 1: as it lies.
	Orientation int
	// Region is the part that counts, before Orientation, in pixels from the first one; the zero value for all of it.
	Region image.Rectangle
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
			orientation: orientation(m.Orientation),
		})
		last := &c.images[i]
		if m.Premultiplied {
			last.alpha = C.BYOL_ALPHA_PREMULTIPLIED
		}
		if m.Region != (image.Rectangle{}) {
			last.region_x, last.region_y = corner(m.Region.Min.X), corner(m.Region.Min.Y)
			last.region_width, last.region_height = side(m.Region.Dx()), side(m.Region.Dy())
		}
	}
	return unsafe.SliceData(c.images)
}

// side turns what can't be a side into one that libbyol refuses.
func side(value int) C.uint32_t {
	return C.uint32_t(max(0, min(value, maxSide+1)))
}

// orientation turns what is none into one that libbyol refuses.
func orientation(value int) C.uint32_t {
	if value < 0 || value > 8 {
		return 9
	}
	return C.uint32_t(value)
}

// corner turns what can't be a corner into one that libbyol refuses.
func corner(value int) C.uint32_t {
	if value < 0 {
		return maxSide + 1
	}
	return side(value)
}

// FromImage makes Go's own pictures ready for [Encoder.Extract]. Gray, NRGBA and RGBA pictures, and parts of them by
// SubImage, are taken where they lie; YCbCr, Gray16 and all others are converted. As with pictures
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
		premultiplied := inPlace(RGBA8, m.Rect, m.Pix, m.Stride)
		premultiplied.Premultiplied = true
		return premultiplied
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

// ImageInfo is what the header of an encoded picture says.
type ImageInfo struct {
	Width, Height int    // in pixels, once it stands upright
	Channels      int    // 1 (gray) or 3 (red, green, blue)
	Bits          int    // of a channel in the file
	HasAlpha      bool   // the file has an alpha channel, which is ignored
	Orientation   int    // EXIF's, 1 to 8, which [Encoder.ExtractEncoded] obeys
	Format        string // "jpeg", "png", "webp", "bmp", "gif" or "tiff"
}

// Probe reads the header of an encoded picture. Its pixels are not decoded, so they may still turn out to be damaged.
func Probe(file []byte) (ImageInfo, error) {
	if err := compatible(); err != nil {
		return ImageInfo{}, err
	}
	if len(file) == 0 {
		return ImageInfo{}, fail(ErrImageDecode, "no bytes are no picture")
	}
	c := begin()
	info := C.byol_image_info{struct_size: C.sizeof_byol_image_info}
	if err := c.end(C.byol_image_probe((*C.uint8_t)(&file[0]), C.size_t(len(file)), &info, &c.err)); err != nil {
		return ImageInfo{}, err
	}
	return ImageInfo{
		Width: int(info.width), Height: int(info.height), Channels: int(info.channels), Bits: int(info.bits),
		HasAlpha: info.has_alpha != 0, Orientation: int(info.orientation), Format: C.GoString(&info.format[0]),
	}, nil
}
