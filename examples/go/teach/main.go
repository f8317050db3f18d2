// Learns classes from folders of pictures, and one more later. The last picture of each folder is kept to see how well.
//
//	go run ./teach encoder.onnx head.safetensors cats dogs birds
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"byol"
)

// An album is the pictures that are kept, their features, and their classes.
type album struct {
	paths    []string
	features byol.Matrix
	labels   []uint32
}

// must ends the program where a call failed.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// enrol enrols a folder's pictures as a class of the trainer: all but the last.
func enrol(ctx context.Context, trainer *byol.Trainer, encoder *byol.Encoder, folder string, held *album) {
	label := must(trainer.AddClass(folder))
	var paths []string
	var labels []uint32
	for _, entry := range must(os.ReadDir(folder)) {
		paths = append(paths, folder+"/"+entry.Name())
		labels = append(labels, label)
	}
	last := max(0, len(paths)-1)
	must(trainer.AddFiles(ctx, encoder, paths[:last], labels[:last], nil))
	features := must(encoder.ExtractFiles(ctx, paths[last:], nil))
	held.paths = append(held.paths, paths[last:]...)
	held.labels = append(held.labels, labels[last:]...)
	held.features.Data = append(held.features.Data, features.Data...)
	held.features.Rows, held.features.Columns = len(held.paths), features.Columns
}

// teach fits a head to all that was enrolled, keeps it in a file, and judges and uses what the file holds.
func teach(ctx context.Context, trainer *byol.Trainer, file string, names []string, held *album) {
	fitted, _, err := trainer.Refit(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer fitted.Close()
	if err := fitted.Save(file); err != nil {
		log.Fatal(err)
	}
	head := must(byol.LoadHead(file))
	defer head.Close()
	info, others := must(trainer.Info()), len(held.paths)
	top1 := must(head.Evaluate(held.features, held.labels)).Top1
	fmt.Printf("%d classes, %d pictures learned, %.3f of %d others right\n", info.Classes, info.Examples, top1, others)
	guess := must(head.Predict(held.features))
	for i, label := range guess.Labels {
		fmt.Printf("  %s: %s %.3f\n", held.paths[i], names[label], guess.Probabilities.Row(i)[label])
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
	var held album
	folders := os.Args[3:]
	for i, folder := range folders {
		enrol(context.Background(), trainer, encoder, folder, &held)
		if i >= len(folders)-2 { // without the last class, and with it
			teach(context.Background(), trainer, os.Args[2], folders, &held)
		}
	}
}
