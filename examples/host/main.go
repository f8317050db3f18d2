// Host is a web application around an encoder: drop pictures into its page, name them, watch it learn, and let it classify
// new ones. All of it is this one process; pictures are not kept, only their features, and only in memory.
//
//	go run . -encoder encoder.onnx            # in a checkout: go run -tags byol_intree .
//
// It listens on this machine only, unless -listen says otherwise, and answers only pages of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"byol"
)

func main() {
	log.SetFlags(0)
	model := flag.String("encoder", "encoder.onnx", "encoder, an ONNX `file` that byol exported")
	listen := flag.String("listen", "127.0.0.1:8750", "`address` to listen on")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("host: %q is too much; see host -help", flag.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *model, *listen); err != nil {
		log.Fatalf("host: %v", err)
	}
}

func serve(ctx context.Context, model, address string) error {
	encoder, err := byol.OpenEncoder(byol.File(model), &byol.EncoderOptions{
		MaxImagePixels: maxPixels, MaxImageBytes: maxFileBytes,
	})
	if err != nil {
		return err
	}
	defer encoder.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	album := newAlbum(ctx, encoder)
	defer album.close()
	server := &http.Server{
		Handler:           newServer(album),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Whoever listens to events leaves when the program does.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(late)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
