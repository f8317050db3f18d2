package byol

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"math"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const edge, classes, count = 28, 4, 60

func modelPath() string {
	if path := os.Getenv("BYOL_TEST_ENCODER"); path != "" {
		return path
	}
	return "../../target/tests/go/encoder.onnx"
}

func open(t testing.TB) *Encoder {
	t.Helper()
	e, err := OpenEncoder(File(modelPath()), nil)
	if err != nil {
		t.Fatalf("%v; tests/go/run.sh makes it", err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// bands are gray pictures whose bright band tells their class.
func bands(n int) ([]Image, []uint32) {
	images, labels, noise := make([]Image, n), make([]uint32, n), uint32(12345)
	for i := range images {
		labels[i] = uint32(i % classes)
		pixels := make([]byte, edge*edge)
		for p := range pixels {
			noise = noise*1664525 + 1013904223
			pixels[p] = byte(noise>>26) + 20
			if uint32(p/edge/(edge/classes)) == labels[i] {
				pixels[p] += 160
			}
		}
		images[i] = Image{Format: Gray8, Width: edge, Height: edge, Data: pixels}
	}
	return images, labels
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func expect(t *testing.T, want, err error) {
	t.Helper()
	var failure *Error
	if !errors.Is(err, want) || !errors.As(err, &failure) || failure.Message == "" {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestTheWholeWay(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, labels := bands(count)
	model := must(Inspect(File(modelPath())))(t)
	info := must(e.Info())(t)
	if model.SHA256 != info.SHA256 || model.Dimension != e.Dimension() || model.Width != edge || info.Contract.Channels != 1 {
		t.Fatal(model, info)
	}
	if metadata := must(e.Metadata())(t); len(metadata) < 4 {
		t.Fatal(metadata)
	}
	features := must(e.Extract(ctx, images, nil))(t)
	var pixels []byte
	for _, m := range images {
		pixels = append(pixels, m.Data...)
	}
	if again := must(e.ExtractPixels(ctx, pixels, count, nil))(t); !slices.Equal(again.Data, features.Data) {
		t.Error("pixels give other features")
	}
	into := make([]float32, count*(e.Dimension()+5))
	strided := must(e.Extract(ctx, images, &ExtractOptions{Into: into, Stride: e.Dimension() + 5}))(t)
	if !slices.Equal(strided.Row(59), features.Row(59)) || into[e.Dimension()] != 0 {
		t.Error("strides")
	}
	steps := 0
	head, report, err := Fit(ctx, features, labels, &FitOptions{
		Classes: []string{"top", "upper", "lower", "böttom"}, Encoder: e,
		Progress: func(FitProgress) error { steps++; return nil },
	})
	if err != nil || !report.Converged || steps == 0 {
		t.Fatal(err, report, steps)
	}
	defer head.Close()
	p := must(head.Predict(strided))(t)
	if !slices.Equal(p.Labels, labels) {
		t.Error("labels")
	}
	metrics := must(head.Evaluate(features, labels))(t)
	if metrics.Top1 != 1 || metrics.Confusion[1][1] != count/classes || metrics.Classes[2].F1 != 1 {
		t.Error(metrics)
	}
	if near := must(KNN(features, labels, features, 1, 0))(t); !slices.Equal(near, labels) {
		t.Error("neighbours")
	}
	must(head.Logits(features))(t)
	file := must(head.MarshalBinary())(t)
	loaded := must(ReadHead(bytes.NewReader(file)))(t)
	defer loaded.Close()
	if names := must(loaded.ClassNames())(t); names[3] != "böttom" {
		t.Error(names)
	}
	c := must(loaded.Classify(ctx, e, images, nil))(t)
	if !slices.Equal(c.Probabilities.Data, p.Probabilities.Data) {
		t.Error("probabilities")
	}
	stop := errors.New("enough")
	_, _, err = Fit(ctx, features, labels, &FitOptions{Progress: func(FitProgress) error { return stop }})
	expect(t, ErrCancelled, err)
	expect(t, stop, err)
}

func TestMistakesAreErrors(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, labels := bands(8)
	_, err := OpenEncoder(File("no/such.onnx"), nil)
	expect(t, ErrNotFound, err)
	_, err = OpenEncoder(Bytes([]byte("no model")), nil)
	expect(t, ErrModelInvalid, err)
	_, err = OpenEncoder(Source{}, nil)
	expect(t, ErrNilPointer, err)
	_, err = e.ExtractFiles(ctx, []string{"a\x00b"}, nil)
	expect(t, ErrInvalidArgument, err)
	_, err = e.ExtractEncoded(ctx, [][]byte{nil}, nil)
	expect(t, ErrImageDecode, err)
	_, err = e.ExtractReader(ctx, strings.NewReader("no picture"), nil)
	expect(t, ErrImageDecode, err)
	images[5].Data = images[5].Data[1:]
	_, err = e.Extract(ctx, images, nil)
	if failure := err.(*Error); failure.Item != 5 {
		t.Error(failure.Item)
	}
	s := make([]Status, 8)
	features := must(e.Extract(ctx, images, &ExtractOptions{Statuses: s}))(t)
	if s[4] != OK || s[5] == OK {
		t.Error(s)
	}
	_, _, err = Fit(ctx, features, labels[:3], nil)
	expect(t, ErrLabel, err)
	_, _, err = Fit(ctx, Matrix{Data: features.Data, Rows: math.MaxInt, Columns: 9}, labels, nil)
	expect(t, ErrShape, err)
	_, _, err = Fit(ctx, features, labels, &FitOptions{L2: -1})
	expect(t, ErrInvalidArgument, err)
	must(e.Extract(ctx, nil, nil))(t)
	for _, m := range []image.Image{nil, (*image.Gray)(nil), &image.RGBA{Rect: image.Rect(0, 0, 9, 9)},
		image.NewUniform(color.White), &image.YCbCr{Rect: image.Rect(-5, 0, 9, 9), YStride: 1}} {
		if _, err := e.ExtractImages(ctx, []image.Image{m}, nil); err == nil {
			t.Errorf("%T is no picture", m)
		}
	}
	e.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	_, err = e.Extract(ctx, images, nil)
	expect(t, ErrClosed, err)
	_, err = (*Encoder)(nil).Info()
	expect(t, ErrClosed, err)
	_, err = new(Head).Predict(features)
	expect(t, ErrClosed, err)
}

func TestCancellationStopsWork(t *testing.T) {
	e := open(t)
	images, _ := bands(200)
	start := time.Now()
	must(e.Extract(t.Context(), images, nil))(t)
	one := time.Since(start)
	many := slices.Repeat(images, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 2*one)
	defer cancel()
	start = time.Now()
	_, err := e.Extract(ctx, many, nil)
	expect(t, context.DeadlineExceeded, err)
	expect(t, ErrDeadline, err)
	if took := time.Since(start); took > 30*one {
		t.Errorf("stopped after %v; all would take %v", took, 100*one)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = e.Extract(ctx, images, nil)
	expect(t, context.Canceled, err)
	expect(t, ErrCancelled, err)
	if LiveHandles(KindCancel) != 0 {
		t.Error("tokens are left")
	}
}

func TestManyGoroutinesGetTheSameBits(t *testing.T) {
	e := open(t)
	images, _ := bands(20)
	want := must(e.Extract(t.Context(), images, nil))(t)
	var wait sync.WaitGroup
	for range 16 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 5 {
				if got, err := e.Extract(t.Context(), images, nil); err != nil || !slices.Equal(got.Data, want.Data) {
					t.Error("other features", err)
				}
			}
		}()
	}
	wait.Wait()
}

func TestGoPicturesAreTheSamePixels(t *testing.T) {
	r := image.Rect(3, 5, 40, 33)
	part := image.Rect(7, 6, 35, 30)
	nrgba, rgba, gray, wide := image.NewNRGBA(r), image.NewRGBA(r), image.NewGray(r), image.NewGray16(r)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.NRGBA{uint8(x * 7), uint8(y * 9), uint8(x * y), uint8(x*13 + y)}
			nrgba.Set(x, y, c)
			rgba.Set(x, y, c)
			gray.Set(x, y, c)
			wide.Set(x, y, c)
		}
	}
	pictures := []image.Image{nrgba.SubImage(part), rgba.SubImage(part), gray.SubImage(part), wide.SubImage(part),
		image.NewPaletted(part, color.Palette{color.White})}
	for ratio := image.YCbCrSubsampleRatio444; ratio <= image.YCbCrSubsampleRatio410; ratio++ {
		m := image.NewYCbCr(r, ratio)
		for i := range m.Y {
			m.Y[i] = uint8(i * 3)
		}
		for i := range m.Cb {
			m.Cb[i], m.Cr[i] = uint8(i*5), uint8(i*11)
		}
		pictures = append(pictures, m.SubImage(part))
	}
	for _, picture := range pictures {
		m := FromImage(picture)
		stride, size := m.Stride, bytesPerPixel(m.Format)
		if stride == 0 {
			stride = m.Width * size
		}
		for y := range m.Height {
			for x := range m.Width {
				c := color.NRGBAModel.Convert(picture.At(part.Min.X+x, part.Min.Y+y)).(color.NRGBA)
				if m.Premultiplied {
					// Where it lies: libbyol divides by alpha.
					c = color.NRGBA(picture.At(part.Min.X+x, part.Min.Y+y).(color.RGBA))
				}
				want := []byte{c.R, c.G, c.B, c.A}[:size]
				if got := m.Data[y*stride+x*size:][:size]; !bytes.Equal(got, want) {
					t.Fatalf("%T at %d, %d: %v, not %v", picture, x, y, got, want)
				}
			}
		}
	}
}

func TestStructsLieAsInC(t *testing.T) {
	table, err := exec.Command("python3", "../../tests/bindings/layout.py").Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]int{}
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		offset, size := must(strconv.Atoi(f[2]))(t), must(strconv.Atoi(f[3]))(t)
		s := structs[f[0]]
		if s == nil {
			t.Errorf("%s is not in layout.go", f[0])
		} else if f[1] == "" {
			if s.Size() != uintptr(size) || initialised[f[0]] != nil && initialised[f[0]]() != uint32(size) {
				t.Errorf("%s: %d bytes, in C %d", f[0], s.Size(), size)
			}
		} else if field, ok := s.FieldByName(f[1]); !ok || field.Offset != uintptr(offset) || field.Type.Size() != uintptr(size) {
			t.Errorf("%s.%s lies elsewhere in C", f[0], f[1])
		} else {
			fields[f[0]]++
		}
	}
	for name, s := range structs {
		if fields[name] != s.NumField() {
			t.Errorf("%s: %d fields, in C %d", name, s.NumField(), fields[name])
		}
	}
	if reflect.TypeFor[ClassMetrics]().Size() != 24 {
		t.Error("ClassMetrics are not three float64")
	}
}

func TestEveryFunctionOfTheHeaderIsBound(t *testing.T) {
	header, err := os.ReadFile("../../include/byol.h")
	if err != nil {
		t.Skip(err)
	}
	var sources []byte
	for _, entry := range must(os.ReadDir("."))(t) {
		if name := entry.Name(); !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "link") && !entry.IsDir() {
			sources = append(sources, must(os.ReadFile(name))(t)...)
		}
	}
	// A context can't be taken back.
	without := map[string]bool{"byol_cancel_reset": true}
	found := 0
	for _, match := range regexp.MustCompile(`(?m)^(?:BYOL_API|byol_status|void).*?(byol_\w+)\(`).FindAllSubmatch(header, -1) {
		found++
		name := string(match[1])
		if !without[name] && !regexp.MustCompile(`\b`+name+`\(`).Match(sources) {
			t.Errorf("%s is not bound", name)
		}
	}
	if found < 50 {
		t.Error("only", found)
	}
}

