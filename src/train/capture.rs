//! A whole step as a CUDA graph: recorded once, then asked for in one call instead of thousands, which a small network's
//! step on a fast GPU takes longer to ask for than to carry out.
//!
//! The first steps are carried out as ever, on the stream that will be recorded, so that libtorch and cuDNN have made their
//! choices and hold the memory that lasts. Then one step is recorded, which carries nothing out, and it and all later ones are
//! replays: pictures are copied to where the recorded step reads them, learning rate and tau lie where it reads them
//! ([`Byol::prepare`]), and what a step says is where it was said the first time. Where recording fails, steps go on as
//! before. A step is one batch's: gradients of several batches would be several recordings.

use crate::byol::{Byol, Reading};
use crate::cuda;
use crate::error::{Error, Result};
use crate::profile;
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::{Device, Tensor};

/// Steps that are carried out before one is recorded.
const AHEAD: usize = 3;

/// Whether steps run as CUDA graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CudaGraph {
    /// Where they can: on CUDA, one rank, one batch a step.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What records a step.
pub(crate) trait Recorder: fmt::Debug {
    /// What is asked for from now on is asked of the recorder's stream.
    fn enter(&mut self) -> Result<()>;
    /// And now of the former one again.
    fn leave(&mut self) -> Result<()>;
    /// From now on what is asked for is recorded.
    fn begin(&mut self) -> Result<()>;
    /// The recording is complete.
    fn end(&mut self) -> Result<()>;
    /// The recording failed; nothing of it may be left.
    fn give_up(&mut self);
    /// Carries out what was recorded.
    fn replay(&mut self) -> Result<()>;
}

/// Steps of one batch each, recorded as soon as that can be.
#[derive(Debug)]
pub struct Captured {
    recorder: Box<dyn Recorder>,
    state: State,
    said: Option<String>,
}

#[derive(Debug)]
enum State {
    /// So many steps were carried out.
    Ahead(usize),
    /// What the recorded step reads, and where it says what it has to say.
    Recorded { views: [Tensor; 2], readings: [Reading; 2] },
    /// It cannot be recorded.
    Plain,
}

impl Captured {
    /// For a network on a CUDA device.
    ///
    /// # Errors
    /// [`Error::Device`] on another device, or where byol's CUDA library is not there; [`Error::Cuda`].
    pub fn new(device: Device) -> Result<Self> {
        Ok(Self::with(Box::new(cuda::Graph::new(device)?)))
    }

    pub(crate) fn with(recorder: Box<dyn Recorder>) -> Self {
        Self { recorder, state: State::Ahead(0), said: None }
    }

    /// [`Byol::learn`] and [`Byol::update`] on one batch. The readings hold until the next step.
    ///
    /// # Errors
    /// As those; [`Error::Network`] for views of another size than those recorded.
    pub fn step(&mut self, byol: &mut Byol, views: [Tensor; 2], learning_rate: f64, tau: f64) -> Result<[Reading; 2]> {
        byol.prepare(learning_rate, tau)?;
        if let State::Ahead(done) = &mut self.state {
            if *done < AHEAD {
                *done += 1;
                self.recorder.enter()?;
                let readings = carry_out(byol, &views);
                self.recorder.leave()?;
                return readings;
            }
            self.state = match self.record(byol, &views) {
                Ok(readings) => {
                    self.said = Some("Steps run as one CUDA graph from now on.".into());
                    State::Recorded { views: views.each_ref().map(Tensor::shallow_clone), readings }
                }
                Err(cause) => {
                    self.said = Some(format!("Steps run operation by operation: no CUDA graph was made, {cause}."));
                    State::Plain
                }
            };
        }
        match &mut self.state {
            State::Recorded { views: places, readings } => {
                let _span = profile::span("replay");
                for (place, view) in places.iter_mut().zip(&views) {
                    if place.size() != view.size() {
                        let why = format!("has views of {:?}, and {:?} was recorded", view.size(), place.size());
                        return Err(Error::Network { what: "batch", why });
                    }
                    place.f_copy_(view)?;
                }
                self.recorder.replay()?;
                Ok(readings.each_ref().map(Reading::shallow_clone))
            }
            State::Ahead(_) | State::Plain => carry_out(byol, &views),
        }
    }

    /// A sentence for the user, once there is one.
    pub fn said(&mut self) -> Option<String> {
        self.said.take()
    }

    /// Records a step on these views, whose memory it will read.
    fn record(&mut self, byol: &mut Byol, views: &[Tensor; 2]) -> Result<[Reading; 2]> {
        let _span = profile::span("record");
        self.recorder.enter()?;
        let recorded = self.recorder.begin().and_then(|()| carry_out(byol, views)).and_then(|readings| {
            self.recorder.end()?;
            Ok(readings)
        });
        if recorded.is_err() {
            self.recorder.give_up();
            byol.forget();
        }
        self.recorder.leave()?;
        recorded
    }
}

