//! PyTorch and torchvision agree: layers, loss, gradients, optimisers, schedules and the moving average, against what
//! `tests/data/record_pytorch.py` recorded.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use byol_model::encoder::{EncoderConfig, Pool, Stem};
use byol_model::graph::Graph;
use byol_model::mlp::{MlpConfig, mlp};
use byol_model::weights::{Tensor, Weights};
use byol_train::byol::{Byol, Options, Predefined, Reading};
use byol_train::network::{Mode, Network, input};
use byol_train::optimizer::{Kind, Optimizer, Rule};
use byol_train::schedule::{LearningRate, Tau};
use byol_train::tch::{self, Device};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest distance allowed, as a share of the largest recorded value of the tensor (at least 0.05: some gradients
/// are zero but for rounding, such as those of biases before a BatchNorm). Float32 sums in another order
/// differ by about 1e-6 here; a wrong formula differs by far more than this.
const TOLERANCE: f32 = 2e-5;

const RULE: Rule = Rule {
    kind: Kind::Sgd,
    momentum: 0.0,
    nesterov: false,
    weight_decay: 0.0,
    trust: 0.1,
    betas: (0.9, 0.999),
    eps: 1e-8,
};

fn recorded(name: &str) -> Weights {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch");
    Weights::load(&folder.join(name).with_extension("safetensors")).unwrap()
}

/// The tensors below a prefix, without it.
fn below(all: &Weights, prefix: &str) -> Weights {
    all.iter().filter_map(|(k, t)| Some((k.strip_prefix(prefix)?.to_owned(), t.clone()))).collect()
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.shape, expected.shape, "{what}");
    let scale = expected.data.iter().fold(0.05f32, |m, v| m.max(v.abs()));
    let distance = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(distance <= TOLERANCE * scale, "{what}: {distance:e} apart, at a largest value of {scale}");
}

/// Every tensor of `expected` is in `found` and close; gives how many.
fn assert_all_close(what: &str, found: &Weights, expected: &Weights) -> usize {
    for (name, tensor) in expected.iter() {
        let found = found.get(name).unwrap_or_else(|| panic!("{what}: {name} is missing"));
        assert_close(&format!("{what}: {name}"), found, tensor);
    }
    expected.len()
}

fn host(tensor: &tch::Tensor) -> Tensor {
    let shape = tensor.size().iter().map(|&n| n as usize).collect();
    let mut data = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut data, tensor.numel());
    Tensor { shape, data }
}

fn encoder(name: &str, stem: Stem, blocks: Option<Vec<usize>>, channels: usize, image_size: usize) -> EncoderConfig {
    EncoderConfig { name: name.into(), stem, width: 4, blocks, channels, image_size, ..EncoderConfig::default() }
}

fn sizes(hidden: usize, output: usize, batch_norm: bool) -> MlpConfig {
    MlpConfig { hidden, output, batch_norm, ..MlpConfig::default() }
}

fn check_layers(case: &str, graph: Graph) {
    let all = recorded("networks");
    let weights = below(&all, &format!("{case}/before."));
    let mut network = Network::new(graph.clone(), &weights, Device::Cpu).unwrap();
    let lane = network.lane().unwrap();
    let x = input(&all.get(&format!("{case}/input")).unwrap().data, graph.input_shape(), Device::Cpu).unwrap();
    for (mode, folder) in [(Mode::Eval, "eval"), (Mode::Train, "train")] {
        let outputs = tch::no_grad(|| lane.forward_traced(&x, mode)).unwrap();
        let mut outputs: Weights =
            graph.nodes().iter().zip(&outputs).map(|(node, y)| (node.name.clone(), host(y))).collect();
        outputs.insert("output", host(&tch::no_grad(|| lane.forward(&x, mode)).unwrap()));
        let compared = assert_all_close(case, &outputs, &below(&all, &format!("{case}/{folder}/")));
        assert!(compared >= 3, "{case}: only {compared} layers were compared");
    }
    network.absorb(&lane).unwrap();
    assert_all_close(case, &network.weights().unwrap(), &below(&all, &format!("{case}/after.")));
}

#[test]
fn every_layer_of_a_resnet18_agrees() {
    check_layers("resnet18_small", encoder("resnet18", Stem::Small, None, 3, 16).build().unwrap());
}

