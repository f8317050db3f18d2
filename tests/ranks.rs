//! Many ranks train what one process trains, and end together when one is lost. Ranks are processes of the command
//! itself, launched as torchrun launches them; `tests/ranks.sh` does it with torchrun.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use byol_model::weights::Weights;
use byol_train::metrics;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// 50 steps of 32 pictures, 9 steps an epoch.
const RUN: &str = r#"
seed = 3
steps = 50
batch_size = 32
evaluation_epochs = 2.0
evaluation_k = 5
checkpoint_epochs = 1.0
device = "cpu"
threads = 1
views = "small-image"
[data]
path = "examples/data/fashion-mnist"
images = 300
measure = true
[encoder]
stem = "small-stride2"
width = 8
blocks = [1, 1]
channels = 1
image_size = 28
pool = "grid2"
[projector]
hidden = 32
output = 16
[predictor]
hidden = 32
output = 16
[optimizer]
warmup = "10%"
"#;

fn byol(folder: &Path, more: &[&str]) -> Command {
    let file = folder.with_extension("toml");
    // Not while a rank that was launched before reads it; and a test's own file stays.
    if !file.exists() {
        std::fs::write(&file, RUN).unwrap();
    }
    let mut command = support::byol();
    command.args(["pretrain", "--config"]).arg(file);
    command.arg("--out").arg(folder).args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Ranks of one run; `of(rank)` may add arguments.
fn launch<'a>(ranks: usize, folder: &Path, more: &[&str], of: impl Fn(usize) -> &'a [&'a str]) -> Vec<Child> {
    let port = free_port().to_string();
    let one = |rank: usize| {
        let mut command = byol(folder, more);
        command.args(of(rank)).env("RANK", rank.to_string()).env("WORLD_SIZE", ranks.to_string());
        command.env("LOCAL_RANK", rank.to_string()).env("LOCAL_WORLD_SIZE", ranks.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port).spawn().unwrap()
    };
    (0..ranks).map(one).collect()
}

fn outputs(children: Vec<Child>) -> Vec<Output> {
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn train(ranks: usize, folder: &Path, more: &[&str]) {
    let outputs = match ranks {
        1 => vec![byol(folder, more).output().unwrap()],
        _ => outputs(launch(ranks, folder, more, |_| &[])),
    };
    for (rank, output) in outputs.iter().enumerate() {
        assert!(output.status.success(), "rank {rank} of {ranks}: {}", text(output));
    }
}

/// Two runs' difference, as a share of the first's norm: of all learned values and running statistics together.
fn difference(a: &Path, b: &Path) -> f64 {
    let (mut apart, mut norm) = (0.0, 0.0);
    for name in NETWORKS {
        let [a, b] = [a, b].map(|folder| weights(folder, name));
        for (tensor, x) in a.iter() {
            apart +=
                x.data.iter().zip(&b.get(tensor).unwrap().data).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
            norm += x.data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        }
    }
    (apart / norm).sqrt()
}

const NETWORKS: [&str; 5] = ["encoder", "projector", "predictor", "target_encoder", "target_projector"];

fn weights(folder: &Path, name: &str) -> Weights {
    Weights::load(&folder.join(format!("{name}.safetensors"))).unwrap()
}

/// How far apart the first steps of two runs are, as a share of the step that was made from `start`.
fn steps_apart(start: &Path, a: &Path, b: &Path) -> f64 {
    let (mut apart, mut step) = (0.0, 0.0);
    for name in ["encoder", "projector", "predictor"] {
        let [start, a, b] = [start, a, b].map(|folder| weights(folder, name));
        for (tensor, x) in a.iter().filter(|(tensor, _)| !tensor.contains("running")) {
            let (from, y) = (&start.get(tensor).unwrap().data, &b.get(tensor).unwrap().data);
            apart += x.data.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
            step += x.data.iter().zip(from).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        }
    }
    (apart / step).sqrt()
}

fn losses(folder: &Path) -> Vec<f64> {
    metrics::read(&folder.join("metrics.jsonl")).unwrap().into_iter().filter_map(|line| line.loss).collect()
}

/// Of the loss and of all weights after 50 steps. Sums in another order move a few pre-activations over ReLU's kink, so
/// that rounding grows by steps: docs/results.md has what one process with other instructions gives.
const TOLERANCE: f64 = 2e-2;
/// Of a step, as a share of it: rounding alone, where no kink was crossed. Half of the seeds and more have none.
const ROUNDING: f64 = 1e-4;

#[test]
fn two_and_four_ranks_train_what_one_process_trains_on_the_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    train(1, &at("one"), &[]);
    let one = losses(&at("one"));
    assert_eq!(one.len(), 50);
    for (ranks, more) in [(2, &[][..]), (4, &[]), (2, &["--threads", "2"])] {
        let many = at(&format!("{ranks}{}", more.len()));
        train(ranks, &many, more);
        let found = losses(&many);
        assert_eq!(found.len(), 50);
        let apart = one.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let weights = difference(&at("one"), &many);
        println!("{ranks} ranks {more:?}: losses apart by at most {apart:.1e}, weights by {weights:.1e} of their norm");
        assert!(apart < TOLERANCE, "{ranks} ranks: losses apart by {apart}");
        assert!(weights < TOLERANCE, "{ranks} ranks: weights apart by {weights}");
    }
    // The measure sees what it should: another seed is another result.
    train(1, &at("other"), &["--seed", "4"]);
    assert!(difference(&at("one"), &at("other")) > 10.0 * TOLERANCE);
}

#[test]
fn a_step_of_two_and_of_four_ranks_is_that_of_one_process_up_to_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for ranks in [2, 4] {
        let mut found: Vec<f64> = ["0", "1", "2", "5", "6"]
            .iter()
            .map(|seed| {
                let step = |ranks, name: &str, rate| {
                    let more =
                        ["--force", "--steps", "1", "--evaluation-epochs", "0", "--optimizer", "sgd", "--seed", seed];
                    train(ranks, &at(name), &[&more[..], &["--learning-rate", rate]].concat());
                    at(name)
                };
                // The warm-up's first step has a fraction of the rate.
                steps_apart(&step(1, "start", "0"), &step(1, "one", "8"), &step(ranks, "many", "8"))
            })
            .collect();
        found.sort_by(f64::total_cmp);
        println!("{ranks} ranks: a step is apart by {found:?} of itself");
        assert!(found[2] < ROUNDING, "{ranks} ranks: {found:?}");
    }
}

