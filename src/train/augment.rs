//! The random views that BYOL learns from, as data: two lists of operators with probabilities and strengths.
//!
//! A list is *sampled* into a plan of fixed operations ([`Operator::sample`]) and the plan is *applied* to a picture
//! ([`Canvas::paint`](crate::canvas::Canvas::paint)). The split keeps chance out of the pixel work, so that the pixel
//! work can be compared with torchvision, and a picture's views depend on nothing but the seed, the epoch, the
//! picture's number and which view it is: not on threads, not on the batch it travels in.
//!
//! Semantics are torchvision's on pixels in 0..1, clipped after every operator that can leave that range. The paper's
//! own code (JAX) differs in two places, said here because published numbers come from it: its brightness adds a
//! number from U(-0.4, 0.4) where torchvision multiplies by one from U(0.6, 1.4), and its contrast turns about the
//! mean of each channel where torchvision takes the mean grey.

use byol_model::picture::Filter;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The two pipelines, one for each view of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsConfig {
    /// Applied from first to last to make the first view.
    pub first: Vec<Operator>,
    /// Applied from first to last to make the second view.
    pub second: Vec<Operator>,
}

/// One random change to a picture.
///
/// In a run file: `{ name = "solarize", threshold = 0.5, p = 0.2 }`. Every `p` is the probability that the operator
/// is applied at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operator {
    /// A box of random area and shape, resized to the size of the view. Only as the first operator of a list; a list
    /// without it begins with the largest centred square.
    RandomResizedCrop {
        /// Least and greatest part of the picture's area.
        #[serde(default = "paper_area")]
        area: [f64; 2],
        /// Least and greatest width over height; drawn evenly on a logarithmic scale.
        #[serde(default = "paper_ratio")]
        ratio: [f64; 2],
        /// How the box is resized; antialiased as Pillow and torchvision do.
        #[serde(default = "bicubic")]
        filter: Filter,
    },
    /// Left becomes right.
    HorizontalFlip {
        /// Probability.
        #[serde(default = "half")]
        p: f64,
    },
    /// Top becomes bottom.
    VerticalFlip {
        /// Probability.
        #[serde(default = "half")]
        p: f64,
    },
    /// A turn about the centre by U(-degrees, degrees); bilinear, what comes from outside is black.
    Rotation {
        /// Greatest angle, in degrees.
        degrees: f64,
        /// Probability.
        #[serde(default = "one")]
        p: f64,
    },
    /// A shift by a whole number of pixels, even on -pixels..=pixels in both directions; what comes from outside is black.
    Translate {
        /// Greatest shift.
        pixels: u32,
        /// Probability.
        #[serde(default = "one")]
        p: f64,
    },
    /// Brightness, contrast, saturation and hue by random factors, in a random order.
    /// Saturation and hue leave single-channel pictures as they are.
    ColorJitter {
        /// The picture times U(max(0, 1 - b), 1 + b).
        #[serde(default)]
        brightness: f64,
        /// The distance from the mean grey times U(max(0, 1 - c), 1 + c).
        #[serde(default)]
        contrast: f64,
        /// The distance from its own grey times U(max(0, 1 - s), 1 + s).
        #[serde(default)]
        saturation: f64,
        /// The hue turned by U(-h, h) of a full turn; at most 0.5.
        #[serde(default)]
        hue: f64,
        /// Probability, of all four together.
        #[serde(default = "one")]
        p: f64,
    },
    /// Every channel becomes 0.2989 red + 0.587 green + 0.114 blue.
    Grayscale {
        /// Probability.
        #[serde(default = "one")]
        p: f64,
    },
    /// A Gaussian blur; the border is mirrored.
    GaussianBlur {
        /// Width of the kernel in pixels, odd. Left out, it is a tenth of the picture's side as the paper has it:
        /// 23 at 224, 13 at 128, 3 at 28 and 32.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kernel: Option<usize>,
        /// Least and greatest standard deviation in pixels.
        #[serde(default = "paper_sigma")]
        sigma: [f64; 2],
        /// Probability.
        #[serde(default = "one")]
        p: f64,
    },
    /// The seed library's blur: s is a whole number from the first up to, not with, the second; the kernel is
    /// 2 floor(s / 4) + 1 pixels wide and the Gaussian's standard deviation is s, so the kernel is nearly flat.
    FlatBlur {
        /// Least s, and one above the greatest.
        #[serde(default = "seed_strength")]
        strength: [u32; 2],
        /// Probability.
        #[serde(default = "one")]
        p: f64,
    },
    /// Every value at or above the threshold becomes 1 minus itself.
    Solarize {
        /// Between 0 and 1.
        #[serde(default = "half")]
        threshold: f64,
        /// Probability.
        #[serde(default = "one")]
        p: f64,
    },
}

