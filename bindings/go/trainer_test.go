package byol

import (
	"errors"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

var bandNames = []string{"top", "upper", "lower", "bottom"}

func teach(t testing.TB, e *Encoder) *Trainer {
	t.Helper()
	trainer := must(NewTrainer(e))(t)
	t.Cleanup(func() { trainer.Close() })
	for i, name := range bandNames {
		if label := must(trainer.AddClass(name))(t); label != uint32(i) {
			t.Fatal(label)
		}
	}
	return trainer
}

func TestATrainerFitsWhatIsThere(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, labels := bands(count)
	features := must(e.Extract(ctx, images, nil))(t)
	trainer := teach(t, e)
	statuses := make([]Status, count)
	bad := slices.Clone(images)
	bad[2].Data = nil
	_, err := trainer.AddPixels(ctx, e, bad, labels, nil)
	expect(t, ErrNilPointer, err)
	ids := must(trainer.AddPixels(ctx, e, bad, labels, &AddOptions{Statuses: statuses}))(t)
	if ids[2] != 0 || ids[0] != 1 || ids[3] != 3 || statuses[2] != ErrNilPointer || statuses[3] != OK {
		t.Fatal(ids, statuses)
	}
	must(trainer.Add(features.Slice(2, 3), labels[2:3]))(t)
	steps := 0
	fit := &FitOptions{Tolerance: 1e-9, Progress: func(FitProgress) error { steps++; return nil }}
	whole, report, err := trainer.Fit(ctx, fit)
	if err != nil || !report.Converged || steps == 0 {
		t.Fatal(err, report, steps)
	}
	defer whole.Close()
	if p := must(whole.Predict(features))(t); !slices.Equal(p.Labels, labels) {
		t.Error("labels")
	}
	near := func(head *Head) bool {
		a, _, errA := whole.Weights()
		b, _, errB := head.Weights()
		must(a, errors.Join(errA, errB))(t)
		for i := range a.Data {
			if math.Abs(float64(a.Data[i]-b.Data[i])) > 1e-3 {
				return false
			}
		}
		return true
	}
	more := must(trainer.Add(features.Slice(0, 8), labels[1:9]))(t)
	if err := errors.Join(trainer.Relabel(ids[5], (labels[5]+1)%classes)); err != nil {
		t.Fatal(err)
	}
	other, _, err := trainer.Refit(ctx, fit)
	if err != nil || near(other) {
		t.Error(err, "other examples give the same head")
	}
	other.Close()
	if err := errors.Join(trainer.Remove(more...), trainer.Relabel(ids[5], labels[5])); err != nil {
		t.Fatal(err)
	}
	again, _, err := trainer.Refit(ctx, fit)
	if err != nil || !near(again) {
		t.Error(err, "the same examples give another head")
	}
	again.Close()
	expect(t, ErrNotFound, trainer.Remove(more[0]))
	class := must(trainer.Class(1))(t)
	if class.Name != "upper" || class.Examples != count/classes {
		t.Error(class)
	}

	heard := 0
	head, report, tried, err := trainer.Search(ctx, &SearchOptions{Progress: func(Penalty) error { heard++; return nil }})
	if err != nil || len(tried) < 3 || heard != len(tried) || tried[0].L2 <= tried[1].L2 || !report.Converged {
		t.Fatal(err, tried, heard)
	}
	head.Close()
	head, _, tried, err = trainer.Search(ctx, &SearchOptions{Penalties: []float64{1e-4, 1e-2}, Folds: 5})
	if err != nil || len(tried) != 2 || tried[0].L2 != 1e-2 || tried[0].Accuracy < 0.9 {
		t.Fatal(err, tried)
	}
	head.Close()
	stop := errors.New("enough")
	_, _, _, err = trainer.Search(ctx, &SearchOptions{Progress: func(Penalty) error { return stop }})
	expect(t, ErrCancelled, err)
	expect(t, stop, err)
	_, _, _, err = trainer.Search(ctx, &SearchOptions{Folds: 1})
	expect(t, ErrInvalidArgument, err)
	imprinted := must(trainer.Imprint(20))(t)
	defer imprinted.Close()
	if p := must(imprinted.Predict(features))(t); !slices.Equal(p.Labels, labels) {
		t.Error("imprinted")
	}

	// Examples out as features, and in again.
	kept := must(trainer.Features())(t)
	defer kept.Close()
	second := must(NewTrainer(e))(t)
	defer second.Close()
	if first := must(second.AddFeatures(kept))(t); first != 1 {
		t.Error(first)
	}
	if err := second.RemoveClass(0); err != nil {
		t.Fatal(err)
	}
	if info := must(second.Info())(t); info.Classes != classes-1 || info.Examples != count-count/classes || info.Fitted {
		t.Error(info)
	}
	if class := must(second.Class(0))(t); class.Name != "upper" {
		t.Error(class)
	}
}

func TestClassesWeighAsManyAsThereAre(t *testing.T) {
	ctx := t.Context()
	features := Matrix{Data: []float32{1, 2, 2, 1, 3, 5, 5, 4}, Rows: 4, Columns: 2}
	labels := []uint32{0, 0, 1, 1}
	trainer := must(NewTrainerOf(2))(t)
	for _, name := range []string{"a", "b"} {
		must(trainer.AddClass(name))(t)
	}
	must(trainer.Add(features, labels))(t)
	weighted := &FitOptions{ClassWeights: []float32{1, 3}}
	direct, _, err := Fit(ctx, features, labels, weighted)
	if err != nil {
		t.Fatal(err)
	}
	head, _, err := trainer.Fit(ctx, weighted)
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := trainer.Fit(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	predict := func(h *Head) []float32 { return must(h.Predict(features))(t).Probabilities.Data }
	if !slices.Equal(predict(head), predict(direct)) || slices.Equal(predict(head), predict(plain)) {
		t.Error(predict(head), predict(direct), predict(plain))
	}
	for _, weights := range [][]float32{{}, {1}, {1, 1, 1}} {
		wrong := FitOptions{ClassWeights: weights}
		_, _, err := Fit(ctx, features, labels, &wrong)
		expect(t, ErrShape, err)
		_, _, err = trainer.Fit(ctx, &wrong)
		expect(t, ErrShape, err)
		_, _, err = trainer.Refit(ctx, &wrong)
		expect(t, ErrShape, err)
		_, _, _, err = trainer.Search(ctx, &SearchOptions{Fit: wrong})
		expect(t, ErrShape, err)
	}
}

func TestATrainerTakesPicturesOfEveryKind(t *testing.T) {
	ctx, e := t.Context(), open(t)
	trainer := teach(t, e)
	paths := []string{"../../tests/data/pictures/bag/0.png", "../../tests/data/pictures/sneaker/0.png"}
	var files [][]byte
	for _, path := range paths {
		files = append(files, must(os.ReadFile(path))(t))
	}
	must(trainer.AddFiles(ctx, e, paths, []uint32{0, 1}, nil))(t)
	must(trainer.AddEncoded(ctx, e, files, []uint32{2, 3}, nil))(t)
	must(trainer.AddImages(ctx, e, []image.Image{image.NewGray(image.Rect(0, 0, 9, 9))}, []uint32{0}, nil))(t)
	kept := must(trainer.Features())(t)
	defer kept.Close()
	rows := must(kept.Rows(0, 5))(t)
	if !slices.Equal(rows.Row(0), rows.Row(2)) || slices.Equal(rows.Row(0), rows.Row(1)) {
		t.Error("a file and its bytes differ")
	}
	_, err := trainer.AddFiles(ctx, e, []string{"no/such/file.png"}, []uint32{0}, nil)
	expect(t, ErrNotFound, err)
	_, err = trainer.AddFiles(ctx, e, paths, []uint32{0}, nil)
	expect(t, ErrLabel, err)
	_, err = trainer.AddFiles(ctx, e, paths, []uint32{0, 9}, nil)
	expect(t, ErrLabel, err)
	_, err = trainer.AddEncoded(ctx, e, [][]byte{nil}, []uint32{0}, nil)
	expect(t, ErrImageDecode, err)
	trainer.Close()
	_, err = trainer.AddFiles(ctx, e, paths, []uint32{0, 1}, nil)
	expect(t, ErrClosed, err)
	_, _, err = trainer.Fit(ctx, nil)
	expect(t, ErrClosed, err)
	_, err = NewTrainerOf(0)
	expect(t, ErrInvalidArgument, err)
	var none *Trainer
	expect(t, ErrClosed, none.Remove(1))
	if trainer.Close() != nil || none.Close() != nil {
		t.Error("a second Close")
	}
}

func TestAContainerKeepsAndFinds(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, labels := bands(count)
	features := must(e.Extract(ctx, images, nil))(t)
	f := must(NewFeatures(e))(t)
	defer f.Close()
	names := make([]string, count)
	for i := range names {
		names[i] = "pictüre"
	}
	if err := errors.Join(f.Append(features.Slice(0, 20), labels[:20], names[:20]),
		f.Append(features.Slice(20, count), labels[20:], names[20:]), f.SetClasses(bandNames)); err != nil {
		t.Fatal(err)
	}
	expect(t, ErrLabel, f.Append(features, nil, names))
	expect(t, ErrLabel, f.Append(features, labels[:3], names))
	expect(t, ErrLabel, f.SetClasses(bandNames[:3]))
	expect(t, ErrShape, f.Append(Matrix{Data: features.Data, Rows: 1, Columns: 2}, labels[:1], names[:1]))
	rows, cosines, err := f.Nearest(features, 2)
	if err != nil {
		t.Fatal(err)
	}
	similar := must(f.Similarity(features))(t)
	for i := range count {
		if rows[2*i] != uint32(i) || labels[rows[2*i+1]] != labels[i] || similar.Row(i)[i] != cosines.Row(i)[0] {
			t.Fatal(i, rows[2*i:2*i+2], cosines.Row(i))
		}
	}
	path := filepath.Join(t.TempDir(), "features.safetensors")
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded := must(LoadFeatures(path))(t)
	defer loaded.Close()
	if all := must(loaded.Rows(0, count))(t); !slices.Equal(all.Data, features.Data) {
		t.Error("rows")
	}
	if all := must(loaded.Labels(3, 5))(t); !slices.Equal(all, labels[3:8]) {
		t.Error("labels")
	}
	if name, class := must(loaded.Name(7))(t), must(loaded.ClassName(2))(t); name != "pictüre" || class != "lower" {
		t.Error(name, class)
	}
	info, about := must(loaded.Info())(t), must(e.Info())(t)
	if info.EncoderSHA256 != about.SHA256 || info.Classes != classes || !info.HasNames || !info.HasLabels {
		t.Error(info)
	}
	_, err = loaded.Rows(count-1, 2)
	expect(t, ErrNotFound, err)
	_, err = loaded.Rows(-1, 2)
	expect(t, ErrNotFound, err)
	_, _, err = loaded.Nearest(features, count+1)
	expect(t, ErrInvalidArgument, err)
	loaded.Close()
	_, err = loaded.Similarity(features)
	expect(t, ErrClosed, err)
	_, err = LoadFeatures("no/such/file.safetensors")
	expect(t, ErrNotFound, err)
}

func TestPackedFeatures(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, _ := bands(count)
	features := must(e.Extract(ctx, images, nil))(t)
	for _, packing := range []Packing{PackFloat16, PackInt8} {
		packed := must(Pack(features, packing))(t)
		direct := must(e.ExtractPacked(ctx, images, packing, nil))(t)
		if !slices.Equal(packed.Data, direct.Data) || !slices.Equal(packed.Scales, direct.Scales) {
			t.Error("packed at once and later differ")
		}
		back := must(packed.Unpack())(t)
		for i, value := range features.Data {
			bound := math.Abs(float64(value))/2048 + 1e-7
			if packing == PackInt8 {
				bound = 0.5001 * float64(packed.Scales[i/features.Columns])
			}
			if math.Abs(float64(value-back.Data[i])) > bound {
				t.Fatal(i, value, back.Data[i])
			}
		}
	}
	_, err := Pack(features, 9)
	expect(t, ErrInvalidArgument, err)
	_, err = Packed{Packing: PackInt8, Rows: 1 << 30, Columns: 4}.Unpack()
	expect(t, ErrShape, err)
	statuses := make([]Status, 2)
	must(e.ExtractPacked(ctx, []Image{images[0], {}}, PackInt8, &ExtractOptions{Statuses: statuses}))(t)
	if statuses[0] != OK || statuses[1] == OK {
		t.Error(statuses)
	}
}

func TestWhatAHeadCanBecome(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, labels := bands(count)
	features := must(e.Extract(ctx, images, nil))(t)
	head, _, err := Fit(ctx, features, labels, &FitOptions{Encoder: e})
	if err != nil {
		t.Fatal(err)
	}
	defer head.Close()
	p := must(head.Predict(features))(t)
	top := must(head.TopK(features, 2, 0))(t)
	if top.Labels[6] != p.Labels[3] || top.Probabilities.Row(3)[0] < top.Probabilities.Row(3)[1] {
		t.Error(top.Labels[6:8])
	}
	if sure := must(head.TopK(features, 1, 1))(t); sure.Labels[0] != NoLabel {
		t.Error("sure of all")
	}
	_, err = head.TopK(features, classes+1, 0)
	expect(t, ErrInvalidArgument, err)
	weights, bias, err := head.Weights()
	if err != nil {
		t.Fatal(err)
	}
	made := must(NewHead(weights, bias, &HeadOptions{Classes: bandNames, Encoder: e}))(t)
	defer made.Close()
	if again := must(made.Predict(features))(t); !slices.Equal(again.Probabilities.Data, p.Probabilities.Data) {
		t.Error("the same weights give other probabilities")
	}
	_, err = NewHead(weights, bias[:1], nil)
	expect(t, ErrShape, err)
	cool, temperature, err := made.Calibrate(features, labels)
	if err != nil {
		t.Fatal(err)
	}
	defer cool.Close()
	if info := must(cool.Info())(t); info.Temperature != temperature || temperature <= 0 {
		t.Error(info, temperature)
	}
	twin := must(cool.Clone())(t)
	cool.Close()
	if names := must(twin.ClassNames())(t); !slices.Equal(names, bandNames) {
		t.Error(names)
	}
	twin.Close()
	refitted, _, err := head.Refit(ctx, features, labels, &FitOptions{Encoder: e})
	if err != nil {
		t.Fatal(err)
	}
	refitted.Close()

	alone := must(head.ONNX(nil))(t)
	model := File(modelPath())
	behind := must(head.ONNX(&model))(t)
	if inspected := must(Inspect(Bytes(alone)))(t); inspected.InputName != "features" {
		t.Error(inspected)
	}
	classifier := must(OpenEncoder(Bytes(behind), &EncoderOptions{Output: "probabilities"}))(t)
	defer classifier.Close()
	probabilities := must(classifier.Extract(ctx, images, nil))(t)
	for i, value := range probabilities.Data {
		if math.Abs(float64(value-p.Probabilities.Data[i])) > 1e-5 {
			t.Fatal(i, value, p.Probabilities.Data[i])
		}
	}
	path := filepath.Join(t.TempDir(), "head.onnx")
	if err := head.ExportONNX(path, nil); err != nil || !slices.Equal(must(os.ReadFile(path))(t), alone) {
		t.Error(err)
	}
	_, err = head.ONNX(&Source{})
	expect(t, ErrNilPointer, err)
}

func TestImagesInEveryForm(t *testing.T) {
	ctx, e := t.Context(), open(t)
	const width, height = 30, 20
	pix := make([]byte, 3*width*height)
	for i := range pix {
		pix[i] = byte(i * i / 7)
	}
	base := Image{Format: RGB8, Width: width, Height: height, Data: pix}
	one := func(m Image) []float32 { t.Helper(); return must(e.Extract(ctx, []Image{m}, nil))(t).Data }
	plain := one(base)
	// A part of a larger picture, and one that lies on its side.
	framed := Image{Format: RGB8, Width: width + 4, Height: height + 2, Region: image.Rect(3, 1, 3+width, 1+height),
		Data: make([]byte, 3*(width+4)*(height+2))}
	turned := Image{Format: RGB8, Width: height, Height: width, Orientation: 8, Data: make([]byte, len(pix))}
	deep := Image{Format: RGB16, Width: width, Height: height, Data: make([]byte, 2*len(pix))}
	for y := range height {
		for x := range width {
			pixel := pix[3*(y*width+x):][:3]
			copy(framed.Data[3*((y+1)*(width+4)+x+3):], pixel)
			copy(turned.Data[3*(x*height+height-1-y):], pixel)
			for c, value := range pixel {
				deep.Data[2*(3*(y*width+x)+c)], deep.Data[2*(3*(y*width+x)+c)+1] = value, value
			}
		}
	}
	for name, m := range map[string]Image{"region": framed, "orientation": turned, "16 bits": deep} {
		if !slices.Equal(one(m), plain) {
			t.Error(name)
		}
	}
	for _, wrong := range []Image{
		{Format: RGB8, Width: width, Height: height, Data: pix, Orientation: 9},
		{Format: RGB8, Width: width, Height: height, Data: pix, Orientation: -1},
		{Format: RGB8, Width: width, Height: height, Data: pix, Region: image.Rect(-1, 0, 2, 2)},
		{Format: RGB8, Width: width, Height: height, Data: pix, Region: image.Rect(0, 0, width+1, 2)},
		{Format: RGB8, Width: width, Height: height, Data: pix, Region: image.Rect(1, 1, 1, 2)},
	} {
		_, err := e.Extract(ctx, []Image{wrong}, nil)
		expect(t, ErrInvalidArgument, err)
	}
	info := must(Probe(must(os.ReadFile("../../tests/data/formats/orientation6.jpg"))(t)))(t)
	if info.Format != "jpeg" || info.Orientation != 6 || info.Width < 1 {
		t.Error(info)
	}
	_, err := Probe(nil)
	expect(t, ErrImageDecode, err)
	stats := must(Stats())(t)
	if stats.Calls == 0 || stats.Pictures == 0 || stats.HeldBytes == 0 || Trim() != nil {
		t.Error(stats)
	}
}

func TestManyGoroutinesTeachOneTrainer(t *testing.T) {
	ctx, e := t.Context(), open(t)
	images, labels := bands(count)
	features := must(e.Extract(ctx, images, nil))(t)
	trainer := teach(t, e)
	must(trainer.Add(features, labels))(t)
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for range 5 {
				ids, err := trainer.Add(features.Slice(0, 4), labels[:4])
				if err != nil {
					t.Error(err)
					return
				}
				head, _, err := trainer.Refit(ctx, nil)
				if err != nil {
					t.Error(err)
					return
				}
				head.Close()
				if err := trainer.Remove(ids...); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
	if info := must(trainer.Info())(t); info.Examples != count {
		t.Error(info)
	}
}
