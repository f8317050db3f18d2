//! Model files that nobody should open, each in a process of its own: it ends in a typed error or works, never by a signal,
//! in bounded time, and in memory that the file's size bounds; what a model's own operators ask for is bounded by the
//! process's limit alone. `BYOL_FLIPS` sets how many damaged copies of a model are tried (3000; `make soak`: 100,000).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use byol_model::encoder::{EncoderConfig, Stem};
use byol_model::onnx::{self, Export};
use byol_model::picture::{InputContract, PictureView, PixelFormat};
use byol_serve::Error;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::feature_file::FeatureFile;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::runtime::{Runtime, RuntimeOptions};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::status_kib;

/// Pixels per side of every model here.
const SIZE: usize = 4;

// Protobuf by hand: no library writes what these files hold. Field numbers are those of onnx.proto3.

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [&varint(field << 3 | 2)[..], &varint(value.len() as u64), value].concat()
}

const FLOAT: i64 = 1;
const INT64: i64 = 7;
const BOOL: i64 = 9;

/// TensorProto.
fn tensor(name: &str, kind: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    [dims, number(2, kind), bytes(8, name), bytes(9, raw)].concat()
}

/// TensorProto whose data lie elsewhere.
fn elsewhere(name: &str, location: &str) -> Vec<u8> {
    let entry = [bytes(1, "location"), bytes(2, location)].concat();
    [number(1, 1), number(2, FLOAT), bytes(8, name), bytes(13, entry), number(14, 1)].concat()
}

/// ValueInfoProto; a negative size is free.
fn value(name: &str, kind: i64, dims: &[i64]) -> Vec<u8> {
    let dim = |&size: &i64| bytes(1, if size < 0 { bytes(2, "n") } else { number(1, size) });
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let kind = [number(1, kind), bytes(2, shape)].concat();
    [bytes(1, name), bytes(2, bytes(1, kind))].concat()
}

/// NodeProto.
fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| bytes(1, name));
    let outputs = outputs.iter().flat_map(|name| bytes(2, name));
    let attributes = attributes.iter().flat_map(|attribute| bytes(5, attribute));
    inputs.chain(outputs).chain(bytes(4, operator)).chain(attributes).collect()
}

/// AttributeProto of a graph (6), a tensor (5) or a sparse tensor (22), with its type (5, 4, 11).
fn attribute(name: &str, field: u64, value: impl AsRef<[u8]>, kind: i64) -> Vec<u8> {
    [bytes(1, name), bytes(field, value), number(20, kind)].concat()
}

fn integer(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name), number(3, value), number(20, 2)].concat()
}

/// GraphProto.
fn graph(nodes: &[Vec<u8>], constants: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>]) -> Vec<u8> {
    let part = |field: u64, values: &[Vec<u8>]| -> Vec<u8> { values.iter().flat_map(|v| bytes(field, v)).collect() };
    [part(1, nodes), bytes(2, "g"), part(5, constants), part(11, inputs), part(12, outputs)].concat()
}

/// ModelProto, with whatever else.
fn model(graph: &[u8], more: &[u8]) -> Vec<u8> {
    let opset = |domain: &str, version: i64| bytes(8, [bytes(1, domain), number(2, version)].concat());
    [number(1, 8), bytes(7, graph), opset("", 17), opset("com.example", 1), more.to_vec()].concat()
}

/// A model of pictures `[n, 3, 4, 4]` in float32, to features of so many values (negative: not said).
fn encoder(nodes: &[Vec<u8>], constants: &[Vec<u8>], features: i64) -> Vec<u8> {
    let size = SIZE as i64;
    let input = value("image", FLOAT, &[-1, 3, size, size]);
    model(&graph(nodes, constants, &[input], &[value("features", FLOAT, &[-1, features])]), &[])
}

fn flatten() -> Vec<u8> {
    node("Flatten", &["image"], &["features"], &[])
}

