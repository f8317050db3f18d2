package byol_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"log"
	"os"

	"byol"
)

// model is an encoder's file; here one that an untrained network of 28 x 28 gray pixels was exported to.
func model() byol.Source {
	if path := os.Getenv("BYOL_TEST_ENCODER"); path != "" {
		return byol.File(path)
	}
	return byol.File("../../target/tests/go/encoder.onnx")
}

var (
	bags     = []string{"../../tests/data/pictures/bag/0.png", "../../tests/data/pictures/bag/1.png"}
	trousers = []string{"../../tests/data/pictures/trouser/0.png", "../../tests/data/pictures/trouser/1.png"}
)

// From picture files to a classifier and its opinion of another picture.
func Example() {
	ctx := context.Background()
	encoder, err := byol.OpenEncoder(model(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer encoder.Close()
	features, err := encoder.ExtractFiles(ctx, append(bags, trousers...), nil)
	if err != nil {
		log.Fatal(err)
	}
	head, report, err := byol.Fit(ctx, features, []uint32{0, 0, 1, 1}, &byol.FitOptions{
		Classes: []string{"bag", "trousers"}, Encoder: encoder,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer head.Close()
	other, err := encoder.ExtractFiles(ctx, []string{"../../tests/data/pictures/trouser/2.png"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	prediction, err := head.Predict(other)
	if err != nil {
		log.Fatal(err)
	}
	name, err := head.ClassName(prediction.Labels[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Converged, name)
	// Output: true trousers
}

func ExampleOpenEncoder() {
	encoder, err := byol.OpenEncoder(model(), &byol.EncoderOptions{Sessions: 2, MaxImagePixels: 20_000_000})
	if err != nil {
		log.Fatal(err)
	}
	defer encoder.Close()
	fmt.Println(encoder.Dimension())
	// Output: 64
}

// Go's own pictures, drawn or decoded by whatever package.
func ExampleEncoder_ExtractImages() {
	encoder, err := byol.OpenEncoder(model(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer encoder.Close()
	gray := image.NewGray(image.Rect(0, 0, 100, 100))
	gray.SetGray(50, 50, color.Gray{Y: 255})
	part := gray.SubImage(image.Rect(40, 40, 60, 60))
	features, err := encoder.ExtractImages(context.Background(), []image.Image{gray, part}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(features.Rows, len(features.Row(1)))
	// Output: 2 64
}

// Some of many pictures may be bad: the others go on.
func ExampleExtractOptions() {
	encoder, err := byol.OpenEncoder(model(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer encoder.Close()
	statuses := make([]byol.Status, 2)
	_, err = encoder.ExtractFiles(context.Background(), []string{"no such file.jpg", bags[0]},
		&byol.ExtractOptions{Statuses: statuses})
	fmt.Println(err, statuses[0].Name(), statuses[1].Name())
	// Output: <nil> BYOL_E_NOT_FOUND BYOL_OK
}

// A fit tells how far it is, and stops when its context ends or Progress returns an error.
func ExampleFit() {
	features := byol.Matrix{Data: []float32{0, 1, 9, 8}, Rows: 4, Columns: 1}
	heard := 0
	head, report, err := byol.Fit(context.Background(), features, []uint32{0, 0, 1, 1}, &byol.FitOptions{
		Progress: func(p byol.FitProgress) error {
			heard = p.Iteration
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer head.Close()
	fmt.Println(report.Converged, heard == report.Iterations)
	// Output: true true
}

func ExampleHead_Evaluate() {
	features := byol.Matrix{Data: []float32{0, 1, 9, 8}, Rows: 4, Columns: 1}
	head, _, err := byol.Fit(context.Background(), features, []uint32{0, 0, 1, 1}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer head.Close()
	metrics, err := head.Evaluate(features, []uint32{0, 0, 1, 0})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(metrics.Top1, metrics.Confusion)
	// Output: 0.75 [[2 1] [0 1]]
}

func ExampleKNN() {
	train := byol.Matrix{Data: []float32{1, 0, 0, 1}, Rows: 2, Columns: 2}
	query := byol.Matrix{Data: []float32{5, 1}, Rows: 1, Columns: 2}
	labels, err := byol.KNN(train, []uint32{7, 8}, query, 1, 0)
	fmt.Println(labels, err)
	// Output: [7] <nil>
}

// Errors are told apart by errors.Is, and know more.
func ExampleError() {
	_, err := byol.LoadHead("no/such/head.safetensors")
	var failure *byol.Error
	fmt.Println(errors.Is(err, byol.ErrNotFound), errors.As(err, &failure) && failure.Code.Retryable())
	// Output: true false
}

func ExampleSetLog() {
	if err := byol.SetLog(byol.LogError, func(_ byol.LogLevel, message string) { fmt.Println("byol says something") }); err != nil {
		log.Fatal(err)
	}
	defer byol.SetLog(byol.LogOff, nil)
	_, _ = byol.LoadHead("no/such/head.safetensors")
	// Output: byol says something
}

// Examples come and go; a refit begins at the last optimum.
func ExampleTrainer() {
	ctx := context.Background()
	trainer, err := byol.NewTrainerOf(1)
	if err != nil {
		log.Fatal(err)
	}
	defer trainer.Close()
	for _, name := range []string{"low", "high"} {
		if _, err := trainer.AddClass(name); err != nil {
			log.Fatal(err)
		}
	}
	features := byol.Matrix{Data: []float32{0, 1, 9, 8, 7}, Rows: 5, Columns: 1}
	examples, err := trainer.Add(features, []uint32{0, 0, 1, 1, 0})
	if err != nil {
		log.Fatal(err)
	}
	first, _, err := trainer.Fit(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()
	// The last one was a mistake.
	if err := trainer.Relabel(examples[4], 1); err != nil {
		log.Fatal(err)
	}
	second, report, err := trainer.Refit(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	prediction, err := second.Predict(features)
	fmt.Println(report.Converged, prediction.Labels, err)
	// Output: true [0 0 1 1 1] <nil>
}

// A search finds the penalty on examples that are held out.
func ExampleTrainer_Search() {
	trainer, err := byol.NewTrainerOf(1)
	if err != nil {
		log.Fatal(err)
	}
	defer trainer.Close()
	for i := range 40 {
		label, err := trainer.AddClass([]string{"low", "high"}[i%2])
		if err != nil {
			log.Fatal(err)
		}
		row := byol.Matrix{Data: []float32{float32(i%2) + float32(i)/100}, Rows: 1, Columns: 1}
		if _, err := trainer.Add(row, []uint32{label}); err != nil {
			log.Fatal(err)
		}
	}
	head, report, tried, err := trainer.Search(context.Background(), &byol.SearchOptions{Folds: 5})
	if err != nil {
		log.Fatal(err)
	}
	defer head.Close()
	fmt.Println(len(tried), "penalties,", report.Converged)
	// Output: 13 penalties, true
}

func ExampleFeatures_Nearest() {
	features, err := byol.NewFeaturesOf(2)
	if err != nil {
		log.Fatal(err)
	}
	defer features.Close()
	rows := byol.Matrix{Data: []float32{1, 0, 0, 1, 3, 1}, Rows: 3, Columns: 2}
	if err := features.Append(rows, nil, []string{"east", "north", "north-east"}); err != nil {
		log.Fatal(err)
	}
	nearest, _, err := features.Nearest(byol.Matrix{Data: []float32{2, 1}, Rows: 1, Columns: 2}, 2)
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range nearest {
		fmt.Println(features.Name(int(row)))
	}
	// Output:
	// north-east <nil>
	// east <nil>
}

func ExamplePack() {
	packed, err := byol.Pack(byol.Matrix{Data: []float32{-127, 3, 50}, Rows: 1, Columns: 3}, byol.PackInt8)
	if err != nil {
		log.Fatal(err)
	}
	again, err := packed.Unpack()
	fmt.Println(len(packed.Data), "bytes:", again.Data, err)
	// Output: 3 bytes: [-127 3 50] <nil>
}

// Weights of elsewhere become a head, and a head an ONNX model.
func ExampleNewHead() {
	head, err := byol.NewHead(byol.Matrix{Data: []float32{1, -1}, Rows: 2, Columns: 1}, []float32{0, 0.5},
		&byol.HeadOptions{Classes: []string{"plus", "minus"}})
	if err != nil {
		log.Fatal(err)
	}
	defer head.Close()
	model, err := head.ONNX(nil)
	if err != nil {
		log.Fatal(err)
	}
	info, err := byol.Inspect(byol.Bytes(model))
	fmt.Println(info.InputName, err)
	// Output: features <nil>
}