/// One operation with nothing left to chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampled {
    /// Cut out the box and resize it to the view.
    Crop {
        /// First row.
        top: usize,
        /// First column.
        left: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// How it is resized.
        filter: Filter,
    },
    /// Left becomes right.
    FlipHorizontal,
    /// Top becomes bottom.
    FlipVertical,
    /// Turn counter-clockwise by so many degrees.
    Rotate(f32),
    /// Move right and down.
    Shift {
        /// Columns to the right.
        right: i32,
        /// Rows down.
        down: i32,
    },
    /// Multiply by the factor.
    Brightness(f32),
    /// Multiply the distance from the mean grey.
    Contrast(f32),
    /// Multiply the distance from the pixel's own grey.
    Saturation(f32),
    /// Turn the hue by this part of a full turn.
    Hue(f32),
    /// Replace every channel by the grey.
    Grayscale,
    /// Blur with an odd kernel.
    Blur {
        /// Width of the kernel.
        kernel: usize,
        /// Standard deviation in pixels.
        sigma: f32,
    },
    /// Invert what is at or above the threshold.
    Solarize(f32),
}

/// What one view of one picture in one epoch is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The seed of the run.
    pub seed: u64,
    /// Which pass over the data.
    pub epoch: u64,
    /// The picture's number in the data set.
    pub picture: u64,
    /// 0 is the first view, 1 the second; `byol views` goes on counting.
    pub view: u64,
}

/// The presets by name.
pub const PRESETS: [&str; 5] = ["paper", "small-image", "single-channel", "seed-helper", "crop-only"];

/// The switches of the seed library's helper (`get_batch_augs` of KeremTurgutlu/self_supervised), all on by default.
/// Its `size` is the encoder's input size and its `stats` are the data's mean and standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedHelper {
    /// Turn by up to 30 degrees, three times in ten.
    pub rotate: bool,
    /// Change colours, three times in ten.
    pub jitter: bool,
    /// Black and white, three times in ten.
    pub bw: bool,
    /// Blur, three times in ten.
    pub blur: bool,
}

impl Default for SeedHelper {
    fn default() -> Self {
        SeedHelper { rotate: true, jitter: true, bw: true, blur: true }
    }
}

