//! Interrupted and resumed equals uninterrupted, to the bit, on the CPU; and what a run refuses.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use byol_model::encoder::{EncoderConfig, Pool, Stem};
use byol_model::mlp::MlpConfig;
use byol_model::weights::Weights;
use byol_train::Error;
use byol_train::config::{OnCollapse, RunConfig, Views, Warmup};
use byol_train::device::Choice;
use byol_train::metrics;
use byol_train::optimizer::Kind;
use byol_train::pretrain::{
    CHECKPOINT_FILE, ENCODER_FILE, METRICS_FILE, Observer, Outcome, RUN_FILE, Silent, Start, StepReport, pretrain,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// 300 pictures, 9 batches of 32 an epoch, two batches a step, 13 steps.
fn small() -> RunConfig {
    let mut config = RunConfig {
        steps: Some(13),
        batch_size: 32,
        accumulate: 2,
        checkpoint_epochs: 1.0,
        evaluation_epochs: 1.0,
        evaluation_k: 5,
        device: Choice::Cpu,
        threads: 2,
        seed: 3,
        views: Views::Preset("small-image".into()),
        encoder: EncoderConfig {
            stem: Stem::SmallStride2,
            width: 4,
            blocks: Some(vec![1, 1]),
            channels: 1,
            image_size: 28,
            pool: Pool::Grid(2),
            ..EncoderConfig::default()
        },
        projector: MlpConfig { hidden: 32, output: 16, ..MlpConfig::default() },
        predictor: MlpConfig { hidden: 32, output: 16, ..MlpConfig::default() },
        ..RunConfig::default()
    };
    config.data.path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/fashion-mnist");
    config.data.images = Some(300);
    config.data.measure = true;
    config.optimizer.warmup = Warmup::Steps(3);
    config
}

/// Stops a run once so many steps are done.
struct StopAt<'a> {
    step: usize,
    stop: &'a AtomicBool,
}

