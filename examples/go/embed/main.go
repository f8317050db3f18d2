// Pictures in, features and nearest neighbours out. Run, where libbyol is installed:
//
//	go run ./embed encoder.onnx a.jpg b.png c.webp
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"strings"

	"byol"
)

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func run(ctx context.Context, model string, paths []string) error {
	encoder, err := byol.OpenEncoder(byol.File(model), nil)
	if err != nil {
		return err
	}
	defer encoder.Close()
	features, err := encoder.ExtractFiles(ctx, paths, nil)
	if err != nil {
		return err
	}
	fmt.Printf("%d pictures, %d features each\n", features.Rows, features.Columns)
	for i, path := range paths {
		mine, nearest, best := features.Row(i), 0, math.Inf(-1)
		for j := range paths {
			if c := cosine(mine, features.Row(j)); j != i && c > best {
				nearest, best = j, c
			}
		}
		first := mine[:min(4, len(mine))]
		fmt.Printf("%s: %s\n", path, strings.Trim(fmt.Sprintf("%.4f", first), "[]"))
		fmt.Printf("  nearest: %s, cosine %.4f\n", paths[nearest], best)
	}
	return nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 4 {
		log.Fatal("usage: embed ENCODER.onnx PICTURE PICTURE...")
	}
	// Ctrl-C stops the work itself.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}