impl ViewsConfig {
    /// The views of the BYOL paper (arXiv 2006.07733, appendix B, table 6): the first always blurred and never
    /// solarised, the second blurred one time in ten and solarised one time in five.
    pub fn paper() -> ViewsConfig {
        let view = |blur, solarize| {
            let mut list = vec![
                crop(0.08),
                Operator::HorizontalFlip { p: 0.5 },
                Operator::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1, p: 0.8 },
                Operator::Grayscale { p: 0.2 },
                Operator::GaussianBlur { kernel: None, sigma: paper_sigma(), p: blur },
            ];
            if solarize > 0.0 {
                list.push(Operator::Solarize { threshold: 0.5, p: solarize });
            }
            list
        };
        ViewsConfig { first: view(1.0, 0.0), second: view(0.1, 0.2) }
    }

    /// Views for pictures of about 20 to 64 pixels, where a blur or a crop of a twelfth leaves nothing to tell:
    /// crops from 0.3 of the area, no blur, and the paper's jitter. In colour also its grayscale and, as
    /// solo-learn's CIFAR recipe, solarisation in the second view; one channel has no colour to change, and on dark
    /// backgrounds solarisation would invert the subject alone.
    pub fn small_image(channels: usize) -> ViewsConfig {
        let view = |solarize| {
            let mut list = vec![crop(0.3), Operator::HorizontalFlip { p: 0.5 }];
            if channels == 1 {
                list.push(Operator::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.0, hue: 0.0, p: 0.8 });
            } else {
                list.push(Operator::ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1, p: 0.8 });
                list.push(Operator::Grayscale { p: 0.2 });
                if solarize {
                    list.push(Operator::Solarize { threshold: 0.5, p: 0.2 });
                }
            }
            list
        };
        ViewsConfig { first: view(false), second: view(true) }
    }

    /// The paper's views without what needs colour: crop, flip, brightness and contrast, blur; solarisation in the
    /// second view.
    pub fn single_channel() -> ViewsConfig {
        let mut views = ViewsConfig::paper();
        for list in [&mut views.first, &mut views.second] {
            list.retain(|operator| !matches!(operator, Operator::Grayscale { .. }));
            for operator in list {
                if let Operator::ColorJitter { saturation, hue, .. } = operator {
                    (*saturation, *hue) = (0.0, 0.0);
                }
            }
        }
        views
    }

    /// Both views by the seed library's helper with its default strengths. It draws crop box and blur once a batch;
    /// here every picture has its own. With one channel its jitter and grayscale are off, as its examples have it.
    pub fn seed_helper(channels: usize, on: SeedHelper) -> ViewsConfig {
        let mut list = vec![
            Operator::RandomResizedCrop { area: [0.2, 1.0], ratio: paper_ratio(), filter: Filter::Bilinear },
            Operator::HorizontalFlip { p: 0.5 },
        ];
        if on.rotate {
            list.push(Operator::Rotation { degrees: 30.0, p: 0.3 });
        }
        if on.jitter && channels > 1 {
            list.push(Operator::ColorJitter { brightness: 0.48, contrast: 0.48, saturation: 0.48, hue: 0.12, p: 0.3 });
        }
        if on.bw && channels > 1 {
            list.push(Operator::Grayscale { p: 0.3 });
        }
        if on.blur {
            list.push(Operator::FlatBlur { strength: seed_strength(), p: 0.3 });
        }
        ViewsConfig { first: list.clone(), second: list }
    }

    /// A crop from 0.3 of the area and nothing else.
    pub fn crop_only() -> ViewsConfig {
        ViewsConfig { first: vec![crop(0.3)], second: vec![crop(0.3)] }
    }

    /// A preset by its name in [`PRESETS`].
    pub fn preset(name: &str, channels: usize) -> Result<ViewsConfig> {
        match name {
            "paper" => Ok(ViewsConfig::paper()),
            "small-image" => Ok(ViewsConfig::small_image(channels)),
            "single-channel" => Ok(ViewsConfig::single_channel()),
            "seed-helper" => Ok(ViewsConfig::seed_helper(channels, SeedHelper::default())),
            "crop-only" => Ok(ViewsConfig::crop_only()),
            _ => {
                let mut known = PRESETS.to_vec();
                known.sort_by_key(|preset| strsim::osa_distance(name, preset));
                Err(Error::UnknownViews { name: name.to_owned(), known: known.join(", ") })
            }
        }
    }

    /// The operators of a view; the first for even numbers.
    pub fn operators(&self, view: u64) -> &[Operator] {
        if view.is_multiple_of(2) { &self.first } else { &self.second }
    }

    /// Whether every operator makes sense for views of `size` pixels; the error names the first that does not.
    pub fn check(&self, size: usize) -> Result<()> {
        for (view, list) in [("first", &self.first), ("second", &self.second)] {
            for (index, operator) in list.iter().enumerate() {
                operator.check(index, size).map_err(|reason| Error::Operator {
                    view,
                    index,
                    operator: operator.name(),
                    reason,
                })?;
            }
        }
        Ok(())
    }

    /// The plan of one view of a picture of `width` x `height`, drawn for views of `size` pixels.
    pub fn sample(&self, draw: Draw, (width, height): (usize, usize), size: usize, plan: &mut Vec<Sampled>) {
        let operators = self.operators(draw.view);
        let mut random = Random::new(draw);
        plan.clear();
        if !matches!(operators.first(), Some(Operator::RandomResizedCrop { .. })) {
            let side = width.min(height);
            let (top, left) = ((height - side) / 2, (width - side) / 2);
            plan.push(Sampled::Crop { top, left, height: side, width: side, filter: Filter::Bicubic });
        }
        for operator in operators {
            operator.sample(&mut random, (width, height), size, plan);
        }
    }
}