/// A run file with another encoder, and what else is to change.
fn run_file(folder: &Path, encoder: &str, change: [&str; 2]) {
    let (before, rest) = RUN.split_once("[encoder]").unwrap();
    let rest = &rest[rest.find("[projector]").unwrap()..];
    let text = format!("{before}[encoder]\n{encoder}\n{rest}").replace(change[0], change[1]);
    std::fs::write(folder.with_extension("toml"), text).unwrap();
}

#[test]
fn encoders_of_the_zoo_with_all_that_watches_a_run_are_trained_alike_by_ranks() {
    let folder = tempfile::tempdir().unwrap();
    for (name, encoder, more) in [
        (
            "xresnet",
            "name = \"xresnet18\"\nwidth = 8\nstem = \"small-stride2\"",
            &["--activation-checkpoints", "--steps", "50"][..],
        ),
        (
            "group",
            "name = \"resnet18\"\nwidth = 8\nblocks = [1, 1]\nnorm = \"group\"\nstem = \"small-stride2\"",
            &["--steps", "20"],
        ),
        (
            "efficientnet",
            "name = \"efficientnet_b0\"\nwidth = 8\nstem = \"small\"\nnorm = \"sync-batch\"",
            &["--steps", "10"],
        ),
    ] {
        let [one, two] = ["1", "2"].map(|ranks| folder.path().join(format!("{name}{ranks}")));
        for path in [&one, &two] {
            run_file(path, &format!("{encoder}\nchannels = 1\nimage_size = 28"), ["", ""]);
        }
        train(1, &one, more);
        train(2, &two, more);
        // One process with other instructions: how far rounding alone carries these deeper networks in 50 steps.
        let other = folder.path().join(format!("{name}0"));
        std::fs::copy(one.with_extension("toml"), other.with_extension("toml")).unwrap();
        let limited = byol(&other, more).env("ATEN_CPU_CAPABILITY", "avx2").env("ONEDNN_MAX_CPU_ISA", "AVX2").output();
        assert!(limited.unwrap().status.success(), "{name}");
        let compare = |folder: &Path| {
            let [a, b] = [losses(&one), losses(folder)];
            assert!(a.len() == b.len() && more.contains(&a.len().to_string().as_str()), "{name}");
            let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            [apart, difference(&one, folder)]
        };
        let ([apart, weights], [own_apart, own_weights]) = (compare(&two), compare(&other));
        println!(
            "{name}: losses apart by at most {apart:.1e}, weights by {weights:.1e} of their norm; one process with other \
             instructions {own_apart:.1e} and {own_weights:.1e}"
        );
        assert!(apart < TOLERANCE.max(4.0 * own_apart), "{name}: {apart} {own_apart}");
        assert!(weights < TOLERANCE.max(4.0 * own_weights), "{name}: {weights} {own_weights}");
        // Rank 0 watches as one process does.
        let lines = metrics::read(&two.join("metrics.jsonl")).unwrap();
        assert!(lines.iter().any(|line| line.probe.is_some()) && lines.iter().any(|line| line.knn.is_some()), "{name}");
        let events = std::fs::read_dir(&two).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert_eq!(events.filter(|name| name.starts_with("events.out.tfevents.")).count(), 1, "{name}");
    }
}