impl Observer for StopAt<'_> {
    fn on_step(&mut self, report: &StepReport) {
        if report.step == self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn interrupt(config: &RunConfig, folder: &Path, start: Start, step: usize) {
    let stop = AtomicBool::new(false);
    let outcome = pretrain(config, folder, start, &mut StopAt { step, stop: &stop }, &stop).unwrap();
    assert!(matches!(outcome, Outcome::Interrupted { step: found, .. } if found == step), "{outcome:?}");
    assert!(!folder.join(ENCODER_FILE).exists());
}

fn run(config: &RunConfig, folder: &Path, start: Start) -> Result<Outcome, Error> {
    pretrain(config, folder, start, &mut Silent, &AtomicBool::new(false))
}

fn file(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn weights(folder: &Path, name: &str) -> Weights {
    Weights::load(&folder.join(name)).unwrap()
}

#[test]
fn a_run_interrupted_twice_in_mid_epoch_ends_as_the_uninterrupted_one() {
    for name in [Kind::Lars, Kind::Sgd, Kind::AdamW] {
        let mut config = small();
        config.optimizer.name = name;
        if name == Kind::AdamW {
            config.optimizer.base_learning_rate = 0.004;
        }
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (whole, parts) = (whole.path(), parts.path());
        assert!(matches!(run(&config, whole, Start::Fresh), Ok(Outcome::Finished(_))));
        interrupt(&config, parts, Start::Fresh, 3);
        interrupt(&config, parts, Start::Resume, 7);
        // An interval that does not decide the result may change.
        let later = RunConfig { checkpoint_epochs: 0.0, ..config.clone() };
        assert!(matches!(run(&later, parts, Start::Resume), Ok(Outcome::Finished(_))));
        for name in ["encoder", "projector", "predictor", "target_encoder", "target_projector"] {
            let name = format!("{name}.safetensors");
            assert!(weights(whole, &name) == weights(parts, &name), "{:?}: {name} differs", config.optimizer.name);
        }
        assert!(file(whole, ENCODER_FILE) == file(parts, ENCODER_FILE));
        // All that was said is the same too, but for the speed.
        let said = |folder: &Path| {
            let mut lines = metrics::read(&folder.join(METRICS_FILE)).unwrap();
            lines.iter_mut().for_each(|line| line.images_per_second = None);
            lines
        };
        assert_eq!(said(whole), said(parts));
        assert_eq!(said(whole).iter().filter(|line| line.loss.is_some()).count(), 13);
        assert!(said(whole).iter().any(|line| line.probe.is_some_and(|top1| top1 > 0.0)));
    }
}

#[test]
fn rate_and_tau_are_of_the_step_however_many_batches_it_has() {
    let said = |batch_size: usize, accumulate: usize| {
        let folder = tempfile::tempdir().unwrap();
        let config = RunConfig { batch_size, accumulate, evaluation_epochs: 0.0, ..small() };
        run(&config, folder.path(), Start::Fresh).unwrap();
        let lines = metrics::read(&folder.path().join(METRICS_FILE)).unwrap();
        lines.iter().map(|line| (line.step, line.learning_rate.unwrap(), line.tau.unwrap())).collect::<Vec<_>>()
    };
    let (one, four) = (said(64, 1), said(16, 4));
    assert_eq!(one, four);
    assert_eq!(one.len(), 13);
    // Tau of the first step is the base, and it nears 1 by the paper's cosine over 13 steps, not over 52 batches.
    assert_eq!(one[0].2, 0.99);
    let last = 1.0 - 0.01 * ((std::f64::consts::PI * 12.0 / 13.0).cos() + 1.0) / 2.0;
    assert!((one[12].2 - last).abs() < 1e-12);
}

/// A run without a predictor, whose target follows at once: nothing keeps its embeddings apart.
fn collapsing() -> RunConfig {
    let mut config =
        RunConfig { steps: Some(300), evaluation_epochs: 0.0, checkpoint_epochs: 0.2, accumulate: 1, ..small() };
    config.predictor.layers = 0;
    (config.ema.tau_base, config.ema.tau_end) = (0.0, 0.0);
    config.optimizer.name = Kind::Sgd;
    config.optimizer.base_learning_rate = 4.0;
    config
}

/// Keeps what a run said.
#[derive(Default)]
struct Listener(Vec<String>);

impl Observer for Listener {
    fn on_message(&mut self, message: &str) {
        self.0.push(message.into());
    }
}

#[test]
fn a_run_that_collapses_is_stopped_with_advice_or_goes_on_where_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(&collapsing(), folder.path(), Start::Fresh).unwrap_err();
    let Error::Collapsed { step, steps: 300, advice, .. } = &error else { panic!("{error}") };
    assert!(*step < 150 && advice.contains("predictor.layers"), "{error}");
    assert!(!folder.path().join(ENCODER_FILE).exists());
    // A resumed run remembers the bad readings before its checkpoint: it ends at the same step.
    let again = run(&collapsing(), folder.path(), Start::Resume).unwrap_err();
    assert!(matches!(&again, Error::Collapsed { step: same, .. } if same == step), "{again}");

    let mut listener = Listener::default();
    let warn = RunConfig { on_collapse: OnCollapse::Warn, ..collapsing() };
    let outcome = pretrain(&warn, folder.path(), Start::Overwrite, &mut listener, &AtomicBool::new(false));
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    assert_eq!(listener.0.iter().filter(|message| message.contains("collapsed")).count(), 1);
}

#[test]
fn activation_checkpoints_and_the_probe_change_no_weight() {
    let (plain, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&small(), plain.path(), Start::Fresh).unwrap();
    let config = RunConfig { activation_checkpoints: true, evaluation_probe: false, tensorboard: false, ..small() };
    run(&config, other.path(), Start::Fresh).unwrap();
    for name in ["encoder.safetensors", "predictor.safetensors", "target_projector.safetensors"] {
        assert!(weights(plain.path(), name) == weights(other.path(), name), "{name}");
    }
    let event_files = |folder: &Path| {
        let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("events.out.tfevents.")).count()
    };
    assert_eq!((event_files(plain.path()), event_files(other.path())), (1, 0));
}

#[test]
fn one_thread_and_two_end_with_the_same_weights() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(&RunConfig { threads: 1, ..small() }, one.path(), Start::Fresh).unwrap();
    run(&RunConfig { threads: 2, ..small() }, two.path(), Start::Fresh).unwrap();
    assert!(weights(one.path(), "encoder.safetensors") == weights(two.path(), "encoder.safetensors"));
}

#[test]
fn another_seed_ends_with_other_weights() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let short = RunConfig { steps: Some(3), ..small() };
    run(&short, one.path(), Start::Fresh).unwrap();
    run(&RunConfig { seed: 4, ..short }, two.path(), Start::Fresh).unwrap();
    assert!(weights(one.path(), "encoder.safetensors") != weights(two.path(), "encoder.safetensors"));
}