fn carry_out(byol: &mut Byol, [first, second]: &[Tensor; 2]) -> Result<[Reading; 2]> {
    let readings = byol.learn(first.shallow_clone(), second.shallow_clone(), 1.0)?;
    byol.apply()?;
    Ok(readings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byol::{Options, Predefined};
    use crate::network::input;
    use crate::optimizer::{Kind, Rule};
    use crate::precision::Precision;
    use crate::recorder::Double;
    use byol_model::encoder::{EncoderConfig, Stem};

    const STEPS: usize = 8;

    fn encoder(name: &str) -> EncoderConfig {
        let stem = if name.starts_with("resnet") { Stem::Small } else { Stem::default() };
        let width = if name.starts_with("resnet") { 8 } else { EncoderConfig::default().width };
        EncoderConfig { name: name.into(), stem, width, image_size: 32, channels: 3, ..EncoderConfig::default() }
    }

    fn byol(encoder: &EncoderConfig, options: &Options) -> Byol {
        let encoder = Predefined::init(encoder.build().unwrap(), 1);
        Byol::from_encoder(encoder, 32, 16, true, 2, options).unwrap()
    }

    fn views(step: usize, encoder: &EncoderConfig) -> [Tensor; 2] {
        let shape = encoder.build().unwrap().input_shape();
        [0, 1].map(|view| {
            let values: Vec<f32> = (0..6 * shape.len())
                .map(|i| ((i * 7 + i / 11 + step * 131 + view * 977) % 101) as f32 / 50.0 - 1.0)
                .collect();
            input(&values, shape, Device::Cpu).unwrap()
        })
    }

    /// Every step another learning rate and another tau.
    fn pace(step: usize) -> (f64, f64) {
        (0.3 / (step + 1) as f64, 0.9 + 0.01 * step as f64)
    }

    /// What `STEPS` steps leave, and what each of them said.
    fn run(encoder: &EncoderConfig, options: &Options, captured: Option<Double>) -> (Vec<f64>, Byol, Vec<String>) {
        let mut byol = byol(encoder, options);
        let mut captured = captured.map(|double| Captured::with(Box::new(double)));
        let (mut losses, mut said) = (Vec::new(), Vec::new());
        for step in 0..STEPS {
            let ([first, second], (learning_rate, tau)) = (views(step, encoder), pace(step));
            let readings = match &mut captured {
                Some(captured) => captured.step(&mut byol, [first, second], learning_rate, tau).unwrap(),
                None => {
                    let readings = byol.learn(first, second, 1.0).unwrap();
                    byol.update(learning_rate, tau).unwrap();
                    readings
                }
            };
            losses.push(Reading::report(&readings).unwrap().loss);
            said.extend(captured.as_mut().and_then(Captured::said));
        }
        (losses, byol, said)
    }

    fn agree(encoder: &EncoderConfig, options: &Options) {
        let (expected, plain, _) = run(encoder, options, None);
        let (losses, replayed, said) = run(encoder, options, Some(Double::new()));
        assert_eq!(losses, expected, "{encoder:?} {options:?}");
        assert!(plain.state().unwrap() == replayed.state().unwrap(), "{encoder:?} {options:?}");
        assert_eq!(said, ["Steps run as one CUDA graph from now on."]);
        assert!(losses.windows(2).all(|pair| pair[0] != pair[1]), "each step has pictures of its own: {losses:?}");
    }

    #[test]
    fn a_recorded_step_replayed_with_other_pictures_and_rates_gives_the_same_bits_as_steps_carried_out() {
        for kind in [Kind::Lars, Kind::Sgd, Kind::AdamW] {
            let rule = Rule { kind, nesterov: kind == Kind::Sgd, weight_decay: 1e-2, ..Rule::default() };
            let options = Options { rule, predictor_rate: 3.0, ..Options::default() };
            agree(&encoder("resnet18"), &options);
        }
    }

    #[test]
    fn so_does_one_with_activation_checkpoints_in_bf16_and_of_a_network_with_constants() {
        agree(&encoder("resnet18"), &Options { recompute: true, ..Options::default() });
        agree(&encoder("resnet18"), &Options { precision: Precision::Bf16, ..Options::default() });
        agree(&encoder("vit_tiny_patch16"), &Options::default());
    }

    #[test]
    fn where_recording_fails_steps_go_on_and_the_cause_is_named() {
        let (encoder, options) = (encoder("resnet18"), Options::default());
        let (expected, plain, _) = run(&encoder, &options, None);
        let double = Double::failing("the stream was read while it was recorded");
        let (losses, given_up, said) = run(&encoder, &options, Some(double));
        assert_eq!(losses, expected);
        assert!(plain.state().unwrap() == given_up.state().unwrap());
        assert!(
            said.len() == 1 && said[0].contains("no CUDA graph was made") && said[0].contains("was read"),
            "{said:?}"
        );
    }
}