#[test]
fn ranks_in_bfloat16_with_views_on_the_device_follow_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let more = ["--precision", "bf16", "--views-on-device", "--steps", "6"];
    train(1, &one, &more);
    train(2, &two, &more);
    let [a, b] = [losses(&one), losses(&two)];
    assert_eq!((a.len(), b.len()), (6, 6));
    // bfloat16 has 8 bits.
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.05 * a), "{a:?} {b:?}");
    let refused = byol(&folder.path().join("tf32"), &["--precision", "tf32"]).output().unwrap();
    assert!(!refused.status.success() && text(&refused).contains("precision = tf32"), "{}", text(&refused));
}

#[test]
fn ranks_that_stream_train_what_one_process_trains() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    std::fs::create_dir(&shards).unwrap();
    let data = byol_model::dataset::Dataset::open(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/fashion-mnist"),
        byol_model::dataset::Split::Train,
    )
    .unwrap();
    for shard in 0..4 {
        let mut archive = tar::Builder::new(std::fs::File::create(shards.join(format!("{shard}.tar"))).unwrap());
        for index in shard * 80..(shard + 1) * 80 {
            let picture = data.picture(index).unwrap();
            let gray = image::GrayImage::from_raw(28, 28, picture.pixels).unwrap();
            let mut bytes = std::io::Cursor::new(Vec::new());
            gray.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            let bytes = bytes.into_inner();
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{index:06}.png"), &bytes[..]).unwrap();
        }
        archive.into_inner().unwrap();
    }
    let data = shards.to_str().unwrap();
    let more = ["--data", data, "--shuffle-window", "96"];
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    train(1, &one, &more);
    train(2, &two, &more);
    assert_eq!(losses(&two).len(), 50);
    assert!(difference(&one, &two) < TOLERANCE, "{}", difference(&one, &two));
}

#[test]
fn a_collapse_ends_all_ranks_with_its_advice() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Without a predictor and with a target that is the online network, nothing holds embeddings apart.
    let encoder =
        "stem = \"small-stride2\"\nwidth = 8\nblocks = [1, 1]\nchannels = 1\nimage_size = 28\npool = \"grid2\"";
    run_file(&run, encoder, ["[predictor]\nhidden = 32", "[predictor]\nlayers = 0"]);
    let more = ["--tau", "0", "--optimizer", "sgd", "--learning-rate", "2", "--steps", "300"];
    let ended = outputs(launch(2, &run, &more, |_| &[]));
    for output in &ended {
        assert_eq!(output.status.code(), Some(1), "{}", text(output));
        assert!(text(output).contains("collapse"), "{}", text(output));
    }
}

#[test]
fn accumulated_batches_are_sent_once_and_mean_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let more = ["--accumulate", "2", "--steps", "10"];
    train(1, &one, &more);
    train(2, &two, &more);
    assert!(difference(&one, &two) < TOLERANCE, "{}", difference(&one, &two));
}