#[test]
fn resuming_refuses_what_would_end_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(matches!(run(&small(), folder, Start::Resume), Err(Error::NothingToResume { .. })));
    interrupt(&small(), folder, Start::Fresh, 2);
    let mut changed = small();
    changed.ema.tau_base = 0.9;
    let message = run(&changed, folder, Start::Resume).unwrap_err().to_string();
    assert!(message.contains("ema.tau_base") && message.contains("0.9") && message.contains("0.99"), "{message}");
    let fewer = RunConfig { data: byol_train::config::DataConfig { images: Some(299), ..small().data }, ..small() };
    assert!(run(&fewer, folder, Start::Resume).unwrap_err().to_string().contains("data."));

    let path = folder.join(CHECKPOINT_FILE);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(matches!(run(&small(), folder, Start::Resume), Err(Error::Checkpoint { .. })));
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    assert!(matches!(run(&small(), folder, Start::Resume), Err(Error::Checkpoint { .. })));
    std::fs::write(&path, &good).unwrap();
    assert!(matches!(run(&small(), folder, Start::Resume), Ok(Outcome::Finished(_))));
    // A finished run resumes to its end at once.
    assert!(matches!(run(&small(), folder, Start::Resume), Ok(Outcome::Finished(_))));
}

#[test]
fn a_folder_with_a_run_is_kept_unless_it_may_be_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let short = RunConfig { steps: Some(3), ..small() };
    run(&short, folder, Start::Fresh).unwrap();
    let before = file(folder, ENCODER_FILE);
    let other = RunConfig { seed: 9, ..short };
    assert!(matches!(run(&other, folder, Start::Fresh), Err(Error::RunExists { .. })));
    assert!(before == file(folder, ENCODER_FILE));
    run(&other, folder, Start::Overwrite).unwrap();
    assert!(before != file(folder, ENCODER_FILE));
    let resolved = RunConfig::load(&folder.join(RUN_FILE)).unwrap();
    assert_eq!(resolved.seed, 9);
    assert!(resolved.data.mean.is_some());
}

#[test]
fn a_run_that_cannot_be_is_refused_before_anything_is_written() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("run");
    let refused = |config: RunConfig, parts: &[&str]| {
        let message = run(&config, &folder, Start::Fresh).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!folder.exists(), "{message}");
    };
    let with_path = |path: &Path| {
        let mut config = small();
        config.data.path = path.into();
        config
    };
    refused(RunConfig { batch_size: 301, ..small() }, &["301", "300"]);
    refused(with_path(&outside.path().join("nowhere")), &["nowhere"]);
    refused(with_path(outside.path()), &["Data set"]);
    refused(with_path(Path::new("")), &["data.path"]);
    refused(RunConfig { device: Choice::Cuda(77), ..small() }, &["cuda:77"]);
    refused(RunConfig { views: Views::Preset("papers".into()), ..small() }, &["papers"]);
    refused(RunConfig { evaluation_k: 290, ..small() }, &["evaluation_k", "290"]);
    let mut many = small();
    many.data.images = Some(20_000);
    refused(many, &["20000", "10000"]);
    let truncated = outside.path().join("train-images-idx3-ubyte");
    std::fs::write(&truncated, [0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0, 0, 28, 1, 2, 3]).unwrap();
    refused(with_path(&truncated), &["train-images-idx3-ubyte"]);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_first_step() {
    let outside = tempfile::tempdir().unwrap();
    let blocked = outside.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    let error = run(&small(), &blocked.join("run"), Start::Fresh).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(&blocked)), "{error}");
}

#[test]
fn a_run_that_diverges_stops_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = small();
    config.optimizer.name = Kind::Sgd;
    config.optimizer.base_learning_rate = 10_000.0;
    config.optimizer.weight_decay = 1.0;
    config.optimizer.warmup = Warmup::Steps(0);
    config.steps = Some(100);
    config.checkpoint_epochs = 0.01;
    let error = run(&config, folder.path(), Start::Fresh).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    // What was kept is from before.
    let kept = weights(folder.path(), CHECKPOINT_FILE);
    assert!(kept.iter().all(|(_, tensor)| tensor.data.iter().all(|v| v.is_finite())));
    assert!(!folder.path().join(ENCODER_FILE).exists());
}