impl Operator {
    /// The name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Operator::RandomResizedCrop { .. } => "random-resized-crop",
            Operator::HorizontalFlip { .. } => "horizontal-flip",
            Operator::VerticalFlip { .. } => "vertical-flip",
            Operator::Rotation { .. } => "rotation",
            Operator::Translate { .. } => "translate",
            Operator::ColorJitter { .. } => "color-jitter",
            Operator::Grayscale { .. } => "grayscale",
            Operator::GaussianBlur { .. } => "gaussian-blur",
            Operator::FlatBlur { .. } => "flat-blur",
            Operator::Solarize { .. } => "solarize",
        }
    }

    /// Adds to the plan what this operator does this time: nothing, one operation, or up to four (colour jitter).
    /// `picture` is the width and height before the crop, `size` the side of the view.
    pub fn sample(&self, random: &mut Random, picture: (usize, usize), size: usize, plan: &mut Vec<Sampled>) {
        match *self {
            Operator::RandomResizedCrop { area, ratio, filter } => {
                plan.push(sample_crop(random, picture, area, ratio, filter));
            }
            Operator::HorizontalFlip { p } => plan.extend(random.chance(p).then_some(Sampled::FlipHorizontal)),
            Operator::VerticalFlip { p } => plan.extend(random.chance(p).then_some(Sampled::FlipVertical)),
            Operator::Rotation { degrees, p } => {
                if random.chance(p) {
                    plan.push(Sampled::Rotate(random.uniform([-degrees, degrees]) as f32));
                }
            }
            Operator::Translate { pixels, p } => {
                if random.chance(p) {
                    let mut shift = || random.below(2 * pixels as usize + 1) as i32 - pixels as i32;
                    plan.push(Sampled::Shift { right: shift(), down: shift() });
                }
            }
            Operator::ColorJitter { brightness, contrast, saturation, hue, p } => {
                if random.chance(p) {
                    let mut order = [0, 1, 2, 3];
                    random.shuffle(&mut order);
                    for adjustment in order {
                        let mut factor = |s: f64| random.uniform([(1.0 - s).max(0.0), 1.0 + s]) as f32;
                        plan.extend(match adjustment {
                            0 => (brightness > 0.0).then(|| Sampled::Brightness(factor(brightness))),
                            1 => (contrast > 0.0).then(|| Sampled::Contrast(factor(contrast))),
                            2 => (saturation > 0.0).then(|| Sampled::Saturation(factor(saturation))),
                            _ => (hue > 0.0).then(|| Sampled::Hue(random.uniform([-hue, hue]) as f32)),
                        });
                    }
                }
            }
            Operator::Grayscale { p } => plan.extend(random.chance(p).then_some(Sampled::Grayscale)),
            Operator::GaussianBlur { kernel, sigma, p } => {
                if random.chance(p) {
                    let kernel = kernel.unwrap_or(paper_kernel(size));
                    plan.push(Sampled::Blur { kernel, sigma: random.uniform(sigma) as f32 });
                }
            }
            Operator::FlatBlur { strength: [low, high], p } => {
                if random.chance(p) {
                    let s = low as usize + random.below((high - low) as usize);
                    plan.push(Sampled::Blur { kernel: s / 4 * 2 + 1, sigma: s as f32 });
                }
            }
            Operator::Solarize { threshold, p } => {
                plan.extend(random.chance(p).then_some(Sampled::Solarize(threshold as f32)));
            }
        }
    }

    fn check(&self, index: usize, size: usize) -> Result<(), String> {
        let probability = |p: f64| {
            if (0.0..=1.0).contains(&p) { Ok(()) } else { Err(format!("the probability p = {p} is outside 0..1")) }
        };
        let strength = |name: &str, value: f64, most: f64| {
            if (0.0..=most).contains(&value) {
                Ok(())
            } else if most.is_infinite() {
                Err(format!("{name} = {value} is not a number from 0 up"))
            } else {
                Err(format!("{name} = {value} is outside 0..{most}"))
            }
        };
        let range = |name: &str, [low, high]: [f64; 2], most: f64| {
            if low > 0.0 && low <= high && high <= most && high.is_finite() {
                Ok(())
            } else if most.is_infinite() {
                Err(format!("{name} = [{low}, {high}] is not a range of positive numbers, the lesser first"))
            } else {
                Err(format!("{name} = [{low}, {high}] is not a range within 0..{most}, the lesser first and not 0"))
            }
        };
        match *self {
            Operator::RandomResizedCrop { area, ratio, .. } => {
                if index > 0 {
                    return Err("it must be the first operator, because the others work at the view's size".into());
                }
                range("area", area, 1.0)?;
                range("ratio", ratio, f64::INFINITY)
            }
            Operator::HorizontalFlip { p } | Operator::VerticalFlip { p } | Operator::Grayscale { p } => probability(p),
            Operator::Rotation { degrees, p } => {
                strength("degrees", degrees, 180.0)?;
                probability(p)
            }
            Operator::Translate { pixels, p } => {
                if pixels as usize >= size {
                    return Err(format!("a shift by {pixels} pixels can push a view of {size} pixels out of sight"));
                }
                probability(p)
            }
            Operator::ColorJitter { brightness, contrast, saturation, hue, p } => {
                strength("brightness", brightness, f64::MAX)?;
                strength("contrast", contrast, f64::MAX)?;
                strength("saturation", saturation, f64::MAX)?;
                strength("hue", hue, 0.5)?;
                probability(p)
            }
            Operator::GaussianBlur { kernel, sigma, p } => {
                let kernel = kernel.unwrap_or(paper_kernel(size));
                if kernel % 2 == 0 {
                    return Err(format!("kernel = {kernel} is not odd"));
                }
                if kernel / 2 >= size {
                    return Err(format!("kernel = {kernel} is too wide for a view of {size} pixels"));
                }
                range("sigma", sigma, f64::INFINITY)?;
                probability(p)
            }
            Operator::FlatBlur { strength: [low, high], p } => {
                if low == 0 || low >= high {
                    return Err(format!(
                        "strength = [{low}, {high}] is not a range of numbers above 0, the lesser first"
                    ));
                }
                if (high as usize - 1) / 4 >= size {
                    return Err(format!("strength = [{low}, {high}] is too wide for a view of {size} pixels"));
                }
                probability(p)
            }
            Operator::Solarize { threshold, p } => {
                strength("threshold", threshold, 1.0)?;
                probability(p)
            }
        }
    }
}

