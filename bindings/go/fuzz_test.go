package byol

import (
	"bytes"
	"errors"
	"image"
	"os"
	"path/filepath"
	"testing"
)

// Whatever bytes come, there is an error or a result: no crash, and no defect that libbyol had to catch.
func harmless(t *testing.T, err error) {
	t.Helper()
	var failure *Error
	if err != nil && (!errors.As(err, &failure) || failure.Code == ErrPanic || failure.Message == "") {
		t.Error(err)
	}
}

func fuzzEncoder(f *testing.F) *Encoder {
	e, err := OpenEncoder(File(modelPath()), &EncoderOptions{MaxImagePixels: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { e.Close() })
	return e
}

func addFiles(f *testing.F, paths ...string) {
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
}

func FuzzExtractEncoded(f *testing.F) {
	e := fuzzEncoder(f)
	addFiles(f, "../../tests/data/photos/roof.jpg", "../../tests/data/pictures/bag/0.png")
	f.Add([]byte("GIF89a"))
	f.Add([]byte("RIFF\x00\x00\x00\x00WEBPVP8 "))
	f.Add([]byte("II*\x00"))
	f.Add([]byte("BM"))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := e.ExtractEncoded(t.Context(), [][]byte{file}, nil)
		harmless(t, err)
	})
}

func FuzzExtract(f *testing.F) {
	e := fuzzEncoder(f)
	f.Add(1, 28, 28, 0, make([]byte, 784))
	f.Add(4, 2, 3, 9, make([]byte, 26))
	f.Add(6, 1, 65535, -1, []byte{1})
	f.Fuzz(func(t *testing.T, format, width, height, stride int, data []byte) {
		m := Image{Format: Format(format), Width: width, Height: height, Stride: stride, Data: data}
		_, err := e.Extract(t.Context(), []Image{m}, nil)
		harmless(t, err)
	})
}

func FuzzFromImage(f *testing.F) {
	e := fuzzEncoder(f)
	f.Add(0, 0, 0, 2, 2, 8, make([]byte, 16))
	f.Add(4, -3, -3, 5, 5, 1, make([]byte, 9))
	f.Fuzz(func(t *testing.T, kind, x0, y0, x1, y1, stride int, pix []byte) {
		r := image.Rectangle{Min: image.Pt(x0, y0), Max: image.Pt(x1, y1)}
		var m image.Image
		switch kind % 5 {
		case 0:
			m = &image.RGBA{Pix: pix, Stride: stride, Rect: r}
		case 1:
			m = &image.NRGBA{Pix: pix, Stride: stride, Rect: r}
		case 2:
			m = &image.Gray{Pix: pix, Stride: stride, Rect: r}
		case 3:
			m = &image.Gray16{Pix: pix, Stride: stride, Rect: r}
		default:
			m = &image.YCbCr{Y: pix, Cb: pix, Cr: pix, YStride: stride, CStride: stride, Rect: r,
				SubsampleRatio: image.YCbCrSubsampleRatio(stride & 7)}
		}
		_, err := e.ExtractImages(t.Context(), []image.Image{m}, nil)
		harmless(t, err)
	})
}

func FuzzOpenEncoder(f *testing.F) {
	addFiles(f, "../../tests/data/encoder/uint8.onnx", "../../tests/data/encoder/float32.onnx",
		"../../tests/data/encoder/bad_contract.onnx")
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := Inspect(Bytes(file))
		harmless(t, err)
		e, err := OpenEncoder(Bytes(file), nil)
		harmless(t, err)
		if err == nil {
			e.Close()
		}
	})
}

func FuzzReadHead(f *testing.F) {
	features := Matrix{Data: []float32{1, 2, 3, 4, 5, 7}, Rows: 3, Columns: 2}
	head, _, err := Fit(f.Context(), features, []uint32{0, 1, 1}, nil)
	if err != nil {
		f.Fatal(err)
	}
	file, err := head.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Fuzz(func(t *testing.T, file []byte) {
		h, err := ReadHead(bytes.NewReader(file))
		harmless(t, err)
		if err == nil {
			_, err = h.Predict(features)
			harmless(t, err)
			h.Close()
		}
	})
}

func FuzzFit(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6}, []byte{0, 1, 1}, 1e-3, 1e-6, 10)
	f.Fuzz(func(t *testing.T, values, classes []byte, l2, tolerance float64, iterations int) {
		m := Matrix{Rows: len(classes)}
		for _, v := range values {
			m.Data = append(m.Data, float32(int8(v)))
		}
		if m.Rows > 0 {
			m.Columns = len(values) / m.Rows
		}
		labels := make([]uint32, len(classes))
		for i, c := range classes {
			labels[i] = uint32(c)
		}
		h, _, err := Fit(t.Context(), m, labels, &FitOptions{L2: l2, Tolerance: tolerance, MaxIterations: iterations % 50})
		harmless(t, err)
		h.Close()
	})
}

// Files of features, whatever they hold: an error or a container that can be asked.
func FuzzLoadFeatures(f *testing.F) {
	features, err := NewFeaturesOf(2)
	if err != nil {
		f.Fatal(err)
	}
	defer features.Close()
	rows := Matrix{Data: []float32{1, 2, 3, 4}, Rows: 2, Columns: 2}
	if err := features.Append(rows, []uint32{0, 1}, []string{"a", "b"}); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"seed.safetensors", "seed.npy"} {
		path := filepath.Join(f.TempDir(), name)
		if err := features.Save(path); err != nil {
			f.Fatal(err)
		}
		addFiles(f, path)
	}
	place := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := os.WriteFile(place, file, 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadFeatures(place)
		harmless(t, err)
		if err == nil {
			_, _, err = loaded.Nearest(rows, 1)
			harmless(t, err)
			loaded.Close()
		}
	})
}
