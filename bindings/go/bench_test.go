package byol

import (
	"context"
	"image"
	"testing"
)

// What a call costs beside its work, and what it allocates: `go test -tags byol_intree -bench . -benchmem`.

func BenchmarkExtractOne(b *testing.B) {
	e := open(b)
	images, _ := bands(1)
	options := &ExtractOptions{Into: make([]float32, e.Dimension())}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Extract(context.Background(), images, options); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExtractBatch(b *testing.B) {
	e := open(b)
	images, _ := bands(256)
	options := &ExtractOptions{Into: make([]float32, 256*e.Dimension())}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Extract(context.Background(), images, options); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*256/b.Elapsed().Seconds(), "pictures/s")
}

// With a context that can end, a token goes along.
func BenchmarkExtractOneCancellable(b *testing.B) {
	e := open(b)
	images, _ := bands(1)
	options := &ExtractOptions{Into: make([]float32, e.Dimension())}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Extract(ctx, images, options); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPredictOne(b *testing.B) {
	head, _, err := Fit(context.Background(), Matrix{Data: []float32{1, 2, 3}, Rows: 3, Columns: 1}, []uint32{0, 1, 1}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer head.Close()
	row := Matrix{Data: []float32{1}, Rows: 1, Columns: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := head.Predict(row); err != nil {
			b.Fatal(err)
		}
	}
}

// The least that a call through cgo costs here.
func BenchmarkLiveHandles(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		LiveHandles(KindHead)
	}
}

func BenchmarkFromImage(b *testing.B) {
	r := image.Rect(0, 0, 640, 480)
	for _, c := range []struct {
		name  string
		image image.Image
	}{
		{"NRGBA", image.NewNRGBA(r)}, {"RGBA", image.NewRGBA(r)}, {"YCbCr", image.NewYCbCr(r, image.YCbCrSubsampleRatio420)},
		{"CMYK", image.NewCMYK(r)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				FromImage(c.image)
			}
		})
	}
}

// A label changed, and the head fitted again: 2,000 examples of 64 features, four classes.
func BenchmarkRefit(b *testing.B) {
	trainer, err := NewTrainerOf(64)
	if err != nil {
		b.Fatal(err)
	}
	defer trainer.Close()
	rows := Matrix{Data: make([]float32, 2000*64), Rows: 2000, Columns: 64}
	labels := make([]uint32, rows.Rows)
	noise := uint32(1)
	for i := range rows.Data {
		noise = noise*1664525 + 1013904223
		rows.Data[i] = float32(noise>>16)/65536 + float32(i/64%4*(i%4))
	}
	for i := range labels {
		labels[i] = uint32(i % 4)
	}
	for _, name := range bandNames {
		if _, err := trainer.AddClass(name); err != nil {
			b.Fatal(err)
		}
	}
	examples, err := trainer.Add(rows, labels)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := trainer.Relabel(examples[i%len(examples)], uint32(i%4)); err != nil {
			b.Fatal(err)
		}
		head, _, err := trainer.Refit(context.Background(), nil)
		if err != nil {
			b.Fatal(err)
		}
		head.Close()
	}
}