fn longs(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// `depth` operators If, each in the branch of the one before.
fn nested(depth: usize) -> Vec<u8> {
    let yes = tensor("yes", BOOL, &[], &[1]);
    let out = |name: &str| value(name, FLOAT, &[-1, 48]);
    let mut branch = graph(&[node("Identity", &["flat"], &["out0"], &[])], &[], &[], &[out("out0")]);
    for level in 1..depth {
        let name = format!("out{level}");
        let branches = [attribute("then_branch", 6, &branch, 5), attribute("else_branch", 6, &branch, 5)];
        // One branch of each is enough to be deep; two would double the file at every level.
        let other = graph(&[node("Identity", &["flat"], &[&name], &[])], &[], &[], &[out(&name)]);
        let attributes = [branches[0].clone(), attribute("else_branch", 6, other, 5)];
        branch = graph(&[node("If", &["yes"], &[&name], &attributes)], &[], &[], &[out(&name)]);
    }
    let attributes = [attribute("then_branch", 6, &branch, 5), attribute("else_branch", 6, &branch, 5)];
    encoder(
        &[node("Flatten", &["image"], &["flat"], &[]), node("If", &["yes"], &["features"], &attributes)],
        &[yes],
        48,
    )
}

/// A loop that adds for ever.
fn endless(features: i64) -> Vec<u8> {
    let body = graph(
        &[node("Identity", &["go"], &["go_on"], &[]), node("Add", &["sum", "sum"], &["more"], &[])],
        &[],
        &[value("i", INT64, &[]), value("go", BOOL, &[]), value("sum", FLOAT, &[-1, 48])],
        &[value("go_on", BOOL, &[]), value("more", FLOAT, &[-1, 48])],
    );
    let body = attribute("body", 6, body, 5);
    encoder(
        &[node("Flatten", &["image"], &["flat"], &[]), node("Loop", &["", "yes", "flat"], &["features"], &[body])],
        &[tensor("yes", BOOL, &[], &[1])],
        features,
    )
}

/// One hostile model.
struct Case {
    name: &'static str,
    file: Vec<u8>,
    /// Words of which one must be in what came of it.
    expected: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let case = |name, file, expected| Case { name, file, expected };
    let refused: &[&str] = &["ModelUnsupported", "ModelInvalid"];
    let failed: &[&str] = &["ModelUnsupported", "ModelInvalid", "Runtime"];
    let linear = |weight: Vec<u8>| {
        encoder(
            &[node("Flatten", &["image"], &["flat"], &[]), node("MatMul", &["flat", "w"], &["features"], &[])],
            &[weight],
            2,
        )
    };
    let constant =
        |attribute: Vec<u8>| encoder(&[flatten(), node("Constant", &[], &["unused"], &[attribute])], &[], 48);
    let inside = |constant: Vec<u8>| {
        let branch =
            graph(&[node("Add", &["flat", "far"], &["out"], &[])], &[constant], &[], &[value("out", FLOAT, &[-1, 48])]);
        let attributes = [attribute("then_branch", 6, &branch, 5), attribute("else_branch", 6, &branch, 5)];
        encoder(
            &[node("Flatten", &["image"], &["flat"], &[]), node("If", &["yes"], &["features"], &attributes)],
            &[tensor("yes", BOOL, &[], &[1])],
            48,
        )
    };
    let sparse = |name: &str| {
        [bytes(1, elsewhere(name, "data")), bytes(2, tensor("", INT64, &[1], &longs(&[0]))), number(3, 48)].concat()
    };
    let far = || elsewhere("far", "data");
    let function = |attributes: &[Vec<u8>]| {
        let function = [
            bytes(1, "F"),
            bytes(4, "x"),
            bytes(5, "y"),
            bytes(7, node("Identity", &["x"], &["y"], &[])),
            bytes(7, node("Constant", &[], &["unused"], attributes)),
            bytes(9, number(2, 17)),
            bytes(10, "com.example"),
        ]
        .concat();
        [encoder(&[flatten()], &[], 48), bytes(25, function)].concat()
    };
    let size = SIZE as i64;
    let sizes = |input: &[i64], output: &[i64]| {
        model(&graph(&[flatten()], &[], &[value("image", FLOAT, input)], &[value("features", FLOAT, output)]), &[])
    };
    let chain = |length: usize| {
        let names: Vec<String> = (0..=length).map(|i| if i == 0 { "image".into() } else { format!("r{i}") }).collect();
        let mut nodes: Vec<Vec<u8>> = names.windows(2).map(|w| node("Relu", &[&w[0]], &[&w[1]], &[])).collect();
        nodes.push(node("Flatten", &[&names[length]], &["features"], &[]));
        encoder(&nodes, &[], 48)
    };
    let expand = |count: i64, features: i64| {
        encoder(
            &[
                node("Flatten", &["image"], &["flat"], &[]),
                node("ReduceMean", &["flat"], &["one"], &[]),
                node("Expand", &["one", "shape"], &["features"], &[]),
            ],
            &[tensor("shape", INT64, &[2], &longs(&[1, count]))],
            features,
        )
    };
    vec![
        case("good", encoder(&[flatten()], &[], 48), &["opened, 48 features"]),
        case("empty", Vec::new(), refused),
        case("weights of 2^62 values", linear(tensor("w", FLOAT, &[1 << 31, 1 << 31], &[0; 4])), failed),
        case("weights of 2^64 values", linear(tensor("w", FLOAT, &[1 << 32, 1 << 32], &[0; 4])), failed),
        case("weights of -1 values", linear(tensor("w", FLOAT, &[-1, 2], &[0; 4])), failed),
        case("weights of a type that does not exist", linear(tensor("w", 99, &[48, 2], &[0; 384])), failed),
        case("weights of a wrong type", linear(tensor("w", INT64, &[48, 2], &[0; 768])), failed),
        case("weights of a wrong rank", linear(tensor("w", FLOAT, &[48, 2, 1, 1, 1], &[0; 384])), failed),
        case("weights that are NaN", linear(tensor("w", FLOAT, &[48, 2], &[0xff; 384])), &["NonFinite"]),
        case("pictures of 2^40 pixels", sizes(&[-1, 3, 1 << 20, 1 << 20], &[-1, 48]), refused),
        case("pictures of 2^63 pixels", sizes(&[-1, 3, i64::MAX, 1], &[-1, 48]), refused),
        case("1000 channels of 8192 x 8192", sizes(&[-1, 1000, 8192, 8192], &[-1, 48]), refused),
        case("2^40 pictures at a time", sizes(&[1 << 40, 3, size, size], &[1 << 40, 48]), refused),
        case("2^62 pictures at a time", sizes(&[1 << 62, 3, size, size], &[1 << 62, 48]), refused),
        case("2^40 features", sizes(&[-1, 3, size, size], &[-1, 1 << 40]), refused),
        case("2^80 features", sizes(&[-1, 3, size, size], &[-1, 1 << 40, 1 << 40]), refused),
        case("2^64 features", sizes(&[-1, 3, size, size], &[-1, 1 << 32, 1 << 32]), refused),
        case("other features than it says", sizes(&[-1, 3, size, size], &[-1, 47]), failed),
        case(
            "a cycle",
            encoder(
                &[
                    node("Add", &["image", "b"], &["a"], &[]),
                    node("Relu", &["a"], &["b"], &[]),
                    node("Flatten", &["b"], &["features"], &[]),
                ],
                &[],
                48,
            ),
            failed,
        ),
        case("a node that reads itself", encoder(&[node("Relu", &["a"], &["a"], &[]), flatten()], &[], 48), failed),
        case("two nodes of one output", encoder(&[flatten(), flatten()], &[], 48), failed),
        case(
            "an operator of somebody",
            encoder(&[[node("Nope", &["image"], &["features"], &[]), bytes(7, "com.example")].concat()], &[], 48),
            failed,
        ),
        case("40 levels", nested(40), &["opened", "Model", "Runtime"]),
        case("1,000 levels", nested(1_000), refused),
        case("20,000 nodes in a row", chain(20_000), &["opened", "Runtime"]),
        case("an external tensor", encoder(&[flatten()], &[far()], 48), refused),
        case("../../etc/passwd", encoder(&[flatten()], &[elsewhere("w", "../../../../../../etc/passwd")], 48), refused),
        case("/etc/passwd", encoder(&[flatten()], &[elsewhere("w", "/etc/passwd")], 48), refused),
        case("an external tensor in a branch", inside(far()), refused),
        case("an external constant", constant(attribute("value", 5, far(), 4)), refused),
        case("an external sparse constant", constant(attribute("sparse_value", 22, sparse("far"), 11)), refused),
        case(
            "external tensors in a list",
            constant([bytes(1, "values"), bytes(10, far()), number(20, 9)].concat()),
            refused,
        ),
        case(
            "an external sparse initializer",
            model(
                &[
                    graph(
                        &[flatten()],
                        &[],
                        &[value("image", FLOAT, &[-1, 3, size, size])],
                        &[value("features", FLOAT, &[-1, 48])],
                    ),
                    bytes(15, sparse("far")),
                ]
                .concat(),
                &[],
            ),
            refused,
        ),
        case("an external constant in a function", function(&[attribute("value", 5, far(), 4)]), refused),
        case("a loop without an end", endless(48), &["opened, 48 features: Deadline"]),
        case("2^33 values out of one, its size known", expand(1 << 33, 48), failed),
        case("2^62 values out of one, its size known", expand(1 << 62, 48), failed),
        case("2^33 values out of one", expand(1 << 33, -1), failed),
        case(
            "a name of 10 MB",
            encoder(&[[flatten(), bytes(3, vec![b'n'; 10_000_000])].concat()], &[], 48),
            &["opened"],
        ),
        case(
            "an attribute of another kind",
            encoder(&[node("Flatten", &["image"], &["features"], &[attribute("axis", 5, far(), 4)])], &[], 48),
            refused,
        ),
        case(
            "an axis of 2^62",
            encoder(&[node("Flatten", &["image"], &["features"], &[integer("axis", 1 << 62)])], &[], 48),
            failed,
        ),
    ]
}

fn runtime() -> std::sync::Arc<Runtime> {
    Runtime::open(&RuntimeOptions { library: Some(support::library()), threads: 1 }).expect("ONNX Runtime")
}

/// Opens a model and, if that goes well, extracts a picture within two seconds. The kind of what came of it.
fn tried(file: &[u8]) -> String {
    let kind = |error: &Error| {
        let mut error = error;
        while let Error::Item { source, .. } = error {
            error = source;
        }
        let text = format!("{error:?}");
        text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
    };
    match Encoder::from_bytes(&runtime(), file, &EncoderOptions::default()) {
        Err(error) => format!("{}: {error}", kind(&error)),
        Ok(encoder) => {
            let dimension = encoder.dimension();
            let pixels = [100; SIZE * SIZE * 3];
            let view = PictureView::new(PixelFormat::Rgb8, SIZE, SIZE, 3 * SIZE, &pixels).unwrap();
            let mut features = vec![0.0; dimension];
            let cancel = Cancel::with_deadline(Duration::from_secs(2));
            match encoder.extract(&[view], &mut features, dimension, None, &cancel) {
                Ok(()) => format!("opened, {dimension} features"),
                Err(error) => format!("opened, {dimension} features: {}: {error}", kind(&error)),
            }
        }
    }
}

/// Runs the test `name` of this file in a process that may have 4 GiB of addresses, with arguments in the environment.
fn in_a_process(name: &str, arguments: &[(&str, String)]) -> std::process::Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4194304; ulimit -c 0; exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.envs(arguments.iter().map(|(key, value)| (key, value))).output().unwrap()
}

