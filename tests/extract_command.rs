//! `byol extract` as people run it: `--strict`, parts, Ctrl-C and going on, and reports of bad files.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use byol_model::encoder::EncoderConfig;
use byol_model::onnx::{Export, write};
use byol_model::picture::InputContract;
use byol_model::weights::Weights;
use byol_serve::features::Features;
use support::data;

/// A folder with an encoder and a list of so many photographs, `bad` of which are none.
fn work(count: usize, bad: &[usize]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = EncoderConfig { width: 16, image_size: 64, ..EncoderConfig::default() };
    let (graph, contract) = (config.build().unwrap(), InputContract::square(3, 64));
    let weights = Weights::init(&graph, 3);
    let export = Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() };
    fs::write(folder.path().join("encoder.onnx"), write(&export).unwrap()).unwrap();
    fs::write(folder.path().join("bad.jpg"), b"no picture").unwrap();
    let mut list = String::new();
    for i in 0..count {
        match bad.contains(&i) {
            true => list.push_str("bad.jpg\n"),
            false => {
                let photo = ["temple", "petals", "dahlia"][i % 3];
                writeln!(list, "{}", data(&format!("photos/{photo}.jpg")).display()).unwrap();
            }
        }
    }
    fs::write(folder.path().join("list.txt"), list).unwrap();
    folder
}

fn command(folder: &Path, more: &str) -> Command {
    let mut command = support::byol();
    command.args(["--json", "extract", "encoder.onnx", "--data", "list.txt"]).args(more.split_whitespace());
    command.current_dir(folder);
    command
}

fn extract(folder: &Path, more: &str) -> Output {
    command(folder, more).output().unwrap()
}

fn report(output: &Output) -> serde_json::Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_bad_file_is_reported_and_counted_and_with_strict_fails_the_command() {
    let folder = work(9, &[4]);
    let output = extract(folder.path(), "-o features.safetensors");
    let found = report(&output);
    assert_eq!((found["pictures"].as_u64(), found["left_out"].as_u64()), (Some(8), Some(1)));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("left out") && said.contains("bad.jpg"), "{said}");
    let features = Features::load(folder.path().join("features.safetensors")).unwrap();
    assert_eq!(features.len(), 8);
    assert!(features.names.unwrap().iter().all(|name| !name.contains("bad.jpg")));

    let output = extract(folder.path(), "--strict -o strict.safetensors");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.jpg"), "{said}");
    assert!(!folder.path().join("strict.safetensors").exists(), "nothing half-written");
}

#[test]
fn parts_one_after_the_other_are_the_whole() {
    let folder = work(11, &[]);
    report(&extract(folder.path(), "-o whole.safetensors"));
    let load = |name: &str| Features::load(folder.path().join(name)).unwrap();
    let (mut values, mut names) = (Vec::new(), Vec::new());
    for part in 0..4 {
        report(&extract(folder.path(), &format!("--shard {part}/4 -o part-{part}.safetensors")));
        let part = load(&format!("part-{part}.safetensors"));
        values.extend(part.values);
        names.extend(part.names.unwrap());
    }
    let whole = load("whole.safetensors");
    assert_eq!(values, whole.values.into_raw_vec_and_offset().0);
    assert_eq!(names, whole.names.unwrap());
    for shard in ["4/4", "1", "a/b", "0/0"] {
        let output = extract(folder.path(), &format!("--shard {shard} -o never.npy"));
        assert_eq!(output.status.code(), Some(2), "{shard}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_done_and_the_same_command_goes_on_to_the_same_file() {
    let folder = work(2000, &[7]);
    let mut child = command(folder.path(), "-o features.safetensors").stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let [part, part_json, out] =
        ["features.safetensors.part", "features.safetensors.part.json", "features.safetensors"]
            .map(|name| folder.path().join(name));
    // Rows reach the disk some hundred at a time, when about a quarter of the work is done.
    while fs::metadata(&part).map_or(0, |part| part.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "no row in two minutes");
        thread::sleep(Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "it was stopped, and had not ended before");
    assert!(part.exists() && !out.exists());

    let found = report(&extract(folder.path(), "-o features.safetensors"));
    assert!(found["resumed"].as_u64().unwrap() > 0, "{found}");
    assert_eq!((found["pictures"].as_u64(), found["left_out"].as_u64()), (Some(1999), Some(1)));
    assert!(!part.exists() && !part_json.exists());
    // The rows of the first pictures again, without an interruption.
    let list = fs::read_to_string(folder.path().join("list.txt")).unwrap();
    let first: String = list.lines().take(40).map(|line| line.to_owned() + "\n").collect();
    fs::write(folder.path().join("list.txt"), first).unwrap();
    report(&extract(folder.path(), "-o first.safetensors"));
    let load = |name: &str| Features::load(folder.path().join(name)).unwrap();
    let (resumed, straight) = (load("features.safetensors"), load("first.safetensors"));
    assert_eq!(straight.len(), 39);
    // The list repeats after three photographs, so every row of the resumed file has its like among the first.
    for (row, name) in resumed.values.outer_iter().zip(resumed.names.unwrap()) {
        let like = straight.names.as_ref().unwrap().iter().position(|other| *other == name).unwrap();
        assert_eq!(row, straight.values.row(like), "{name}");
    }
}