#[test]
fn features_read_on_a_grid_from_two_stages_agree() {
    let config = EncoderConfig {
        pool: Pool::Grid(2),
        read: Some(vec![1, 2]),
        ..encoder("resnet18", Stem::SmallStride2, Some(vec![1, 1]), 1, 14)
    };
    check_layers("resnet18_grid_read", config.build().unwrap());
}

#[test]
fn every_layer_of_bottlenecks_behind_the_standard_stem_agrees() {
    check_layers("resnet50_standard", encoder("resnet50", Stem::Standard, Some(vec![1, 1]), 3, 32).build().unwrap());
}

#[test]
fn projectors_with_and_without_batch_norm_agree() {
    check_layers("mlp", mlp(12, &sizes(16, 8, true)).unwrap());
    check_layers("mlp_plain", mlp(12, &sizes(16, 8, false)).unwrap());
}

/// BYOL as recorded: the target differs from the online network, as in the middle of a run.
fn recorded_byol(all: &Weights, threads: usize) -> Byol {
    let encoder = encoder("resnet18", Stem::SmallStride2, Some(vec![1, 1]), 1, 12).build().unwrap();
    let config = sizes(16, 6, true);
    let part = |graph: Graph, name: &str| Predefined { weights: below(all, &format!("before/online.{name}.")), graph };
    let projector = mlp(encoder.dimension(), &config).unwrap();
    let options = Options { device: Device::Cpu, threads, rule: RULE, ..Options::default() };
    let mut byol = Byol::new(
        part(encoder, "encoder"),
        part(projector, "projector"),
        part(mlp(6, &config).unwrap(), "predictor"),
        &options,
    )
    .unwrap();
    let mut state = byol.state().unwrap().0;
    for (name, tensor) in below(all, "before/").iter() {
        state.insert(name.to_owned(), tensor.clone());
    }
    byol.restore(&state, 0).unwrap();
    byol
}

fn views(all: &Weights, byol: &Byol) -> [tch::Tensor; 2] {
    let shape = byol.encoder().graph().input_shape();
    ["first", "second"].map(|name| input(&all.get(name).unwrap().data, shape, Device::Cpu).unwrap())
}

#[test]
fn loss_and_all_gradients_agree() {
    let all = recorded("byol");
    for threads in [1, 2] {
        let mut byol = recorded_byol(&all, threads);
        let [first, second] = views(&all, &byol);
        let report = Reading::report(&byol.learn(first, second, 1.0).unwrap()).unwrap();
        let expected = f64::from(all.get("loss").unwrap().data[0]);
        assert!((report.loss - expected).abs() < 1e-5 * expected, "{} instead of {expected}", report.loss);
        let gradients: Weights = byol.take_gradients().unwrap().into_iter().collect();
        assert_eq!(assert_all_close("gradient", &gradients, &below(&all, "gradient/")), gradients.len());
    }
}

#[test]
fn a_step_moves_online_target_and_running_statistics_as_pytorch_does() {
    let all = recorded("byol");
    let mut byol = recorded_byol(&all, 2);
    let [first, second] = views(&all, &byol);
    byol.learn(first, second, 1.0).unwrap();
    byol.update(0.1, 0.97).unwrap();
    let after: Weights = byol.state().unwrap().0.into_iter().collect();
    assert!(assert_all_close("after", &after, &below(&all, "after/")) > 80);
}

#[test]
fn the_second_pass_adds_to_the_first_and_an_update_forgets_both() {
    let all = recorded("byol");
    let mut byol = recorded_byol(&all, 2);
    let learn = |byol: &mut Byol, share: f64| {
        let [first, second] = views(&all, byol);
        byol.learn(first, second, share).unwrap();
    };
    learn(&mut byol, 0.5);
    learn(&mut byol, 0.5);
    let gradients: Weights = byol.take_gradients().unwrap().into_iter().collect();
    assert_all_close("two halves", &gradients, &below(&all, "gradient/"));
    learn(&mut byol, 1.0);
    let gradients: Weights = byol.take_gradients().unwrap().into_iter().collect();
    assert_all_close("one whole", &gradients, &below(&all, "gradient/"));
}