/// Steps of the checkpoint's epochs, where a run of many steps stands now.
fn wait_for_checkpoint(folder: &Path) {
    let began = Instant::now();
    while !folder.join("checkpoint.safetensors").exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// One rank of four is lost in mid-run: the others end within the time, name it, and keep the checkpoint.
fn lose(victim: usize, how: &str, said: &str) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut ranks = launch(4, &run, &["--steps", "100000", "--rank-timeout", "3"], |_| &[]);
    wait_for_checkpoint(&run);
    signal(&ranks[victim], how);
    let began = Instant::now();
    let lost = ranks.remove(victim);
    let others = outputs(ranks);
    let took = began.elapsed();
    signal(&lost, "KILL");
    let lost = lost.wait_with_output().unwrap();
    assert!(took < Duration::from_secs(3 + 5), "{how}: the others took {took:?}");
    for output in &others {
        assert_eq!(output.status.code(), Some(1), "{}", text(output));
        assert!(text(output).contains(said), "{how}: {}", text(output));
    }
    assert!(!lost.status.success());
    // Nothing is lost since the checkpoint, and another number of ranks goes on from it.
    let seen = losses(&run).len();
    let resumed = launch(2, &run, &["--resume", "--steps", "100000"], |_| &[]);
    let began = Instant::now();
    while losses(&run).len() <= seen {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not go on after {seen} steps");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Asked politely, all save and end together.
    signal(&resumed[1], "TERM");
    for output in outputs(resumed) {
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    }
}

#[test]
fn a_killed_rank_ends_the_run_by_its_name_and_two_ranks_go_on() {
    lose(2, "KILL", "rank 2 (process ");
}

#[test]
fn a_stopped_rank_ends_the_run_by_its_name() {
    lose(3, "STOP", "rank 3 (process ");
}

#[test]
fn the_rank_that_keeps_the_meeting_place_is_named_too() {
    lose(0, "STOP", "rank 0 (process ");
    lose(0, "KILL", "rank 0 (process ");
}

#[test]
fn resuming_with_another_number_of_ranks_ends_as_the_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    train(2, &whole, &["--steps", "300"]);
    let ranks = launch(4, &parts, &["--steps", "300"], |_| &[]);
    wait_for_checkpoint(&parts);
    signal(&ranks[0], "TERM");
    for output in outputs(ranks) {
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    }
    let done = losses(&parts).len();
    assert!((1..300).contains(&done), "{done} steps");
    train(1, &parts, &["--resume", "--steps", "300"]);
    assert_eq!(losses(&parts).len(), 300);
    // Rounding has grown over six times as many steps.
    assert!(difference(&whole, &parts) < 0.1, "{}", difference(&whole, &parts));
}

#[test]
fn a_rank_that_fails_tells_the_others_why() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let of = |rank: usize| -> &[&str] { if rank == 1 { &["--data", "no/such/folder"] } else { &[] } };
    let outputs = outputs(launch(2, &run, &[], of));
    assert!(text(&outputs[1]).contains("no/such/folder"), "{}", text(&outputs[1]));
    assert!(text(&outputs[0]).contains("rank 1 ("), "{}", text(&outputs[0]));
    assert!(text(&outputs[0]).contains("no/such/folder"), "{}", text(&outputs[0]));
}

#[test]
fn ranks_that_would_train_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let of = |rank: usize| -> &[&str] { if rank == 1 { &["--tau", "0.5"] } else { &[] } };
    let refused = outputs(launch(2, &run, &[], of));
    assert!(text(&refused[1]).contains("ema.tau_base is 0.5 on rank 1 and 0.99 on rank 0"), "{}", text(&refused[1]));
    assert!(!refused[0].status.success() && text(&refused[0]).contains("ema.tau_base"), "{}", text(&refused[0]));
    let odd = outputs(launch(3, &folder.path().join("odd"), &[], |_| &[]));
    assert!(odd.iter().all(|o| text(o).contains("batch_size = 32")), "{}", text(&odd[0]));
}

#[test]
fn a_backend_that_is_named_makes_a_process_alone_its_own_only_rank() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let steps = ["--steps", "5", "--backend"];
    train(1, &at("none"), &[&steps[..], &["auto"]].concat());
    let alone = byol(&at("alone"), &[&steps[..], &["gloo"]].concat()).output().unwrap();
    assert!(alone.status.success() && text(&alone).contains("1 rank on this machine"), "{}", text(&alone));
    let apart = difference(&at("none"), &at("alone"));
    assert!(apart > 0.0 && apart < TOLERANCE, "BatchNorm is that of ranks: {apart}");
}

#[test]
fn nccl_is_refused_by_name_where_ranks_have_no_cuda_device() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let alone = byol(&run, &["--backend", "nccl"]).output().unwrap();
    let two = outputs(launch(2, &run, &["--backend", "nccl"], |_| &[]));
    for output in two.iter().chain([&alone]) {
        let said = text(output);
        assert!(!output.status.success() && said.contains("backend = nccl"), "{said}");
        assert!(said.contains("NCCL needs a CUDA device"), "{said}");
    }
    let unknown = byol(&run, &["--backend", "mpi"]).output().unwrap();
    assert!(text(&unknown).contains("known are auto, gloo and nccl"), "{}", text(&unknown));
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut ranks = launch(2, &folder.path().join("run"), &["--join-timeout", "2"], |_| &[]);
    signal(&ranks[1], "KILL");
    ranks.remove(1).wait().unwrap();
    let output = ranks.remove(0).wait_with_output().unwrap();
    assert!(text(&output).contains("rank 1 of 2 has not come within 2 s"), "{}", text(&output));
}
