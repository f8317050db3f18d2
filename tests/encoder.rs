//! An encoder: the features of stock onnxruntime, whatever form pictures come in and however calls are made; and for
//! everything that can be wrong with a model, a picture or the library, an error that names it.

mod support;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use byol_model::dataset::{Dataset, Split};
use byol_model::encoder::EncoderConfig;
use byol_model::onnx::{Export, write};
use byol_model::picture::{InputContract, PictureView, PixelFormat};
use byol_model::weights::Weights;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions, InputTensor};
use byol_serve::features::Features;
use byol_serve::pipeline::{PipelineOptions, extract_dataset};
use byol_serve::provider::Provider;
use byol_serve::runtime::{LIBRARY_VARIABLE, Runtime, RuntimeOptions};
use byol_serve::{Error, Result};

use support::{data, library, runtime};

const SIZE: usize = 12;
const COUNT: usize = 10;
/// Bytes of one golden picture.
const BYTES: usize = SIZE * SIZE * 3;

fn model(name: &str) -> PathBuf {
    data("encoder").join(format!("{name}.onnx"))
}

fn open(name: &str) -> Encoder {
    Encoder::open(&runtime(), &model(name), &EncoderOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The golden pictures, RGB.
fn pixels() -> Vec<u8> {
    fs::read(data("encoder/pixels.bin")).expect("golden pixels")
}

fn views(pixels: &[u8]) -> Vec<PictureView<'_>> {
    pixels
        .chunks(BYTES)
        .map(|data| PictureView::new(PixelFormat::Rgb8, SIZE, SIZE, SIZE * 3, data).expect("rgb"))
        .collect()
}

/// What stock onnxruntime made of the golden pictures.
fn golden(name: &str) -> Vec<f32> {
    let features = Features::load(data("encoder").join(format!("{name}.npy"))).expect("golden features");
    features.values.into_raw_vec_and_offset().0
}

fn extract(encoder: &Encoder, pictures: &[PictureView<'_>]) -> Vec<f32> {
    let mut out = vec![f32::NAN; pictures.len() * encoder.dimension()];
    let cancel = Cancel::new();
    encoder.extract(pictures, &mut out, encoder.dimension(), None, &cancel).unwrap_or_else(|e| panic!("{e}"));
    out
}

/// Small picture files.
fn pictures() -> Vec<PathBuf> {
    let dataset = Dataset::open(&data("pictures"), Split::Train).expect("pictures");
    (0..dataset.len()).map(|i| dataset.file(i).expect("a file").to_owned()).collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let tolerance = 1e-6 * expected.abs().max(1.0);
        assert!((found - expected).abs() <= tolerance, "value {i} is {found}, recorded is {expected}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// An encoder as `byol export` writes it, untrained.
fn exported(name: &str, width: usize, image_size: usize) -> Vec<u8> {
    let config = EncoderConfig { name: name.into(), width, image_size, ..EncoderConfig::default() };
    let graph = config.build().expect("a network");
    let weights = Weights::init(&graph, 7);
    let contract = InputContract::square(config.channels, image_size);
    write(&Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() })
        .expect("a file")
}

/// Pixels that differ from picture to picture.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(next).collect()
}

fn opening_fails(name: &str) -> String {
    let error = Encoder::open(&runtime(), &model(name), &EncoderOptions::default()).expect_err(name);
    let text = error.to_string();
    assert!(
        matches!(error, Error::ModelInvalid { .. } | Error::ModelUnsupported { .. } | Error::Runtime { .. }),
        "{error:?}"
    );
    assert!(text.contains(&format!("{name}.onnx")), "names the file: {text}");
    text
}

#[test]
fn features_of_a_uint8_model_are_those_of_stock_onnxruntime() {
    let encoder = open("uint8");
    assert_eq!((encoder.dimension(), encoder.contract().height), (16, SIZE));
    assert_close(&extract(&encoder, &views(&pixels())), &golden("uint8"));
}

#[test]
fn features_of_a_foreign_float32_model_are_those_of_stock_onnxruntime() {
    let encoder = open("float32");
    assert_close(&extract(&encoder, &views(&pixels())), &golden("float32"));
}

#[test]
fn a_model_with_one_batch_size_takes_any_number_of_pictures() {
    let encoder = open("batch4");
    assert_eq!(encoder.dimension(), 16, "measured, because the file does not say");
    assert_close(&extract(&encoder, &views(&pixels())), &golden("float32"));
    assert_close(&extract(&encoder, &views(&pixels())[..1]), &golden("float32")[..16]);
}

#[test]
fn tensors_files_and_encoded_pictures_give_the_same_as_views() {
    let (pixels, cancel) = (pixels(), Cancel::new());
    for (name, float) in [("uint8", false), ("float32", true)] {
        let encoder = open(name);
        let mut out = vec![0.0; COUNT * 16];
        let tensor = InputTensor::U8 { shape: [COUNT, SIZE, SIZE, 3], data: &pixels };
        encoder.extract_tensor(tensor, &mut out, 16, &cancel).expect("uint8 goes into both");
        assert_eq!(bits(&out), bits(&extract(&encoder, &views(&pixels))));

        let mut planes = vec![0.0; COUNT * BYTES];
        for (pixels, planes) in pixels.chunks(BYTES).zip(planes.chunks_mut(BYTES)) {
            encoder.contract().normalise(pixels, planes);
        }
        let tensor = InputTensor::F32 { shape: [COUNT, 3, SIZE, SIZE], data: &planes };
        let mut of_planes = vec![0.0; COUNT * 16];
        match encoder.extract_tensor(tensor, &mut of_planes, 16, &cancel) {
            Ok(()) => assert_eq!(bits(&of_planes), bits(&out)),
            Err(e) => assert!(!float && e.to_string().contains("float32 cannot be fed"), "{e}"),
        }
    }

    let encoder = open("uint8");
    let mut paths = pictures();
    paths.insert(1, data("pictures/README.md"));
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    let encoded: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let (mut of_files, mut of_bytes) = (vec![0.0; paths.len() * 16], vec![0.0; paths.len() * 16]);
    let results = || -> Vec<Result<()>> { paths.iter().map(|_| Ok(())).collect() };
    let (mut file_items, mut byte_items) = (results(), results());
    encoder.extract_files(&paths, &mut of_files, 16, Some(&mut file_items), &cancel).expect("files");
    encoder.extract_encoded(&encoded, &mut of_bytes, 16, Some(&mut byte_items), &cancel).expect("bytes");
    assert_eq!(bits(&of_files), bits(&of_bytes));
    let good = |items: &[Result<()>]| items.iter().map(Result::is_ok).collect::<Vec<_>>();
    assert_eq!(good(&file_items), good(&byte_items));
    assert_eq!(file_items.iter().filter(|item| item.is_err()).count(), 1);
    for (path, item) in paths.iter().zip(&file_items) {
        if let Err(e) = item {
            assert!(e.to_string().contains(&*path.to_string_lossy()), "names the file: {e}");
        }
    }
}

#[test]
fn strides_and_pixel_orders_do_not_change_features() {
    let encoder = open("uint8");
    let pixels = pixels();
    let expected = bits(&extract(&encoder, &views(&pixels)));
    let other = |format, order: &[usize], padding: usize| {
        let stride = SIZE * order.len() + padding;
        let mut data = vec![77; COUNT * SIZE * stride];
        for (line, target) in pixels.chunks(SIZE * 3).zip(data.chunks_mut(stride)) {
            for (pixel, target) in line.chunks(3).zip(target.chunks_mut(order.len())) {
                for (value, &channel) in target.iter_mut().zip(order) {
                    *value = pixel.get(channel).copied().unwrap_or(255);
                }
            }
        }
        let views =
            data.chunks(SIZE * stride).map(|data| PictureView::new(format, SIZE, SIZE, stride, data).expect("a view"));
        bits(&extract(&encoder, &views.collect::<Vec<_>>()))
    };
    assert_eq!(other(PixelFormat::Rgb8, &[0, 1, 2], 5), expected);
    assert_eq!(other(PixelFormat::Bgr8, &[2, 1, 0], 0), expected);
    assert_eq!(other(PixelFormat::Rgba8, &[0, 1, 2, 3], 8), expected);
    assert_eq!(other(PixelFormat::Bgra8, &[2, 1, 0, 3], 0), expected);
}

#[test]
fn a_batch_and_single_calls_give_the_same_bits() {
    for (name, width, size, counts) in [
        ("resnet18", 16, 28, &[2, 3, 64, 97][..]),
        ("resnet18", 64, 96, &[2, 5][..]),
        ("resnet50", 16, 64, &[3, 7][..]),
    ] {
        let encoder =
            Encoder::from_bytes(&runtime(), &exported(name, width, size), &EncoderOptions::default()).expect("opens");
        let (bytes, most) = (size * size * 3, counts.iter().copied().max().unwrap_or(0));
        let pixels = noise(most * bytes);
        let view = |data| PictureView::new(PixelFormat::Rgb8, size, size, size * 3, data).expect("a view");
        let views: Vec<_> = pixels.chunks(bytes).map(view).collect();
        let single: Vec<f32> = views.iter().flat_map(|view| extract(&encoder, &[*view])).collect();
        for &count in counts {
            let batch = extract(&encoder, &views[..count]);
            assert_eq!(bits(&batch), bits(&single[..batch.len()]), "{name} {width} at {size}, {count} pictures");
        }
    }
}

/// Sessions of any number of threads, alone or side by side, give the same bits: a picture's features depend on nothing
/// but the picture and the model.
#[test]
fn any_number_of_sessions_gives_the_same_bits() {
    for (name, width, size) in [("resnet18", 64, 96), ("resnet50", 16, 64), ("resnet18", 16, 28)] {
        let model = exported(name, width, size);
        let bytes = size * size * 3;
        let pixels = noise(41 * bytes);
        let view = |data| PictureView::new(PixelFormat::Rgb8, size, size, size * 3, data).expect("a view");
        let views: Vec<_> = pixels.chunks(bytes).map(view).collect();
        let of = |sessions, bulk| {
            let options = EncoderOptions { sessions, bulk, ..Default::default() };
            let encoder = Encoder::from_bytes(&runtime(), &model, &options).expect("opens");
            encoder.warm_up().expect("warm");
            bits(&extract(&encoder, &views))
        };
        let expected = of(1, false);
        for (sessions, bulk) in [(0, false), (0, true), (2, false), (3, false)] {
            assert!(of(sessions, bulk) == expected, "{name} {width} at {size}, {sessions} sessions, bulk {bulk}");
        }
    }
}

#[test]
fn a_provider_that_is_not_there_is_an_error_and_never_replaced() {
    assert_eq!(open("uint8").provider(), Provider::Cpu);
    for provider in Provider::ALL.into_iter().filter(|provider| *provider != Provider::Cpu) {
        assert_eq!(provider.name().parse::<Provider>().expect("its own name"), provider);
        let options = EncoderOptions { provider, ..Default::default() };
        match Encoder::open(&runtime(), &model("uint8"), &options) {
            Ok(encoder) => assert_eq!(encoder.provider(), provider, "this library has it"),
            Err(e) => assert!(e.to_string().contains(&format!("execution provider {provider}")), "{e}"),
        }
    }
    assert!("gpu".parse::<Provider>().expect_err("no such provider").to_string().contains("cuda"));
}

#[test]
fn a_model_file_that_changed_does_not_serve_half_of_the_calls() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    fs::copy(model("uint8"), &path).expect("a copy");
    let encoder = Encoder::open(&runtime(), &path, &EncoderOptions::default()).expect("opens");
    fs::copy(model("float32"), &path).expect("another model");
    let pixels = pixels();
    let many: Vec<PictureView<'_>> = (0..30).flat_map(|_| views(&pixels)).collect();
    let expected = bits(&extract(&encoder, &views(&pixels)));
    assert!(extract(&encoder, &many).chunks(expected.len()).all(|rows| bits(rows) == expected));
    match encoder.warm_up() {
        Ok(()) => assert_eq!(runtime().threads(), 1, "one session is enough for one thread"),
        Err(e) => assert!(matches!(e, Error::ModelHash { .. }), "{e}"),
    }
}

#[test]
fn eight_threads_at_once_get_what_one_gets() {
    let pixels = pixels();
    for sessions in [0, 1, 3] {
        let options = EncoderOptions { sessions, ..Default::default() };
        let encoder = Encoder::open(&runtime(), &model("uint8"), &options).expect("opens");
        assert_eq!(encoder.sessions(), if sessions == 0 { runtime().threads() } else { sessions });
        let expected = bits(&extract(&encoder, &views(&pixels)));
        thread::scope(|scope| {
            for worker in 0..8 {
                let (encoder, expected, pixels) = (&encoder, &expected, &pixels);
                scope.spawn(move || {
                    for round in 0..50 {
                        let count = 1 + (worker + round) % COUNT;
                        assert_eq!(bits(&extract(encoder, &views(pixels)[..count])), expected[..count * 16]);
                    }
                });
            }
        });
    }
}

#[test]
fn rows_keep_their_stride_and_what_lies_between_them() {
    let encoder = open("uint8");
    let pixels = pixels();
    let mut out = vec![-1.0; 2 * 20 + 16];
    encoder.extract(&views(&pixels)[..3], &mut out, 20, None, &Cancel::new()).expect("the last row needs no gap");
    let golden = golden("uint8");
    for row in 0..3 {
        assert_close(&out[row * 20..row * 20 + 16], &golden[row * 16..row * 16 + 16]);
    }
    assert!(out[16..20].iter().chain(&out[36..40]).all(|&gap| gap == -1.0));

    let wrong = |out: &mut [f32], stride, items| encoder.extract(&views(&pixels), out, stride, items, &Cancel::new());
    assert!(matches!(
        wrong(&mut [0.0; 159], 16, None),
        Err(Error::DimensionMismatch { expected: 160, found: 159, .. })
    ));
    assert!(matches!(wrong(&mut [0.0; 160], 15, None), Err(Error::DimensionMismatch { expected: 16, found: 15, .. })));
    assert!(matches!(wrong(&mut [0.0; 160], usize::MAX, None), Err(Error::DimensionMismatch { .. })));
    assert!(matches!(
        wrong(&mut [0.0; 160], 16, Some(&mut [Ok(())])),
        Err(Error::DimensionMismatch { expected: 10, .. })
    ));
    let tensor = InputTensor::U8 { shape: [9, SIZE, SIZE, 3], data: &pixels };
    assert!(encoder.extract_tensor(tensor, &mut [0.0; 160], 16, &Cancel::new()).is_err());
    let tensor = InputTensor::U8 { shape: [COUNT, 3, SIZE, SIZE], data: &pixels };
    assert!(encoder.extract_tensor(tensor, &mut [0.0; 160], 16, &Cancel::new()).is_err());
    let tensor = InputTensor::U8 { shape: [usize::MAX, SIZE, SIZE, 3], data: &pixels };
    assert!(encoder.extract_tensor(tensor, &mut [0.0; 160], 16, &Cancel::new()).is_err());
    encoder.extract(&[], &mut [], 16, None, &Cancel::new()).expect("no pictures are no error");
}

#[test]
fn one_bad_picture_spoils_nothing_and_without_item_results_fails_the_call() {
    let encoder = open("uint8");
    let png = fs::read(&pictures()[0]).expect("a picture");
    let encoded: Vec<&[u8]> =
        (0..200).map(|i| if i == 77 || i == 130 { b"no picture".as_slice() } else { &png }).collect();
    let mut out = vec![-1.0; 200 * 16];
    let error = encoder.extract_encoded(&encoded, &mut out, 16, None, &Cancel::new()).expect_err("a bad picture");
    assert!(matches!(error, Error::Item { index: 77, .. }), "{error:?}");
    assert!(error.source().is_some());
    assert!(out.iter().all(|&v| v == -1.0), "nothing is written by a call that fails");

    let mut items: Vec<Result<()>> = (0..200).map(|_| Err(Error::Cancelled)).collect();
    encoder.extract_encoded(&encoded, &mut out, 16, Some(&mut items), &Cancel::new()).expect("the others go on");
    for (i, (item, row)) in items.iter().zip(out.chunks(16)).enumerate() {
        assert_eq!(item.is_err(), i == 77 || i == 130);
        assert_eq!(row, if item.is_err() { &[-1.0; 16] } else { &out[..16] });
    }
}

#[test]
fn a_feature_that_is_not_finite_names_its_picture() {
    let encoder = open("nan_for_black");
    let mut pixels = noise(5 * BYTES);
    pixels[3 * BYTES..4 * BYTES].fill(0);
    let mut out = [7.0; 15];
    let error = encoder.extract(&views(&pixels), &mut out, 3, None, &Cancel::new()).expect_err("0 / 0");
    assert_eq!(error.to_string(), "Item 3: Feature in row 3, column 0 is NaN; features must be finite");
    assert_eq!(out, [7.0; 15]);
    let tensor = InputTensor::U8 { shape: [5, SIZE, SIZE, 3], data: &pixels };
    let error = encoder.extract_tensor(tensor, &mut out, 3, &Cancel::new()).expect_err("0 / 0");
    assert!(matches!(error, Error::Item { index: 3, .. }));
}

#[test]
fn a_running_call_stops_when_it_is_cancelled_or_its_time_is_over() {
    let encoder = Arc::new(open("slow"));
    let pixels = vec![9; 96 * 96 * 3 * 8];
    let run = |cancel: &Cancel| {
        let tensor = InputTensor::U8 { shape: [8, 96, 96, 3], data: &pixels };
        encoder.extract_tensor(tensor, &mut [0.0; 8 * 64], 64, cancel)
    };
    let started = Instant::now();
    assert!(matches!(run(&Cancel::with_deadline(Duration::from_millis(100))), Err(Error::Deadline)));
    let deadline_took = started.elapsed();

    let cancel = Cancel::new();
    thread::scope(|scope| {
        let other = cancel.clone();
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(100));
            other.trigger();
        });
        // Waits for the session that the first call holds, and does not wait past its time.
        let waiting = scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            run(&Cancel::with_deadline(Duration::from_millis(30)))
        });
        assert!(matches!(run(&cancel), Err(Error::Cancelled)));
        assert!(matches!(waiting.join().expect("no panic"), Err(Error::Deadline)));
    });
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{deadline_took:?}, {took:?}; the whole call takes far longer");

    let (mut out, triggered) = ([7.0; 16], Cancel::new());
    triggered.trigger();
    let golden = pixels_of_one();
    let result = open("uint8").extract(&views(&golden), &mut out, 16, None, &triggered);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(out, [7.0; 16]);
}