fn check_optimizer(name: &str, rule: Rule) {
    let all = recorded("optimizers");
    let graph = mlp(6, &sizes(8, 4, true)).unwrap();
    let network = Network::new(graph, &below(&all, "before."), Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(rule, &network).unwrap();
    for (step, &rate) in all.get("rates").unwrap().data.iter().enumerate() {
        let gradients = below(&all, &format!("gradient/{step}/"));
        let mut flat = network.values().zeros_like();
        network.fill_named(&mut flat, |p| gradients.get(p)).unwrap();
        optimizer.step(&network, &mut flat, f64::from(rate)).unwrap();
        let found = network.weights().unwrap();
        let compared =
            assert_all_close(&format!("{name}, step {step}"), &found, &below(&all, &format!("{name}/{step}/")));
        assert_eq!(compared, 6);
    }
}

#[test]
fn ten_steps_of_lars_agree_with_its_formula() {
    check_optimizer("lars", Rule { kind: Kind::Lars, momentum: 0.9, weight_decay: 0.01, ..RULE });
}

#[test]
fn ten_steps_of_sgd_agree_with_and_without_nesterov() {
    let rule = Rule { kind: Kind::Sgd, momentum: 0.9, weight_decay: 0.01, ..RULE };
    check_optimizer("sgd", rule);
    check_optimizer("nesterov", Rule { nesterov: true, ..rule });
}

#[test]
fn ten_steps_of_adamw_agree() {
    check_optimizer("adamw", Rule { kind: Kind::AdamW, weight_decay: 0.01, ..RULE });
}

#[test]
fn learning_rate_and_tau_agree_over_whole_runs() {
    let all = recorded("schedules");
    for name in ["warm", "cold"] {
        let [peak, warmup, steps] = all.get(&format!("rate/{name}/settings")).unwrap().data[..] else { panic!() };
        let rate = LearningRate { peak: peak.into(), warmup: warmup as usize, steps: steps as usize };
        let expected = &all.get(&format!("rate/{name}")).unwrap().data;
        assert_eq!(expected.len(), rate.steps);
        for (step, &expected) in expected.iter().enumerate() {
            assert!((rate.at(step) - f64::from(expected)).abs() < 1e-6, "{name}, step {step}");
        }
    }
    for base in [0.97, 0.996] {
        let expected = &all.get(&format!("tau/{base}")).unwrap().data;
        let tau = Tau { base, end: 1.0, steps: expected.len() };
        for (step, &expected) in expected.iter().enumerate() {
            assert!((tau.at(step) - f64::from(expected)).abs() < 1e-7, "tau {base}, step {step}");
        }
    }
}

#[test]
fn the_two_constructors_build_the_same_byol() {
    let graph = || encoder("resnet18", Stem::Small, Some(vec![1]), 1, 8).build().unwrap();
    let options = Options { device: Device::Cpu, threads: 1, rule: RULE, ..Options::default() };
    let short = Byol::from_encoder(Predefined::init(graph(), 5), 16, 6, true, 7, &options).unwrap();
    let config = sizes(16, 6, true);
    let projector = Predefined::init(mlp(graph().dimension(), &config).unwrap(), 7);
    let predictor = Predefined::init(mlp(6, &config).unwrap(), 8);
    let long = Byol::new(Predefined::init(graph(), 5), projector, predictor, &options).unwrap();
    let states: [BTreeMap<String, Tensor>; 2] = [short.state().unwrap().0, long.state().unwrap().0];
    assert_eq!(states[0], states[1]);
    assert!(states[0].iter().all(|(name, t)| match name.strip_prefix("target.") {
        Some(rest) => states[0][&format!("online.{rest}")] == *t,
        None => true,
    }));
}

#[test]
fn networks_that_do_not_fit_are_refused_by_name() {
    let graph = || encoder("resnet18", Stem::Small, Some(vec![1]), 1, 8).build().unwrap();
    let options = Options { device: Device::Cpu, threads: 1, rule: RULE, ..Options::default() };
    let part = |inputs, output| Predefined::init(mlp(inputs, &sizes(8, output, true)).unwrap(), 0);
    let refused = |projector, predictor| {
        Byol::new(Predefined::init(graph(), 0), projector, predictor, &options).unwrap_err().to_string()
    };
    assert!(refused(part(5, 6), part(6, 6)).starts_with("projector"));
    assert!(refused(part(4, 6), part(7, 6)).starts_with("predictor"));
    assert!(refused(part(4, 6), part(6, 5)).starts_with("predictor"));
}
