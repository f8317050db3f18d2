package byol

import (
	"fmt"
	"image"
	"math"
	"os"
	"strings"
	"testing"
)

// What tests/bindings/golden.sh compares with the other languages, bit by bit.
func TestGolden(t *testing.T) {
	const root, width, height, gap = "../../", 9, 7, 3
	names := []string{"bag", "sneaker", "trouser"}
	out := &strings.Builder{}
	row := func(what string, i int, values []float32) {
		fmt.Fprintf(out, "%s %d", what, i)
		for _, v := range values {
			fmt.Fprintf(out, " %08x", math.Float32bits(v))
		}
		fmt.Fprintln(out)
	}
	numbers := func(what string, values ...float64) {
		fmt.Fprint(out, what)
		for _, v := range values {
			fmt.Fprintf(out, " %016x", math.Float64bits(v))
		}
		fmt.Fprintln(out)
	}
	e := must(OpenEncoder(File(root+"tests/data/encoder/uint8.onnx"), nil))(t)
	defer e.Close()
	var paths []string
	var labels []uint32
	for i := range 12 {
		paths = append(paths, fmt.Sprintf("%stests/data/pictures/%s/%d.png", root, names[i/4], i%4))
		labels = append(labels, uint32(i/4))
	}
	features := must(e.ExtractFiles(t.Context(), paths, nil))(t)
	for i := range paths {
		row("files", i, features.Row(i))
	}
	// Those of whole numbers: of any bytes they are pictures.
	sizes := map[Format]int{Gray8: 1, RGB8: 3, BGR8: 3, RGBA8: 4, BGRA8: 4, RGBX8: 4, Gray16: 2, RGB16: 6, NV12: 1, NV12Full: 1}
	for format := Gray8; format <= NV12Full; format++ {
		size, ok := sizes[format]
		if !ok {
			continue
		}
		rows := height
		if format >= NV12 {
			rows += (height + 1) / 2
		}
		m := Image{Format: format, Width: width, Height: height, Stride: width*size + gap}
		m.Data = make([]byte, rows*m.Stride)
		noise := 7 + uint32(format)
		for k := range m.Data {
			noise = noise*1664525 + 1013904223
			m.Data[k] = byte(noise >> 24)
		}
		row("pixels", int(format), must(e.Extract(t.Context(), []Image{m}, nil))(t).Row(0))
		if format == RGB8 {
			m.Region, m.Orientation = image.Rect(1, 2, 6, 6), 6
			row("turned", 6, must(e.Extract(t.Context(), []Image{m}, nil))(t).Row(0))
		}
	}
	head, report, err := Fit(t.Context(), features, labels, &FitOptions{Classes: names, Encoder: e})
	if err != nil {
		t.Fatal(err)
	}
	defer head.Close()
	fmt.Fprintln(out, "fit", report.Iterations, report.Passes)
	numbers("fit.objective", report.Objective)
	opinion := func(what string, h *Head) {
		logits, p := must(h.Logits(features))(t), must(h.Predict(features))(t)
		for i, label := range p.Labels {
			row(what+".logits", i, logits.Row(i))
			row(what+".probabilities", i, p.Probabilities.Row(i))
			fmt.Fprintln(out, what+".label", i, must(h.ClassName(label))(t))
		}
	}
	opinion("fitted", head)
	kept := must(LoadHead(root + "tests/data/golden/head.safetensors"))(t)
	defer kept.Close()
	opinion("kept", kept)
	m := must(kept.Evaluate(features, labels))(t)
	numbers("metrics", m.Top1, m.Balanced, m.LogLoss, m.CalibrationError)
	for i, label := range must(KNN(features, labels, features, 5, 0.1))(t) {
		fmt.Fprintln(out, "neighbours", i, label)
	}
	container := must(NewFeatures(e))(t)
	defer container.Close()
	if err := container.Append(features, labels, nil); err != nil {
		t.Fatal(err)
	}
	nearest, cosines, err := container.Nearest(features, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range labels {
		fmt.Fprintln(out, "nearest", i, nearest[3*i], nearest[3*i+1], nearest[3*i+2])
		row("cosines", i, cosines.Row(i))
	}
	packed := must(Pack(features, PackInt8))(t)
	for i := range labels {
		sum := 0
		for _, value := range packed.Data[i*features.Columns:][:features.Columns] {
			sum += int(int8(value))
		}
		row("scale", i, packed.Scales[i:i+1])
		fmt.Fprintln(out, "packed", i, sum)
	}
	trainer := must(NewTrainer(e))(t)
	defer trainer.Close()
	for _, name := range names {
		must(trainer.AddClass(name))(t)
	}
	must(trainer.Add(features, labels))(t)
	taught, _, err := trainer.Fit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer taught.Close()
	opinion("taught", taught)
	imprinted := must(trainer.Imprint(10))(t)
	defer imprinted.Close()
	opinion("imprinted", imprinted)
	if path := os.Getenv("BYOL_TEST_GOLDEN"); path != "" {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