fn pixels_of_one() -> Vec<u8> {
    pixels()[..BYTES].to_vec()
}

#[test]
fn a_data_set_keeps_its_order_and_reports_what_it_leaves_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = pictures().remove(0);
    for class in ["a", "b"] {
        fs::create_dir(folder.path().join(class)).expect("a class");
        for i in 0..100 {
            let file = folder.path().join(class).join(format!("{i:03}.png"));
            if i == 50 {
                fs::write(file, b"no picture").expect("a file");
            } else {
                fs::copy(&good, file).expect("a file");
            }
        }
    }
    let dataset = Dataset::open(folder.path(), Split::Train).expect("a data set");
    let encoder = open("uint8");
    let (mut steps, cancel) = (Vec::new(), Cancel::new());
    let mut progress = |done, total| steps.push((done, total));
    let options = PipelineOptions { batch: 7, strict: false };
    let (features, bad) =
        extract_dataset(&encoder, &dataset, &options, &cancel, Some(&mut progress)).expect("198 good pictures");
    assert_eq!(features.values.shape(), [198, 16]);
    assert_eq!(bad.iter().map(|item| item.index).collect::<Vec<_>>(), [50, 150]);
    assert!(bad[0].name.contains("050.png") && bad[0].error.to_string().contains("050.png"), "{bad:?}");
    let names = features.names.as_ref().expect("names");
    assert!(names.is_sorted() && names.len() == 198);
    assert_eq!(features.labels().expect("labels").iter().sum::<u32>(), 99);
    assert_eq!(features.encoder.as_deref(), Some(encoder.sha256()));
    assert_eq!(features.classes.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    assert!(steps.is_sorted() && steps.len() == 200_usize.div_ceil(7) && steps.last() == Some(&(200, 200)));
    let first = features.values.row(0);
    assert!(features.values.outer_iter().all(|row| row == first));

    let strict = PipelineOptions { strict: true, ..options };
    let error = extract_dataset(&encoder, &dataset, &strict, &cancel, None).expect_err("a bad picture");
    assert!(matches!(error, Error::Item { index: 50, .. }) && error.to_string().contains("050.png"), "{error}");
    let only_bad = dataset.select(&[50, 150]);
    let error = extract_dataset(&encoder, &only_bad, &options, &cancel, None).expect_err("nothing is left");
    assert!(matches!(error, Error::EmptyData { .. }), "{error:?}");
    cancel.trigger();
    assert!(matches!(extract_dataset(&encoder, &dataset, &options, &cancel, None), Err(Error::Cancelled)));
}