/// The chance behind one view. The numbers are made here from ChaCha8's raw output, so that a new release of the
/// `rand` crates cannot change what a seed means.
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one view: the key of the cipher is the draw itself.
    pub fn new(draw: Draw) -> Random {
        let mut key = [0; 32];
        for (bytes, number) in key.chunks_exact_mut(8).zip([draw.seed, draw.epoch, draw.picture, draw.view]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        Random(ChaCha8Rng::from_seed(key))
    }

    /// Even on 0..1, the 1 left out.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Even between the two.
    pub fn uniform(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Even on 0..n, for n above 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts the items into an even random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// torchvision's rule: ten tries for a box that fits, then the largest centred box whose shape is allowed.
fn sample_crop(
    random: &mut Random,
    (width, height): (usize, usize),
    area: [f64; 2],
    ratio: [f64; 2],
    filter: Filter,
) -> Sampled {
    let log_ratio = ratio.map(f64::ln);
    for _ in 0..10 {
        let target = (width * height) as f64 * random.uniform(area);
        let shape = random.uniform(log_ratio).exp();
        let w = (target * shape).sqrt().round_ties_even() as usize;
        let h = (target / shape).sqrt().round_ties_even() as usize;
        if 0 < w && w <= width && 0 < h && h <= height {
            let (top, left) = (random.below(height - h + 1), random.below(width - w + 1));
            return Sampled::Crop { top, left, height: h, width: w, filter };
        }
    }
    let shape = width as f64 / height as f64;
    let (w, h) = if shape < ratio[0] {
        (width, ((width as f64 / ratio[0]).round_ties_even() as usize).clamp(1, height))
    } else if shape > ratio[1] {
        (((height as f64 * ratio[1]).round_ties_even() as usize).clamp(1, width), height)
    } else {
        (width, height)
    };
    Sampled::Crop { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w, filter }
}

/// A tenth of the side, as the paper's code rounds it: the radius is the half of the tenth, rounded down.
fn paper_kernel(size: usize) -> usize {
    2 * (size / 20) + 1
}

fn crop(least_area: f64) -> Operator {
    Operator::RandomResizedCrop { area: [least_area, 1.0], ratio: paper_ratio(), filter: Filter::Bicubic }
}

fn bicubic() -> Filter {
    Filter::Bicubic
}

fn paper_area() -> [f64; 2] {
    [0.08, 1.0]
}

fn paper_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn paper_sigma() -> [f64; 2] {
    [0.1, 2.0]
}

fn seed_strength() -> [u32; 2] {
    [4, 32]
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}