#[test]
fn a_hostile_model_ends_in_a_typed_error_or_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut wrong = Vec::new();
    for case in cases() {
        fs::write(&path, &case.file).unwrap();
        let began = Instant::now();
        let output = in_a_process("open_one", &[("BYOL_MODEL", path.display().to_string())]);
        let took = began.elapsed();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let found = text.lines().find_map(|line| line.strip_prefix("came of it: "));
        let grown: u64 = text.lines().find_map(|line| line.strip_prefix("KiB: ")).map_or(0, |n| n.parse().unwrap());
        println!("{}: {} ({grown} KiB, {} ms)", case.name, found.unwrap_or("nothing"), took.as_millis());
        let typed = found.is_some_and(|found| case.expected.iter().any(|word| found.contains(word)));
        // What is read is kept a few times over; ONNX Runtime's own buffers are far below the rest.
        let room = 256 * 1024 + 40 * case.file.len() as u64 / 1024;
        if !typed || !output.status.success() || grown > room || took > Duration::from_secs(60) {
            wrong.push(format!("{}: {} {text}", case.name, output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
#[ignore = "not a test: what the test above runs"]
fn open_one() {
    let file = fs::read(std::env::var_os("BYOL_MODEL").unwrap()).unwrap();
    drop(runtime());
    let before = status_kib("VmHWM");
    println!("\ncame of it: {}", tried(&file).replace('\n', " "));
    println!("KiB: {}", status_kib("VmHWM") - before);
}

/// The encoder that is damaged: one block of two channels.
fn small() -> Vec<u8> {
    let config = EncoderConfig {
        stem: Stem::Small,
        width: 2,
        blocks: Some(vec![1]),
        channels: 3,
        image_size: SIZE,
        ..EncoderConfig::default()
    };
    let (graph, weights) = config.initial(1).unwrap();
    let contract = InputContract::square(3, SIZE);
    let export = Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() };
    onnx::write(&export).unwrap()
}

/// The `index`-th damaged copy: one to four bytes are others, or a piece is gone, or doubled.
fn damaged(file: &[u8], index: u64) -> Vec<u8> {
    let mut state = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |below: usize| {
        state ^= state >> 27;
        state = state.wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
        (state >> 16) as usize % below
    };
    let mut file = file.to_vec();
    match next(8) {
        0 => {
            let (at, length) = (next(file.len()), next(64));
            file.drain(at..(at + length).min(file.len()));
        }
        1 => {
            let (at, length) = (next(file.len()), next(64));
            let piece = file[at..(at + length).min(file.len())].to_vec();
            file.splice(at..at, piece);
        }
        how => {
            for _ in 0..how.div_ceil(2) {
                let at = next(file.len());
                file[at] = if next(2) == 0 { file[at] ^ 1 << next(8) } else { next(256) as u8 };
            }
        }
    }
    file
}

#[test]
fn damaged_copies_of_a_model_never_end_the_process() {
    let total: u64 = std::env::var("BYOL_FLIPS").map_or(3000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let (mut from, mut ended, mut opened) = (0, Vec::new(), 0);
    while from < total {
        let range = format!("{from} {total}");
        let output =
            in_a_process("open_damaged", &[("BYOL_RANGE", range), ("BYOL_REPORT", report.display().to_string())]);
        let text = fs::read_to_string(&report).unwrap_or_default();
        opened += text.lines().filter(|line| line.contains("opened")).count();
        if output.status.success() {
            break;
        }
        // The last line tells which copy was being opened.
        let last: u64 = text.lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).unwrap();
        ended.push(format!("copy {last}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)));
        from = last + 1;
    }
    println!("{total} damaged copies, {opened} of them opened, {} ended the process", ended.len());
    assert!(ended.is_empty(), "{}", ended.join("\n"));
    // Neither all nor none of them are models.
    assert!(opened as u64 > total / 100 && (opened as u64) < total, "{opened} of {total} opened");
}

#[test]
#[ignore = "not a test: what the test above runs"]
fn open_damaged() {
    let range = std::env::var("BYOL_RANGE").unwrap();
    let (from, to) = range.split_once(' ').unwrap();
    let mut report = fs::File::create(std::env::var_os("BYOL_REPORT").unwrap()).unwrap();
    let file = small();
    drop(runtime());
    let before = status_kib("VmHWM");
    for index in from.parse::<u64>().unwrap()..to.parse().unwrap() {
        write!(report, "{index} ").unwrap();
        let began = Instant::now();
        let found = tried(&damaged(&file, index));
        assert!(began.elapsed() < Duration::from_secs(20), "copy {index}: {:?}", began.elapsed());
        writeln!(report, "{}", found.replace('\n', " ")).unwrap();
    }
    let grown = status_kib("VmHWM") - before;
    assert!(grown < 1 << 20, "{grown} KiB");
}

/// What happens within ten seconds.
fn soon<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    receive.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{what}: still at it"))
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    symlink("/dev/zero", at("zero")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    symlink(at("missing"), at("dangling")).unwrap();
    fs::write(at("good.onnx"), small()).unwrap();
    symlink(at("good.onnx"), at("link.onnx")).unwrap();
    fs::File::create(at("sparse")).and_then(|file| file.set_len(3 << 30)).unwrap();
    let plain = EncoderOptions::default;
    let runtime = runtime();
    for name in ["pipe", "zero", "loop", "dangling", "sparse", "."] {
        let (path, runtime) = (at(name), runtime.clone());
        let model = path.clone();
        let error = soon(name, move || Encoder::open(&runtime, &model, &plain()).err()).expect("no model");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        let head = path.clone();
        let error = soon(name, move || Head::load(&head).err()).expect("no head");
        assert!(matches!(error, Error::Io { .. } | Error::TooLarge { .. }), "{name}: {error:?}");
        let weights = path.clone();
        assert!(soon(name, move || Head::import(&weights, None).is_err()));
        let picture: PathBuf = path.clone();
        assert!(soon(name, move || byol_model::picture::Picture::open(&picture, &Default::default()).is_err()));
    }
    for name in ["pipe.npy", "pipe.safetensors"] {
        let path = at(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (whole, in_blocks) = (path.clone(), path.clone());
        for error in [
            soon(name, move || Features::load(&whole).err()).expect("no features"),
            soon(name, move || FeatureFile::open(&in_blocks).err()).expect("no features"),
        ] {
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
    }
    let linked = Encoder::open(&runtime, &at("link.onnx"), &plain()).expect("a link to a model is a model");
    assert_eq!(linked.dimension(), 2);
    assert!(status_kib("VmHWM") < 1 << 20, "{} KiB", status_kib("VmHWM"));
}
