//! A box of an 8-bit picture, resized into float planes: crop, resize and flips in one walk over the source.
//!
//! The arithmetic is Pillow's and torchvision's antialiased resize: each output pixel is a weighted mean of the source
//! pixels under the filter, which is as wide as the reduction asks; the filter is cut at the edges of the box. Rows
//! are mixed first, because eight or sixteen neighbouring bytes at once are cheap to add up, and each mixed row is then
//! narrowed to its output columns. A flip only reverses the table of weights.

use crate::augment::Sampled;
use byol_model::picture::Filter;

/// An 8-bit picture, rows from the top, channels interleaved, no gaps.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// height x width x channels bytes.
    pub pixels: &'a [u8],
    /// 1 or 3 in pictures from files; any number above 0 here.
    pub channels: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The box of the source to take, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
    pub filter: Filter,
    pub flip_horizontal: bool,
    pub flip_vertical: bool,
}

impl Cut {
    /// What a plan begins with: its box (the whole picture where it has none) and the flips right behind it, which cost
    /// nothing, because they turn the weight tables round. And the rest of the plan.
    #[inline(always)]
    pub fn of(plan: &[Sampled], width: usize, height: usize) -> (Cut, &[Sampled]) {
        let filter = Filter::Bicubic;
        let mut cut = Cut { top: 0, left: 0, height, width, filter, flip_horizontal: false, flip_vertical: false };
        let mut rest = plan;
        if let [Sampled::Crop { top, left, height, width, filter }, tail @ ..] = plan {
            let (top, left, height, width, filter) = (*top, *left, *height, *width, *filter);
            cut = Cut { top, left, height, width, filter, ..cut };
            rest = tail;
        }
        while let [flip @ (Sampled::FlipHorizontal | Sampled::FlipVertical), tail @ ..] = rest {
            if *flip == Sampled::FlipHorizontal {
                cut.flip_horizontal ^= true;
            } else {
                cut.flip_vertical ^= true;
            }
            rest = tail;
        }
        (cut, rest)
    }
}

/// Weight tables and one row of memory, kept from picture to picture.
#[derive(Default)]
pub(crate) struct Resampler {
    rows: Taps,
    columns: Taps,
    line: Vec<f32>,
}

impl Resampler {
    /// Fills `planes` (channels x height x width, values in 0..1) with the resized box.
    #[inline(always)]
    pub fn resample(&mut self, source: Source<'_>, cut: Cut, height: usize, width: usize, planes: &mut [f32]) {
        let channels = source.channels;
        let (stride, run) = (source.width * channels, cut.width * channels);
        self.rows.fill(cut.height, height, cut.filter, cut.flip_vertical);
        self.columns.fill(cut.width, width, cut.filter, cut.flip_horizontal);
        // Padding taps have weight 0 but are read: room for them, and for the lane beyond the last blue.
        self.line.clear();
        self.line.resize(run + 4 * channels + 4, 0.0);
        let corner = cut.top * stride + cut.left * channels;
        for y in 0..height {
            let (first, weights) = self.rows.at(y);
            let row = |tap: usize| {
                let at = corner + (first + tap).min(cut.height - 1) * stride;
                &source.pixels[at..at + run]
            };
            mix_rows(&row, weights, &mut self.line[..run]);
            match channels {
                1 => narrow_gray(&self.line, &self.columns, &mut planes[y * width..][..width]),
                3 => narrow_rgb(&self.line, &self.columns, planes, y, height),
                _ => narrow_any(&self.line, &self.columns, planes, channels, y, height),
            }
        }
    }
}

/// For each output pixel the first source pixel and the weights from there on, padded with zeros to fours.
#[derive(Default)]
struct Taps {
    outputs: usize,
    stride: usize,
    first: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    #[inline(always)]
    fn fill(&mut self, input: usize, output: usize, filter: Filter, reverse: bool) {
        let scale = input as f64 / output as f64;
        let reach = match filter {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        };
        let (widen, support) = (scale.max(1.0), reach * scale.max(1.0));
        // The middle of the filter, and the first and one past the last source pixel under it, as Pillow rounds them.
        let under = |i: usize| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            (centre, first, ((centre + support + 0.5) as usize).min(input))
        };
        let most = (0..output).map(under).map(|(_, first, end)| end - first).max().unwrap_or(0);
        self.outputs = output;
        self.stride = most.next_multiple_of(4);
        self.first.resize(output, 0);
        self.weights.clear();
        self.weights.resize(output * self.stride, 0.0);
        let narrow = (1.0 / widen) as f32;
        for i in 0..output {
            let (centre, first, end) = under(i);
            let place = if reverse { output - 1 - i } else { i };
            self.first[place] = first;
            let weights = &mut self.weights[place * self.stride..][..end - first];
            let start = (first as f64 - centre + 0.5) as f32 * narrow;
            for (tap, weight) in weights.iter_mut().enumerate() {
                let x = (start + tap as f32 * narrow).abs();
                *weight = match filter {
                    Filter::Bilinear => (1.0 - x).max(0.0),
                    Filter::Bicubic => cubic(x),
                };
            }
            let total: f32 = weights.iter().sum();
            for weight in weights {
                *weight /= total;
            }
        }
    }

    #[inline(always)]
    fn at(&self, output: usize) -> (usize, &[f32]) {
        (self.first[output], &self.weights[output * self.stride..][..self.stride])
    }
}