#[test]
fn models_that_are_no_encoder_of_pictures_are_refused_with_the_reason() {
    assert!(opening_fails("bad_input_type").contains("ONNX type 7"));
    assert!(opening_fails("bad_rank").contains("has 2 dimensions, pictures have 4"));
    assert!(opening_fails("bad_two_inputs").contains("2 inputs (x, y)"));
    assert!(opening_fails("bad_output_type").contains("\"best\" is not float32"));
    assert!(opening_fails("bad_operator").contains("NoSuchOperator"));
    assert!(opening_fails("bad_external").contains("other files"));
    assert!(opening_fails("bad_contract").contains("byol.input.std"));
    assert!(opening_fails("bad_contract_size").contains("12 x 13"));
    let options = EncoderOptions { output: Some("nothing".into()), ..Default::default() };
    let error = Encoder::open(&runtime(), &model("float32"), &options).expect_err("no such output").to_string();
    assert!(error.contains("\"nothing\"") && error.contains("shape, embedding"), "{error}");
    let contract = Some(InputContract::square(1, SIZE));
    let options = EncoderOptions { contract, ..Default::default() };
    let error = Encoder::open(&runtime(), &model("float32"), &options).expect_err("gray").to_string();
    assert!(error.contains("float32.onnx") && error.contains("1 channels"), "{error}");
}

