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

// A set is pictures, their features, and their classes.
type set struct {
	paths    []string
	features byol.Matrix
	labels   []uint32
}

func (s *set) enrol(ctx context.Context, encoder *byol.Encoder, paths []string, label uint32) error {
	features, err := encoder.ExtractFiles(ctx, paths, nil)
	if err != nil {
		return err
	}
	s.paths = append(s.paths, paths...)
	for range paths {
		s.labels = append(s.labels, label)
	}
	s.features.Data = append(s.features.Data, features.Data...)
	s.features.Rows, s.features.Columns = len(s.paths), features.Columns
	return nil
}

// teach fits a head, keeps it in a file, and judges and uses what the file holds.
func teach(ctx context.Context, encoder *byol.Encoder, file string, names []string, learn, held *set) error {
	fitted, _, err := byol.Fit(ctx, learn.features, learn.labels, &byol.FitOptions{Classes: names, Encoder: encoder})
	if err != nil {
		return err
	}
	defer fitted.Close()
	if err := fitted.Save(file); err != nil {
		return err
	}
	head, err := byol.LoadHead(file)
	if err != nil {
		return err
	}
	defer head.Close()
	metrics, err := head.Evaluate(held.features, held.labels)
	if err != nil {
		return err
	}
	p, err := head.Predict(held.features)
	if err != nil {
		return err
	}
	fmt.Printf("%d classes, %d pictures learned, %.3f of %d others right\n", len(names), len(learn.paths), metrics.Top1,
		len(held.paths))
	for i, label := range p.Labels {
		fmt.Printf("  %s: %s %.3f\n", held.paths[i], names[label], p.Probabilities.Row(i)[label])
	}
	return nil
}

func run(ctx context.Context, model, file string, folders []string) error {
	encoder, err := byol.OpenEncoder(byol.File(model), nil)
	if err != nil {
		return err
	}
	defer encoder.Close()
	var learn, held set
	for label, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		var paths []string
		for _, entry := range entries {
			paths = append(paths, folder+"/"+entry.Name())
		}
		last := max(0, len(paths)-1)
		if err := learn.enrol(ctx, encoder, paths[:last], uint32(label)); err != nil {
			return err
		}
		if err := held.enrol(ctx, encoder, paths[last:], uint32(label)); err != nil {
			return err
		}
		if label < len(folders)-2 {
			continue
		}
		// Without the last class, and with it.
		if err := teach(ctx, encoder, file, folders[:label+1], &learn, &held); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 6 {
		log.Fatal("usage: teach ENCODER.onnx HEAD.safetensors FOLDER FOLDER FOLDER...")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(err)
	}
}