/// Keys' cubic with a = -0.5 at a distance x >= 0.
#[inline(always)]
fn cubic(x: f32) -> f32 {
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// line = weighted sum of the rows, bytes scaled to 0..1.
#[inline(always)]
fn mix_rows<'a>(row: &impl Fn(usize) -> &'a [u8], weights: &[f32], line: &mut [f32]) {
    for (quad, w) in weights.chunks_exact(4).enumerate() {
        let w = [w[0], w[1], w[2], w[3]].map(|w| w / 255.0);
        if quad > 0 && w == [0.0; 4] {
            break;
        }
        let tap = 4 * quad;
        let n = line.len();
        let (a, b, c, d) = (&row(tap)[..n], &row(tap + 1)[..n], &row(tap + 2)[..n], &row(tap + 3)[..n]);
        if quad == 0 {
            for i in 0..n {
                line[i] =
                    w[0] * f32::from(a[i]) + w[1] * f32::from(b[i]) + w[2] * f32::from(c[i]) + w[3] * f32::from(d[i]);
            }
        } else {
            for i in 0..n {
                line[i] +=
                    w[0] * f32::from(a[i]) + w[1] * f32::from(b[i]) + w[2] * f32::from(c[i]) + w[3] * f32::from(d[i]);
            }
        }
    }
}

#[inline(always)]
fn narrow_gray(line: &[f32], columns: &Taps, out: &mut [f32]) {
    for (x, out) in out.iter_mut().enumerate() {
        let (first, weights) = columns.at(x);
        let mut sum = [0.0f32; 4];
        for (w, v) in weights.chunks_exact(4).zip(line[first..].chunks_exact(4)) {
            for lane in 0..4 {
                sum[lane] += w[lane] * v[lane];
            }
        }
        *out = (sum[0] + sum[1] + sum[2] + sum[3]).clamp(0.0, 1.0);
    }
}

/// Red, green, blue and the next pixel's red ride in four lanes; the last is dropped.
#[inline(always)]
fn narrow_rgb(line: &[f32], columns: &Taps, planes: &mut [f32], y: usize, height: usize) {
    let width = columns.outputs;
    let (red, rest) = planes.split_at_mut(height * width);
    let (green, blue) = rest.split_at_mut(height * width);
    let (red, green, blue) =
        (&mut red[y * width..][..width], &mut green[y * width..][..width], &mut blue[y * width..][..width]);
    for x in 0..width {
        let (first, weights) = columns.at(x);
        let mut sum = [0.0f32; 4];
        let taps = weights.len();
        let pixels = &line[3 * first..];
        let pixels = &pixels[..(3 * taps + 1).min(pixels.len())];
        for (w, v) in weights.iter().zip(pixels.windows(4).step_by(3)) {
            for lane in 0..4 {
                sum[lane] += w * v[lane];
            }
        }
        let sum = sum.map(|v| v.clamp(0.0, 1.0));
        red[x] = sum[0];
        green[x] = sum[1];
        blue[x] = sum[2];
    }
}

#[inline(always)]
fn narrow_any(line: &[f32], columns: &Taps, planes: &mut [f32], channels: usize, y: usize, height: usize) {
    let width = columns.outputs;
    for channel in 0..channels {
        let out = &mut planes[(channel * height + y) * width..][..width];
        for (x, out) in out.iter_mut().enumerate() {
            let (first, weights) = columns.at(x);
            let values = line[first * channels + channel..].iter().step_by(channels);
            *out = weights.iter().zip(values).map(|(w, v)| w * v).sum::<f32>().clamp(0.0, 1.0);
        }
    }
}