#[test]
fn every_truncation_of_a_model_is_refused_or_is_a_whole_model() {
    let bytes = fs::read(model("uint8")).expect("a model");
    let options = EncoderOptions::default();
    let metadata = bytes.windows(5).position(|b| b == b"byol.").expect("metadata");
    for length in 0..bytes.len() {
        match Encoder::from_bytes(&runtime(), &bytes[..length], &options) {
            // Only when nothing but metadata, which comes last, is cut off at the end of an entry.
            Ok(_) => assert!(length + 8 > metadata, "{length} of {} bytes opened", bytes.len()),
            Err(Error::ModelInvalid { .. } | Error::ModelUnsupported { .. } | Error::Runtime { .. }) => {}
            Err(other) => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[test]
fn damaged_models_end_in_errors_or_work() {
    let bytes = fs::read(model("uint8")).expect("a model");
    let (pixels, cancel) = (pixels(), Cancel::with_deadline(Duration::from_secs(120)));
    let places = noise(4 * 600);
    for flip in places.chunks(4) {
        let mut damaged = bytes.clone();
        let at = usize::from(flip[0]) << 8 | usize::from(flip[1]);
        damaged[at % bytes.len()] ^= flip[2] | 1;
        let Ok(encoder) = Encoder::from_bytes(&runtime(), &damaged, &EncoderOptions::default()) else { continue };
        let contract = encoder.contract().clone();
        let row = encoder.dimension();
        let mut out = vec![0.0; 2 * row];
        if (contract.height, contract.width, contract.channels) == (SIZE, SIZE, 3) {
            let _ = encoder.extract(&views(&pixels)[..2], &mut out, row, None, &cancel);
        }
    }
}

#[test]
fn files_that_are_no_model_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let fails = |path: &Path, options: &EncoderOptions| {
        let error = Encoder::open(&runtime(), path, options).expect_err("no model");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        error
    };
    let plain = EncoderOptions::default();
    assert!(matches!(fails(&file("empty.onnx", b""), &plain), Error::ModelInvalid { .. }));
    assert!(matches!(
        fails(&file("text.onnx", b"Dear reader,\nthis is no model.\n"), &plain),
        Error::ModelInvalid { .. }
    ));
    assert!(matches!(fails(&file("noise.onnx", &noise(100_000)), &plain), Error::ModelInvalid { .. }));
    assert!(matches!(fails(&pictures()[0], &plain), Error::ModelInvalid { .. }));
    assert!(matches!(fails(&folder.path().join("missing.onnx"), &plain), Error::Io { .. }));
    assert!(matches!(fails(folder.path(), &plain), Error::Io { .. }));
    assert!(matches!(fails(Path::new("/dev/zero"), &plain), Error::Io { .. }));

    let sparse = folder.path().join("sparse.onnx");
    fs::File::create(&sparse).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
    assert!(matches!(fails(&sparse, &plain), Error::TooLarge { found: 3_221_225_472, .. }));
    let small = EncoderOptions { max_model_bytes: 1000, ..Default::default() };
    assert!(matches!(fails(&model("uint8"), &small), Error::TooLarge { limit: 1000, .. }));
    let bytes = fs::read(model("uint8")).expect("a model");
    assert!(matches!(Encoder::from_bytes(&runtime(), &bytes, &small), Err(Error::TooLarge { .. })));

    let sum = byol_model::sha256_hex(&bytes);
    let pinned = |sum: &str| EncoderOptions { expected_sha256: Some(sum.into()), ..Default::default() };
    assert!(Encoder::open(&runtime(), &model("uint8"), &pinned(&sum.to_uppercase())).is_ok());
    assert!(matches!(fails(&model("uint8"), &pinned(&"0".repeat(64))), Error::ModelHash { .. }));
}

#[test]
fn a_second_runtime_with_other_wishes_is_refused() {
    let running = runtime();
    assert!(running.version().starts_with("1."), "{}", running.version());
    assert!(Arc::ptr_eq(&running, &Runtime::shared().expect("it runs")));
    let open = |library, threads| Runtime::open(&RuntimeOptions { library, threads });
    assert!(Arc::ptr_eq(&running, &open(Some(library()), running.threads()).expect("the same")));
    let error = open(None, running.threads() + 1).expect_err("other threads");
    assert!(matches!(error, Error::BusyConfig { what: "threads", .. }), "{error}");
    let error = open(Some("/nowhere/libonnxruntime.so".into()), 0).expect_err("another library");
    assert!(matches!(error, Error::BusyConfig { what: "library", .. }), "{error}");
}

/// Runs `child` in a copy of this program that lies in `folder`, far from any copy of ONNX Runtime.
fn run_child(folder: &Path, named: Option<&Path>) -> Output {
    let program = folder.join("program");
    fs::copy(env::current_exe().expect("this program"), &program).expect("a copy");
    let mut command = Command::new(&program);
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env_remove(LIBRARY_VARIABLE).env_remove("LD_LIBRARY_PATH");
    if let Some(named) = named {
        command.env(LIBRARY_VARIABLE, named);
    }
    command.output().expect("it runs")
}

#[test]
#[ignore = "not a test: what run_child runs"]
fn child() {
    match Runtime::shared() {
        Err(error) => println!("error: {error}\nend"),
        Ok(runtime) => {
            let encoder = Encoder::open(&runtime, &model("uint8"), &EncoderOptions::default()).expect("opens");
            let features = extract(&encoder, &views(&pixels()));
            let _ = Encoder::open(&runtime, &model("bad_operator"), &EncoderOptions::default());
            println!("version {} gave {} features\nend", runtime.version(), features.len());
        }
    }
}

/// Compiles a shared library; the tests need a C compiler anyway.
fn compile(folder: &Path, source: &str) -> PathBuf {
    let (file, library) = (folder.join("library.c"), folder.join("libonnxruntime.so"));
    fs::write(&file, source).expect("a file");
    let compiler = env::var_os("CC").unwrap_or("cc".into());
    let status = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file).status();
    assert!(status.expect("a C compiler").success());
    library
}

#[test]
fn without_the_library_the_error_lists_what_was_tried_and_which_versions_were_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = |output: Output| {
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };

    let nowhere = text(run_child(folder.path(), None));
    if !nowhere.contains("version 1.") {
        let here = folder.path().to_string_lossy().into_owned();
        assert!(nowhere.contains("BYOL_ONNXRUNTIME"), "{nowhere}");
        assert!(nowhere.contains(&format!("\n  {here}: no libonnxruntime.so in this folder")), "{nowhere}");
        assert!(nowhere.contains("\n  libonnxruntime.so: cannot be loaded"), "{nowhere}");
    }

    let missing = folder.path().join("missing.so");
    let named = text(run_child(folder.path(), Some(&missing)));
    assert!(named.contains(&format!("Tried:\n  {}: no such file\nend", missing.display())), "{named}");

    let other = tempfile::tempdir().expect("a folder");
    compile(other.path(), "int unrelated;");
    let foreign = text(run_child(folder.path(), Some(other.path())));
    assert!(foreign.contains("libonnxruntime.so: a library, but not ONNX Runtime"), "{foreign}");

    fs::write(other.path().join("libonnxruntime.so"), "no library").expect("a file");
    let garbage = text(run_child(folder.path(), Some(other.path())));
    assert!(garbage.contains("libonnxruntime.so: cannot be loaded:"), "{garbage}");

    // An old one beside the program is passed over with its version, and then the search goes on.
    let old = "static const void *api(unsigned v) { (void)v; return 0; }
               static const char *version(void) { return \"1.17.1\"; }
               static const struct { const void *(*a)(unsigned); const char *(*v)(void); } base = {api, version};
               const void *OrtGetApiBase(void) { return &base; }";
    let library = compile(folder.path(), old);
    let too_old = text(run_child(folder.path(), None));
    let line = format!("\n  {}: version 1.17.1, but 1.24 or newer is needed", library.display());
    assert!(too_old.contains(&line) || too_old.contains("version 1."), "{too_old}");
}

#[test]
fn nothing_is_printed_and_the_process_ends_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run_child(folder.path(), Some(&library()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("gave 160 features"), "{text}");
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
