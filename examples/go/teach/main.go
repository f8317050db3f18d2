// Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//
//	go run ./teach encoder.onnx head.safetensors cats dogs birds
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"

	"byol"
)

// check ends the program where a call failed.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// must gives what a call gave, as check.
func must[T any](value T, err error) T {
	check(err)
	return value
}

// enrol enrols a folder's pictures as a class of the trainer: all but the last, whose features go into the container.
func enrol(ctx context.Context, trainer *byol.Trainer, encoder *byol.Encoder, folder string, held *byol.Features) {
	label := must(trainer.AddClass(folder))
	var paths []string
	for _, entry := range must(os.ReadDir(folder)) {
		paths = append(paths, folder+"/"+entry.Name())
	}
	labels, last := slices.Repeat([]uint32{label}, len(paths)), max(0, len(paths)-1)
	must(trainer.AddFiles(ctx, encoder, paths[:last], labels[:last], nil))
	features := must(encoder.ExtractFiles(ctx, paths[last:], nil))
	check(held.Append(features, labels[last:], paths[last:]))
}

// teach fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds.
func teach(ctx context.Context, trainer *byol.Trainer, file string, held *byol.Features) {
	fitted, _, err := trainer.Refit(ctx, nil)
	check(err)
	defer fitted.Close()
	check(fitted.Save(file))
	head := must(byol.LoadHead(file))
	defer head.Close()
	info, others := must(trainer.Info()), must(held.Info()).Rows
	features, labels := must(held.Rows(0, others)), must(held.Labels(0, others))
	top1 := must(head.Evaluate(features, labels)).Top1
	fmt.Printf("%d classes, %d pictures learned, %.3f of %d others right\n", info.Classes, info.Examples, top1, others)
	guess := must(head.Predict(features))
	for i, label := range guess.Labels {
		path, class := must(held.Name(i)), must(head.ClassName(label))
		fmt.Printf("  %s: %s %.3f\n", path, class, guess.Probabilities.Row(i)[label])
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 6 {
		log.Fatal("usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...")
	}
	encoder := must(byol.OpenEncoder(byol.File(os.Args[1]), nil))
	defer encoder.Close()
	trainer := must(byol.NewTrainer(encoder))
	defer trainer.Close()
	held := must(byol.NewFeatures(encoder))
	defer held.Close()
	folders := os.Args[3:]
	for i, folder := range folders {
		enrol(context.Background(), trainer, encoder, folder, held)
		if i >= len(folders)-2 { // without the last class, and with it
			teach(context.Background(), trainer, os.Args[2], held)
		}
	}
}