func TestNothingIsLeft(t *testing.T) {
	e := open(t)
	images, labels := bands(count)
	head, _, err := Fit(t.Context(), must(e.Extract(t.Context(), images, nil))(t), labels, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := must(head.MarshalBinary())(t)
	head.Close()
	head.Close()
	for range 10000 {
		must(LoadHeadBytes(file))(t).Close()
	}
	if n := LiveHandles(KindHead); n != 0 {
		t.Fatal(n, "heads after Close")
	}
	for range 10000 {
		must(LoadHeadBytes(file))(t)
	}
	for i := 0; LiveHandles(KindHead) != 0; i++ {
		if i == 200 {
			t.Fatal(LiveHandles(KindHead), "heads after garbage collection")
		}
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
}

func TestTheLogHearsWhatIsSaid(t *testing.T) {
	var mutex sync.Mutex
	var heard []string
	receive := func(level LogLevel, message string) {
		mutex.Lock()
		defer mutex.Unlock()
		if level == LogError {
			heard = append(heard, message)
		}
		if err := SetLog(LogOff, nil); !errors.Is(err, ErrReentrant) {
			t.Error("the log may be changed from inside:", err)
		}
	}
	must(struct{}{}, SetLog(LogInfo, receive))(t)
	defer SetLog(LogOff, nil)
	_, err := LoadHead("no/such/head")
	expect(t, ErrNotFound, err)
	if len(heard) != 1 || !strings.Contains(heard[0], "no/such/head") {
		t.Error(heard)
	}
	expect(t, ErrInvalidArgument, SetLog(77, receive))
	must(struct{}{}, SetLog(LogOff, nil))(t)
	before := len(heard)
	_, _ = LoadHead("no/such/head")
	if len(heard) != before {
		t.Error("it still listens", heard)
	}
}

func TestAFitStopsInItsMiddle(t *testing.T) {
	// Labels without sense and a tolerance that can't be met: it would go on for long.
	state, matrix := uint64(1), Matrix{Rows: 20000, Columns: 200}
	random := func(n uint64) uint64 {
		state = state*6364136223846793005 + 1442695040888963407
		return state >> 33 % n
	}
	for range matrix.Rows * matrix.Columns {
		matrix.Data = append(matrix.Data, float32(random(2001))/1000-1)
	}
	labels := make([]uint32, matrix.Rows)
	for i := range labels {
		labels[i] = uint32(random(20))
	}
	options := FitOptions{L2: 1e-9, Tolerance: 1e-300, MaxIterations: 1 << 30}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("somebody had enough")
	seen := 0
	options.Progress = func(p FitProgress) error {
		if seen++; seen == 2 {
			cancel(why)
		}
		return nil
	}
	start := time.Now()
	_, _, err := Fit(ctx, matrix, labels, &options)
	expect(t, ErrCancelled, err)
	expect(t, context.Canceled, err)
	expect(t, why, err)
	if seen < 2 || time.Since(start) > 30*time.Second {
		t.Error(seen, time.Since(start))
	}
	options.Progress = nil
	deadline, cancel2 := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel2()
	_, _, err = Fit(deadline, matrix, labels, &options)
	expect(t, ErrDeadline, err)
	expect(t, context.DeadlineExceeded, err)
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("a panic of Progress got lost")
			}
		}()
		_, _, _ = Fit(t.Context(), matrix, labels, &FitOptions{Progress: func(FitProgress) error { panic("mine") }})
	}()
	if n := LiveHandles(KindCancel); n != 0 {
		t.Error(n, "tokens are left")
	}
}

// What a process can do only once: a child of the test does it.
func TestAlone(t *testing.T) {
	if os.Getenv("BYOL_TEST_ALONE") == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestAlone$", "-test.v")
		child.Env = append(os.Environ(), "BYOL_TEST_ALONE=1", "BYOL_ONNXRUNTIME=/no/such/place")
		if said, err := child.CombinedOutput(); err != nil || !strings.Contains(string(said), "PASS: TestAlone") {
			t.Errorf("%v\n%s", err, said)
		}
		return
	}
	_, err := OpenEncoder(File(modelPath()), nil)
	expect(t, ErrRuntime, err)
	if !strings.Contains(err.Error(), "/no/such/place") {
		t.Error("the message does not say what was searched:", err)
	}
	_, err = StartRuntime(&RuntimeOptions{Library: "/no/such/folder"})
	expect(t, ErrRuntime, err)
	if !strings.Contains(err.Error(), "/no/such/folder") {
		t.Error(err)
	}
	// What needs no ONNX Runtime works without.
	if info := must(Inspect(File(modelPath())))(t); info.Width != edge {
		t.Error(info)
	}
	must(struct{}{}, Shutdown())(t)
	_, err = Inspect(File(modelPath()))
	expect(t, ErrShutdown, err)
}
